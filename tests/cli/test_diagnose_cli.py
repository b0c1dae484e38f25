"""`vaelab diagnose` and `vaelab enhance`, as a user meets them."""

import dataclasses
import importlib
import json
import webbrowser

import numpy as np
import pytest
import torch

from vaelab.cli import main
from vaelab.data import Dataset
from vaelab.diagnostics.adapters import Wrapped
from vaelab.diagnostics.diagnosis import Diagnosis, Examples, Measures, Verdict

ADAPTER = """
import neighbour

class Model:
    pass

def load():
    return Model()

def pair():
    return neighbour.encode, neighbour.decode

def needs(x):
    return x

def fails():
    return {}["missing"]

def nothing():
    pass
"""


def run(*arguments) -> int:
    return main([str(a) for a in arguments])


def diagnosis() -> Diagnosis:
    verdict = Verdict("healthy", "Healthy", "good", (), "All is well. Truly.", "Nothing needs to be done.")
    empty = Examples(torch.empty(0, 3), torch.empty(0, 3), {})
    return Diagnosis(
        "m", "a model", "table", (3,), 2, 9, 0, "prior", True, Measures(), (verdict,), empty, notes=("so",)
    )


@pytest.fixture
def asked(monkeypatch):
    """What `diagnose` was called with."""
    calls = []

    def fake(model, X=None, y=None, **options):
        calls.append((model, X, options))
        options["note"]("how well rows are rebuilt")
        return diagnosis()

    monkeypatch.setattr(importlib.import_module("vaelab.evaluation.diagnose"), "diagnose", fake)
    return calls


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(ADAPTER)
    (tmp_path / "neighbour.py").write_text(
        "def encode(x): return x[:, :2]\ndef decode(z): return z @ z.new_ones(2, 3)\n"
    )
    rng = np.random.default_rng(0)
    np.save(tmp_path / "table.npy", rng.normal(size=(120, 3)).astype(np.float32))
    np.save(tmp_path / "images.npy", np.full((9, 1, 4, 4), 255, np.uint8) * (rng.random((9, 1, 4, 4)) < 0.5))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_writes_page_and_numbers_into_its_folder(folder, asked, capsys):
    (folder / "a").mkdir()
    assert run("diagnose", "a", "--rows", 500, "--seed", 3) == 0
    (model, X, options) = asked[0]
    assert (str(model), X, options["rows"], options["seed"], options["held_out"]) == ("a", None, 500, 3, None)
    out, err = capsys.readouterr()
    assert "Healthy (good)" in out
    assert "how well rows are rebuilt" in err
    assert "rebuilt" not in out
    assert "Healthy" in (folder / "a" / "report.html").read_text()
    assert json.loads((folder / "a" / "report.json").read_text())["healthy"] is True


def test_an_adapter_writes_a_page_here(folder, asked, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert run("diagnose", "--adapter", "own.py:load", "--data", "table.npy", "--gamma", 0.5, "--quiet", "--open") == 0
    model, X, options = asked[0]
    assert type(model).__name__ == "Model"
    assert torch.equal(X, torch.from_numpy(np.load("table.npy")))
    assert options["gamma"] == 0.5
    assert capsys.readouterr().err == ""
    assert "own.py:load" in (folder / "report.html").read_text()
    assert not (folder / "report.json").exists()
    assert opened == [(folder / "report.html").resolve().as_uri()]


def test_a_pair_of_functions_is_wrapped(folder, asked):
    page = folder / "x" / "page.html"
    assert (
        run("diagnose", "--adapter", f"{folder}/own.py:pair", "--data", "table.npy", "-o", page, "--json", "n.json")
        == 0
    )
    assert isinstance(asked[0][0], Wrapped)
    assert page.is_file()
    assert (folder / "n.json").is_file()


@pytest.mark.parametrize(
    ("given", "low", "high"), [((), 0, 1), (("--range", "pm1"), -1, 1), (("--range", "raw"), 0, 255)]
)
def test_bytes_are_given_in_the_range_asked_for(folder, asked, given, low, high):
    arguments = "diagnose", "--adapter", "own.py:load", "--data", "images.npy", "--held-out", "images.npy"
    assert run(*arguments, *given) == 0
    for rows in (asked[0][1], asked[0][2]["held_out"]):
        assert rows.is_floating_point()
        assert sorted(set(rows.flatten().tolist())) == [low, high]


def test_a_named_data_set_keeps_its_split(folder, asked):
    assert run("diagnose", "--adapter", "own.py:load", "--data", "digits") == 0
    data = asked[0][1]
    assert isinstance(data, Dataset)
    assert float(data.train.x.max()) == 1.0
    assert len(data.test) == 359
    assert data.train.labels is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("neither a run nor --adapter",)),
        (("a", "--adapter", "own.py:load"), ("both a run and --adapter",)),
        (("--adapter", "own.py:load"), ("without --data",)),
        (("a", "--range", "pm1"), ("--range for a run",)),
        (("--adapter", "own.py", "--data", "table.npy"), ("FILE.py:FUNCTION",)),
        (("--adapter", "gone.py:load", "--data", "table.npy"), ("no file gone.py",)),
        (("--adapter", "own.py:lod", "--data", "table.npy"), ("without a function 'lod'", "load, pair")),
        (("--adapter", "own.py:needs", "--data", "table.npy"), ("takes arguments",)),
        (("--adapter", "own.py:nothing", "--data", "table.npy"), ("nothing from nothing",)),
        (("--adapter", "own.py:fails", "--data", "table.npy"), ("KeyError: 'missing'", "line 17", "own.py")),
        (("--adapter", "broken.py:load", "--data", "table.npy"), ("SyntaxError", "line 1", "broken.py")),
        (("--adapter", "own.py:load", "--data", "gone.npy"), ("gone.npy",)),
        (("--adapter", "own.py:load", "--data", "table.npy", "--range", "pm1"), ("stored as float32",)),
        (("a", "-o", "report.pdf"), (".html",)),
        (("a", "--json", "report.txt"), (".json",)),
    ],
)
def test_what_cannot_be_used_is_said(folder, asked, capsys, arguments, words):
    (folder / "broken.py").write_text("def load(:\n")
    assert run("diagnose", *arguments) == 2
    err = capsys.readouterr().err
    assert "vaelab diagnose: Got" in err
    for word in words:
        assert word in err
    assert not asked


