// Draws from every density: where their codes are, and what they decode to, a page of them at a time.
const Samples = ({ content, sheets, points, project, flat, live, visible, select }) => {
  const { draws, columns, axes } = content, { make } = Drawing, { cell, number, rowOf, unpacked } = Formats;
  const images = content.kind === "image", $ = (id) => document.getElementById(id);
  const ACROSS = 8, PAGE = images ? 3 * ACROSS : 8;
  const codes = draws.map((each) => unpacked(each.z)), values = draws.map((each) => (each.values ? unpacked(each.values) : null));
  let turn = 0;

  function add() {
    draws.forEach((each, k) => {
      const score = each.score === null ? "" : `${each.bound ? "at least " : ""}${number(each.score)} nats per unseen code`;
      const badge = each.best ? [make("span", { className: "badge", textContent: "drawn from by default" })] : [];
      const card = make("section", { className: "picture" }, make("h3", { textContent: each.title }),
        make("p", { className: "sub", textContent: score }), make("canvas", { className: "cloud" }),
        images ? make("canvas", { className: "pixels grid" }) : make("div", { className: "scroll values", tabIndex: 0 }));
      card.firstChild.append(...badge);
      $("draws").append(card);
      if (images && live) card.querySelector(".grid").addEventListener("click", (event) => {
        const box = event.target.getBoundingClientRect(), column = Math.floor(((event.clientX - box.left) / box.width) * ACROSS);
        const i = card.shown[column + ACROSS * Math.floor(((event.clientY - box.top) / box.height) * 3)];
        if (i !== undefined) select(k, i, Float64Array.from(rowOf(codes[k], i)));
      });
    });
    const noise = images ? "Decoder means" : "Rows with the decoder's noise", click = live ? "; click one to go to its code" : "";
    $("draws-what").textContent = `${noise}${click}. Grey: codes of rows; orange: draws.`;
    $("again").addEventListener("click", () => { turn += 1; show(); });
  }

  function show() {
    const level = visible();
    draws.forEach((each, k) => {
      const card = $("draws").children[k], all = Array.from({ length: each.n }, (_, i) => i);
      const own = each.labels && level !== null ? all.filter((i) => each.labels[i] === level) : all;
      const begin = (turn % Math.max(1, Math.floor(own.length / PAGE))) * PAGE;
      card.shown = own.slice(begin, begin + PAGE);
      cloud(card.querySelector(".cloud"), own.map((i) => project(rowOf(codes[k], i))));
      if (images) pictures(card.querySelector(".grid"), sheets.draws[k], card.shown);
      else card.querySelector(".scroll").replaceChildren(tableOf(k, card.shown));
    });
  }

  function cloud(canvas, spots) {
    const { pen, width, height } = Drawing.sized(canvas);
    if (flat) spots.forEach(Drawing.spread(axes[0].high - axes[0].low));
    const place = Drawing.fitted([...points, ...spots], width, height, 6);
    Drawing.dots(pen, points.map(place), "#8390a288", 1.8);
    Drawing.dots(pen, spots.map(place), "#d9691a", 2);
  }

  function pictures(canvas, sheet, shown) {
    const [width, height] = [sheet.width + 1, sheet.height + 1];
    Object.assign(canvas, { width: ACROSS * width - 1, height: 3 * height - 1 });
    const pen = canvas.getContext("2d");
    shown.forEach((i, at) => sheet.put(pen, i, (at % ACROSS) * width, Math.floor(at / ACROSS) * height, sheet.width, sheet.height));
  }

  function tableOf(k, shown) {
    const body = shown.map((i) => {
      const row = rowOf(values[k], i);
      const line = make("tr", {}, ...columns.map((column, j) => make("td", { className: column.levels ? "" : "n", textContent: cell(column, row[j]) })));
      if (live) line.addEventListener("click", () => select(k, i, Float64Array.from(rowOf(codes[k], i))));
      return line;
    });
    const head = make("tr", {}, ...columns.map((column) => make("th", { scope: "col", textContent: column.name })));
    return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  }

  return { add, show };
};
