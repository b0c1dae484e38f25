"""A decoder as a program that a page can run: a list of tensor operations of one row, and the constants that they read.

The program is what `torch.export` traces, in PyTorch's core operations, for a batch of one row, so that every shape in
it is a number. What depends on constants alone is computed here. ``interpreter.js``, beside this file, runs it.
"""

from __future__ import annotations

import base64
import math
import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from vaelab.errors import InputError
from vaelab.runs.export import quiet, traced

_KNOWN = """
relu sigmoid tanh exp expm1 log log1p sqrt rsqrt neg abs reciprocal round floor ceil isnan sin cos erf sign gelu elu
leaky_relu logical_not bitwise_not add sub rsub mul div pow maximum minimum eq ne lt le gt ge bitwise_and bitwise_or
logical_and logical_or where clamp hardtanh sum mean amax amin argmax linalg_vector_norm cumsum _softmax _log_softmax
view permute slice select expand unsqueeze squeeze clone alias _to_copy cat split_with_sizes index_select gather index
constant_pad_nd full_like addmm mm bmm convolution _native_batch_norm_legit_no_training native_layer_norm
native_group_norm upsample_nearest2d getitem
"""
OPERATIONS = frozenset(_KNOWN.split())
"""What the interpreter knows, by PyTorch's names."""

_HALF_FROM = 4 * 2**20  # bytes of float32 weights, from which on they are rounded to float16
_IGNORED = ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range", "sym_constrain_range_for_size")
_UNKNOWN_OVERLOADS = ("Tensor_mode", "Scalar_mode")


