"""Ways for a condition into any network of the house: an embedding of its own, and a gate on the code.

Zheng, He, Qiu, Wipf, "Learning Manifold Dimensions with Conditional Variational Autoencoders", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.nets.mlp import MLP, Activation
from vaelab.nets.network import whole


@final
class Embedded(nn.Module):
    """A network whose condition passes through a perceptron of its own before it is concatenated.

    Parameters
    ----------
    network
        An encoder or decoder of (input, c) with ``condition_dim`` equal to `features`.
    condition_dim
        Width of c.
    features
        Width of its embedding.
    hidden, activation
        Of the perceptron.
    """

    def __init__(
        self,
        network: nn.Module,
        condition_dim: int,
        features: int,
        *,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if getattr(network, "condition_dim", features) != features:
            raise InputError(f"a network with condition_dim={network.condition_dim}", f"{features}, as the embedding")
        self.network = network
        self.embedding = MLP(condition_dim, features, hidden, activation=activation)
        self.condition_dim = condition_dim
        for name in ("out_features", "latent_dim"):
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Map the input and c (B, condition_dim) to what the network returns."""
        if c is None or c.shape != (len(x), self.condition_dim):
            got = "no condition" if c is None else f"a condition of shape {tuple(c.shape)}"
            raise InputError(got, f"a condition of shape ({len(x)}, {self.condition_dim})")
        out: Tensor = self.network(x, self.embedding(c.to(x.dtype)))
        return out


@final
class Gated(nn.Module):
    """A decoder that can switch latent dimensions off: z is multiplied by w(c) ∈ (0, 1)^κ (section 4.4).

    This is what lets the number of active dimensions follow the condition. Without a condition w is one trained vector.

    Parameters
    ----------
    decoder
        A decoder of (z, c) with ``latent_dim``.
    condition_dim
        Width of c; 0 for none.
    hidden, activation
        Of the perceptron from c to w.
    """

    latent_dim: int

    def __init__(
        self,
        decoder: nn.Module,
        condition_dim: int = 0,
        *,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.latent_dim = int(decoder.latent_dim)  # type: ignore[arg-type]
        self.condition_dim = whole("condition_dim", condition_dim, least=0)
        self.raw: nn.Module | None = None
        if condition_dim:
            self.raw = MLP(condition_dim, self.latent_dim, hidden, activation=activation)
        else:
            self.vector = nn.Parameter(torch.zeros(self.latent_dim))

    def weights(self, c: Tensor | None = None) -> Tensor:
        """Return w(c), (B, κ) or (κ,)."""
        if self.raw is None:
            return self.vector.sigmoid()
        if c is None:
            raise InputError("no condition", f"a condition of shape (B, {self.condition_dim})", "Pass c.")
        out: Tensor = self.raw(c)
        return out.sigmoid()

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map z (B, κ) and c to what the decoder returns."""
        out: Tensor = self.decoder(z * self.weights(c), c)
        return out
