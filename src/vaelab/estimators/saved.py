"""Runs from disk, as estimators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from torch import Tensor

from vaelab import runs
from vaelab.data import as_batches
from vaelab.diagnostics.prune import Pruned
from vaelab.diagnostics.prune import prune as prune_vae
from vaelab.errors import InputError
from vaelab.estimators.one_stage import ConditionalVAE, GaussianVAE
from vaelab.estimators.regularized import RegularizedAutoencoder
from vaelab.estimators.sequence import SequenceVAE
from vaelab.estimators.two_stage import TwoStageVAE
from vaelab.model import VAE
from vaelab.runs.trained import Trained

Rowwise = GaussianVAE | ConditionalVAE | TwoStageVAE | RegularizedAutoencoder
"""An estimator of independent rows."""


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


def prune(
    model: VAE | Rowwise | Path | str,
    X: Any = None,
    c: Any = None,
    *,
    keep: Sequence[int] | None = None,
    tolerance: float = 0.1,
) -> Pruned | Rowwise:
    """Return a model without its idle latent dimensions, after checking that reconstructions and samples stay.

    Parameters
    ----------
    model
        A fitted estimator, the folder of a run, or a `VAE`.
    X, c
        Rows and conditions to count and compare on: as in ``fit`` for an estimator; for a run its own training rows if
        None; for a VAE tensors in the network's units.
    keep, tolerance
        As for `vaelab.diagnostics.prune.prune`.

    Returns
    -------
    Pruned or estimator
        For a VAE the record with the smaller one; else a fitted estimator, with the record as ``pruned_``.

    Raises
    ------
    InputError
        The posterior is not diagonal, no dimension is left, or there are no rows.
    """
    if isinstance(model, VAE):
        if not isinstance(X, Tensor):
            raise InputError(f"X of type {type(X).__name__}, for a bare VAE", "a tensor in the network's units")
        return prune_vae(model, as_batches(X, c, dtype=X.dtype), keep=keep, tolerance=tolerance)
    found = load(model) if isinstance(model, str | Path) else model
    if not isinstance(found, Rowwise):
        raise InputError(f"a {type(found).__name__}", "a VAE, a run, or an estimator of rows", "Train a smaller one.")
    if X is not None:
        return found.prune(X, c, keep=keep, tolerance=tolerance)
    if not isinstance(model, str | Path) or c is not None:
        raise InputError("a model without rows", "rows to count and compare on", "Pass those that it was fitted on.")
    data = found.trained_.conditioned(runs.data_of(runs.source_of(Path(model))[1]))
    return found.prune_on(found.trained_.batches_of(data.train), keep, tolerance)


def load(path: str | Path, *, network: object = None) -> Rowwise | SequenceVAE:
    """Read a run folder, made by `save` or by ``vaelab train``, as an estimator.

    Parameters
    ----------
    path
        The folder.
    network
        The function that makes the networks, or its place (``"file.py:name"``), of a run with networks of your own.

    Raises
    ------
    RunFolderError
        The folder is missing, unfinished, foreign, corrupt or from a newer version, or its networks are not given.
    """
    folder = Path(path)
    trained: Trained = runs.load(folder, network=network)
    return estimator_of(trained, runs.read_config(folder).get("estimator", {}))


def estimator_of(trained: Trained, section: dict[str, Any]) -> Rowwise | SequenceVAE:
    """Return the estimator that fits a training.

    Parameters
    ----------
    trained
        Becomes its ``trained_``.
    section
        What an estimator's own `save` adds to a run folder; empty for another run.
    """
    settings = trained.settings
    if settings.network.takes == "sequences":
        return SequenceVAE.of(trained, section)
    kind: type[Rowwise] = TwoStageVAE
    if settings.posterior.degenerate and not settings.conditional:
        kind = RegularizedAutoencoder
    elif not settings.densities:
        kind = ConditionalVAE if settings.conditional else GaussianVAE
    known = kind().get_params(deep=False)
    values = {name: getattr(settings, name) for name in known if name in type(settings).model_fields}
    if "score_draws" in known:
        values["score_draws"] = section.get("score_draws", 16)
    model = kind(**values, random_state=settings.seed)
    model.trained_ = trained
    model.container_ = section.get("container", "numpy")
    model.n_features_in_ = section.get("n_features_in", trained.facts.event_shape[0])
    if trained.facts.columns is not None:
        model.feature_names_in_ = np.array(trained.facts.columns, dtype=object)
    model._describe()
    return model
