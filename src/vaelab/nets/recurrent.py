"""LSTMs for sequences: x is one point, its condition c is the window of points before it.

- q(z_l | x_≤l): `LSTMEncoder` reads the window, then x.
- p(z_l | x_<l): a `ConditionReader` reads the window with weights of its own, a `SharedPrior` with the encoder's.
- p(x_l | z_l, x_<l): `LSTMDecoder` puts z beside the last state of an LSTM of its own.

A window is ``(B, T, k + 1)``: T steps of k features, the latest last, and a channel that is 1 where a step is present
and 0 where the sequence had not begun; those steps are zero and stand first. T may differ from call to call, but an
LSTM reads the empty steps too, so train and sample with windows of one length.

References
----------
Zheng et al. 2022, sections 3.3 and 4.6. Hochreiter & Schmidhuber 1997.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.nets.mlp import MLP, Activation
from vaelab.nets.network import shape, whole


@final
class SequenceReader(nn.Module):
    """The last state of a one-layer LSTM: ``(B, T, channels)`` → ``(B, units)``.

    Parameters
    ----------
    channels
        Numbers per step.
    units
        Width of the state.

    Examples
    --------
    >>> SequenceReader(3, 16)(torch.zeros(5, 7, 3)).shape
    torch.Size([5, 16])
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.channels, self.units = whole("channels", channels), whole("units", units)
        self.lstm = nn.LSTM(self.channels, self.units, batch_first=True)

    def forward(self, c: Tensor | None) -> Tensor:
        """Read ``(B, T, channels)``, T ≥ 1; return ``(B, units)``.

        Raises
        ------
        InputError
            There is no sequence, or it has another rank, width or kind of number.
        """
        wanted = f"a floating-point sequence of shape (B, T, {self.channels}) with T ≥ 1"
        if c is None:
            raise InputError("no sequence", wanted, "Pass the window of earlier points as c.")
        if c.dim() != 3 or c.shape[1] < 1 or c.shape[2] != self.channels or not c.is_floating_point():
            got = f"a sequence of shape {tuple(c.shape)} and dtype {c.dtype}"
            raise InputError(got, wanted, "A window has the features, then the channel that says which are present.")
        state: Tensor = self.lstm(c.to(next(self.parameters()).dtype))[1][0]
        return state[0]


