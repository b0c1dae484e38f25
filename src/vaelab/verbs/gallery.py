"""The picture of an evaluation."""

from __future__ import annotations

from pathlib import Path

import torch

from vaelab.data import Dataset
from vaelab.data.mapped import in_memory
from vaelab.diagnostics import pictures
from vaelab.metrics.interpolation import linear, pairs, spherical
from vaelab.runs import Trained
from vaelab.training import stream

_ROWS, _STEPS = 6, 9


def draw_interpolations(trained: Trained, data: Dataset, folder: Path) -> None:
    """Write ``interpolations.png``: decoded paths between codes of pairs of test images; nothing for tables.

    Under a condition, that of the first of each pair.
    """
    x = data.test.x
    if trained.facts.kind != "image" or len(x) < 2:
        return
    both = pairs(len(x), _ROWS, stream("cpu", trained.settings.seed, "pictures", "interpolation"))
    splits = [trained.conditioned(data).test.subset(index) for index in both.T]
    ends = [in_memory(split.x) for split in splits]
    codes = [trained.encode(rows, split.c) for rows, split in zip(ends, splits, strict=True)]
    groups = {}
    for name, path in (("spherical", spherical), ("linear", linear)):
        steps = torch.linspace(0, 1, _STEPS).tolist()
        between = [trained.decode(path(codes[0], codes[1], t), splits[0].c).cpu() for t in steps]
        walk = [trained.scaling.to_net(rows).clamp(0, 1) for rows in (ends[0], *between, ends[1])]
        groups[name] = torch.stack(walk, 1).numpy()
    pictures.save(pictures.interpolations(groups), folder / "interpolations.png")