@pytest.mark.parametrize("verb", ["diagnose", "enhance"])
def test_help_says_that_an_adapter_runs_code(verb, capsys):
    with pytest.raises(SystemExit):
        run(verb, "--help")
    assert "runs your own code" in " ".join(capsys.readouterr().out.split())


def test_the_whole_way_with_a_pair_of_functions(folder):
    assert run("diagnose", "--adapter", "own.py:pair", "--data", "table.npy", "--quiet", "--json", "report.json") == 0
    content = json.loads((folder / "report.json").read_text())
    assert content["measures"]["reconstruction"]["rows"] == 120
    assert content["name"] == "own.py:pair"
    assert "<svg" in (folder / "report.html").read_text()


@dataclasses.dataclass
class Better:
    """Stands for what `enhance` returns."""

    trained: object
    best: str = "mixture"

    def __str__(self):
        return "mixture is best"

    def save(self, path):
        path.mkdir()


class Samples:
    """Stands for a training: samples of all ones in the network's units."""

    facts = type("Facts", (), {"kind": "image", "event_shape": (1, 4, 4)})
    schema = None

    class scaling:  # noqa: N801
        @staticmethod
        def to_net(rows):
            return rows

        @staticmethod
        def restore(rows):
            return rows.numpy()

    def sample(self, n, *, density, seed):
        assert density == "mixture"
        return torch.zeros(n, 1, 4, 4) + 0.25


@pytest.fixture
def enhanced(monkeypatch):
    calls = []

    def fake(model, X=None, y=None, **options):
        calls.append((model, X, options))
        return Better(Samples())

    monkeypatch.setattr(importlib.import_module("vaelab.evaluation.enhance"), "enhance", fake)
    return calls


def test_enhance_saves_a_run_as_a_run(folder, enhanced, capsys):
    (folder / "a").mkdir()
    assert run("enhance", "a", "--densities", "gaussian", "mixture", "--epochs", 3) == 0
    model, X, options = enhanced[0]
    assert (str(model), X, options["densities"], options["epochs"]) == ("a", None, ("gaussian", "mixture"), 3)
    assert (folder / "a-enhanced").is_dir()
    assert "mixture is best" in capsys.readouterr().out
    assert run("enhance", "a") == 2
    assert "already" in capsys.readouterr().err
    assert run("enhance", "a", "-o", "s.png") == 2
    assert "vaelab sample" in capsys.readouterr().err
    assert len(enhanced) == 1


def test_enhance_writes_samples_of_a_foreign_model(folder, enhanced, capsys):
    from PIL import Image

    arguments = "enhance", "--adapter", "own.py:load", "--data", "images.npy", "-n", 4
    assert run(*arguments) == 0
    assert np.load("samples.npy").tolist() == np.full((4, 1, 4, 4), 0.25).tolist()
    assert run(*arguments, "--range", "pm1", "-o", "s.png") == 0
    shown = np.asarray(Image.open("s.png").convert("L"))
    assert (shown == round(0.625 * 255)).any()
    assert run(*arguments, "-o", "folder") == 2
    assert "only a run of vaelab" in capsys.readouterr().err
