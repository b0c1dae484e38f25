"""`vaelab diagnose` and `vaelab enhance`, as a user meets them."""

import dataclasses
import importlib
import json
import re
import webbrowser

import numpy as np
import pytest
import torch

from vaelab import ConditionalVAE, GaussianVAE
from vaelab.cli import main
from vaelab.cli.foreign import conditions_of
from vaelab.cli.steps import Steps
from vaelab.data import ArrayBatches, Conditioning, Dataset
from vaelab.diagnostics.adapters import Wrapped
from vaelab.diagnostics.diagnosis import Diagnosis, Examples, Measures, Verdict
from vaelab.errors import InputError
from vaelab.runs import write_config
from vaelab.specs import MLP, Settings

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
        calls.append((model, X, options | {"y": y}))
        options["note"]("how well rows are rebuilt")
        return diagnosis()

    monkeypatch.setattr(importlib.import_module("vaelab.verbs.diagnosis"), "diagnose", fake)
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
    write_config(tmp_path / "a", Settings(), data={"data": "digits"})
    return tmp_path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders that estimators saved: "plain", and "conditional" on two classes."""
    folder = tmp_path_factory.mktemp("saved")
    x = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    y = np.array(["left", "right"])[(x[:, 0] > 0).astype(int)]
    GaussianVAE(latent_dim=1, network=MLP((4,)), epochs=1, random_state=0).fit(x).save(folder / "plain")
    ConditionalVAE(latent_dim=1, network=MLP((4,)), epochs=1, random_state=0).fit(x, y).save(folder / "conditional")
    np.save(folder / "x.npy", x)
    (folder / "y.csv").write_text("side\n" + "\n".join(y) + "\n")
    return folder


def test_a_run_writes_page_and_numbers_into_its_folder(folder, asked, capsys):
    assert run("diagnose", "a", "--rows", 500, "--seed", 3) == 0
    (model, X, options) = asked[0]
    assert (str(model), X, options["rows"], options["seed"], options["held_out"]) == ("a", None, 500, 3, None)
    out, err = capsys.readouterr()
    assert "Healthy (good)" in out
    assert re.search(r"^\[ +\d+ s\] how well rows are rebuilt$", err, re.MULTILINE)
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


@pytest.mark.parametrize(("given", "low", "high"), [("01", 0, 1), ("pm1", -1, 1), ("raw", 0, 255)])
def test_bytes_are_given_in_the_range_asked_for(folder, asked, given, low, high):
    arguments = "diagnose", "--adapter", "own.py:load", "--data", "images.npy", "--held-out", "images.npy"
    assert run(*arguments, "--range", given) == 0
    for rows in (asked[0][1], asked[0][2]["held_out"]):
        assert rows.is_floating_point()
        assert sorted(set(rows.flatten().tolist())) == [low, high]


def test_units_of_bytes_are_asked_for(folder, asked, capsys):
    """Not guessed from their type: a table of 0 and 1 divided by 255 is another table."""
    np.save("flags.npy", np.eye(120, 3, dtype=np.uint8))
    for data in ("images.npy", "flags.npy", "digits"):
        assert run("diagnose", "--adapter", "own.py:load", "--data", data) == 2
        assert "--range raw on x" in capsys.readouterr().err
    assert run("diagnose", "--adapter", "own.py:load", "--data", "flags.npy", "--range", "raw") == 0
    assert asked[0][1].max() == 1.0


def test_models_of_diffusers_say_their_range(folder, asked, monkeypatch):
    monkeypatch.setattr("vaelab.cli.foreign.range_of", lambda model: "pm1")
    assert run("diagnose", "--adapter", "own.py:load", "--data", "images.npy") == 0
    assert asked[0][1].min() == -1.0


def test_a_named_data_set_keeps_its_split(folder, asked):
    assert run("diagnose", "--adapter", "own.py:load", "--data", "digits", "--range", "01") == 0
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
        (("a", "-o", "there.html"), ("is a folder", "--out there.html/x.html")),
        (("a", "-o", "table.npy/x.html"), ("table.npy is a file",)),
        (("a", "--rows", 99), ("--rows=99", "at least 100")),
        (("a", "--seed", -1), ("--seed -1",)),
        (("gone",), ("no such folder",)),
        (("a", "--conditions", "y.csv"), ("--conditions without --data",)),
        (("a", "--held-out-conditions", "y.csv"), ("--held-out-conditions without --held-out",)),
        (("a", "--data", "table.npy", "--conditions", "y.csv"), ("y.csv, but no such file",)),
        (("a", "--data", "table.npy", "--conditions", "y.txt"), (".npy or .csv",)),
        (("--adapter", "own.py:load", "--data", "digits", "--conditions", "table.npy"), ("labels of its own",)),
        (("--adapter", "own.py:load", "--data", "images.npy", "--conditions", "table.npy"), ("120 conditions for 9",)),
    ],
)
def test_what_cannot_be_used_is_said(folder, asked, capsys, arguments, words):
    (folder / "broken.py").write_text("def load(:\n")
    (folder / "there.html").mkdir()
    assert run("diagnose", *arguments) == 2
    err = capsys.readouterr().err
    assert "vaelab diagnose: Got" in err
    for word in words:
        assert word in err
    assert not asked


@pytest.mark.parametrize("verb", ["diagnose", "enhance"])
def test_a_run_without_rows_asks_for_them(verb, saved, capsys):
    assert run(verb, saved / "plain") == 2
    err = capsys.readouterr().err
    assert "an estimator has saved" in err
    assert "Add --data X.npy" in err
    assert "not finished" in err  # the step it stopped at


def test_conditions_go_with_the_rows(saved, asked, capsys):
    given = saved / "conditional", "--data", saved / "x.npy", "-o", saved / "page.html"
    assert run("diagnose", *given) == 2
    assert "Add --conditions" in capsys.readouterr().err
    both = *given, "--conditions", saved / "y.csv", "--held-out", saved / "x.npy"
    assert run("diagnose", *both) == 2
    assert "without --held-out-conditions" in capsys.readouterr().err
    plain = saved / "plain", *given[1:], "--conditions", saved / "y.csv"
    assert run("diagnose", *plain) == 2
    assert "takes no conditions" in capsys.readouterr().err
    assert not asked
    assert run("diagnose", *both, "--held-out-conditions", saved / "y.csv") == 0
    _, x, options = asked[0]
    assert options["y"].tolist() == ["right" if one > 0 else "left" for one in x[:, 0]]
    rows, own = options["held_out"]
    assert torch.equal(rows, x)
    assert own.tolist() == options["y"].tolist()


def test_conditions_of_files_are_read_as_the_model_has_them(tmp_path):
    csv = tmp_path / "y.csv"
    classes = Conditioning.fit(np.array(["1", "2"]))
    for text in ("1\n2\n", "digit\n1\n2\n"):  # without and with a header
        csv.write_text(text)
        assert classes.to_net(conditions_of(csv, classes)).tolist() == [[1, 0], [0, 1]]
    csv.write_text("0.5\n-1.5\n")
    assert conditions_of(csv, None).tolist() == [0.5, -1.5]
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"size": [1.0, 3.0], "kind": ["x", "y"]})
    fitted = Conditioning.fit(table)
    csv.write_text("kind,size\ny,3\nx,1\n")  # in another order
    assert torch.equal(fitted.to_net(conditions_of(csv, fitted)), fitted.to_net(table).flip(0))
    csv.write_text("kind,weight\ny,3\nx,1\n")
    with pytest.raises(InputError, match="kind, weight"):
        conditions_of(csv, fitted)


def test_steps_are_timed(monkeypatch, capsys):
    now = iter([0.0, 12.4, 12.4, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    with Steps(quiet=False) as steps:
        steps("smoothness [0, 1]")
        steps("pictures")
    assert capsys.readouterr().err == "[ 12 s] smoothness [0, 1]\n[  3 s] pictures\n"


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
    better: bool = True
    best: str = "mixture"

    @property
    def subject(self):
        return type("Subject", (), {"batches": ArrayBatches(torch.zeros(3, 1), self.trained.c)})

    def __str__(self):
        return "mixture is best"

    def save(self, path):
        path.mkdir()


class Samples:
    """Stands for a training: samples of all ones in the network's units."""

    facts = type("Facts", (), {"kind": "image", "event_shape": (1, 4, 4)})
    schema = c = None

    class scaling:  # noqa: N801
        @staticmethod
        def to_net(rows):
            return rows

        @staticmethod
        def restore(rows):
            return rows.numpy()

    def draws(self, n, conditions, how):
        assert how.density == "mixture"
        for rows in (slice(0, 1), slice(1, n)):
            c, count = conditions(rows), rows.stop - rows.start
            assert c is None if self.c is None else len(c) == count
            yield torch.zeros(count, 1, 4, 4) + 0.25


