"""What a verb hands back, of the same kind as what it was given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaelab import runs
from vaelab.errors import InputError
from vaelab.estimators.base import Estimator
from vaelab.estimators.saved import estimator_of
from vaelab.runs import Trained


def returned(model: object, trained: Trained, changes: Mapping[str, object] | None = None, **records: object) -> Any:
    """Return a training as a model like the one that it was made from.

    Parameters
    ----------
    model
        What the verb was given: a `Trained`, an estimator, or the folder of a run, for which an estimator is returned.
    trained
        The training to return.
    changes
        Arguments of an estimator that differ.
    records
        Attribute of an estimator → what was done.

    Raises
    ------
    InputError
        It is an estimator of sequences.
    """
    if isinstance(model, Trained):
        return trained
    if isinstance(model, str | Path):
        found = estimator_of(trained, runs.read_config(Path(model)).get("estimator", {}))
    elif isinstance(model, Estimator):
        found = model.around(trained, changes or {})
    else:
        raise InputError(f"a {type(model).__name__}", "a VAE, a run, or an estimator of rows")
    for name, record in records.items():
        setattr(found, name, record)
    return found