@dataclass
class Program:
    """Operations and constants; `plain` is what the page gets.

    Attributes
    ----------
    inputs
        [name, value, shape, dtype] of every input, where values are numbered.
    output
        Value that is returned.
    steps
        [operation, value, shape, dtype, arguments] in order; of an operation with several results shape and dtype are
        those of the first.
    constants
        Value → tensor.
    products
        Multiplications of a run, about.
    """

    inputs: list[list[Any]] = field(default_factory=list)
    output: int = -1
    steps: list[list[Any]] = field(default_factory=list)
    constants: dict[int, Tensor] = field(default_factory=dict)
    products: int = 0

    @property
    def size(self) -> int:
        """Bytes of the constants, as `plain` has them."""
        return sum(_stored(value)[1].nbytes for value in self.constants.values())

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON; constants are in base64, little-endian, one after the other."""
        places, parts, offset = {}, [], 0
        # wide numbers first, so that each begins at a multiple of its size
        for name, value in sorted(self.constants.items(), key=lambda each: -_stored(each[1])[1].dtype.itemsize):
            dtype, stored = _stored(value)
            places[str(name)] = [list(value.shape), dtype, str(stored.dtype), offset]
            parts.append(stored.tobytes())
            offset += stored.nbytes
        return {
            "inputs": self.inputs,
            "output": self.output,
            "steps": self.steps,
            "constants": places,
            "data": base64.b64encode(b"".join(parts)).decode(),
        }


def halved(network: nn.Module) -> bool:
    """Round the weights of a network to float16 in place, if it has more than 4 MB of them; say whether it did."""
    weights = [each for each in network.parameters() if each.ndim > 1]
    if 4 * sum(each.numel() for each in weights) <= _HALF_FROM:
        return False
    most = torch.finfo(torch.float16).max
    if any(float(each.detach().abs().max()) > most for each in weights):
        return False
    for each in weights:
        each.data = each.data.half().to(each.dtype)
    return True


def program_of(function: nn.Module, example: tuple[Tensor, ...], names: tuple[str, ...]) -> Program:
    """Translate a function of one row.

    Parameters
    ----------
    function
        Of tensors with a batch of one.
    example
        What it takes.
    names
        Of these.

    Raises
    ------
    InputError
        It cannot be traced, or has an operation that the interpreter does not know.
    """
    with torch.no_grad():
        with quiet():
            exported = traced(function, example, rows=False).run_decompositions()
        return _Translator(exported, names).program


class _Translator:
    """Walks through a graph; nodes are values of the program, or tensors where nothing but constants enters."""

    def __init__(self, exported: torch.export.ExportedProgram, names: tuple[str, ...]) -> None:
        self.program = Program()
        self._known: dict[fx.Node, Tensor | tuple[Tensor, ...]] = {}
        self._numbers: dict[fx.Node, int] = {}
        self._count = 0
        signature, kept = exported.graph_signature, {**exported.state_dict, **exported.constants}
        lifted = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        own = iter(names)
        for node in exported.graph.nodes:
            if node.op == "placeholder" and node.name in lifted:
                value = kept[lifted[node.name]]
                self._known[node] = value.detach() if isinstance(value, Tensor) else value
            elif node.op == "placeholder":
                meta = node.meta["val"]
                self.program.inputs.append([next(own), self._number(node), list(meta.shape), _dtype(meta)])
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self.program.output = self._value(node.args[0][0])

    def _call(self, node: fx.Node) -> None:
        name = _name(node)
        if name in _IGNORED:
            return
        if all(each in self._known for each in node.all_input_nodes):
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda each: self._known[each])
            self._known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            return
        if name not in OPERATIONS:
            raise InputError(f"a decoder with the operation {name}", "operations that a page can run")
        meta = node.meta["val"][0] if isinstance(node.meta["val"], tuple | list) else node.meta["val"]
        arguments = [self._plain(each) for each in _arguments(node)]
        shape = [int(each) for each in meta.shape]
        self.program.steps.append([name, self._number(node), shape, _dtype(meta), arguments])
        self.program.products += self._products(node, name, shape)

    def _products(self, node: fx.Node, name: str, shape: list[int]) -> int:
        """Multiplications of an operation that has many."""
        if name in ("addmm", "mm", "bmm"):
            return math.prod(shape) * int(node.args[-1].meta["val"].shape[-2])  # type: ignore[union-attr]
        if name == "convolution":
            given, weight = (each.meta["val"].shape for each in node.args[:2])  # type: ignore[union-attr]
            places = math.prod(given[2:]) * given[1] if node.args[6] else math.prod(shape[1:])
            return int(places * math.prod(weight[1:]))
        return math.prod(shape)

    def _plain(self, value: Any) -> Any:
        """Return an argument as JSON has it: a value of the program by its number."""
        if isinstance(value, fx.Node):
            return {"value": self._value(value)}
        if isinstance(value, tuple | list):
            return [self._plain(each) for each in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"number": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
        return value if value is None or isinstance(value, bool | int | float | str) else None

    def _value(self, node: fx.Node) -> int:
        if node in self._known and node not in self._numbers:
            self.program.constants[self._number(node)] = self._known[node]  # type: ignore[assignment]
        return self._numbers[node]

    def _number(self, node: fx.Node) -> int:
        self._numbers[node] = self._count
        self._count += 1
        return self._numbers[node]


def _name(node: fx.Node) -> str:
    if node.target is operator.getitem:
        return "getitem"
    name = str(getattr(node.target, "__name__", node.target))
    packet, _, overload = name.partition(".")
    return name if overload in _UNKNOWN_OVERLOADS else packet


def _arguments(node: fx.Node) -> list[Any]:
    """Return all arguments in the order of the operation's schema, with those that were left out."""
    if node.target is operator.getitem:
        return list(node.args)
    rest = node.target._schema.arguments[len(node.args) :]  # type: ignore[union-attr]
    return [*node.args, *(node.kwargs.get(argument.name, argument.default_value) for argument in rest)]


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _stored(value: Tensor) -> tuple[str, Any]:
    """Return the dtype of a constant, and the array that stands for it: float16 where that is the same."""
    dtype, own = _dtype(value), value.detach().cpu().contiguous()
    if value.dtype in (torch.int64, torch.bool, torch.int32):
        return dtype, own.to(torch.int32).numpy()
    if value.dtype == torch.float32 and own.numel() >= 1024 and own.half().float().equal(own):
        return dtype, own.half().numpy()
    if value.dtype == torch.float64 and own.float().double().equal(own):
        return dtype, own.float().numpy()
    return dtype, own.numpy()
