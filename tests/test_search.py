"""Searches of other packages over the estimators: successive halving, and the recipe for Optuna."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV

import vaelab
from vaelab import GaussianVAE
from vaelab.specs import Compute

PAGE = Path(__file__).parent.parent / "docs" / "callbacks.md"


def table(n=100):
    return np.random.default_rng(0).normal(size=(n, 1)) @ [[1.0, 2.0, 3.0]] + np.random.default_rng(1).normal(
        size=(n, 3)
    )


@pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")
def test_halving_gives_the_better_candidates_more_epochs():
    model = GaussianVAE(1, network="mlp([4], start=linear)", compute=Compute(accelerator="cpu"), random_state=0)
    grid = {"likelihood": ["gaussian(fixed(50))", "gaussian(fixed(500))", "gaussian"], "training__clip": [1.0]}
    search = HalvingGridSearchCV(model, grid, resource="epochs", min_resources=1, max_resources=3, factor=3, cv=2)
    search.fit(table())
    assert search.n_resources_ == [1, 3]
    assert search.n_candidates_ == [3, 1]
    assert search.best_params_ == {"likelihood": "gaussian", "training__clip": 1.0, "epochs": 3}
    assert search.best_estimator_.trained_.settings.training.clip == 1.0


@pytest.mark.filterwarnings("ignore")
def test_the_recipe_for_optuna_prunes():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    (recipe,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    names = {"X": table(), "GaussianVAE": vaelab.GaussianVAE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(recipe, str(PAGE), "exec"), names)
        # a trial that is far worse than those before it ends early; the others run to their end
        names["study"].enqueue_trial({"latent_dim": 1, "lr": 1e-4})
        names["study"].optimize(names["objective"], n_trials=1)
    states = {trial.state.name for trial in names["study"].trials}
    assert names["study"].trials[-1].state.name == "PRUNED"
    assert states == {"COMPLETE", "PRUNED"}
    assert names["study"].best_value > -20
