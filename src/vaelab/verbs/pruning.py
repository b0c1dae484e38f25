"""A model without its idle latent dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from vaelab import runs
from vaelab.data import as_batches
from vaelab.diagnostics.prune import Pruned
from vaelab.diagnostics.prune import prune as prune_vae
from vaelab.errors import InputError
from vaelab.estimators.base import Estimator
from vaelab.estimators.saved import Rowwise
from vaelab.model import VAE
from vaelab.runs import Trained
from vaelab.verbs.returned import returned
from vaelab.verbs.subject import read, trained_of


@overload
def prune(
    model: VAE, X: Tensor, c: Tensor | None = None, *, keep: Sequence[int] | None = None, tolerance: float = 0.1
) -> Pruned: ...


@overload
def prune(
    model: Rowwise | Path | str,
    X: object = None,
    c: object = None,
    *,
    keep: Sequence[int] | None = None,
    tolerance: float = 0.1,
) -> Rowwise: ...


@overload
def prune(
    model: Trained,
    X: object = None,
    c: object = None,
    *,
    keep: Sequence[int] | None = None,
    tolerance: float = 0.1,
) -> Trained: ...


def prune(
    model: VAE | Trained | Rowwise | Path | str,
    X: Any = None,
    c: Any = None,
    *,
    keep: Sequence[int] | None = None,
    tolerance: float = 0.1,
) -> Any:
    """Return a model without its idle latent dimensions, after checking that reconstructions and samples stay.

    Parameters
    ----------
    model
        A fitted estimator, the folder of a run, what `vaelab.runs.train` returns, or a `VAE`.
    X, c
        Rows and conditions to count and compare on: as in ``fit`` for an estimator; for a run its own training rows if
        None; for a VAE tensors in the network's units.
    keep, tolerance
        As for `vaelab.diagnostics.prune.prune`.

    Returns
    -------
    Pruned, Trained or estimator
        For a VAE the record with the smaller one; for a `Trained` another; else a fitted estimator, with the record as
        ``pruned_``.

    Raises
    ------
    InputError
        The posterior is not diagonal, no dimension is left, or there are no rows.
    """
    if isinstance(model, VAE):
        if not isinstance(X, Tensor):
            raise InputError(f"X of type {type(X).__name__}, for a bare VAE", "a tensor in the network's units")
        return prune_vae(model, as_batches(X, c, dtype=X.dtype), keep=keep, tolerance=tolerance)
    rows = isinstance(model, Estimator | Trained | str | Path)
    if not rows or trained_of(model).settings.network.takes == "sequences":
        raise InputError(f"a {type(model).__name__}", "a VAE, a run, or an estimator of rows", "Train a smaller one.")
    trained, data = read(model, X, c)
    smaller, record = runs.prune(trained, trained.batches_of(data.train), keep=keep, tolerance=tolerance)
    return returned(model, smaller, {"latent_dim": smaller.settings.size}, pruned_=record)