@final
class LSTMEncoder(nn.Module):
    """Read the window, then x as its next step; an affine map of the last state is the output.

    Parameters
    ----------
    event_shape
        (k,), one point.
    out_features
        Width of the output: 2κ for the mean and scale of κ latent dimensions.
    condition_shape
        (T, k + 1) of a window.
    units
        Width of the LSTM; 32 in the paper.

    Raises
    ------
    InputError
        x is no vector, or a window does not have its k features and the channel of presence.

    Examples
    --------
    >>> encoder = LSTMEncoder((2,), 6, condition_shape=(5, 3))
    >>> encoder(torch.zeros(4, 2), torch.zeros(4, 5, 3)).shape
    torch.Size([4, 6])
    """

    def __init__(
        self, event_shape: Sequence[int], out_features: int, *, condition_shape: Sequence[int], units: int = 32
    ) -> None:
        super().__init__()
        self.event_shape = _vector("event_shape", event_shape)
        self.condition_shape = _window(condition_shape, self.event_shape[0])
        self.out_features = whole("out_features", out_features)
        self.reader = SequenceReader(self.condition_shape[1], units)
        self.head = nn.Linear(units, self.out_features)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Map x ``(B, k)`` after the window c ``(B, T, k + 1)`` to raw numbers ``(B, out_features)``."""
        if x.shape[1:] != self.event_shape:
            raise InputError(f"x of shape {tuple(x.shape)}", f"shape (B, {self.event_shape[0]})")
        if c is None or c.dim() != 3 or c.shape[0] != x.shape[0] or c.shape[2] != self.condition_shape[1]:
            got = "no window of earlier points" if c is None else f"windows of shape {tuple(c.shape)}"
            wanted = f"c of shape ({x.shape[0]}, T, {self.condition_shape[1]})"
            raise InputError(got, wanted, "Pass one window per row.")
        present = torch.cat([x, x.new_ones(x.shape[0], 1)], dim=1)
        return self.before(torch.cat([c.to(x.dtype), present[:, None]], dim=1))

    def before(self, c: Tensor) -> Tensor:
        """Map a window alone to ``(B, out_features)``, as if its last step were x: the prior of Theorem 3."""
        out: Tensor = self.head(self.reader(c))
        return out


@final
class SharedPrior(nn.Module):
    """c → the numbers of p(z | c), by the encoder itself on the window alone; for `vaelab.model.Conditional`.

    Zheng et al. 2022, Theorem 3: with shared weights the loss stays above a constant unless the sequence is
    deterministic, so this is for comparison; a `ConditionReader` is the one to use. One empty step is put in front of
    the window, so that the encoder reads as many steps as it does for q and cannot tell which of the two is asked for.

    Parameters
    ----------
    encoder
        The model's own; its weights are not copied. Its posterior is diagonal and reads log σ, as the prior does.
    latent_dim
        κ.

    Raises
    ------
    InputError
        The encoder does not emit 2κ numbers.
    """

    def __init__(self, encoder: LSTMEncoder, latent_dim: int) -> None:
        super().__init__()
        if encoder.out_features != 2 * latent_dim:
            raise InputError(
                f"an encoder with {encoder.out_features} outputs",
                f"{2 * latent_dim}, the means and scales of {latent_dim} dimensions",
                "Use a diagonal posterior, or a ConditionReader.",
            )
        self.encoder, self.latent_dim = encoder, latent_dim
        self.condition_shape = encoder.condition_shape

    def forward(self, c: Tensor) -> Tensor:
        """Map windows ``(B, T, k + 1)`` to ``(B, 2κ)``: means, then log σ_p."""
        return self.encoder.before(torch.cat([torch.zeros_like(c[:, :1]), c], dim=1))


@final
class LSTMDecoder(nn.Module):
    """z beside the last state of an LSTM over the window, then dense layers.

    Parameters
    ----------
    latent_dim
        κ.
    out_shape
        (k,), one point.
    condition_shape
        (T, channels) of a window.
    units
        Width of the LSTM.
    hidden, activation
        Of the dense layers; empty for an affine map.

    Examples
    --------
    >>> LSTMDecoder(3, (2,), condition_shape=(5, 3))(torch.zeros(4, 3), torch.zeros(4, 5, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        latent_dim: int,
        out_shape: Sequence[int],
        *,
        condition_shape: Sequence[int],
        units: int = 32,
        hidden: Sequence[int] = (),
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.latent_dim = whole("latent_dim", latent_dim)
        self.out_shape = _vector("out_shape", out_shape)
        self.condition_shape = _window(condition_shape)
        self.reader = SequenceReader(self.condition_shape[1], units)
        self.body = MLP(self.latent_dim + units, self.out_shape[0], hidden, activation=activation)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map z ``(B, κ)`` and windows c ``(B, T, channels)`` to raw numbers ``(B, k)``."""
        if z.shape[1:] != (self.latent_dim,):
            raise InputError(f"z of shape {tuple(z.shape)}", f"shape (B, {self.latent_dim})")
        state = self.reader(c)
        if state.shape[0] != z.shape[0]:
            raise InputError(f"{state.shape[0]} windows for {z.shape[0]} rows", "one window per row")
        out: Tensor = self.body(torch.cat([z, state.to(z.dtype)], dim=1))
        return out


def _vector(name: str, sizes: Sequence[int]) -> tuple[int]:
    """(k,) of one point."""
    if len(shape(name, sizes)) != 1:
        raise InputError(f"{name}={tuple(sizes)}", "(k,), the features of one point", "Flatten every point.")
    return (int(sizes[0]),)


def _window(sizes: Sequence[int], features: int | None = None) -> tuple[int, int]:
    """(T, channels), with one channel more than the features of a point where those are given."""
    wanted = "(T, channels), the features and the channel of presence" if features is None else f"(T, {features + 1})"
    if len(shape("condition_shape", sizes)) != 2 or (features is not None and sizes[1] != features + 1):
        raise InputError(f"condition_shape={tuple(sizes)}", wanted)
    return int(sizes[0]), int(sizes[1])
