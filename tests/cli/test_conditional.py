"""Conditional runs from the shell."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import vaelab
from vaelab.cli import main
from vaelab.latent import Generator
from vaelab.runs import Trained

FAST = "--latent-dim 2 --network mlp --network.hidden 8 --epochs 2 --compute.accelerator cpu"
FAST += " --densities gaussian mixture(1,diag) second_stage([8],training(epochs=2))"
FAST += " --condition standard(hidden=[8]) --quiet"


def run(*arguments) -> int:
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    home = tmp_path_factory.mktemp("conditional")
    kind = np.array(["ash", "elm", "oak"])[np.arange(90) % 3]
    x = np.random.default_rng(0).normal(size=(90, 3)) + 5 * (np.arange(90) % 3)[:, None]
    path = home / "trees.csv"
    pd.DataFrame({"kind": kind, "a": x[:, 0], "b": x[:, 1], "c": x[:, 2]}).to_csv(path, index=False)
    assert run("train", path, *FAST.split(), "--label-column", "kind", "--out", home / "runs") == 0
    return home / "runs" / "trees", path


def test_a_conditional_run_is_whole(table):
    folder, _ = table
    assert {path.name for path in folder.glob("*.png")} >= {"samples.png", "reconstructions.png"}
    assert set(json.loads((folder / "results.json").read_text())["code_log_density"]) > {"prior", "mixture_1_diag"}
    assert type(vaelab.load(folder)).__name__ == "TwoStageVAE"
    assert vaelab.load(folder).classes_ == ("ash", "elm", "oak")


def test_samples_of_all_classes_of_some_and_of_one(table, tmp_path):
    folder, _ = table
    model = vaelab.load(folder)
    for given, wanted in (
        ((), np.repeat(["ash", "elm", "oak"], 4)),
        (("--condition", "oak", "ash"), np.repeat(["oak", "ash"], 6)),
        (("--condition", "elm"), "elm"),
    ):
        assert run("sample", folder, "-n", 12, "-o", tmp_path / "s.npy", *given) == 0
        expected = model.trained_.sample(12, model.trained_.conditions(wanted, 12, spread=True)).numpy()
        assert np.allclose(np.load(tmp_path / "s.npy"), expected)


def test_what_a_conditional_run_refuses(table, tmp_path, capsys):
    folder, path = table
    assert run("sample", folder, "-o", tmp_path / "s.npy", "--condition", "fir") == 2
    assert "unknown class fir" in capsys.readouterr().err
    assert run("encode", folder, path, "-o", tmp_path / "z.npy") == 2
    assert "transform(X, y)" in capsys.readouterr().err
    assert run("train", path, *FAST.split(), "--out", tmp_path, "--likelihood", "gaussian") == 2
    assert "hold no numbers: 'kind'" in capsys.readouterr().err
    assert run("train", path, *FAST.split(), "--out", tmp_path) == 2  # no column of text is taken for the class
    assert "--label-column" in capsys.readouterr().err
    frame = pd.read_csv(path).drop(columns="kind")
    frame.to_csv(tmp_path / "plain.csv", index=False)
    assert run("train", tmp_path / "plain.csv", *FAST.split(), "--out", tmp_path) == 2
    assert "--label-column" in capsys.readouterr().err
    assert not (tmp_path / "plain").exists()


def test_its_own_test_rows_have_conditions(table, tmp_path):
    folder, _ = table
    for verb in ("encode", "reconstruct"):
        assert run(verb, folder, "-o", tmp_path / f"{verb}.csv") == 0
        assert len(pd.read_csv(tmp_path / f"{verb}.csv")) == 9


def test_it_is_evaluated_under_the_test_rows_conditions(table, capsys, monkeypatch):
    folder, _ = table
    model = vaelab.load(folder)
    data = model.trained_.conditioned(vaelab.runs.data_of(vaelab.runs.source_of(folder)[1]))
    seen = {"sample": [], "reconstruct": []}
    for owner, name, place in ((Generator, "sample", 2), (Trained, "reconstruct", 2)):
        original = getattr(owner, name)

        def watching(*args, _f=original, _name=name, _place=place, **kwargs):
            seen[_name].append(args[_place].cpu())
            return _f(*args, **kwargs)

        monkeypatch.setattr(owner, name, watching)
    assert run("evaluate", folder, "--draws", 2) == 0
    out = capsys.readouterr().out
    assert "not the rows" not in out
    assert "second_stage" in out
    for calls in seen.values():
        assert calls
        assert all(torch.equal(c, data.test.c) for c in calls)
