"""``vaelab score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def score(
    run: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[str],
    n: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("scores.csv"),
    false_alarms: float = 0.05,
    rule: str = "each",
    calibrate: str = "",
) -> None:
    """Say which rows are outliers: a score, a p-value and an alarm for each, in the order of the data.

    The score bounds log p(x) from below, in nats. The p-value is the share of rows as they should be that score no
    higher: of rows that were not trained on.

    Args:
        run: folder of the run.
        data: a name, folder or file.
        n: how many rows; default: all.
        out: file to write: .csv, or .npy without the names.
        false_alarms: share of alarms among rows as they should be, or, by benjamini_hochberg, of false ones among the
            alarms.
        rule: each or benjamini_hochberg.
        calibrate: rows as they should be that the run was not trained on; default: those that a detector has set aside,
            or the run's own test rows.
    """
    from vaelab import runs
    from vaelab.cli.checks import check_output
    from vaelab.cli.output import calibration_scores, rows_for, scores_of, write_scores
    from vaelab.metrics.conformal import check_rate

    check_output(out, "--out", (".csv", ".npy"))
    check_rate(false_alarms, rule)
    trained = runs.read_run(run)
    rows = rows_for(run, trained, data, n)
    known = calibration_scores(run, trained, calibrate, false_alarms)
    write_scores(out, scores_of(run, trained, rows), known, false_alarms, rule)


def run(argv: list[str]) -> None:
    """Parse and score."""
    tyro.cli(score, args=argv, prog="vaelab score")
