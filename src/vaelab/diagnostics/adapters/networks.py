"""Foreign functions as the encoder and the decoder of a `VAE`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from vaelab.diagnostics.adapters.differences import central_difference, differenced, forward_mode
from vaelab.diagnostics.adapters.reading import PosteriorReading, read_mean, read_posterior
from vaelab.diagnostics.adapters.wrapping import Spread
from vaelab.errors import InputError

_CERTAIN = 1e-6
"""Least distance of a probability from 0 and 1 where logits are made of it; they stay within ±13.8."""


class _Foreign(nn.Module):
    """A function with the weights of the module that it is, or is a method of.

    Attributes
    ----------
    anchor
        A parameter that nothing trains: the place and type of the rows, whatever those of the weights.
    """

    def __init__(self, function: Callable[..., object], like: Tensor, *, arrays: bool) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros((), dtype=like.dtype, device=like.device), requires_grad=False)
        self.function, self.arrays = function, arrays
        self.owner = owner_of(function)

    @property
    def own_dtype(self) -> torch.dtype | None:
        """Type that the weights have; None without weights."""
        weights = () if self.owner is None else self.owner.parameters()
        return next((p.dtype for p in weights if p.is_floating_point()), None)

    def _called(self, values: Tensor) -> object:
        if self.arrays:
            return self.function(values.detach().cpu().numpy())
        return self.function(values.to(self.own_dtype or values.dtype))


class ForeignEncoder(_Foreign):
    """(B, *event) rows to the parameters of a posterior.

    Parameters
    ----------
    function, variance, arrays
        As for `vaelab.wrap`.
    like
        Rows, of which the model's types and places are to be.
    """

    out_features: int
    event_shape: tuple[int, ...]

    def __init__(self, function: Callable[..., object], like: Tensor, *, variance: Spread, arrays: bool) -> None:
        super().__init__(function, like, arrays=arrays)
        self.variance = variance
        self.event_shape = tuple(like.shape[1:])

    def read(self, x: Tensor) -> PosteriorReading:
        """Return what the function says of rows, in its own type."""
        return read_posterior(self._called(x), self.variance)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, out_features).

        Raises
        ------
        InputError
            There are conditions.
        """
        _refuse(c)
        return self.read(x).parameters.to(x)


class ForeignDecoder(_Foreign):
    """(B, κ) codes to what a likelihood reads.

    Where the function cannot be differentiated, forward mode gets central differences.

    Parameters
    ----------
    function, arrays
        As for `vaelab.wrap`.
    like
        Rows, of which the model's types and places are to be.
    codes
        (B, *latent) that the encoder has returned for two rows or more; their distance is the scale of differences.
    logits
        Whether probabilities are to be made logits.
    """

    def __init__(
        self, function: Callable[..., object], like: Tensor, *, codes: Tensor, arrays: bool, logits: bool
    ) -> None:
        super().__init__(function, like, arrays=arrays)
        self.latent_shape, self.out_shape = tuple(codes.shape[1:]), tuple(like.shape[1:])
        self.latent_dim, self.logits = codes[0].numel(), logits
        self.differences = arrays
        apart = codes[0].double() - codes[1].double()
        self._scale = float(apart.square().mean().sqrt()) or 1.0
        self._dtype = codes.dtype if codes.is_floating_point() else torch.float64

    def means(self, z: Tensor) -> Tensor:
        """(B, *event) of the function itself, in its own type."""
        found = read_mean(self._called(z.reshape(len(z), *self.latent_shape)))
        if found.numel() != len(z) * int(np.prod(self.out_shape)):
            wanted = f"rows of shape {self.out_shape}, as the encoder takes them"
            got = f"a decoder that makes {tuple(found.shape)} of {len(z)} codes"
            raise InputError(got, wanted, "Give encode and decode rows of one shape.")
        return found.reshape(len(z), *self.out_shape)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(B, *event) means, or logits of them.

        Raises
        ------
        InputError
            There are conditions.
        """
        _refuse(c)
        pushed = unpack_dual(z).tangent is not None
        if pushed and self.differences:
            found = differenced(self._placed, z, scale=self._scale, dtype=self._dtype)
        else:
            with forward_mode() if pushed else nullcontext():
                found = self.means(z.to(self._dtype) if self.arrays else z).to(z)
        return torch.logit(found, eps=_CERTAIN) if self.logits else found

    def _placed(self, z: Tensor) -> Tensor:
        """(B, *event) in the function's own type, where the codes are."""
        return self.means(z).to(z.device)

    def _differentiable(self, z: Tensor) -> Tensor:
        """(B, *event) as torch differentiates it."""
        with forward_mode():
            return self.means(z)

    @torch.no_grad()
    def choose_derivatives(self, z: Tensor) -> None:
        """Fall back on differences if forward mode fails, or sees no slope where there is one.

        A decoder that detaches its input has a derivative of 0 in its eyes.
        """
        if self.arrays:
            return
        v = torch.ones_like(z)
        try:
            pushed = torch.func.jvp(self._differentiable, (z,), (v,))[1]
        except Exception:
            self.differences = True  # an operation without forward mode, or one that leaves torch
            return
        if not bool(pushed.any()):
            found = central_difference(self._placed, z, v, scale=self._scale, dtype=self._dtype)
            self.differences = bool(found.any())


def _refuse(c: Tensor | None) -> None:
    if c is not None:
        raise InputError("conditions for a model of another program", "none", "Leave them out.")


def owner_of(function: Callable[..., Any]) -> nn.Module | None:
    """Return the module that a function is, or is a method of; None if it is neither."""
    own = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    return own if isinstance(own, nn.Module) else None
