"""The pictures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.data import Dataset, Split
from vaelab.data.mapped import in_memory
from vaelab.diagnostics import pictures
from vaelab.diagnostics.variance_pictures import decoder_variance
from vaelab.runs.assessment import Assessment
from vaelab.runs.drawing import Draws
from vaelab.runs.folder import METRICS
from vaelab.runs.generators import ADVERSARIAL
from vaelab.runs.stages import SECOND
from vaelab.runs.trained import Trained
from vaelab.specs.densities import title_of
from vaelab.training import read_records, stream


def draw_pictures(
    trained: Trained, data: Dataset, found: Assessment, folder: Path, *, plain: Trained | None = None
) -> None:
    """Write samples, reconstructions, curves and the histogram of posterior variances as PNG files.

    Samples of a plain VAE stand beside the others if one is given.
    """
    _draw_curves(folder, {trained.facts.stage: "curves.png", SECOND: "curves-second-stage.png"})
    if not trained.vae.posterior.degenerate:
        histogram = pictures.variance_histogram(
            np.array(found.variance_ratios), found.active_dimensions, trained.active_below
        )
        pictures.save(histogram, folder / "posterior-variances.png")
    _draw_variance(trained, data, folder)
    _draw_rows(trained, data, folder, plain)


def draw_samples(trained: Trained, data: Dataset, folder: Path, *, plain: Trained | None = None) -> None:
    """Write samples and curves of a GAN as PNG files."""
    _draw_curves(folder, {ADVERSARIAL: "curves.png"})
    _draw_rows(trained, data, folder, plain)


def _draw_curves(folder: Path, names: Mapping[str, str]) -> None:
    """Draw what was recorded of some stages, each into a file."""
    records = read_records(folder / METRICS)
    for stage, name in names.items():
        shown = [record for record in records if record["stage"] == stage]
        if shown:
            pictures.save(pictures.curves(shown), folder / name)


def _draw_rows(trained: Trained, data: Dataset, folder: Path, plain: Trained | None) -> None:
    """Draw samples beside real rows; and reconstructions, if there are any."""
    if trained.facts.kind == "image":
        _draw_images(trained, data, folder, plain)
    else:
        _draw_columns(trained, data, folder, plain)


def _draw_variance(trained: Trained, data: Dataset, folder: Path) -> None:
    """Draw the decoder variance where it has a shape: a map of the pixels, the rows that are noisiest."""
    batches = trained.batches_of(_some(data, 300, trained.settings.seed, least=100)).to(trained.device)
    x, c = batches.take(torch.arange(len(batches), device=trained.device))
    picture = decoder_variance(trained.vae, x, c, columns=trained.facts.columns, seed=trained.settings.seed)
    if picture is not None:
        pictures.save(picture, folder / "variance.png")


def _shown(trained: Trained) -> list[str]:
    """Densities worth showing beside real data: the prior, the best, and stage two."""
    names = ["prior", trained.facts.best_density, "second_stage"]
    return [name for name in dict.fromkeys(names) if name in trained.densities]


def _some(data: Dataset, n: int, seed: int, least: int) -> Split:
    """Rows to show: of the test split if that has at least `least`; class after class where labels are conditions."""
    split: Split = data.test if len(data.test) >= least else data.train
    rows = torch.randperm(len(split), generator=stream("cpu", seed, "pictures"))[:n].sort().values
    if split.c is not None and split.labels is not None:
        rows = rows[split.labels[rows].sort(stable=True).indices]
    return split.subset(rows)


def _restored(trained: Trained, x: torch.Tensor) -> NDArray[Any]:
    """Clip to what a picture can show: uint8, or [0, 1]."""
    pixels: NDArray[Any] = (trained.scaling.to_net(x.cpu()).clamp(0, 1) * 255).round().byte().numpy()
    return pixels


def _sampled(trained: Trained, plain: Trained | None, shown: Split) -> dict[str, torch.Tensor]:
    """Title → as many draws as rows shown, under their conditions: of the plain VAE, and from each density."""
    seed, n = trained.settings.seed, len(shown)
    drawn = {} if plain is None else {"a plain VAE (γ = 1)": plain.sample(n, how=Draws("prior", seed=seed))}
    return drawn | {
        f"from {title_of(name)}": trained.sample(n, shown.c, Draws(density=name, seed=seed)) for name in _shown(trained)
    }


def _draw_images(trained: Trained, data: Dataset, folder: Path, plain: Trained | None) -> None:
    seed = trained.settings.seed
    shown = _some(data, 64, seed, least=64)
    groups = {title: _restored(trained, drawn) for title, drawn in _sampled(trained, plain, shown).items()}
    groups["real"] = _restored(trained, in_memory(shown.x))
    pictures.save(pictures.side_by_side(groups), folder / "samples.png")
    if not trained.encodes:
        return
    few = _some(data, 12, seed + 1, least=64)
    real = in_memory(few.x)
    rebuilt = _restored(trained, trained.reconstruct(real, few.c))
    pictures.save(pictures.reconstructions(_restored(trained, real), rebuilt), folder / "reconstructions.png")


def _draw_columns(trained: Trained, data: Dataset, folder: Path, plain: Trained | None) -> None:
    shown = _some(data, 2000, trained.settings.seed, least=200)
    real = in_memory(shown.x).double()
    names = trained.facts.columns or tuple(f"column {i}" for i in range(real.shape[1]))
    observed = (~real.isnan()).any(0).numpy()  # a column may be all gaps in the rows shown
    names = tuple(name for name, there in zip(names, observed, strict=True) if there)
    columns = real.numpy()[:, observed]
    drawn = {title: rows.double().cpu().numpy()[:, observed] for title, rows in _sampled(trained, plain, shown).items()}
    pictures.save(pictures.marginals(columns, drawn, names), folder / "samples.png")
    if not trained.encodes:
        return
    rebuilt = trained.reconstruct(real, shown.c).double().cpu().numpy()[:, observed]
    pictures.save(pictures.scatter(columns, rebuilt, names), folder / "reconstructions.png")
