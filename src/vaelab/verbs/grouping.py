"""Rows by the groups that dimensions are counted in: classes, or regions of a condition."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vaelab.data import Conditioning
from vaelab.data.labels import count_classes
from vaelab.diagnostics.groups import groups_of, regions_of
from vaelab.errors import InputError


def by_label(labels: object, rows: int, classes: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """Rows of each class, in the classes' order; labels count the classes if these are given."""
    values = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if values.shape != (rows,):
        raise InputError(f"labels of shape {values.shape} for {rows} rows", "one label per row")
    numbers, names = count_classes(values, source="labels")
    shown = names if classes is None else [classes[int(label)] for label in names]
    return {name: numbers == i for i, name in enumerate(shown)}


def by_condition(conditioning: Conditioning, c: Tensor, regions: int, seed: int) -> dict[str, Tensor]:
    """Rows of each class of the condition, or of each region, which is named in the user's units where it has any."""
    labels = conditioning.labels(c)
    if labels is not None and conditioning.classes is not None:
        return {name: labels == i for i, name in enumerate(conditioning.classes)}
    if conditioning.form == "sequence":
        return groups_of(c, regions, seed=seed)
    places = torch.tensor([column.width for column in conditioning.columns]).cumsum(0)
    numbers = [
        (int(place) - 1, one) for place, one in zip(places, conditioning.columns, strict=True) if not one.classes
    ]
    if not numbers:
        return groups_of(c, regions, seed=seed)
    shown = torch.stack([c[:, place].cpu() * one.std + one.mean for place, one in numbers], 1)
    return regions_of(c, regions, shown=shown, seed=seed)
