"""Random parts of rows, drawn from a generator of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from vaelab.errors import InputError


def partition(n: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Part n rows at random into kept and held-out ones.

    Parameters
    ----------
    n
        Number of rows.
    fraction
        Share that is held out, in (0, 1); rounded to whole rows, at least one.
    seed
        Of the generator; the global one is neither read nor moved.

    Returns
    -------
    kept, held_out : Tensor
        int64 row numbers, each in ascending order, so that reading them from disk goes forwards.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError(f"a held-out fraction of {fraction:g}", "a number between 0 and 1, both excluded")
    held = max(1, round(n * fraction))
    if held >= n:
        raise InputError(
            f"{n} row(s), of which a fraction of {fraction:g} is to be held out",
            "at least one row on either side",
            "Give more rows or a smaller fraction.",
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[held:].sort().values, order[:held].sort().values
