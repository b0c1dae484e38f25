"""What a measure asks of a model and its rows before it starts."""

from __future__ import annotations

from vaelab.diagnostics.row_means import Part
from vaelab.errors import InputError
from vaelab.model import VAE, Mixed
from vaelab.rows import blocks
from vaelab.types import Batches


def check_rows(vae: VAE, batches: Batches, rows: int, seed: int, *, least: int = 2) -> None:
    """Check those rows that `over_rows` will take.

    Parameters
    ----------
    vae, batches, rows, seed
        As for the measure.
    least
        Rows that it needs.

    Raises
    ------
    InputError
        A likelihood of mixed tables, too few rows, or an entry that is missing or infinite.
    """
    wanted = "numbers without gaps: a diagnosis takes neither categories nor missing entries"
    if isinstance(vae.likelihood, Mixed):
        raise InputError("a model of a mixed table", wanted, "Diagnose a model of the numeric columns.")
    if min(rows, len(batches)) < least:
        raise InputError(f"{len(batches)} rows, of which at most {rows} are to be used", f"at least {least}")
    part = Part.of(batches, rows, seed)
    wrong = sum(int((~block.x.isfinite()).flatten(1).any(1).sum()) for block in blocks(part, "cpu"))
    if wrong:
        raise InputError(f"{wrong} of {len(part)} rows with entries that are not finite", wanted, "Leave them out.")
