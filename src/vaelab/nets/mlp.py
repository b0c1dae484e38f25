"""Multilayer perceptrons, for tables, codes and small images alike.

With ``skip=True`` the input is concatenated to the last hidden layer before the output layer. Three ReLU layers of 1024
units with a skip, in both directions, are the second stage of Dai & Wipf.

References
----------
Dai, Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019, section 4 and appendix D.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Final, Literal, cast, final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.nets.network import Decoder, Encoder, whole

Activation = Literal["relu", "leaky_relu", "prelu", "silu", "tanh"]

_ACTIVATIONS: Final[dict[str, Callable[[], nn.Module]]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.2, inplace=True),
    "prelu": nn.PReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


@final
class MLP(nn.Module):
    """Dense layers with an activation after each but the last: ``(B, in_features)`` → ``(B, out_features)``.

    Parameters
    ----------
    in_features, out_features
        Widths at both ends.
    hidden
        Widths of the hidden layers; empty for an affine map.
    skip
        Concatenate the input to the last hidden layer before the output layer.
    activation
        ``leaky_relu`` has slope 0.2, ``prelu`` one learned slope per layer.

    Raises
    ------
    InputError
        If a width is below 1, the activation is unknown, or a skip has no hidden layer to join.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int],
        *,
        skip: bool = False,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise InputError(f"activation={activation!r}", f"one of {', '.join(_ACTIVATIONS)}")
        if skip and not hidden:
            raise InputError("skip=True without a hidden layer", "a hidden layer to join", "Pass hidden=(1024,).")
        widths = [whole("in_features", in_features), *(whole("hidden width", width) for width in hidden)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), _ACTIVATIONS[activation]()]
        self.skip = skip
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(widths[-1] + (in_features if skip else 0), whole("out_features", out_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_features)`` to ``(B, out_features)``."""
        h = self.hidden(x)
        out: Tensor = self.output(torch.cat((x, h), dim=1) if self.skip else h)
        return out

    @torch.no_grad()
    def begin_affine(self, weight: Tensor, bias: Tensor) -> None:
        """Become the affine map x ↦ weight · x + bias, from which training goes on: what is nonlinear starts at 0.

        Parameters
        ----------
        weight, bias
            (out_features, in_features) and (out_features,).

        Raises
        ------
        InputError
            There is no skip, which is what carries it.
        """
        if not self.skip:
            raise InputError("a perceptron without a skip", "one with skip=True")
        self.output.weight.zero_()
        self.output.weight[:, : weight.shape[1]] = weight.to(self.output.weight)
        self.output.bias.copy_(bias)


@final
class MLPEncoder(Encoder):
    """Flatten x, then dense layers; raw output, the posterior applies its own link.

    Parameters
    ----------
    event_shape
        Shape of one x, any rank.
    out_features
        Width of the output: 2κ for the mean and scale of κ latent dimensions.
    hidden, skip, activation
        As for `MLP`; the skip carries x and the condition.
    condition_dim
        Width of the condition, concatenated to the flattened x; 0 for none.

    Examples
    --------
    >>> MLPEncoder((12,), 2 * 3, hidden=(64, 64))(torch.zeros(5, 12)).shape
    torch.Size([5, 6])
    """

    head: MLP

    def __init__(
        self,
        event_shape: tuple[int, ...],
        out_features: int,
        *,
        hidden: Sequence[int] = (512, 512),
        skip: bool = False,
        activation: Activation = "relu",
        condition_dim: int = 0,
    ) -> None:
        super().__init__(event_shape, out_features, condition_dim)
        in_features = prod(event_shape) + condition_dim
        self.features = nn.Flatten() if len(event_shape) > 1 else nn.Identity()
        self.head = MLP(in_features, out_features, hidden, skip=skip, activation=activation)


@final
class MLPDecoder(Decoder):
    """Dense layers, then a reshape; raw output, the likelihood applies its own link.

    Parameters
    ----------
    latent_dim
        Width of z.
    out_shape
        Shape of one output, any rank.
    hidden, skip, activation
        As for `MLP`; the skip carries z and the condition.
    condition_dim
        Width of the condition, concatenated to z; 0 for none.

    Examples
    --------
    >>> MLPDecoder(3, (1, 4, 4), hidden=(64,), skip=True)(torch.zeros(5, 3)).shape
    torch.Size([5, 1, 4, 4])
    """

    def __init__(
        self,
        latent_dim: int,
        out_shape: tuple[int, ...],
        *,
        hidden: Sequence[int] = (512, 512),
        skip: bool = False,
        activation: Activation = "relu",
        condition_dim: int = 0,
    ) -> None:
        super().__init__(latent_dim, out_shape, condition_dim)
        dense = MLP(latent_dim + condition_dim, prod(out_shape), hidden, skip=skip, activation=activation)
        self.body = nn.Sequential(dense, nn.Unflatten(1, self.out_shape)) if len(out_shape) > 1 else dense

    @property
    def dense(self) -> MLP:
        """The layers without the reshape."""
        return cast("MLP", self.body[0] if isinstance(self.body, nn.Sequential) else self.body)
