"""What a table needs is looked up first; what was killed goes on; what was trained is kept."""

import subprocess
import sys
from dataclasses import replace

import joblib
import pytest
import torch

import vaelab
from vaelab import storage
from vaelab.cli import main
from vaelab.errors import InputError, RunFolderError, VaelabError
from vaelab.runs import read_run
from vaelab.training import Compute, Hook
from vaelab_papers import TABLES, run
from vaelab_papers import runner as running
from vaelab_papers.needs import check_needs

TABLE = TABLES["zheng/table1"]
FEW = replace(TABLE, cells=TABLE.cells[-3:])  # one group of three
SAMPLES = TABLES["dai-wipf/table1"]
SAMPLES = replace(SAMPLES, cells=tuple(cell for cell in SAMPLES.cells if "GAN" not in cell.name))
ONE = replace(SAMPLES, cells=SAMPLES.cells[2:3])  # with a second stage


class Stop(Hook):
    """Ends a training in its second epoch, as a crash would."""

    def epoch(self, record):
        if record["epoch"] > 1:
            raise RuntimeError("the power failed")


class Begin(Hook):
    """Notes at which step each training began."""

    def __init__(self):
        self.steps = []

    def start(self, start):
        self.steps.append((start.stage, start.first_step))


@pytest.fixture
def hooked(monkeypatch):
    """Give every training of a table a hook, and a state on disk at every border between steps."""
    fit_together = running.fit_together

    def give(hook):
        given = {"hooks": [hook], "compute": Compute(checkpoint_seconds=0)}
        monkeypatch.setattr(running, "fit_together", lambda *a, **k: fit_together(*a, **k, **given))

    return give


def short(table):
    """The table with trainings of four epochs."""
    scale = table.scales["smoke"]
    return replace(table, scales={"smoke": replace(scale, fit=scale.fit.set_params(epochs=4))})


@pytest.mark.parametrize("table", [FEW, ONE], ids=["together", "with samples"])
def test_a_killed_cell_goes_on_where_it_stopped(table, tmp_path, hooked):
    whole = run(short(table), "smoke", tmp_path / "whole")
    hooked(Stop())
    with pytest.raises(VaelabError, match="the power failed"):
        run(short(table), "smoke", tmp_path / "killed")
    begin = Begin()
    hooked(begin)
    found = run(short(table), "smoke", tmp_path / "killed")
    ((stage, step),) = begin.steps
    assert (stage, step > 0) == ("training", True)
    assert [one.measured for one in found] == [one.measured for one in whole]
    assert not list(tmp_path.rglob("train_state"))


def test_a_measurement_that_fails_does_not_cost_the_training(tmp_path, hooked):
    broken = replace(ONE, measure=lambda job: {}["nothing"])
    with pytest.raises(VaelabError, match="KeyError"):
        run(broken, "smoke", tmp_path)
    begin = Begin()
    hooked(begin)
    run(ONE, "smoke", tmp_path)
    assert begin.steps == [("training", 3)]  # 150 rows in batches of 50: all of them were done


def test_models_are_kept(tmp_path):
    found = run(ONE, "smoke", tmp_path)
    (folder,) = tmp_path.glob("dai-wipf-table1-smoke/*")
    trained = read_run(folder)
    assert set(trained.densities) == {"prior", "second_stage"}
    assert float(trained.vae.likelihood.variance.gamma) == pytest.approx(found[0].measured["gamma"])
    assert vaelab.load(folder).sample(2).shape == (2, 1, 8, 8)  # as any run
    (group,) = [run(FEW, "smoke", tmp_path)]
    for result, cell in zip(group, FEW.cells, strict=True):
        (file,) = tmp_path.glob(f"zheng-table1-smoke/{cell.name.replace(', ', '_')}_seed=0-*/model.safetensors")
        tensors, _ = storage.load_tensors(file)
        model = FEW.build(cell, FEW.scales["smoke"], 0).model
        model.load_state_dict(tensors)
        assert float(model.likelihood.variance.gamma) == pytest.approx(result.measured["gamma"])


def test_a_state_of_other_settings_is_left_alone(tmp_path, hooked):
    hooked(Stop())
    with pytest.raises(VaelabError):
        run(short(FEW), "smoke", tmp_path)
    begin = Begin()
    hooked(begin)
    table = short(FEW)
    run(replace(table, synthetic="another law"), "smoke", tmp_path)
    assert begin.steps == [("training", 0)]


def test_results_of_another_law_do_not_count(tmp_path):
    run(FEW, "smoke", tmp_path)
    notes = []
    run(replace(FEW, synthetic="another law"), "smoke", tmp_path, note=notes.append)
    assert len(notes) == 1


