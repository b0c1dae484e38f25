"""Runs from disk, as estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vaelab import runs
from vaelab.arguments import check_kind
from vaelab.estimators.base import Estimator
from vaelab.estimators.detector import VAEDetector
from vaelab.estimators.one_stage import ConditionalVAE, GaussianVAE
from vaelab.estimators.regularized import RegularizedAutoencoder
from vaelab.estimators.sequence import SequenceVAE
from vaelab.estimators.two_stage import TwoStageVAE
from vaelab.runs.archive import unpacked
from vaelab.runs.trained import Trained

Rowwise = GaussianVAE | ConditionalVAE | TwoStageVAE | RegularizedAutoencoder
"""An estimator of independent rows."""


def load(path: str | Path, *, network: object = None) -> Rowwise | SequenceVAE | VAEDetector | Trained:
    """Read a run, made by `save` or by ``vaelab train``, as an estimator; one of a GAN as a `Trained`.

    Parameters
    ----------
    path
        The folder, or the file that ``vaelab pack`` made of it.
    network
        The function that makes the networks, or its place (``"file.py:name"``), of a run with networks of your own.

    Raises
    ------
    RunFolderError
        The folder is missing, unfinished, foreign, corrupt or from a newer version, or its networks are not given.
    """
    check_kind("path", path, (str, Path), "the folder of a run")
    with unpacked(Path(path)) as folder:
        trained: Trained = runs.read_run(folder, network=network)
        config = runs.read_config(folder)
    if not trained.encodes:
        return trained
    model = estimator_of(trained, config.get("estimator", {}))
    if "detector" in config and isinstance(model, Estimator):
        return VAEDetector.of(model, config["detector"])
    return model


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
    model.n_features_in_ = section.get("n_features_in", trained.facts.event_shape[0])
    if trained.facts.columns is not None:
        model.feature_names_in_ = np.array(trained.facts.columns, dtype=object)
    model._describe()
    return model
