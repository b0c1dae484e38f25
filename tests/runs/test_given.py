"""Rows with given columns follow the model's law under that condition."""

import numpy as np
import pandas as pd
import pytest

from vaelab import GaussianVAE, TwoStageVAE
from vaelab.errors import InputError

SHORT = {"network": "mlp([32])", "epochs": 40, "random_state": 0}


def test_a_gaussian_given_a_range_has_its_known_conditional():
    rng = np.random.default_rng(0)
    first = rng.normal(size=1000)
    X = np.stack([first, 0.8 * first + 0.6 * rng.normal(size=1000)], 1)
    model = GaussianVAE(1, likelihood="gaussian(shape=diag-i)", **SHORT).fit(X)
    drawn = model.sample(2000, given={0: (1.0, 1.2)})
    assert drawn[:, 0].min() >= 1.0
    assert drawn[:, 0].max() <= 1.2
    assert drawn[:, 1].mean() == pytest.approx(0.8 * 1.1, abs=0.12)
    assert drawn[:, 1].std() == pytest.approx(0.6, abs=0.08)
    assert (drawn == model.sample(2000, given={0: (1.0, 1.2)})).all()


def test_levels_values_dates_and_lists():
    rng = np.random.default_rng(0)
    size = rng.normal(size=600)
    frame = pd.DataFrame(
        {
            "sex": np.where(size + 0.5 * rng.normal(size=600) > 0, "F", "M"),
            "age": (40 + 10 * size).round().astype("int64"),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 100, 600), unit="D"),
        }
    )
    model = TwoStageVAE(2, likelihood="mixed", densities=("gaussian",), **SHORT).fit(frame)
    given = {"sex": "F", "age": (30, 40), "day": ("2020-01-01", "2020-02-01")}
    drawn = model.sample(50, given=given)
    assert set(drawn["sex"]) == {"F"}
    assert drawn["age"].between(30, 40).all()
    assert (drawn["day"] <= "2020-02-01").all()
    assert set(model.sample(40, given={"age": [30, 31], "sex": ["F", "M"]})["age"]) <= {30, 31}
    assert (model.sample(5, given={"age": 42})["age"] == 42).all()
    for wrong, said in (
        ({"sex": "X"}, "one of 'F', 'M'"),
        ({"size": 1}, "one of sex, age, day"),
        ({"age": (40, 30)}, "low ≤ high"),
        ({"day": "soon"}, "a date"),
        ({"age": (1000, 2000)}, "0 of"),
    ):
        with pytest.raises(InputError, match=said):
            model.sample(3, given=wrong)


def test_what_has_no_meaning_is_refused():
    X = np.random.default_rng(0).normal(size=(100, 2))
    with pytest.raises(InputError, match="no row equals"):
        GaussianVAE(1, **{**SHORT, "epochs": 1}).fit(X).sample(3, given={0: 1.0})
    images = np.random.default_rng(0).random((60, 1, 8, 8))
    with pytest.raises(InputError, match="images"):
        GaussianVAE(1, **{**SHORT, "epochs": 1}).fit(images).sample(3, given={0: 1.0})
    two = TwoStageVAE(1, condition="standard", densities=("gaussian",), **{**SHORT, "epochs": 1})
    with pytest.raises(InputError, match="conditional"):
        two.fit(X, X[:, 0] > 0).sample(3, y=True, given={0: (0, 1)})
