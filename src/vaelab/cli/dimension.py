"""``vaelab dimension``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from vaelab.diagnostics.dimension import Dimension


def dimension(
    data: tyro.conf.Positional[str],
    seeds: int = 3,
    epochs: int | None = None,
    latent_dim: int = 8,
    label_column: str | None = None,
    home: Path | None = None,
) -> None:
    """Count the dimensions of the manifold that data lie on.

    Args:
        data: the folder of a run, whose model is counted on; or a name, folder or file, on which models are trained.
        seeds: trainings per size of code.
        epochs: of a training; left out: to suit the data.
        latent_dim: size of the first code; it is doubled until some dimensions stay idle.
        label_column: column of a table to leave out.
        home: folder with a sub-folder per named data set.
    """
    if (Path(data) / "config.yaml").is_file():
        _of_run(Path(data), home)
        return
    from vaelab.config import parse_settings
    from vaelab.data import load
    from vaelab.evaluation.dimension import estimate_dimension

    settings = parse_settings({"latent_dim": latent_dim, "epochs": epochs})
    rows = load(data, home=home, label_column=label_column)
    found = estimate_dimension(rows, settings=settings, seeds=seeds, note=lambda text: print(text, file=sys.stderr))
    size = " × ".join(map(str, rows.event_shape))
    print(f"{data}: {found.dimension} dimensions (of {size} numbers per row)")
    print(f"  counts over {len(found.counts)} seeds: {', '.join(map(str, found.counts))}, with κ = {found.latent_dim}")
    for kappa, counts in found.tried.items():
        print(f"  κ = {kappa} was full: {', '.join(map(str, counts))}")
    for name, value in found.others.items():
        print(f"  {name} (scikit-dimension): {value:.1f}")
    for text in found.warnings:
        print(f"! {text}")


def _of_run(run: Path, home: Path | None) -> None:
    from vaelab import runs
    from vaelab.data import as_batches
    from vaelab.diagnostics.dimension import manifold_dimension

    trained, data = runs.load(run), runs.data_of(runs.source_of(run)[1], home=home)
    batches = as_batches(data.test.x, None, trained.scaling)
    for name, found in manifold_dimension(trained.vae, batches, labels=data.test.labels, classes=data.classes).items():
        print(_line(name, found))
        for text in found.warnings if name == "all" else ():
            print(f"! {text}")


def _line(name: str, found: Dimension) -> str:
    return (
        f"{name:<12} {found.count} of {found.latent_dim} below the threshold ({found.low}–{found.high}), "
        f"{found.by_gap} below the gap (× {found.gap:.1f}), {found.rows:,} rows"
    )


def run(argv: list[str]) -> None:
    """Parse and count."""
    tyro.cli(dimension, args=argv, prog="vaelab dimension")