@pytest.fixture
def enhanced(monkeypatch):
    calls = []

    def fake(model, X=None, y=None, **options):
        calls.append((model, X, options))
        return Better(Samples(), better=options["epochs"] != 1)

    monkeypatch.setattr(importlib.import_module("vaelab.verbs.enhancement"), "enhance", fake)
    return calls


def test_enhance_saves_a_run_as_a_run(folder, enhanced, capsys):
    assert run("enhance", "a", "--densities", "gaussian", "mixture", "--epochs", 3) == 0
    model, X, options = enhanced[0]
    assert (str(model), X, options["densities"], options["epochs"]) == ("a", None, ("gaussian", "mixture"), 3)
    assert np.load("a-enhanced/samples.npy").shape == (64, 1, 4, 4)
    assert (folder / "a-enhanced" / "samples.png").is_file()
    assert "mixture is best" in capsys.readouterr().out
    assert run("enhance", "a") == 2
    assert "already" in capsys.readouterr().err
    assert run("enhance", "a", "-o", "s.png") == 2
    assert "vaelab sample" in capsys.readouterr().err
    assert len(enhanced) == 1


def test_enhance_writes_no_run_that_is_not_better(folder, enhanced, capsys, monkeypatch):
    monkeypatch.setattr(Samples, "c", torch.eye(3))
    assert run("enhance", "a", "--epochs", 1, "-n", 5) == 0
    assert "Nothing is written" in capsys.readouterr().out
    assert not (folder / "a-enhanced").exists()
    assert run("enhance", "a", "--epochs", 1, "-n", 5, "-o", "asked") == 0
    assert len(np.load("asked/samples.npy")) == 5


def test_enhance_writes_samples_of_a_foreign_model(folder, enhanced, capsys):
    from PIL import Image

    arguments = "enhance", "--adapter", "own.py:load", "--data", "images.npy", "-n", 4
    assert run(*arguments, "--range", "01") == 0
    assert np.load("samples.npy").tolist() == np.full((4, 1, 4, 4), 0.25).tolist()
    assert run(*arguments, "--range", "pm1", "-o", "s.png") == 0
    shown = np.asarray(Image.open("s.png").convert("L"))
    assert (shown == round(0.625 * 255)).any()
    assert run(*arguments, "-o", "folder") == 2
    assert "only a run of vaelab" in capsys.readouterr().err
