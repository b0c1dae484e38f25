// Numbers, dates and levels as people write them, and arrays as the content has them.
const Formats = (() => {
  const unpacked = ({ shape, dtype, data }) => {
    const { buffer } = Interpreter.bytesOf(data);
    return { shape, data: dtype === "float64" ? new Float64Array(buffer) : new Float32Array(buffer) };
  };
  const rowOf = ({ shape, data }, i) => data.subarray(i * shape[1], (i + 1) * shape[1]);
  const minus = (text) => text.replace("-", "−");

  function number(value, digits = null) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e9 || (digits === null && size < 1e-3))) return minus(value.toExponential(2));
    const places = digits ?? Math.max(0, Math.min(3, 2 - Math.floor(Math.log10(size || 1))));
    if (size !== 0 && size < 0.5 * 10 ** -places) return minus(value.toPrecision(2));
    const [whole, rest] = size.toFixed(places).split(".");
    const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, ",") : whole;
    return (value < 0 ? "−" : "") + grouped + (rest ? `.${rest}` : "");
  }

  function time(seconds, spread) {
    const date = new Date(seconds * 1000);
    if (Number.isNaN(date.getTime())) return "–";
    const text = date.toISOString();
    return spread > 3 * 86400 ? text.slice(0, 10) : text.slice(0, 19).replace("T", " ");
  }

  function duration(seconds) {
    const size = Math.abs(seconds), days = Math.floor(size / 86400);
    const text = new Date((size % 86400) * 1000).toISOString().slice(11, 19);
    return (seconds < 0 ? "−" : "") + (days ? `${days} d ` : "") + text;
  }

  // One entry of a table, in its column's own units.
  function cell(column, value) {
    if (value === null || Number.isNaN(value)) return "missing";
    if (column.kind === "category") return column.levels[Math.round(value)] ?? "–";
    if (column.kind === "time") return time(value, column.spread);
    if (column.kind === "duration") return duration(value);
    return number(value, column.digits);
  }

  const percent = (value) => (value > 0 && value < 0.005 ? "<1 %" : value < 1 && value > 0.995 ? ">99 %" : `${Math.round(100 * value)} %`);
  const subscript = (index) => String(index).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);

  return { unpacked, rowOf, number, cell, percent, subscript };
})();
