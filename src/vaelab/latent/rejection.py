"""Codes that are drawn again where what they decode to is off."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaelab.errors import InputError

_MOST = 0.9  # share that may be rejected
_ENOUGH = 200  # draws that say so
_ROUNDS = 200  # of one row: at a share of .9 a row in a thousand million is left after so many


class Rejection:
    """Draws codes until none is off, and counts how many were.

    Parameters
    ----------
    off
        (n, κ) codes and their conditions → (n,) whether each is off.

    Attributes
    ----------
    drawn, rejected
        Codes so far, in all and of these.
    """

    def __init__(self, off: Callable[[Tensor, Tensor | None], Tensor]) -> None:
        self.off = off
        self.drawn = self.rejected = 0

    @property
    def share(self) -> float:
        """Rejected of drawn; 0 where nothing was drawn."""
        return self.rejected / max(self.drawn, 1)

    @property
    def said(self) -> str:
        """The share, in a sentence."""
        return f"{self.share:.1%} of {self.drawn:,} draws were off the manifold, and drawn again."

    def draw(self, law: Callable[[int, Tensor | None], Tensor], n: int, c: Tensor | None) -> Tensor:
        """(n, κ) codes of the law given that they are not off; the first pass is the law's own n draws.

        Parameters
        ----------
        law
            A number of codes, and their conditions → codes.
        n, c
            How many, and (n, *condition_shape) or None.

        Raises
        ------
        InputError
            More than nine in ten are off, or all draws of some row.
        """
        z = law(n, c)
        left = torch.arange(n, device=z.device)
        for _ in range(_ROUNDS):
            own = None if c is None else c[left]
            off = self.off(z[left], own).to(z.device)
            self.drawn += len(left)
            self.rejected += int(off.sum())
            left = left[off]
            if not len(left):
                return z
            if self.drawn >= _ENOUGH and self.share > _MOST:
                break
            z[left] = law(len(left), None if c is None else c[left])
        raise InputError(
            f"a law of codes of which {self.rejected:,} of {self.drawn:,} draws are off the manifold",
            "one with at least a tenth on it, under every condition",
            "Take another density, a lower temperature, or leave on_manifold out.",
        )
