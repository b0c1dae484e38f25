"""What every network has in common: its sizes, its checks, and the way in for a condition.

A network maps ``(input, c=None)`` to raw numbers of the width it was told. It applies no sigmoid, softplus or
exponential at its end: whoever reads the numbers knows what they mean and applies the link.

- encoder: x ``(B, *event_shape)`` → features; the condition joins; head → ``(B, out_features)``
- decoder: z ``(B, latent_dim)``; the condition joins; body → ``(B, *out_shape)``

A condition c ``(B, condition_dim)`` is concatenated: to the flattened features before the first dense layer in an
encoder (for a multilayer perceptron that is its input), to z in a decoder.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaelab.errors import InputError


class Network(nn.Module, ABC):
    """A network that may take a condition.

    Parameters
    ----------
    condition_dim
        Width of the condition; 0 for a network without one, which then refuses any.
    """

    def __init__(self, condition_dim: int) -> None:
        super().__init__()
        self.condition_dim = whole("condition_dim", condition_dim, least=0)

    def join(self, h: Tensor, c: Tensor | None) -> Tensor:
        """Concatenate the condition to ``(B, width)`` features.

        Raises
        ------
        InputError
            If c is missing, unexpected, or not a floating-point ``(B, condition_dim)`` tensor.
        """
        if c is None and not self.condition_dim:
            return h
        return torch.cat((h, self._checked(c, h.shape[0]).to(h.dtype)), dim=1)

    def _checked(self, c: Tensor | None, rows: int) -> Tensor:
        name = type(self).__name__
        if c is None:
            raise InputError(
                "no condition",
                f"a condition c of shape ({rows}, {self.condition_dim})",
                f"Pass c, or build {name} with condition_dim=0.",
            )
        got = f"a condition of shape {tuple(c.shape)} and dtype {c.dtype}"
        if not self.condition_dim:
            width = c.shape[1] if c.dim() == 2 else "the width of c"
            raise InputError(got, "no condition", f"Leave c out, or build {name} with condition_dim={width}.")
        if c.shape != (rows, self.condition_dim) or not c.is_floating_point():
            raise InputError(
                got,
                f"shape ({rows}, {self.condition_dim}) and a floating-point dtype",
                f"Turn class labels into torch.nn.functional.one_hot(labels, {self.condition_dim}).float().",
            )
        return c


class Encoder(Network):
    """Features of x, the condition, a head; a family sets `features` and `head`.

    Attributes
    ----------
    event_shape
        Shape of one x.
    out_features
        Width of the output.
    features
        ``(B, *event_shape)`` → ``(B, width)``, flattened.
    head
        ``(B, width + condition_dim)`` → ``(B, out_features)``.
    """

    features: nn.Module
    head: nn.Module

    def __init__(self, event_shape: Sequence[int], out_features: int, condition_dim: int) -> None:
        super().__init__(condition_dim)
        self.event_shape = shape("event_shape", event_shape)
        self.out_features = whole("out_features", out_features)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Map x ``(B, *event_shape)`` and c ``(B, condition_dim)`` to raw numbers ``(B, out_features)``."""
        if x.shape[1:] != self.event_shape:
            raise _wrong_shape(self, "x", x, self.event_shape)
        out: Tensor = self.head(self.join(self.features(x), c))
        return out


class Decoder(Network):
    """The latent and the condition, then a body; a family sets `body`.

    Attributes
    ----------
    latent_dim
        Width of z.
    out_shape
        Shape of one output.
    body
        ``(B, latent_dim + condition_dim)`` → ``(B, *out_shape)``.
    """

    body: nn.Module

    def __init__(self, latent_dim: int, out_shape: Sequence[int], condition_dim: int) -> None:
        super().__init__(condition_dim)
        self.latent_dim = whole("latent_dim", latent_dim)
        self.out_shape = shape("out_shape", out_shape)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map z ``(B, latent_dim)`` and c ``(B, condition_dim)`` to raw numbers ``(B, *out_shape)``."""
        if z.shape[1:] != (self.latent_dim,):
            raise _wrong_shape(self, "z", z, (self.latent_dim,))
        out: Tensor = self.body(self.join(z, c))
        return out


def whole(name: str, value: int, *, least: int = 1) -> int:
    """Return `value` if it is whole and at least `least`; raise `InputError` otherwise."""
    if value != int(value) or value < least:
        raise InputError(f"{name}={value}", f"a whole number of at least {least}")
    return int(value)


def shape(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape as a tuple if it has an axis and every size is positive; raise `InputError` otherwise."""
    if not sizes or min(sizes) < 1:
        raise InputError(f"{name}={tuple(sizes)}", "at least one axis, and sizes of at least 1")
    return tuple(int(n) for n in sizes)


def _wrong_shape(network: Network, name: str, value: Tensor, wanted: tuple[int, ...]) -> InputError:
    return InputError(
        f"{name} of shape {tuple(value.shape)}",
        f"shape (B, {', '.join(map(str, wanted))})",
        f"Reshape {name}, or build {type(network).__name__} for this shape.",
    )
