"""`explore`: one page in which a trained model is moved about."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

from vaelab import runs
from vaelab.arguments import check_count, check_number, check_seed
from vaelab.errors import InputError
from vaelab.runs import Trained
from vaelab.runs.explorer import Exploration
from vaelab.runs.explorer.content import Rows, content_of
from vaelab.verbs.subject import read, trained_of

_LEAST_ROWS = 2
_USUAL_DRAWS = 16  # of z per row, where no estimator says another number


def explore(
    model: object,
    X: object | None = None,
    y: object | None = None,
    *,
    rows: int = 400,
    most_mb: float = 24.0,
    seed: int = 0,
) -> Exploration:
    """Make a page in which a trained model is moved about: along its axes, between rows, and by draws.

    The page is one file that needs no server and fetches nothing. It has some rows with their codes and their nats,
    draws from every density, and the decoder, which it runs itself, in the units of the data.

    Parameters
    ----------
    model
        A fitted estimator, what `vaelab.runs.train` returns, or the folder of a run. It is left as it is.
    X
        Rows in the units that it was fitted with; a run's own test rows if None.
    y
        Their conditions, for a conditional model.
    rows
        At most, chosen at random.
    most_mb
        MB that the weights of the decoder may have, as float32 up to 4 MB and as float16 beyond. Of a larger decoder
        the page shows what each axis does, from 9 codes along it that are decoded beforehand.
    seed
        Of rows and draws.

    Raises
    ------
    InputError
        The model is of another kind or has no decoder, it reads sequences, there are fewer than 2 rows, or rows or
        conditions do not fit it.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import GaussianVAE
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> print(explore(GaussianVAE(2, network="mlp([8])", epochs=1, random_state=0).fit(X), X))
    100 rows; draws from prior; the decoder runs in the page
    """
    check_count("rows", rows, _LEAST_ROWS)
    check_number("most_mb", most_mb, "a finite number above 0")
    check_seed(seed)
    trained = trained_of(model)
    if trained.settings.network.takes == "sequences":
        raise InputError(
            "a model of sequences", "one of tables or images", "Its rows have no code without those before."
        )
    trained, data = read(model, X, y)
    own_test = X is None and len(data.test) >= _LEAST_ROWS
    split, where = (data.test, "test ") if own_test else (data.train, "training " if X is None else "")
    if len(split) < _LEAST_ROWS:
        raise InputError(f"{len(split)} rows", f"at least {_LEAST_ROWS}", "Give more of them.")
    classes = data.classes if trained.conditioning is None else trained.conditioning.classes or data.classes
    shown = Rows.of(split, classes, where, most=rows, seed=seed)
    name = str(model) if isinstance(model, str | Path) else type(model).__name__
    return Exploration(
        content_of(_on_cpu(trained), shown, name=name, most=most_mb * 1e6, score_draws=_score_draws(model), seed=seed)
    )


def _on_cpu(trained: Trained) -> Trained:
    """Return copies of the networks, in evaluation mode."""
    densities = {name: copy.deepcopy(density).cpu().eval() for name, density in trained.densities.items()}
    return replace(trained, vae=copy.deepcopy(trained.vae).cpu().eval(), densities=densities)


def _score_draws(model: object) -> int:
    """Draws of z per row that a model's own scores have."""
    if isinstance(model, str | Path):
        return int(runs.read_config(Path(model)).get("estimator", {}).get("score_draws", _USUAL_DRAWS))
    return int(getattr(model, "score_draws", _USUAL_DRAWS))
