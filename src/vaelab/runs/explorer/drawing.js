// Elements, scatters and pictures.
const Drawing = (() => {
  const PALETTE = ["#3f7fce", "#d9691a", "#2c9a62", "#9666d6", "#d1495b", "#8a6d3b", "#d774b5", "#6f7f95", "#a6a12b", "#2aa5b8"];
  const RAMP = [[68, 84, 196], [63, 127, 206], [44, 154, 98], [210, 160, 40], [217, 80, 26]];
  const GREY = "#8390a2";

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function ramp(share) {
    const place = Math.min(0.9999, Math.max(0, share)) * (RAMP.length - 1), first = Math.floor(place);
    const mixed = RAMP[first].map((one, i) => Math.round(one + (place - first) * (RAMP[first + 1][i] - one)));
    return `rgb(${mixed.join(",")})`;
  }

  function quantile(values, q) {
    const sorted = Float64Array.from(values).filter(Number.isFinite).sort();
    return sorted[Math.round(q * (sorted.length - 1))] ?? 0;
  }

  // A canvas as sharp as the screen, and its size in the page's pixels.
  function sized(canvas) {
    const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.max(1, box.width), Math.max(1, box.height)];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    return { pen, width, height };
  }

  // From points of the plane to places on a canvas; one scale for both directions unless all points are on a line.
  function fitted(points, width, height, margin = 14) {
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
    const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
    const span = (values) => Math.max(...values) - Math.min(...values) || 1;
    const centre = [middle(xs), middle(ys)];
    const scale = Math.min((width - 2 * margin) / span(xs), (height - 2 * margin) / span(ys));
    return ([x, y]) => [width / 2 + (x - centre[0]) * scale, height / 2 - (y - centre[1]) * scale];
  }

  // Moves points of a line across it, each always by the same, so that all can be seen.
  const spread = (width) => (point, i) => { point[1] = ((i * 0.618) % 1 - 0.5) * 0.5 * width; };

  function dots(pen, places, colours, radius) {
    places.forEach(([x, y], i) => {
      pen.fillStyle = typeof colours === "string" ? colours : colours[i];
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.fill();
    });
  }

  function ring(pen, [x, y], colour, radius = 9) {
    pen.strokeStyle = colour;
    pen.lineWidth = 2.5;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.stroke();
  }

  // Images side by side in one picture: `put(pen, i, x, y, w, h)` draws one of them.
  async function sheetOf({ picture, across, height, width }) {
    const image = new Image();
    image.src = picture;
    await image.decode();
    return {
      height, width,
      put: (pen, i, x, y, w, h) => pen.drawImage(image, (i % across) * width, Math.floor(i / across) * height, width, height, x, y, w, h),
    };
  }

  // An image (C, H, W) in the data's units on a canvas of its own.
  function imageOf(values, { shape: [channels, height, width], low, high }) {
    const canvas = make("canvas", { width, height }), pen = canvas.getContext("2d");
    const image = pen.createImageData(width, height), area = height * width;
    for (let i = 0; i < area; i += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        const value = values[(channels >= 3 ? channel : 0) * area + i];
        image.data[4 * i + channel] = Math.round((255 * (value - low)) / (high - low));
      }
      image.data[4 * i + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
    return canvas;
  }

  // Work that can wait, a little at a time, so that sliders stay smooth; `clear` forgets what was not begun.
  const waiting = new Map();
  let running = false;
  function work() {
    const begin = performance.now();
    for (const [key, task] of waiting) {
      waiting.delete(key);
      task();
      if (performance.now() - begin > 14) break;
    }
    running = waiting.size > 0;
    if (running) setTimeout(work, 0);
  }
  function later(key, task) {
    waiting.delete(key);
    waiting.set(key, task);
    if (!running) { running = true; setTimeout(work, 0); }
  }

  return { PALETTE, GREY, make, ramp, quantile, sized, fitted, spread, dots, ring, sheetOf, imageOf, later, clear: () => waiting.clear() };
})();
