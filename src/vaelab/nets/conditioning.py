"""Ways for a condition into any network of the house: an embedding of its own, a gate on the code, or nothing else.

A condition is a vector (B, width) or a sequence (B, T, channels); its shape without the batch is `condition_shape`.

Zheng et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.nets.mlp import MLP, Activation
from vaelab.nets.network import shape
from vaelab.nets.recurrent import SequenceReader


def condition_shape_of(value: int | Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one condition: (width,) or (T, channels), () for none.

    Raises
    ------
    InputError
        It is neither.
    """
    sizes = (value,) if isinstance(value, int) else tuple(value)
    if sizes in {(), (0,)}:
        return ()
    if len(sizes) > 2:
        raise InputError(f"condition_shape={sizes}", "(width,) for vectors or (T, channels) for sequences")
    return shape("condition_shape", sizes)


@final
class ConditionReader(nn.Module):
    """c (B, *condition_shape) → (B, features): a perceptron for vectors, an LSTM and a dense layer for sequences.

    Parameters
    ----------
    condition_shape
        (width,) or (T, channels); the width alone will do. Sequences of another length T are read as well.
    features
        Width of what comes out.
    hidden, activation
        Of the perceptron; the LSTM has as many units as its first layer, or as `features`.
    """

    def __init__(
        self,
        condition_shape: int | Sequence[int],
        features: int,
        *,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.condition_shape = condition_shape_of(condition_shape)
        if not self.condition_shape:
            raise InputError("a reader of no condition", "condition_shape (width,) or (T, channels)")
        if len(self.condition_shape) == 1:
            self.body: nn.Module = MLP(self.condition_shape[0], features, hidden, activation=activation)
        else:
            units = hidden[0] if hidden else features
            self.body = nn.Sequential(SequenceReader(self.condition_shape[1], units), nn.Linear(units, features))

    def forward(self, c: Tensor | None) -> Tensor:
        """Map c to (B, features).

        Raises
        ------
        InputError
            c is missing, or not a floating-point (B, *condition_shape).
        """
        wanted = self.condition_shape
        if c is None:
            raise InputError("no condition", f"a condition c of shape (B, {', '.join(map(str, wanted))})", "Pass c.")
        if c.ndim != len(wanted) + 1 or c.shape[-1] != wanted[-1] or not c.is_floating_point():
            raise InputError(
                f"a condition of shape {tuple(c.shape)} and dtype {c.dtype}",
                f"shape (B, {', '.join(map(str, wanted))}) and a floating-point dtype",
            )
        out: Tensor = self.body(c)
        return out


@final
class Embedded(nn.Module):
    """A network whose condition passes through a network of its own before it is concatenated.

    Parameters
    ----------
    network
        An encoder or decoder of (input, c) with ``condition_dim`` equal to `features`.
    condition_shape
        Of one condition; the width alone will do for a vector.
    features
        Width of its embedding.
    hidden, activation
        Of the embedding, a `ConditionReader`.
    """

    def __init__(
        self,
        network: nn.Module,
        condition_shape: int | Sequence[int],
        features: int,
        *,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if getattr(network, "condition_dim", features) != features:
            raise InputError(f"a network with condition_dim={network.condition_dim}", f"{features}, as the embedding")
        self.network = network
        self.embedding = ConditionReader(condition_shape, features, hidden=hidden, activation=activation)
        for name in ("out_features", "latent_dim"):
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Map the input and c (B, *condition_shape) to what the network returns."""
        out: Tensor = self.network(x, self.embedding(None if c is None else c.to(x.dtype)))
        return out


@final
class ConditionEncoder(nn.Module):
    """An encoder that reads the condition alone: with the same reader in the prior, q(z | x, c) = p(z | c).

    This is what sharing weights between encoder and prior comes to for data of fixed size (section 3.3). The KL is 0,
    and nothing of x is in the code: it is for comparison.

    Parameters
    ----------
    reader
        c → 2κ numbers, means and then log σ.
    out_features
        2κ.
    """

    def __init__(self, reader: nn.Module, out_features: int) -> None:
        super().__init__()
        self.reader, self.out_features = reader, out_features

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Map c to (B, 2κ), whatever x is."""
        out: Tensor = self.reader(c if c is None else c.to(x.dtype))
        return out


@final
class Gated(nn.Module):
    """A decoder that can switch latent dimensions off: z is multiplied by w(c) ∈ (0, 1)^κ (section 4.4).

    This is what lets the number of active dimensions follow the condition. Without a condition w is one trained vector.

    Parameters
    ----------
    decoder
        A decoder of (z, c) with ``latent_dim``.
    condition_shape
        Of one condition; the width alone will do for a vector, 0 for none.
    hidden, activation
        Of the network from c to w, a `ConditionReader`. Without hidden layers every class has logits of its own, and so
        the dimensions that it needs; through hidden layers classes tend to keep or lose a dimension together.
    """

    latent_dim: int

    def __init__(
        self,
        decoder: nn.Module,
        condition_shape: int | Sequence[int] = 0,
        *,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.latent_dim = int(decoder.latent_dim)  # type: ignore[arg-type]
        self.raw: nn.Module | None = None
        if condition_shape_of(condition_shape):
            self.raw = ConditionReader(condition_shape, self.latent_dim, hidden=hidden, activation=activation)
        else:
            self.vector = nn.Parameter(torch.zeros(self.latent_dim))

    def weights(self, c: Tensor | None = None) -> Tensor:
        """Return w(c), (B, κ) or (κ,)."""
        out: Tensor = self.vector if self.raw is None else self.raw(c)
        return out.sigmoid()

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map z (B, κ) and c to what the decoder returns."""
        out: Tensor = self.decoder(z * self.weights(c), c)
        return out
