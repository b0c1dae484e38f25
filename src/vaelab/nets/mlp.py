"""Multilayer perceptrons, for tables, codes and small images alike.

With ``skip=True`` the input is concatenated to the last hidden layer before the output layer. Three ReLU layers of 1024
units with a skip, in both directions, are the second stage of Dai & Wipf.

References
----------
Dai & Wipf 2019, section 4 and appendix D.
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

    @property
    def affine_rank(self) -> int:
        """Largest rank of an affine map that `begin_affine` can begin with; 0 where the activation has no pairs."""
        return 0 if self._pair_slope is None else min(layer.out_features for layer in self._layers) // 2

    @torch.no_grad()
    def begin_affine(self, weight: Tensor, bias: Tensor) -> None:
        """Become the affine map x ↦ weight · x + bias, from which training goes on.

        f(u) − f(−u) is u, up to a factor, for ReLU and its kin and for SiLU. So two units per layer carry a number
        unchanged, as many of them as the map has ranks. The other units keep their weights, and the output does not
        read them yet.

        Parameters
        ----------
        weight, bias
            (out_features, m) and (out_features,); inputs beyond the first m do not matter.

        Raises
        ------
        InputError
            The rank is above `affine_rank`.
        """
        u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
        rank = int((s > 1e-9 * s[:1]).sum()) if len(s) else 0
        if rank > self.affine_rank:
            raise InputError(f"an affine map of rank {rank}", f"a rank of at most {self.affine_rank}", "Widen hidden.")
        slope = self._pair_slope or 1.0
        carried, pairs = v[:rank], 2 * rank  # what a layer makes of the units before it
        for layer in self._layers:
            layer.weight[:pairs] = 0
            layer.weight[:pairs, : carried.shape[1]] = torch.cat([carried, -carried]).to(layer.weight)
            layer.bias[:pairs] = 0
            eye = torch.eye(rank, dtype=torch.float64, device=weight.device) / slope
            carried = torch.cat([eye, -eye], 1)
        first = self.output.in_features - (self._layers[-1].out_features if self._layers else 0)
        self.output.weight.zero_()
        self.output.weight[:, first : first + pairs] = (u[:, :rank] * s[:rank] @ carried).to(self.output.weight)
        self.output.bias.copy_(bias)

    @property
    def _layers(self) -> list[nn.Linear]:
        return [layer for layer in self.hidden if isinstance(layer, nn.Linear)]

    @property
    def _pair_slope(self) -> float | None:
        """Return c where f(u) − f(−u) = c·u for all u."""
        slopes = {nn.ReLU: 1.0, nn.SiLU: 1.0, nn.LeakyReLU: 1.2}
        kinds = {type(layer) for layer in self.hidden} - {nn.Linear}
        return slopes.get(kinds.pop()) if len(kinds) == 1 else None


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