def test_groups_stay_what_they_were_when_some_are_done(tmp_path, monkeypatch):
    """Or a state on disk would be of no group: 19 seeds are 4 groups, of which the first is done."""
    scales = {"smoke": replace(TABLE.scales["smoke"], seeds=19)}
    many = replace(TABLE, cells=TABLE.cells[:1], scales=scales)
    asked = []

    def train_group(table, scale, group, folder, inception):
        asked.append([seed for _, seed in group])
        if len(asked) > 1:
            raise RuntimeError("stopped")
        return [
            running.Result(
                table.name, scale, cell.name, seed, {}, 0.0, running.identity(table, cell, scales[scale]), {}
            )
            for cell, seed in group
        ]

    monkeypatch.setattr(running, "train_group", train_group)
    for _ in range(2):
        with pytest.raises(VaelabError):
            run(many, "smoke", tmp_path)
    assert len(asked) == 7
    assert asked[4:] == asked[1:4]


@pytest.fixture
def nothing_there(monkeypatch, tmp_path):
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("VAELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELAB_INCEPTION", raising=False)


def test_all_needs_are_named_before_anything_is_trained(nothing_there, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "train_group", lambda *a: pytest.fail("trained"))
    with pytest.raises(InputError) as caught:
        run(SAMPLES, "paper", tmp_path)
    text = str(caught.value)
    for word in ("mnist", "fashion_mnist", "Inception's weights", "VAELAB_DATA", "--inception", "--download"):
        assert word in text
    assert not list(tmp_path.glob("*.jsonl"))


def test_what_is_finished_needs_nothing(nothing_there, tmp_path, monkeypatch, capsys):
    """Results of a machine that had the weights are laid out on one that has not."""
    few = replace(SAMPLES, cells=SAMPLES.cells[:2], choices=(), scales={"paper": SAMPLES.scales["smoke"]})
    run(few, "paper", tmp_path)
    whole = replace(few, scales={"paper": replace(few.scales["paper"], stand_in=False)})
    monkeypatch.setattr(running, "completed", lambda settings: settings | {"stand_in": False})
    assert len(run(whole, "paper", tmp_path)) == 2
    monkeypatch.setitem(TABLES, SAMPLES.name, whole)
    assert main(["reproduce", SAMPLES.name, "--scale", "paper", "-o", str(tmp_path)]) == 0
    assert "measured / published" in capsys.readouterr().out


def test_a_folder_that_is_in_use_is_refused(tmp_path):
    with storage.held(tmp_path / "zheng-table1-smoke"), pytest.raises(RunFolderError):
        run(FEW, "smoke", tmp_path)


def test_the_flags_that_an_error_names_are_there(nothing_there, tmp_path, capsys):
    assert main(["reproduce", "dai-wipf/table1", "--scale", "paper", "-o", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["reproduce", "--help"])
    flags = {word.strip(".,") for word in said.split() if word.startswith("--")}
    assert flags >= {"--inception", "--download", "--scale"}
    known = capsys.readouterr().out
    assert all(flag in known for flag in flags)


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path):
    other = tmp_path / "other.pth"
    with pytest.raises(InputError, match="no file"):
        check_needs(SAMPLES, "paper", inception=other)
    torch.save({}, other)
    with pytest.raises(InputError):
        check_needs(SAMPLES, "paper", inception=other)


def test_what_stands_in_needs_nothing(nothing_there):
    for table in TABLES.values():
        check_needs(table, "smoke")
        if table.synthetic and "paper" in table.scales:
            check_needs(table, "paper")


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_groups_go_through_the_backend_that_joblib_is_given(backend, tmp_path, monkeypatch):
    """Multiprocessing, as Ray's backend, hands its results over in the end."""
    monkeypatch.setattr(running, "train_group", fake_group)
    table = replace(TABLE, cells=TABLE.cells[-4:])
    with joblib.parallel_config(backend):
        found = run(table, "smoke", tmp_path, processes=2)
    assert [one.measured["mark"] for one in found] == [1.0] * 4


def fake_group(table, scale, group, folder, inception):
    """Mark cells."""
    made = [running.identity(table, cell, table.scale(scale)) for cell, _ in group]
    return [
        running.Result(table.name, scale, cell.name, seed, {"mark": 1.0}, 0.0, own, {})
        for (cell, seed), own in zip(group, made, strict=True)
    ]


@pytest.mark.campaign
def test_a_table_that_is_killed_outright_goes_on(tmp_path):
    """By SIGKILL while it trains; the results are those of a table that was left alone."""
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace; from vaelab_papers import TABLES, run\n"
        "from vaelab_papers import runner; from vaelab.training import Compute\n"
        "fit = runner.fit_together\n"
        "runner.fit_together = lambda *a, **k: fit(*a, **k, compute=Compute(checkpoint_seconds=0))\n"
        "t = TABLES['zheng/table1']; s = t.scales['smoke']\n"
        "s = replace(s, rows=20_000, fit=s.fit.set_params(epochs=40))\n"
        "run(replace(t, cells=t.cells[-3:], scales={'smoke': s}), 'smoke', Path(sys.argv[1]), note=print)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=True)
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "b")])
    while not list(tmp_path.glob("b/*/train_state/*.safetensors")):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not list(tmp_path.glob("b/*.jsonl"))
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")], check=True)
    one, other = (running.read(tmp_path / name / "zheng-table1-smoke.jsonl") for name in "ab")
    assert [result.measured for result in one] == [result.measured for result in other]
