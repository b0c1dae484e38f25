"""The picture of an evaluation."""

from __future__ import annotations

from pathlib import Path

import torch

from vaelab.data import Dataset
from vaelab.diagnostics import pictures
from vaelab.evaluation.rows import in_memory, part
from vaelab.metrics.interpolation import linear, pairs, spherical
from vaelab.runs import Trained
from vaelab.training import stream

_ROWS, _STEPS = 6, 9


def draw(trained: Trained, data: Dataset, folder: Path) -> None:
    """Write ``interpolations.png``: decoded paths between the codes of pairs of test images; nothing for tables."""
    x = data.test.x
    if trained.facts.kind != "image" or len(x) < 2:
        return
    both = pairs(len(x), _ROWS, stream("cpu", trained.settings.seed, "pictures", "interpolation"))
    ends = [in_memory(part(x, index)) for index in both.T]
    codes = [trained.encode(rows) for rows in ends]
    groups = {}
    for name, path in (("spherical", spherical), ("linear", linear)):
        between = [trained.decode(path(codes[0], codes[1], t)).cpu() for t in torch.linspace(0, 1, _STEPS).tolist()]
        walk = [trained.scaling.to_net(rows).clamp(0, 1) for rows in (ends[0], *between, ends[1])]
        groups[name] = torch.stack(walk, 1).numpy()
    pictures.save(pictures.interpolations(groups), folder / "interpolations.png")
