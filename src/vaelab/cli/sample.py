"""``vaelab sample``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vaelab.arguments import check_count, check_seed
from vaelab.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from vaelab.data import Conditioning
    from vaelab.latent import Rejection
    from vaelab.runs import Trained


def sample(
    run: tyro.conf.Positional[Path],
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("samples.npy"),
    density: str = "auto",
    condition: tuple[str, ...] = (),
    observation_noise: bool | None = None,
    balance: str | None = None,
    with_gaps: tyro.conf.FlagCreatePairsOff[bool] = False,
    temperature: float = 1.0,
    on_manifold: tyro.conf.FlagCreatePairsOff[bool] = False,
    seed: int = 0,
) -> None:
    """Draw new data from a run.

    Args:
        run: folder of the run.
        n: how many.
        out: file to write: .png for a grid, .npy, .csv for tables, .parquet for mixed ones; a folder takes one PNG per
            image.
        density: where codes come from: auto (the best on held-out codes), prior, gaussian, mixture, flow,
            flow_matching, second_stage.
        condition: of a conditional run: classes, as many draws of each; or the values of one condition for all draws.
            Left out: all classes in turn.
        observation_noise: True draws from p(x | z), False takes decoder means; left out: tables are drawn, images are
            means.
        balance: column of a table whose levels have equal shares in what is drawn.
        with_gaps: leave entries of a mixed table out, as its rows did.
        temperature: of the codes: below 1 rows are more typical and less various than the data.
        on_manifold: draw codes again whose rows are unlike any reconstruction of the training rows, and say how many.
        seed: of the draws.
    """
    from vaelab import runs
    from vaelab.cli.output import write_rows

    check_count("-n", n)
    check_seed(seed, "--seed")
    trained = runs.read_run(run)
    spread = _spread(trained.conditioning, condition, n)

    def conditions(rows: slice) -> Tensor | None:
        return trained.conditions(spread(rows), rows.stop - rows.start, spread=True)

    how = runs.Draws(
        density=density,
        observation_noise=observation_noise,
        missing=with_gaps,
        balance=balance,
        temperature=temperature,
        rejection=_rejection(run, trained) if on_manifold else None,
        seed=seed,
    )
    write_rows(out, trained, trained.draws(n, conditions, how), n)
    if how.rejection is not None:
        print(how.rejection.said)


def _rejection(run: Path, trained: Trained) -> Rejection:
    """Read the rows that a run was trained on."""
    from vaelab import runs

    return runs.rejection_of(trained, trained.conditioned(runs.data_of_run(run, strict=True)).train)


def _spread(
    conditioning: Conditioning | None, given: tuple[str, ...], n: int
) -> Callable[[slice], list[object] | None]:
    """Return the conditions of any of n rows: as many of each class as of any other, in order; or the one given."""
    if conditioning is None:
        return lambda rows: list(given) or None
    if conditioning.classes:
        chosen = given or conditioning.classes
        return lambda rows: [chosen[i * len(chosen) // n] for i in range(rows.start, rows.stop)]
    if conditioning.form == "sequence":
        raise InputError(
            "a run whose conditions are sequences", "a run with others", "In Python: vaelab.load(run).sample"
        )
    if not given:
        return lambda rows: None
    if len(given) != len(conditioning.columns):
        raise InputError(f"--condition with {len(given)} value(s)", conditioning.describe())
    values: list[object] = [
        value if column.classes else _number(value) for column, value in zip(conditioning.columns, given, strict=True)
    ]
    return lambda rows: values if conditioning.form == "column" else [values]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--condition {text}", "a number") from None


def run(argv: list[str]) -> None:
    """Parse and draw."""
    tyro.cli(sample, args=argv, prog="vaelab sample")
