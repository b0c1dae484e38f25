// Runs a program of tensor operations, as program.py writes it: { inputs, output, steps, constants, data }.
// A tensor is { shape, dtype, data }; every step knows the shape and dtype of what it gives.
const Interpreter = (() => {
  const ARRAYS = { float64: Float64Array, float32: Float32Array, bool: Uint8Array };
  const arrayOf = (dtype) => ARRAYS[dtype] ?? Float64Array; // whole numbers up to 2^53
  const size = (shape) => shape.reduce((all, one) => all * one, 1);
  const made = (out, data) => ({ shape: out.shape, dtype: out.dtype, data: data ?? new (arrayOf(out.dtype))(size(out.shape)) });
  const axisOf = (axis, rank) => (axis < 0 ? axis + rank : axis);

  function stridesOf(shape) {
    const strides = new Array(shape.length);
    for (let i = shape.length - 1, step = 1; i >= 0; step *= shape[i], i -= 1) strides[i] = step;
    return strides;
  }

  // Where each entry of `shape` is found, in order, in an array with these strides.
  function places(shape, strides, offset = 0) {
    const found = new Int32Array(size(shape));
    const at = new Array(shape.length).fill(0);
    for (let i = 0, place = offset; i < found.length; i += 1) {
      found[i] = place;
      for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
        place += strides[axis];
        at[axis] += 1;
        if (at[axis] < shape[axis]) break;
        place -= strides[axis] * shape[axis];
        at[axis] = 0;
      }
    }
    return found;
  }

  // An operand of an elementwise operation: its data, and where each entry of the result finds its own (null: in order).
  function operand(given, shape) {
    if (typeof given !== "object") return { data: [Number(given)], index: new Int32Array(size(shape)) };
    if (given.data.length === size(shape)) return { data: given.data, index: null };
    const missing = shape.length - given.shape.length;
    const own = stridesOf(given.shape);
    const strides = shape.map((_, axis) => (axis < missing || given.shape[axis - missing] === 1 ? 0 : own[axis - missing]));
    return { data: given.data, index: places(shape, strides) };
  }

  function each(out, inputs, compute) {
    const found = made(out);
    const [a, b, c] = inputs.map((one) => operand(one, out.shape)), { data } = found;
    const at = (one, i) => (one.index === null ? one.data[i] : one.data[one.index[i]]);
    if (c !== undefined) for (let i = 0; i < data.length; i += 1) data[i] = compute(at(a, i), at(b, i), at(c, i));
    else if (b !== undefined) for (let i = 0; i < data.length; i += 1) data[i] = compute(at(a, i), at(b, i));
    else for (let i = 0; i < data.length; i += 1) data[i] = compute(at(a, i));
    return found;
  }

  const picked = (out, given, index) => made(out, arrayOf(out.dtype).from(index, (place) => given.data[place]));
  const viewed = (out, given, strides, offset = 0) => picked(out, given, places(out.shape, strides, offset));

  // Calls `use(start, stride, length, place)` for every line of a tensor along some axes, which become its last ones.
  function along(given, axes, use) {
    const rank = given.shape.length;
    const over = (axes === null || axes.length === 0 ? given.shape.map((_, i) => i) : axes).map((one) => axisOf(one, rank));
    const own = stridesOf(given.shape);
    const kept = given.shape.map((_, i) => i).filter((i) => !over.includes(i));
    const starts = places(kept.map((i) => given.shape[i]), kept.map((i) => own[i]));
    const inside = places(over.map((i) => given.shape[i]), over.map((i) => own[i]));
    starts.forEach((start, place) => use(start, inside, place));
  }

  function reduced(out, given, axes, begin, step, end = (value) => value) {
    const found = made(out);
    along(given, axes, (start, inside, place) => {
      let value = begin;
      for (let i = 0; i < inside.length; i += 1) value = step(value, given.data[start + inside[i]]);
      found.data[place] = end(value, inside.length);
    });
    return found;
  }

  function softmax(out, given, axis, log) {
    const found = made(out);
    along(given, [axis], (start, inside) => {
      let most = -Infinity, total = 0;
      for (const step of inside) most = Math.max(most, given.data[start + step]);
      for (const step of inside) total += Math.exp(given.data[start + step] - most);
      for (const step of inside) {
        const shifted = given.data[start + step] - most;
        found.data[start + step] = log ? shifted - Math.log(total) : Math.exp(shifted) / total;
      }
    });
    return found;
  }

  // (b, n, k) times (b, k, m), plus what `bias` says of each place.
  function product(out, left, right, bias) {
    const [n, m] = out.shape.slice(-2), k = left.shape.at(-1), found = made(out), total = new Float64Array(m);
    for (let row = 0; row < found.data.length / m; row += 1) {
      const from = Math.floor(row / n) * k * m;
      total.fill(0);
      for (let inner = 0; inner < k; inner += 1) {
        const value = left.data[row * k + inner];
        if (value !== 0) for (let j = 0, place = from + inner * m; j < m; j += 1, place += 1) total[j] += value * right.data[place];
      }
      for (let j = 0; j < m; j += 1) found.data[row * m + j] = total[j] + (bias ? bias(row * m + j) : 0);
    }
    return found;
  }

  function convolution(out, given, weight, bias, stride, padding, dilation, transposed, beyond, groups) {
    if (given.shape.length === 3) { // one axis is two of which the first has length 1
      const wide = (one) => ({ ...one, shape: [...one.shape.slice(0, 2), 1, one.shape[2]] });
      const flat = convolution(wide(out), wide(given), wide(weight), bias, [1, ...stride], [0, ...padding], [1, ...dilation], transposed, null, groups);
      return made(out, flat.data);
    }
    const layout = layoutOf(out, given, weight, stride, padding, dilation, groups);
    const total = new Float64Array(size(out.shape)), area = out.shape[2] * out.shape[3];
    if (bias !== null) bias.data.forEach((value, filter) => total.fill(value, filter * area, (filter + 1) * area));
    (transposed ? spread : collect)(total, given.data, weight.data, layout);
    return made(out, arrayOf(out.dtype).from(total));
  }

  function layoutOf(out, given, weight, stride, padding, dilation, groups) {
    const [, inputs, height, width] = given.shape, [, outputs, tall, broad] = out.shape, [rows, columns] = weight.shape.slice(2);
    return { height, width, tall, broad, rows, columns, groups, stride, padding, dilation, ins: inputs / groups, outs: outputs / groups };
  }

  // A transposed convolution: every place of the input, times its weights, is added where it falls.
  function spread(total, x, w, { height, width, tall, broad, rows, columns, groups, stride, padding, dilation, ins, outs }) {
    const many = outs * rows * columns, piece = new Float64Array(many);
    for (let group = 0; group < groups; group += 1) {
      for (let place = 0; place < height * width; place += 1) {
        piece.fill(0);
        for (let channel = group * ins; channel < (group + 1) * ins; channel += 1) {
          const value = x[channel * height * width + place], from = channel * many;
          if (value !== 0) for (let j = 0; j < many; j += 1) piece[j] += value * w[from + j];
        }
        const top = Math.floor(place / width) * stride[0] - padding[0], left = (place % width) * stride[1] - padding[1];
        for (let j = 0; j < many; j += 1) {
          const row = top + (Math.floor(j / columns) % rows) * dilation[0], column = left + (j % columns) * dilation[1];
          if (row < 0 || row >= tall || column < 0 || column >= broad) continue;
          total[((group * outs + Math.floor(j / (rows * columns))) * tall + row) * broad + column] += piece[j];
        }
      }
    }
  }

  // A convolution: the input around every place of the output, times the weights of each filter.
  function collect(total, x, w, { height, width, tall, broad, rows, columns, groups, stride, padding, dilation, ins, outs }) {
    const many = ins * rows * columns, piece = new Float64Array(many);
    for (let group = 0; group < groups; group += 1) {
      for (let place = 0; place < tall * broad; place += 1) {
        const top = Math.floor(place / broad) * stride[0] - padding[0], left = (place % broad) * stride[1] - padding[1];
        for (let j = 0; j < many; j += 1) {
          const row = top + (Math.floor(j / columns) % rows) * dilation[0], column = left + (j % columns) * dilation[1];
          const inside = row >= 0 && row < height && column >= 0 && column < width;
          piece[j] = inside ? x[((group * ins + Math.floor(j / (rows * columns))) * height + row) * width + column] : 0;
        }
        for (let filter = group * outs; filter < (group + 1) * outs; filter += 1) {
          let sum = 0;
          for (let j = 0, from = filter * many; j < many; j += 1) sum += piece[j] * w[from + j];
          total[filter * tall * broad + place] += sum;
        }
      }
    }
  }

  // Divides entries into runs of equal length, normalises each, then scales: entry i by weight[channel(i)].
  function normalised(out, given, length, weight, bias, eps, channel) {
    const found = made(out), x = given.data;
    for (let start = 0; start < x.length; start += length) {
      let mean = 0, spread = 0;
      for (let i = start; i < start + length; i += 1) mean += x[i] / length;
      for (let i = start; i < start + length; i += 1) spread += (x[i] - mean) ** 2 / length;
      const factor = 1 / Math.sqrt(spread + eps);
      for (let i = start; i < start + length; i += 1) {
        found.data[i] = (x[i] - mean) * factor * (weight ? weight.data[channel(i)] : 1) + (bias ? bias.data[channel(i)] : 0);
      }
    }
    return found;
  }

  function batchNorm(out, x, weight, bias, mean, variance, momentum, eps) {
    const channels = mean.data.length, area = x.data.length / channels, found = made(out);
    for (let channel = 0, i = 0; channel < channels; channel += 1) {
      const factor = (weight ? weight.data[channel] : 1) / Math.sqrt(variance.data[channel] + eps);
      const shift = (bias ? bias.data[channel] : 0) - mean.data[channel] * factor;
      for (let place = 0; place < area; place += 1, i += 1) found.data[i] = x.data[i] * factor + shift;
    }
    return [found];
  }

  function gather(out, given, axis, index) {
    const along = axisOf(axis, given.shape.length), own = stridesOf(given.shape);
    const base = places(out.shape, own.with(along, 0));
    return picked(out, given, base.map((place, i) => place + own[along] * index.data[i]));
  }

  // x[:, i, j] with neighbouring index tensors, which are broadcast against each other.
  function indexed(out, given, indices) {
    const own = stridesOf(given.shape), used = indices.flatMap((one, axis) => (one === null ? [] : [axis]));
    const first = used[0], rank = Math.max(...used.map((axis) => indices[axis].shape.length));
    if (used.some((axis, i) => axis !== first + i)) throw new Error("indices with a gap");
    const inner = out.shape.slice(first, first + rank);
    const operands = used.map((axis) => ({ axis, ...operand(indices[axis], inner) }));
    const offsets = places(inner, inner.map(() => 0)).map((_, i) => operands.reduce((all, one) => {
      const wanted = one.index === null ? one.data[i] : one.data[one.index[i]];
      return all + own[one.axis] * axisOf(wanted, given.shape[one.axis]);
    }, 0));
    const rest = own.slice(first + used.length), step = stridesOf(inner);
    const outer = places(out.shape, [...own.slice(0, first), ...inner.map(() => 0), ...rest]);
    const which = places(out.shape, [...own.slice(0, first).map(() => 0), ...step, ...rest.map(() => 0)]);
    return picked(out, given, outer.map((place, i) => place + offsets[which[i]]));
  }

  function joined(out, tensors, axis) {
    const along = axisOf(axis, out.shape.length), found = made(out), inner = size(out.shape.slice(along + 1));
    const outer = size(out.shape.slice(0, along)), whole = out.shape[along] * inner;
    tensors.filter((each) => each.data.length).reduce((offset, one) => {
      const width = one.shape[along] * inner;
      for (let i = 0; i < outer; i += 1) found.data.set(one.data.subarray(i * width, (i + 1) * width), i * whole + offset);
      return offset + width;
    }, 0);
    return found;
  }

  function sliced(out, given, axis, start, step) {
    const along = axisOf(axis, given.shape.length), own = stridesOf(given.shape), length = given.shape[along];
    const first = Math.min(Math.max(0, start === null ? 0 : start < 0 ? start + length : start), length);
    return viewed(out, given, own.map((stride, i) => (i === along ? stride * step : stride)), first * own[along]);
  }

  function padded(out, given, pad, value) {
    const found = made(out), own = stridesOf(out.shape), rank = out.shape.length;
    const before = out.shape.map((_, axis) => pad[2 * (rank - 1 - axis)] ?? 0);
    const after = out.shape.map((_, axis) => pad[2 * (rank - 1 - axis) + 1] ?? 0);
    found.data.fill(value);
    const shape = given.shape.map((length, axis) => length + Math.min(0, before[axis]) + Math.min(0, after[axis]));
    const from = places(shape, stridesOf(given.shape), before.reduce((all, one, axis) => all + Math.max(0, -one) * stridesOf(given.shape)[axis], 0));
    const to = places(shape, own, before.reduce((all, one, axis) => all + Math.max(0, one) * own[axis], 0));
    to.forEach((place, i) => { found.data[place] = given.data[from[i]]; });
    return found;
  }

  // erf to 1e-15 or so: a series near 0, a continued fraction beyond
  function erf(x) {
    const z = Math.abs(x);
    if (z > 6) return Math.sign(x);
    if (z < 2.5) {
      let term = z, total = z;
      for (let n = 1; Math.abs(term) > 1e-17 * total; n += 1) { term *= -z * z / n; total += term / (2 * n + 1); }
      return Math.sign(x) * total * 2 / Math.sqrt(Math.PI);
    }
    const fraction = Array.from({ length: 60 }, (_, n) => 60 - n).reduce((below, n) => n / 2 / (z + below), 0);
    return Math.sign(x) * (1 - Math.exp(-z * z) / (Math.sqrt(Math.PI) * (z + fraction)));
  }

  function nearest(out, given) {
    const [height, width] = given.shape.slice(2), [tall, broad] = out.shape.slice(2), found = made(out);
    for (let i = 0; i < found.data.length; i += 1) {
      const plane = Math.floor(i / (tall * broad)), y = Math.floor(i / broad) % tall, x = i % broad;
      const row = Math.floor((y * height) / tall), column = Math.floor((x * width) / broad);
      found.data[i] = given.data[(plane * height + row) * width + column];
    }
    return found;
  }

  const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
  const even = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // halves go to even numbers
  const least = (a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.min(a, b));
  const most = (a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.max(a, b));
  const clamp = (out, x, low, high) => each(out, [x, low ?? -Infinity, high ?? Infinity], (a, b, c) => least(most(a, b), c));
  const copy = (out, x) => each(out, [x], (a) => a);
  const reshaped = (out, x) => made(out, x.data);
  const extreme = (better, begin) => (out, x, axes) => reduced(out, x, axes, begin, better);
  const unary = (compute) => (out, x) => each(out, [x], compute);
  const binary = (compute) => (out, a, b) => each(out, [a, b], compute);
  const scaled = (sign) => (out, a, b, alpha = 1) => each(out, [a, b], (x, y) => x + sign * alpha * y);

  const OPERATIONS = {
    relu: unary((x) => (x > 0 || Number.isNaN(x) ? x : 0)), sigmoid: unary(sigmoid), tanh: unary(Math.tanh), exp: unary(Math.exp),
    expm1: unary(Math.expm1), log: unary(Math.log), log1p: unary(Math.log1p), sqrt: unary(Math.sqrt),
    rsqrt: unary((x) => 1 / Math.sqrt(x)), neg: unary((x) => -x), abs: unary(Math.abs), reciprocal: unary((x) => 1 / x),
    round: unary(even), floor: unary(Math.floor), ceil: unary(Math.ceil), isnan: unary((x) => +Number.isNaN(x)),
    sin: unary(Math.sin), cos: unary(Math.cos), erf: unary(erf), sign: unary(Math.sign),
    gelu: (out, x, approximate) => each(out, [x], approximate === "tanh"
      ? (a) => 0.5 * a * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (a + 0.044715 * a ** 3)))
      : (a) => 0.5 * a * (1 + erf(a / Math.SQRT2))),
    elu: (out, x, alpha, scale, inputScale) => each(out, [x], (a) => scale * (a > 0 ? a : alpha * Math.expm1(a * inputScale))),
    leaky_relu: (out, x, slope) => each(out, [x], (a) => (a > 0 ? a : slope * a)),
    logical_not: unary((x) => +!x), bitwise_not: (out, x) => each(out, [x], out.dtype === "bool" ? (a) => +!a : (a) => -a - 1),
    add: scaled(1), sub: scaled(-1), rsub: (out, a, b, alpha = 1) => each(out, [a, b], (x, y) => y - alpha * x),
    mul: binary((x, y) => x * y), div: binary((x, y) => x / y), pow: binary((x, y) => x ** y), maximum: binary(most), minimum: binary(least),
    eq: binary((x, y) => +(x === y)), ne: binary((x, y) => +(x !== y)), lt: binary((x, y) => +(x < y)), le: binary((x, y) => +(x <= y)),
    gt: binary((x, y) => +(x > y)), ge: binary((x, y) => +(x >= y)), bitwise_and: binary((x, y) => x & y), bitwise_or: binary((x, y) => x | y),
    logical_and: binary((x, y) => (x && y ? 1 : 0)), logical_or: binary((x, y) => (x || y ? 1 : 0)),
    where: (out, condition, a, b) => each(out, [condition, a, b], (is, x, y) => (is ? x : y)),
    clamp, hardtanh: clamp,
    sum: (out, x, axes = null) => reduced(out, x, axes, 0, (all, one) => all + one),
    mean: (out, x, axes = null) => reduced(out, x, axes, 0, (all, one) => all + one, (all, n) => all / n),
    amax: extreme(most, -Infinity), amin: extreme(least, Infinity),
    argmax: (out, x, axis) => {
      const found = made(out);
      along(x, axis === null ? null : [axis], (start, inside, place) => {
        let best = 0;
        for (let i = 1; i < inside.length; i += 1) if (x.data[start + inside[i]] > x.data[start + inside[best]]) best = i;
        found.data[place] = best;
      });
      return found;
    },
    linalg_vector_norm: (out, x, order, axes) => {
      if (order !== 2) throw new Error(`a norm of order ${order}`);
      return reduced(out, x, axes, 0, (all, one) => all + one * one, Math.sqrt);
    },
    cumsum: (out, x, axis) => {
      const found = made(out);
      along(x, [axis], (start, inside) => {
        let total = 0;
        for (const step of inside) { total += x.data[start + step]; found.data[start + step] = total; }
      });
      return found;
    },
    _softmax: (out, x, axis) => softmax(out, x, axis, false),
    _log_softmax: (out, x, axis) => softmax(out, x, axis, true),
    view: reshaped, unsqueeze: reshaped, squeeze: reshaped, clone: reshaped, alias: reshaped, _to_copy: copy,
    permute: (out, x, order) => viewed(out, x, order.map((axis) => stridesOf(x.shape)[axisOf(axis, x.shape.length)])),
    slice: (out, x, axis, start, end, step) => sliced(out, x, axis, start, step),
    select: (out, x, axis, place) => {
      const along = axisOf(axis, x.shape.length), own = stridesOf(x.shape);
      return viewed(out, x, own.filter((_, i) => i !== along), own[along] * axisOf(place, x.shape[along]));
    },
    expand: copy, cat: joined,
    split_with_sizes: (out, x, sizes, axis) => {
      let start = 0;
      return sizes.map((length) => {
        const shape = x.shape.map((one, i) => (i === axisOf(axis, x.shape.length) ? length : one));
        start += length;
        return sliced({ shape, dtype: out.dtype }, x, axis, start - length, 1);
      });
    },
    index_select: (out, x, axis, index) => {
      const along = axisOf(axis, x.shape.length), own = stridesOf(x.shape);
      const base = places(out.shape, own.with(along, 0));
      const which = places(out.shape, own.map((_, i) => +(i === along)));
      return picked(out, x, base.map((place, i) => place + own[along] * index.data[which[i]]));
    },
    gather, index: indexed, constant_pad_nd: padded,
    full_like: (out, x, value) => { const found = made(out); found.data.fill(value); return found; },
    addmm: (out, bias, left, right, beta, alpha) => {
      const own = operand(bias, out.shape);
      if (beta !== 1 || alpha !== 1) throw new Error("a product with factors");
      return product(out, left, right, (i) => (own.index === null ? own.data[i] : own.data[own.index[i]]));
    },
    mm: (out, left, right) => product(out, left, right), bmm: (out, left, right) => product(out, left, right),
    convolution, _native_batch_norm_legit_no_training: batchNorm,
    native_layer_norm: (out, x, shape, weight, bias, eps) => [normalised(out, x, size(shape), weight, bias, eps, (i) => i % size(shape))],
    native_group_norm: (out, x, weight, bias, n, channels, area, groups, eps) =>
      [normalised(out, x, (channels * area) / groups, weight, bias, eps, (i) => Math.floor(i / area) % channels)],
    upsample_nearest2d: nearest, getitem: (out, list, place) => list[place],
  };

  function bytesOf(text) {
    const raw = atob(text), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }

  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
  }

  function constantsOf(program) {
    const { buffer } = bytesOf(program.data), found = [];
    const halves = Float32Array.from({ length: 65536 }, (_, bits) => half(bits));
    for (const [name, [shape, dtype, stored, offset]] of Object.entries(program.constants)) {
      const kind = { float64: Float64Array, float32: Float32Array, float16: Uint16Array, int32: Int32Array }[stored];
      const raw = new kind(buffer, offset, size(shape)), data = new (arrayOf(dtype))(raw.length);
      for (let i = 0; i < raw.length; i += 1) data[i] = stored === "float16" ? halves[raw[i]] : raw[i];
      found[Number(name)] = { shape, dtype, data };
    }
    return found;
  }

  // A function of arrays, one for each input, to the array that the program returns.
  function compile(program) {
    const constants = constantsOf(program);
    return (...given) => {
      const values = constants.slice();
      program.inputs.forEach(([, place, shape, dtype], i) => { values[place] = { shape, dtype, data: arrayOf(dtype).from(given[i]) }; });
      const argument = (one) => {
        if (one === null || typeof one !== "object") return one;
        return Array.isArray(one) ? one.map(argument) : "value" in one ? values[one.value] : Number(one.number);
      };
      for (const [name, place, shape, dtype, args] of program.steps) {
        values[place] = OPERATIONS[name]({ shape, dtype }, ...args.map(argument));
      }
      return values[program.output].data;
    };
  }

  return { compile, bytesOf, operations: Object.keys(OPERATIONS) };
})();
