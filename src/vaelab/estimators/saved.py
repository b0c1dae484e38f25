"""Runs from disk, as estimators."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vaelab import runs
from vaelab.estimators.one_stage import ConditionalVAE, GaussianVAE
from vaelab.estimators.sequence import SequenceVAE
from vaelab.estimators.two_stage import TwoStageVAE
from vaelab.runs.trained import Trained


def load(path: str | Path) -> GaussianVAE | ConditionalVAE | TwoStageVAE | SequenceVAE:
    """Read a run folder, made by `save` or by ``vaelab train``, as an estimator.

    Raises
    ------
    RunFolderError
        The folder is missing, unfinished, foreign, corrupt or from a newer version.
    """
    folder = Path(path)
    trained: Trained = runs.load(folder)
    section = runs.read_config(folder).get("estimator", {})
    if trained.settings.network == "lstm":
        return SequenceVAE.of(trained, section)
    values = trained.settings.model_dump(exclude={"seed"})
    own = {"random_state": trained.settings.seed, "score_draws": section.get("score_draws", 16)}
    kind: type[GaussianVAE] | type[ConditionalVAE] | type[TwoStageVAE] = TwoStageVAE
    if not trained.settings.densities:
        kind = ConditionalVAE if trained.settings.conditional else GaussianVAE
    model = kind(**{name: values[name] for name in kind().get_params() if name in values}, **own)
    model.trained_ = trained
    model.container_ = section.get("container", "numpy")
    model.n_features_in_ = section.get("n_features_in", trained.facts.event_shape[0])
    if trained.facts.columns is not None:
        model.feature_names_in_ = np.array(trained.facts.columns, dtype=object)
    model._describe()
    return model
