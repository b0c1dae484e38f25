"""A function of tensors as the list of its tensor operations, recorded once and called without what is around them.

Where the tensors are small, most of a call is Python and the machinery of `torch.func`; the operations themselves are
the smaller part. A recording runs only these, under autograd as usual. It is of fixed shapes, and of one path through
the function's branches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

Function = Callable[[list[Tensor]], list[Tensor]]

_ATEN = torch.ops.aten
_SHAPERS = {_ATEN.expand.default, _ATEN.view.default, _ATEN._unsafe_view.default}


def record(function: Function, arguments: Sequence[Tensor]) -> Function | None:
    """Record a function.

    Parameters
    ----------
    function
        Maps a list of tensors to a list of tensors. It may write to its arguments.
    arguments
        What it will be called with; it is called with copies.

    Returns
    -------
    Function or None
        The recording; None where the function cannot be recorded, or where its recording has other results or
        gradients than the function. That is so for one that draws random numbers or switches gradients off inside.
    """
    try:
        with torch.no_grad():
            graph = make_fx(function)([value.detach().clone() for value in arguments])
        _simplify(graph)
        with torch.enable_grad():
            pairs = zip(*(_with_gradients(one, arguments) for one in (graph, function)), strict=True)
        return graph if all(_close(one, other) for one, other in pairs) else None
    except Exception:  # whatever cannot be recorded is called as it is, and raises its own error then
        return None


def _with_gradients(function: Function, arguments: Sequence[Tensor]) -> list[Tensor]:
    """Results, gradients of their sum, and the arguments afterwards, which the function may have written to."""
    copies = [value.detach().clone().requires_grad_(value.requires_grad) for value in arguments]
    results = function(list(copies))
    trained = [value for value in copies if value.requires_grad]
    total = torch.stack([result.sum() for result in results]).sum()
    gradients = torch.autograd.grad(total, trained, allow_unused=True) if trained else ()
    given = [torch.zeros_like(value) if g is None else g for g, value in zip(gradients, trained, strict=True)]
    return [*results, *given, *(value.detach() for value in copies)]


def _close(one: Tensor, other: Tensor) -> bool:
    """To rounding: sums may be taken in another order."""
    scale = max(float(other.detach().abs().max()), 1e-30) if other.numel() else 1.0
    tolerance = 1e-9 if other.dtype == torch.float64 else 1e-4
    return one.shape == other.shape and bool(((one - other).abs() <= tolerance * scale).all())


def _simplify(graph: fx.GraphModule) -> None:
    """Leave out what changes nothing and what nobody reads; add biases within the matrix products."""
    for node in list(graph.graph.nodes):
        same = node.target in _SHAPERS and _shape(node) == _shape(node.args[0])
        if same or (node.target is _ATEN.mul.Scalar and node.args[1] == 1):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    for node in list(graph.graph.nodes):
        pair = node.args if node.target is _ATEN.add.Tensor and not node.kwargs else ()
        for i, product in enumerate(pair):
            if isinstance(product, fx.Node) and product.target is _ATEN.bmm.default and len(product.users) == 1:
                with graph.graph.inserting_before(node):
                    fused = graph.graph.call_function(_ATEN.baddbmm.default, (pair[1 - i], *product.args))
                node.replace_all_uses_with(fused)
                graph.graph.erase_node(node)
                break
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _shape(node: fx.Node) -> torch.Size:
    shape: torch.Size = node.meta["val"].shape
    return shape
