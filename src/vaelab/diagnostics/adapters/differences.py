"""Directional derivatives of functions that torch cannot differentiate forwards, or only with some help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def forward_mode() -> Iterator[None]:
    """Let operations have a derivative in forward mode that, as torch runs them by default, have none.

    The fused kernels of attention have none. That of a group normalisation wants its input in order of memory.
    """
    with sdpa_kernel(SDPBackend.MATH), _Ordered():
        yield


class _Ordered(TorchFunctionMode):
    """Group normalisations with their inputs, and the tangents of these, in order of memory."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (F.group_norm, torch.group_norm) and args:
            args = (args[0].clone(memory_format=torch.contiguous_format), *args[1:])
        return func(*args, **(kwargs or {}))


def differenced(call: Callable[[Tensor], Tensor], z: Tensor, *, scale: float, dtype: torch.dtype) -> Tensor:
    """Evaluate a function; under `torch.func.jvp` its derivative is a central difference.

    J v ≈ [f(z + h v) − f(z − h v)] / 2h, with h ‖v‖ = ε^{1/3} times the scale of z, where the errors of truncation, h²,
    and of rounding, ε/h, balance (Press et al. 2007, section 5.7).

    Parameters
    ----------
    call
        Of (B, κ) codes, row by row.
    z
        (B, κ).
    scale
        Typical length of a code's entries.
    dtype
        In which `call` computes: its ε is taken.

    Returns
    -------
    Tensor
        (B, ...) of the type of z.
    """
    value: Tensor = _Differenced.apply(z, call, scale, dtype)  # type: ignore[no-untyped-call]
    return value


def central_difference(
    call: Callable[[Tensor], Tensor], z: Tensor, v: Tensor, *, scale: float, dtype: torch.dtype
) -> Tensor:
    """(B, ...) J v by a central difference, as `differenced` has it."""
    length = v.to(dtype).square().mean(1, keepdim=True).sqrt()
    step = scale * torch.finfo(dtype).eps ** (1 / 3) / length.where(length > 0, 1)
    at, along = z.to(dtype), step * v.to(dtype)
    change = call(at + along) - call(at - along)
    slope: Tensor = change / (2 * step.view(-1, *[1] * (change.ndim - 1)))
    return slope.to(z.dtype)


class _Differenced(torch.autograd.Function):
    """A function of z whose forward-mode derivative is a central difference; it has no backward."""

    # the static methods are what torch asks of a function that `torch.func` is to transform

    @staticmethod
    def forward(z: Tensor, call: Callable[[Tensor], Tensor], scale: float, dtype: torch.dtype) -> Tensor:
        return call(z.to(dtype)).to(z.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, ctx.call, ctx.scale, ctx.dtype = inputs
        ctx.save_for_forward(z)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        scale, dtype = ctx.scale, ctx.dtype

        def bare(at: Tensor) -> Tensor:  # as a function of its own, without what forward mode has put around tensors
            return differenced(ctx.call, at, scale=scale, dtype=dtype)

        return central_difference(bare, z, tangents[0], scale=scale, dtype=dtype)
