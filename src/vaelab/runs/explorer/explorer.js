// The explorer: where one is (a code, a condition, perhaps a row), and everything that shows it.
(async () => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const { rows, axes, plane, condition, draws, columns, along } = content;
  const { number, cell, percent, subscript, unpacked, rowOf } = Formats;
  const { make, PALETTE, GREY } = Drawing;
  const $ = (id) => document.getElementById(id);
  const images = content.kind === "image", live = content.program !== null;
  const decode = live ? Interpreter.compile(content.program) : null;
  document.body.classList.add(images ? "images" : "table");

  const z = unpacked(rows.z), c = rows.c ? unpacked(rows.c) : null;
  const [bound, entries, cells] = [rows.bound, rows.entries, rows.values].map((one) => (one ? unpacked(one) : null));
  const everyone = Array.from({ length: rows.n }, (_, i) => i);
  const inCode = rows.code ? unpacked(rows.code).data : null;
  const rest = new Float64Array(content.latent_dim);
  axes.forEach((axis) => { rest[axis.index] = axis.centre; });

  const sheets = images ? {
    rows: await Drawing.sheetOf(rows), draws: await Promise.all(draws.map(Drawing.sheetOf)),
    outputs: along && await Drawing.sheetOf(along.outputs), rebuilt: along && await Drawing.sheetOf(along.rebuilt),
  } : null;
  const beforehand = along && !images ? { outputs: unpacked(along.outputs), rebuilt: unpacked(along.rebuilt) } : null;

  const project = (code) => plane.directions.map((direction) =>
    direction.reduce((all, one, j) => all + one * (code[j] - plane.centre[j]), 0));
  const points = everyone.map((i) => project(rowOf(z, i)));
  // codes of one dimension lie on a line: they are spread across it so that all can be clicked
  const flat = content.latent_dim === 1;
  if (flat) points.forEach(Drawing.spread(axes[0].high - axes[0].low));

  // Where we are: a code z, a condition c, the row that was clicked, and what to call it. `known` is what was decoded
  // beforehand, where the decoder is not in the page.
  const here = { z: Float64Array.from(rest), c: c ? Float64Array.from(rowOf(c, 0)) : null, row: 0, title: "", at: false, known: null };
  const outputOf = (code, given) => (given === null ? decode(code) : decode(code, given));

  // ---- what was decoded ------------------------------------------------------------------------------------------
  function pictureOf(output) {
    if (output.sheet === undefined) return Drawing.imageOf(output, content.image);
    const sheet = sheets[output.sheet], canvas = make("canvas", { width: sheet.width, height: sheet.height });
    sheet.put(canvas.getContext("2d"), output.i, 0, 0, sheet.width, sheet.height);
    return canvas;
  }
  const numbersOf = (output) => (output.sheet === undefined ? output : rowOf(beforehand[output.sheet], output.i));
  const current = () => here.known ?? outputOf(here.z, here.c);

  // The probabilities of a category's levels stand behind the row, column after column.
  const firstShare = [];
  if (!images) {
    let place = columns.length;
    columns.forEach((column, j) => { firstShare[j] = place; place += column.levels ? column.levels.length : 0; });
  }
  const sharesOf = (output, j) => output.slice(firstShare[j], firstShare[j] + columns[j].levels.length);

  // ---- here ------------------------------------------------------------------------------------------------------
  function showHere() {
    const output = current();
    $("here-title").textContent = here.title;
    const parts = images ? [imagesHere(output)] : [tableHere(numbersOf(output))];
    if (here.row !== null) parts.push(numbersHere());
    $("here").replaceChildren(...parts);
    $("here-help").textContent = here.at ? "What the decoder makes of the row's code." : "What the decoder makes of this code.";
    $("walk-start").disabled = $("walk-end").disabled = here.row === null;
    for (const input of document.querySelectorAll("#axes input")) {
      input.value = here.z[Number(input.dataset.index)];
      input.closest(".axis").querySelector("output").textContent = number(here.z[Number(input.dataset.index)], 2);
    }
    drawMap();
  }

  function imagesHere(output) {
    const framed = (canvas, text) => {
      canvas.className = "pixels";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", text);
      return make("figure", {}, canvas, make("figcaption", { textContent: text }));
    };
    const made = framed(pictureOf(output), here.at ? "rebuilt" : "decoded");
    made.firstChild.id = "decoded";
    if (here.row === null) return make("div", { className: "pair alone" }, made);
    return make("div", { className: "pair" }, framed(pictureOf({ sheet: "rows", i: here.row }), `row ${here.row + 1}`), made);
  }

  function tableHere(output) {
    const row = here.row === null ? null : rowOf(cells, here.row), told = entries && here.at ? rowOf(entries, here.row) : null;
    const heads = ["", ...(row ? [`row ${here.row + 1}`] : []), here.at ? "rebuilt" : "decoded", ...(told ? ["log p, nats"] : [])];
    const body = columns.map((column, j) => {
      const decoded = make("td", { textContent: cell(column, output[j]) });
      if (column.levels) decoded.append(...shares(column, sharesOf(output, j), output[j]));
      const far = row && !Number.isNaN(row[j]) && (column.levels ? row[j] !== output[j] : Math.abs(row[j] - output[j]) > column.spread);
      if (far) decoded.classList.add("far");
      return make("tr", {}, make("th", { scope: "row", textContent: column.name }),
        ...(row ? [make("td", { textContent: cell(column, row[j]) })] : []), decoded,
        ...(told ? [make("td", { className: "n", textContent: Number.isNaN(row[j]) ? "" : number(told[j], 2) })] : []));
    });
    const head = make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col", textContent: text }))));
    return make("div", { className: "scroll values", tabIndex: 0 }, make("table", {}, head, make("tbody", {}, ...body)));
  }

  // Behind the most likely level: its probability, as text and bar, and the next two levels.
  function shares(column, probabilities, level) {
    const next = [...probabilities.keys()].filter((one) => one !== level).sort((a, b) => probabilities[b] - probabilities[a]);
    const text = next.slice(0, 2).map((one) => `${column.levels[one]} ${percent(probabilities[one])}`).join(", ");
    const bar = Object.assign(make("span", { className: "share" }), { style: `width:${Math.round(100 * probabilities[level])}%` });
    return [` ${percent(probabilities[level])}`, bar, make("small", { textContent: text })];
  }

  function numbersHere() {
    const i = here.row, found = [];
    if (rows.labels) found.push(["class", rows.classes[rows.labels[i]]]);
    if (bound) found.push(["log p(x) at least", `${number(bound.data[i])} nats`], ["in its code", `${number(inCode[i])} nats`]);
    return make("dl", { className: "numbers" }, ...found.flatMap(([name, text]) => [make("dt", { textContent: name }), make("dd", { textContent: text })]));
  }

  // ---- going somewhere -------------------------------------------------------------------------------------------
  function go(place, { strips = true } = {}) {
    Object.assign(here, { known: null, at: false }, place);
    showHere();
    Drawing.clear();
    if (strips) { showConditions(); showAxes(); }
  }
  function goToRow(i) {
    go({ z: Float64Array.from(rowOf(z, i)), c: c ? Float64Array.from(rowOf(c, i)) : null, row: i, at: true, title: `Row ${i + 1}`,
      known: live ? null : { sheet: "rebuilt", i } });
    showDraws();
  }
  const moved = () => (here.row === null ? "A code" : `Moved from row ${here.row + 1}`);

  // ---- the map ---------------------------------------------------------------------------------------------------
  const kinds = [];
  if (rows.labels) kinds.push({ name: "class", levels: rows.classes, values: rows.labels });
  if (bound) kinds.push({ name: "log p(x), nats", values: bound.data }, { name: "nats in the code", values: inCode });
  (columns ?? []).forEach((column, j) => kinds.push({ name: column.name, column, levels: column.levels, values: everyone.map((i) => rowOf(cells, i)[j]) }));
  kinds.push({ name: "nothing", levels: ["rows"], values: everyone.map(() => 0) });
  let colours = [], places = [];

  function paint() {
    const kind = kinds[$("colour").selectedIndex], levels = kind.levels;
    if (levels) {
      const counts = levels.map((_, level) => everyone.filter((i) => kind.values[i] === level).length);
      const shown = [...levels.keys()].filter((level) => counts[level]).sort((a, b) => counts[b] - counts[a]).slice(0, PALETTE.length).sort((a, b) => a - b);
      const colourOf = (level) => (shown.includes(level) ? PALETTE[shown.indexOf(level)] : GREY);
      colours = everyone.map((i) => colourOf(kind.values[i]));
      const entry = (text, colour) => make("span", {}, Object.assign(make("i"), { style: `background:${colour}` }), text);
      $("legend").replaceChildren(...shown.map((level) => entry(levels[level], colourOf(level))),
        ...(counts.filter(Boolean).length > shown.length || kind.values.some(Number.isNaN) ? [entry("others", GREY)] : []));
    } else {
      const [low, high] = [0.02, 0.98].map((q) => Drawing.quantile(kind.values, q));
      colours = Array.from(kind.values, (value) => (Number.isFinite(value) ? Drawing.ramp((value - low) / (high - low || 1)) : GREY));
      const text = (value) => (kind.column ? cell(kind.column, value) : number(value));
      const stops = [0, 0.25, 0.5, 0.75, 1].map(Drawing.ramp).join(",");
      $("legend").replaceChildren(text(low), Object.assign(make("i", { className: "ramp" }), { style: `background:linear-gradient(90deg,${stops})` }), text(high));
    }
    drawMap();
  }

  function drawMap() {
    const { pen, width, height } = Drawing.sized($("map")), place = Drawing.fitted(points, width, height);
    places = points.map(place);
    Drawing.dots(pen, places, colours, rows.n > 500 ? 2.6 : 3.6);
    const spot = project(here.z);
    if (flat) spot[1] = here.at ? points[here.row][1] : 0;
    const inside = place(spot).map((one, axis) => Math.min([width, height][axis] - 6, Math.max(6, one)));
    Drawing.ring(pen, inside, getComputedStyle($("map")).color);
  }

  $("map").addEventListener("click", (event) => {
    const box = $("map").getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const distances = places.map((place) => (place[0] - x) ** 2 + (place[1] - y) ** 2);
    goToRow(distances.indexOf(Math.min(...distances)));
  });
  $("map").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    goToRow(((here.row ?? 0) + step + rows.n) % rows.n);
  });

  // ---- axes ------------------------------------------------------------------------------------------------------
  const shownAxes = live ? axes : axes.slice(0, along.outputs.shape ? along.outputs.shape[0] / along.steps : Math.min(axes.length, 12));
  const TILES = 7;
  let redraw = 0;

  function addAxis(axis, place) {
    const input = make("input", { type: "range", min: axis.low, max: axis.high, step: live ? (axis.high - axis.low) / 200 : (axis.high - axis.low) / (along.steps - 1) });
    input.dataset.index = axis.index;
    input.setAttribute("aria-label", `latent axis ${axis.index}`);
    const carries = axis.nats === null ? "" : axis.nats < 0.005 ? "carries nothing" : `carries ${number(axis.nats)} nats`;
    const shown = images ? make("canvas", { className: "pixels strip", title: "click to go there" }) : make("p", { className: "moves" });
    const head = make("div", { className: "head" }, make("b", { textContent: `z${subscript(axis.index)}` }), make("span", { className: "carries", textContent: carries }), make("output"));
    const box = make("div", { className: "axis", hidden: place >= content.open }, head, ...(images ? [shown, input] : [input, shown]));
    const move = (value) => {
      const code = Float64Array.from(live ? here.z : rest), k = Math.round(((value - axis.low) / (axis.high - axis.low)) * ((along?.steps ?? 2) - 1));
      code[axis.index] = value;
      go({ z: code, title: live ? moved() : `Along z${subscript(axis.index)}`, row: live ? here.row : null, known: live ? null : { sheet: "outputs", i: place * along.steps + k } }, { strips: false });
      clearTimeout(redraw);
      redraw = setTimeout(showAxes, 120);
    };
    input.addEventListener("input", () => move(Number(input.value)));
    if (images) shown.addEventListener("click", (event) => {
      const box = shown.getBoundingClientRect(), count = live ? TILES : along.steps;
      const k = Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count));
      move(valueOf(axis, k, count));
    });
    $("axes").append(box);
  }
  const valueOf = (axis, k, count) => axis.low + (axis.high - axis.low) * (live ? (k + 0.5) / count : k / (count - 1));
  const outputAlong = (axis, place, k, count) => {
    if (!live) return { sheet: "outputs", i: place * along.steps + k };
    const code = Float64Array.from(here.z);
    code[axis.index] = valueOf(axis, k, count);
    return outputOf(code, here.c);
  };

  function showAxes() {
    shownAxes.forEach((axis, place) => {
      const box = $("axes").children[place];
      if (box.hidden) return;
      if (images) stripOf(box.querySelector("canvas"), axis, place);
      else Drawing.later(`axis ${place}`, () => { box.querySelector(".moves").textContent = changesAlong(axis, place); });
    });
  }

  function stripOf(canvas, axis, place) {
    const count = live ? TILES : along.steps, [, height, width] = content.image.shape;
    const scale = Math.min(1, 64 / Math.max(height, width)), [tall, broad] = [Math.max(1, Math.round(height * scale)), Math.max(1, Math.round(width * scale))];
    if (canvas.width !== count * broad || canvas.height !== tall) Object.assign(canvas, { width: count * broad, height: tall });
    for (let k = 0; k < count; k += 1) {
      Drawing.later(`axis ${place} ${k}`, () => canvas.getContext("2d").drawImage(pictureOf(outputAlong(axis, place, k, count)), k * broad, 0, broad, tall));
    }
  }

  // The columns that an axis moves most, from its low to its high end.
  function changesAlong(axis, place) {
    const count = live ? 2 : along.steps, ends = [0, count - 1].map((k) => numbersOf(outputAlong(axis, place, k, count)));
    const changes = columns.map((column, j) => {
      if (!column.levels) return { j, size: Math.abs(ends[1][j] - ends[0][j]) / (column.spread || 1) };
      const [from, to] = ends.map((end) => sharesOf(end, j));
      return { j, size: 4 * Math.max(...from.map((one, level) => Math.abs(one - to[level]))) * (ends[0][j] === ends[1][j] ? 0.5 : 1) };
    }).filter(({ size }) => size > 0.1).sort((a, b) => b.size - a.size).slice(0, 3);
    if (!changes.length) return "moves nothing much";
    return changes.map(({ j }) => {
      const [from, to] = ends.map((end) => cell(columns[j], end[j]));
      if (from !== to || !columns[j].levels) return `${columns[j].name} ${from} → ${to}`;
      const level = ends[0][j];
      return `${columns[j].name} ${from} ${ends.map((end) => percent(sharesOf(end, j)[level])).join(" → ")}`;
    }).join(", ");
  }

  // ---- conditions ------------------------------------------------------------------------------------------------
  let offsets = [];
  function addConditions() {
    if (!condition) return;
    let offset = 0;
    offsets = condition.columns.map((column) => { offset += column.classes.length || 1; return offset - (column.classes.length || 1); });
    condition.columns.forEach((column, k) => {
      const input = column.classes.length
        ? make("select", {}, ...column.classes.map((name) => make("option", { textContent: name })))
        : make("input", { type: "number", step: "any" });
      input.dataset.condition = k;
      input.disabled = !live;
      input.addEventListener("change", () => {
        const own = Float64Array.from(here.c);
        if (column.classes.length) column.classes.forEach((_, level) => { own[offsets[k] + level] = +(level === input.selectedIndex); });
        else own[offsets[k]] = (Number(input.value) - column.mean) / column.std;
        go({ c: own, title: moved() });
        showDraws();
      });
      $("conditions").append(make("label", {}, `${condition.form === "column" ? "given the class" : column.name} `, input));
    });
    if (condition.form === "sequence") $("conditions").append("given the sequence of the row that was clicked");
  }
  function showConditions() {
    condition?.columns.forEach((column, k) => {
      const input = $("conditions").querySelector(`[data-condition="${k}"]`), own = here.c.slice(offsets[k]);
      if (column.classes.length) input.selectedIndex = own.indexOf(1);
      else input.value = Number((own[0] * column.std + column.mean).toPrecision(6));
    });
  }
  const chosenClass = () => (condition?.form === "column" && condition.columns[0].classes.length ? here.c.indexOf(1) : null);

  // ---- a walk ----------------------------------------------------------------------------------------------------
  const walk = { from: 0, to: 0 };
  const on = (t) => Float64Array.from(rowOf(z, walk.from), (one, j) => (1 - t) * one + t * rowOf(z, walk.to)[j]);
  const given = (t) => (c ? Float64Array.from(rowOf(c, t < 0.5 ? walk.from : walk.to)) : null);

  function showWalk() {
    if (!live) { $("walk-card").hidden = true; return; }
    $("walk-what").textContent = `Row ${walk.from + 1} to row ${walk.to + 1}, straight through the codes${c ? ", under the condition of the nearer one" : ""}.`;
    const steps = images ? 9 : 5, outputs = Array.from({ length: steps }, (_, k) => outputOf(on(k / (steps - 1)), given(k / (steps - 1))));
    if (images) {
      const frames = [...outputs.map(pictureOf)];
      const ends = [walk.from, walk.to].map((i) => Object.assign(pictureOf({ sheet: "rows", i }), { title: `row ${i + 1}` }));
      frames.forEach((frame) => { frame.className = "pixels"; });
      ends.forEach((frame) => { frame.className = "pixels end"; });
      $("walk").className = "frames";
      $("walk").replaceChildren(ends[0], ...frames, ends[1]);
      return;
    }
    const changed = columns.map((column, j) => ({ j, size: Math.abs(outputs.at(-1)[j] - outputs[0][j]) / (column.levels ? 1 : column.spread || 1) }));
    const most = changed.sort((a, b) => b.size - a.size).slice(0, 12).map(({ j }) => j).sort((a, b) => a - b);
    const line = (texts, tag = "td") => make("tr", {}, ...texts.map((text, i) => make(i ? tag : "th", { textContent: text, className: i ? "n" : "" })));
    const body = most.map((j) => line([columns[j].name, cell(columns[j], rowOf(cells, walk.from)[j]), ...outputs.map((one) => cell(columns[j], one[j])), cell(columns[j], rowOf(cells, walk.to)[j])]));
    const head = line(["", `row ${walk.from + 1}`, ...outputs.map((_, k) => percent(k / (steps - 1))), `row ${walk.to + 1}`], "th");
    $("walk").replaceChildren(make("div", { className: "scroll values", tabIndex: 0 }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body))));
  }
  $("way").addEventListener("input", () => {
    const t = Number($("way").value) / 100;
    go({ z: on(t), c: given(t), row: null, title: `${Math.round(100 * t)} % of the way from row ${walk.from + 1} to row ${walk.to + 1}` }, { strips: false });
    clearTimeout(redraw);
    redraw = setTimeout(() => { showConditions(); showAxes(); }, 120);
  });
  for (const [id, end] of [["walk-start", "from"], ["walk-end", "to"]]) {
    $(id).addEventListener("click", () => { walk[end] = here.row; $("way").value = 0; showWalk(); });
  }

  // ---- draws -----------------------------------------------------------------------------------------------------
  const samples = Samples({ content, sheets, points, project, flat, live, visible: () => chosenClass(), select: (k, i, code) => {
    const own = chosenClass() === null || !draws[k].labels ? here.c : Float64Array.from(here.c, (_, level) => +(level === draws[k].labels[i]));
    go({ z: code, c: own, row: null, title: `A draw from ${draws[k].title}` });
    $("stage").scrollIntoView({ block: "nearest" });
  } });
  const showDraws = samples.show;

  // ---- the beginning ---------------------------------------------------------------------------------------------
  // Whether this browser computes what was computed where the page was made.
  function check() {
    if (!live) return "the decoder is not in this page.";
    const { given: inputs, places: at, values } = content.program.check, found = decode(...inputs);
    const wrong = values.filter((value, i) => !(Math.abs(found[at[i]] - value) <= 1e-3 * (1 + Math.abs(value)))).length;
    if (wrong > 0.05 * values.length) notify("This browser computes other numbers than the program that wrote the page: do not trust what is decoded here.");
    return `the decoder runs in this page${content.rounded ? ", with weights rounded to 16 bits" : ""}${wrong ? "" : ", and gives the numbers that it gave where the page was made"}.`;
  }
  function notify(text) {
    $("notice").hidden = false;
    $("notice").textContent += `${$("notice").textContent ? " " : ""}${text}`;
  }

  if (!live) notify(`The decoder does not run in this page: ${content.reason}. Each axis was decoded beforehand, from the centre, and so was every row; walks are left out.`);
  if (content.caveat) notify(content.caveat);
  kinds.forEach((kind) => $("colour").append(make("option", { textContent: kind.name })));
  $("colour").addEventListener("change", paint);
  shownAxes.forEach(addAxis);
  const hidden = shownAxes.length - content.open;
  $("more-axes").hidden = hidden <= 0;
  $("more-axes").textContent = `Show ${hidden} more`;
  $("more-axes").addEventListener("click", () => {
    for (const box of $("axes").children) box.hidden = false;
    $("more-axes").hidden = true;
    showAxes();
  });
  $("centre").addEventListener("click", () => go({ z: Float64Array.from(rest), row: null, title: "The centre of the codes",
    known: live ? null : { sheet: "outputs", i: Math.floor(along.steps / 2) } }));
  addConditions();
  samples.add();
  const away = everyone.map((i) => rowOf(z, i).reduce((all, one, j) => all + (one - rowOf(z, 0)[j]) ** 2, 0));
  walk.to = away.indexOf(Math.max(...away));
  goToRow(0);
  paint();
  showWalk();
  $("checked").textContent = check();
  let resizing = 0;
  window.addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => { drawMap(); showDraws(); }, 100); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  document.body.dataset.ready = "true";
})();
