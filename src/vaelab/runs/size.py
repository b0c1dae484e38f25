"""How many latent dimensions data want: a first guess by neighbours, and a trained model without the idle ones."""

from __future__ import annotations

import math

import torch

from vaelab.data import ArrayBatches, MappedBatches
from vaelab.diagnostics.dimension import dimensions_of
from vaelab.diagnostics.neighbour_dimension import danco
from vaelab.diagnostics.prune import prune
from vaelab.errors import InputError
from vaelab.model import VAE

_LEAST, _LARGEST = 4, 256
_MOST_ROWS = 2_000  # that neighbours are looked for among
_MOST_TO_COUNT = 20_000
_SAME = 0.1  # change of reconstructions, of the noise level √γ, that is none


def first_size(batches: ArrayBatches | MappedBatches, levels: tuple[int, ...]) -> int:
    """Return twice what neighbours say, at least 4: room for a manifold that is bent. 8 where they say nothing.

    Of a mixed table the numbers are looked at, with 2 more for every column of categories.
    """
    x = batches.take(_spread(len(batches), _MOST_ROWS))[0].cpu()
    x = x.flatten(1).double()
    if levels:
        x = x[:, torch.tensor(levels) == 0]
    categories = sum(count > 0 for count in levels)
    try:
        guess = 2 * math.ceil(danco(x[x.isfinite().all(1)].numpy())) if x.shape[1] > 1 else _LEAST
    except InputError:
        guess = 2 * _LEAST
    return max(_LEAST, guess + 2 * categories)


def largest_size(event_shape: tuple[int, ...], levels: tuple[int, ...]) -> int:
    """Return the largest code that is tried: one number for every degree of freedom of a row, at most 256."""
    freedom = sum(max(1, count - 1) for count in levels) if levels else math.prod(event_shape)
    return max(1, min(freedom, _LARGEST))


def without_idle(vae: VAE, batches: ArrayBatches | MappedBatches) -> tuple[VAE, int]:
    """Return the model without its idle dimensions, where that leaves it as it was, and how many were active."""
    device = next(vae.parameters()).device
    some = batches.subset(_spread(len(batches), _MOST_TO_COUNT)).to(device)
    found = dimensions_of(vae, some, groups={})
    active = found.all.by_gap
    if not 0 < active < vae.latent_dim:
        return vae, active
    try:
        pruned = prune(vae, some, dimension=found, tolerance=math.inf)
    except InputError:  # networks that cannot be sliced keep their idle dimensions
        return vae, active
    return (pruned.vae if pruned.reconstruction_change <= _SAME else vae), active


def _spread(n: int, most: int) -> torch.Tensor:
    """Numbers of at most so many rows, evenly over n."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).long()
