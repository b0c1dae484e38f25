"""A network for velocities that depend on a time: residual blocks whose norms are set by t and a condition.

    e = W (features of t) + reader(c)
    h ← h + g(e) ∘ W₂ SiLU(W₁ (LayerNorm(h) ∘ (1 + a(e)) + b(e)))

With one time for all rows, as solvers have it, and without a condition, a, b and g are computed once and not per row.

Peebles & Xie 2023, section 3.2 (adaptive norms, gates that begin at zero).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from vaelab.nets.conditioning import ConditionReader, condition_shape_of
from vaelab.nets.network import whole

_FEATURES = 64  # sines and cosines of t
_EMBEDDED = 128  # width of e


@final
class Velocity(nn.Module):
    """(y, t, c) → (B, dim), the velocity of y at time t; zero before training.

    Parameters
    ----------
    dim
        Numbers of one y.
    width, blocks
        Of the residual blocks.
    condition_shape
        (width,) for vectors, (T, channels) for sequences, () for none.
    """

    def __init__(self, dim: int, *, width: int, blocks: int, condition_shape: int | Sequence[int] = ()) -> None:
        super().__init__()
        width, shape = whole("width", width), condition_shape_of(condition_shape)
        self.time = nn.Sequential(nn.Linear(_FEATURES, _EMBEDDED), nn.SiLU(), nn.Linear(_EMBEDDED, _EMBEDDED))
        self.reader = ConditionReader(shape, _EMBEDDED, hidden=(_EMBEDDED,)) if shape else None
        self.unknown = nn.Parameter(torch.zeros(_EMBEDDED)) if shape else None  # in place of a reading: no condition
        self.begin = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(whole("blocks", blocks)))
        self.end = nn.Linear(width, dim)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)
        frequencies = torch.logspace(0, 1.5, _FEATURES // 2)
        self.register_buffer("frequencies", frequencies)

    def forward(self, y: Tensor, t: Tensor, read: Tensor | None = None) -> Tensor:
        """Return (B, dim).

        Parameters
        ----------
        y
            (B, dim).
        t
            (B, 1), or (1, 1) for all rows.
        read
            (B, features) what `read` makes of the condition; None for a network without one.
        """
        angles = t * cast("Tensor", self.frequencies)
        embedded = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        if read is not None:
            embedded = embedded + read
        embedded, h = functional.silu(embedded), self.begin(y)
        for block in self.blocks:
            h = block(h, embedded)
        out: Tensor = self.end(functional.silu(h))
        return out

    def read(self, c: Tensor | None, rows: int, forgotten: Tensor | None = None) -> Tensor | None:
        """(B, features) of the conditions, of none where c is None or forgotten (B,); None without a reader."""
        if self.reader is None or self.unknown is None:
            return None
        if c is None:
            return self.unknown.expand(rows, -1)
        read: Tensor = self.reader(c)
        return read if forgotten is None else torch.where(forgotten[:, None], self.unknown, read)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.set = nn.Linear(_EMBEDDED, 3 * width)
        self.inner = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.zeros_(self.set.weight)
        nn.init.zeros_(self.set.bias)

    def forward(self, h: Tensor, embedded: Tensor) -> Tensor:
        scale, shift, gate = self.set(embedded).chunk(3, 1)
        moved: Tensor = h + gate * self.inner(torch.addcmul(shift, self.norm(h), 1 + scale))
        return moved
