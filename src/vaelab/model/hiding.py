"""Entries that training hides from the encoder, so that it learns to infer z from parts of a row.

To an encoder an entry that is hidden is no different from one that is missing. Of rows without gaps, or with few, it
never learns what to make of those with many; nor does it where z can be told from a few entries of x, which is what
filling in the others takes.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor

from vaelab.errors import InputError

Scored = Literal["known", "seen"]


@final
class Hiding:
    """Hide entries at random: of each row a share of its own, between none and twice `rate`.

    Parameters
    ----------
    entries
        d, of a row.
    rate
        Mean share of hidden entries, between 0 and 0.5.
    scored
        What of a row the objective is of: all that is ``"known"`` of it, or what the encoder has ``"seen"``.

    Raises
    ------
    InputError
        No such share.
    """

    def __init__(self, entries: int, rate: float, scored: Scored = "seen") -> None:
        if not 0 < rate <= 0.5:
            raise InputError(f"a share of {rate} hidden entries", "above 0, at most 0.5")
        self.entries, self.rate, self.scored = int(entries), float(rate), scored

    @property
    def noise_count(self) -> int:
        """Standard normals per row that it needs: one, and one for each entry."""
        return 1 + self.entries

    def __call__(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder sees of (B, *event) rows and what is scored, NaN where an entry is left out."""
        uniform = torch.special.ndtr(noise)
        hidden = uniform[:, 1:] < 2 * self.rate * uniform[:, :1]
        seen = x.masked_fill(hidden.view(x.shape), torch.nan)
        return seen, x if self.scored == "known" else seen
