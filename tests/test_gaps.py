"""Gaps of a table come back in what is drawn: their shares, what goes together, and what they depend on."""

import math

import numpy as np
import pandas as pd
import pytest

import vaelab
from vaelab import ConditionalVAE, GaussianVAE, TwoStageVAE
from vaelab.cli import main
from vaelab.errors import InputError

SHORT = {"network": "mlp([64])", "likelihood": "mixed", "lr": 3e-3, "epochs": 80, "random_state": 0}


def planted(n: int = 1500, seed: int = 0) -> pd.DataFrame:
    """One hidden number; gaps at random, in a block, nearly in a block, and where another column is large."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "cause": u + 0.3 * rng.normal(size=n),
            "whole": np.exp(u + 0.5 * rng.normal(size=n)),
            "random": rng.normal(size=n),
            "block": rng.normal(size=n) + 0.5 * u,
            "city": np.where(u > 0.5, "Rome", np.where(u > -0.5, "Oslo", "Bern")),
            "near": rng.normal(size=n),
            "also": rng.poisson(3, size=n),
            "caused": -u + 0.4 * rng.normal(size=n),
        }
    )
    frame["random"] = frame["random"].mask(rng.random(n) < 0.15)
    block = rng.random(n) < 0.2
    frame["block"], frame["city"] = frame["block"].mask(block), frame["city"].mask(block)
    near = rng.random(n) < 0.25
    frame["near"] = frame["near"].mask(near & (rng.random(n) < 0.95))
    frame["also"] = frame["also"].astype("Int64").mask(near & (rng.random(n) < 0.95))
    frame["caused"] = frame["caused"].mask(rng.random(n) < 1 / (1 + np.exp(1.5 - 2 * frame["cause"])))
    return frame


@pytest.fixture(scope="module")
def fitted():
    frame = planted()
    return frame, GaussianVAE(4, **SHORT).fit(frame)


def test_shares_blocks_and_causes_come_back(fitted):
    frame, model = fitted
    drawn = model.sample(6000, missing=True)
    assert drawn.dtypes.equals(frame.dtypes)
    real, fake = frame.isna(), drawn.isna()
    for name in frame.columns:
        share = real[name].mean()
        error = math.sqrt(share * (1 - share) * (1 / len(real) + 1 / len(fake)))
        assert fake[name].mean() == pytest.approx(share, abs=2 * error), name
    assert (fake["block"] == fake["city"]).all()
    assert np.corrcoef(fake["near"], fake["also"])[0, 1] > 0.6  # 0.95 in the rows
    assert abs(np.corrcoef(fake["random"], fake["near"])[0, 1]) < 0.1
    for missing, cause in ((fake, drawn["cause"]), (real, frame["cause"])):
        shares = [missing["caused"][part].mean() for part in (cause < -1, cause.abs() < 1, cause > 1)]
        assert shares[0] < 0.12
        assert 0.15 < shares[1] < 0.35
        assert shares[2] > 0.5


def test_rows_are_complete_unless_gaps_are_asked_for(fitted):
    frame, model = fitted
    drawn = model.sample(500)
    assert not drawn.isna().to_numpy().any()
    holes = model.sample(500, missing=True)  # of the same rows
    there = holes.notna()
    assert holes["whole"].equals(drawn["whole"])
    assert (holes["also"][there["also"]] == drawn["also"][there["also"]]).all()
    assert not model.impute(frame[:50]).isna().to_numpy().any()
    some = model.sample(300, given={"cause": (1.0, 2.0)}, missing=True)
    assert some["cause"].between(1, 2).all()
    assert some["caused"].isna().mean() > 0.35


def test_gaps_survive_saving_and_the_shell(fitted, tmp_path, capsys):
    model = fitted[1]
    model.save(tmp_path / "run")
    again = vaelab.load(tmp_path / "run")
    assert again.sample(40, missing=True, random_state=1).equals(model.sample(40, missing=True, random_state=1))
    main(["sample", str(tmp_path / "run"), "-n", "300", "-o", str(tmp_path / "new.csv"), "--with-gaps"])
    assert pd.read_csv(tmp_path / "new.csv")["block"].isna().mean() == pytest.approx(0.2, abs=0.1)
    main(["sample", str(tmp_path / "run"), "-n", "30", "-o", str(tmp_path / "full.csv"), "--balance", "city"])
    full = pd.read_csv(tmp_path / "full.csv")
    assert not full.isna().to_numpy().any()
    assert (full["city"].value_counts() == 10).all()
    capsys.readouterr()


def test_a_constant_column_with_gaps_has_them_again():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"one": np.where(rng.random(300) < 0.4, np.nan, 7.0), "x": rng.normal(size=300)})
    with pytest.warns(vaelab.errors.VaelabWarning):
        model = TwoStageVAE(2, densities=("gaussian",), **{**SHORT, "epochs": 20}).fit(frame)
    drawn = model.sample(1000, missing=True)
    assert drawn["one"].isna().mean() == pytest.approx(0.4, abs=0.08)
    assert (drawn["one"].dropna() == 7).all()


@pytest.mark.filterwarnings("ignore::vaelab.errors.VaelabWarning")
def test_what_has_learned_no_gaps_says_so_or_has_none():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    brief = {"network": "mlp([8])", "epochs": 1, "random_state": 0}
    with pytest.raises(InputError, match="learned none"):
        GaussianVAE(2, **brief).fit(X).sample(3, missing=True)
    mixed = GaussianVAE(2, likelihood="mixed", **brief).fit(X)
    assert np.isfinite(mixed.sample(30, missing=True)).all()
    old = mixed.trained_
    old.facts.gaps = None  # as of a run from before
    with pytest.raises(InputError, match="once more"):
        mixed.sample(3, missing=True)
    y = np.array(["a", "b"] * 60)
    X[y == "a", 0] = np.nan
    drawn = ConditionalVAE(2, likelihood="mixed", **{**brief, "epochs": 100}, lr=1e-2).fit(X, y)
    shares = [np.isnan(drawn.sample(300, y=which, missing=True)[:, 0]).mean() for which in ("a", "b")]
    assert shares[0] > 0.6 > 0.3 > shares[1]
