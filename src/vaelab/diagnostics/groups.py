"""Rows grouped by their condition: by class, or by region of a continuous one."""

from __future__ import annotations

import torch
from torch import Tensor

from vaelab.arguments import short_seed
from vaelab.data.conditions import is_one_hot
from vaelab.errors import InputError
from vaelab.training import stream

_CLUSTERED = 10_000  # conditions that regions are fitted on
_SHOWN = 3  # coordinates of a region's centre in its name


def groups_of(c: Tensor, regions: int = 4, *, seed: int = 0) -> dict[str, Tensor]:
    """Group rows by their condition: classes where all are one-hot, else regions.

    Parameters
    ----------
    c
        (n, *condition_shape).
    regions, seed
        As for `regions_of`.

    Returns
    -------
    dict
        Name → (n,) bool.
    """
    if is_one_hot(c):
        return {str(i): c[:, i] == 1 for i in range(c.shape[1])}
    return regions_of(c, regions, seed=seed)


def regions_of(c: Tensor, count: int = 4, *, shown: Tensor | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Divide conditions into regions by k-means (Lloyd 1982), largest first.

    Parameters
    ----------
    c
        (n, *condition_shape); sequences are compared number by number.
    count
        Regions; fewer where there are fewer distinct conditions.
    shown
        (n, k) numbers whose means name the regions; c itself, if it is a vector, where None.
    seed
        Of the clustering.

    Returns
    -------
    dict
        Name → (n,) bool.

    Raises
    ------
    InputError
        `count` is below 1.
    """
    from sklearn.cluster import KMeans

    if count < 1:
        raise InputError(f"{count} regions", "at least 1")
    flat = c.flatten(1).double().cpu()
    some = torch.randperm(len(flat), generator=stream("cpu", seed, "regions"))[:_CLUSTERED]
    distinct = len(flat[some].unique(dim=0))
    means = KMeans(min(count, distinct), n_init=4, random_state=short_seed(seed)).fit(flat[some].numpy())
    labels = torch.from_numpy(means.predict(flat.numpy())).long()
    named = shown if shown is not None else (c.double().cpu() if c.ndim == 2 else None)
    found = {}
    for i, label in enumerate(labels.bincount().argsort(descending=True).tolist(), 1):
        rows = labels == label
        centre = "" if named is None else f" around {_point(named[rows].double().mean(0))}"
        found[f"region {i}{centre}"] = rows
    return found


def _point(values: Tensor) -> str:
    """Show the first coordinates."""
    parts = [f"{value:.3g}" for value in values.tolist()[:_SHOWN]] + ["…"] * (len(values) > _SHOWN)
    return f"({', '.join(parts)})" if len(values) > 1 else parts[0]
