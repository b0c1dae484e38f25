"""``vaelab dimension``."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import tyro

from vaelab.errors import InputError, VaelabWarning


def dimension(
    data: tyro.conf.Positional[str],
    seeds: int = 1,
    epochs: int | None = None,
    latent_dim: int | None = None,
    label_column: str | None = None,
    home: Path | None = None,
) -> None:
    """Count the dimensions of the manifold that data lie on.

    Args:
        data: the folder of a run, whose model is counted on, per class where there are any; or a name, folder or file,
            on which models are trained.
        seeds: trainings per size of code.
        epochs: of a training; left out: to suit the data.
        latent_dim: size of the first code, which is doubled until half of it stays idle; left out: to suit the data.
        label_column: column of a table to leave out.
        home: folder with a sub-folder per named data set.
    """
    if (Path(data) / "config.yaml").is_file():
        if (seeds, epochs, latent_dim, label_column) != (1, None, None, None):
            raise InputError(f"options of a training for {data}, a run", "the run alone", "Leave them out.")
        _of_run(Path(data), home)
        return
    from vaelab.data import load
    from vaelab.verbs.dimension import DEFAULTS, estimate_dimension

    rows = load(data, home=home, label_column=label_column)
    given = {"latent_dim": latent_dim, "training__epochs": epochs}
    known = {name: value for name, value in given.items() if value is not None}
    settings = DEFAULTS[rows.kind].set_params(**known) if known else None
    found = estimate_dimension(rows, settings=settings, seeds=seeds, note=lambda text: print(text, file=sys.stderr))
    print(f"{data}: {found}")


def _of_run(run: Path, home: Path | None) -> None:
    from vaelab import runs
    from vaelab.verbs.dimension import manifold_dimension

    data = runs.data_of_run(run, home=home)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", VaelabWarning)
        found = str(manifold_dimension(run, data))
    print("\n".join([found, *(f"! {each.message}" for each in said if str(each.message) not in found)]))


def run(argv: list[str]) -> None:
    """Parse and count."""
    tyro.cli(dimension, args=argv, prog="vaelab dimension")
