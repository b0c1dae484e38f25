"""Trackers: the real CSV and TensorBoard, and the calls that the packages of W&B and MLflow take."""

import csv
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from helpers import Rows, curved_manifold, small_vae
from vaelab.cli import main
from vaelab.errors import InputError, MissingExtraError
from vaelab.training import CSV, Compute, FitSettings, MLflow, TensorBoard, Tracker, WandB, fit
from vaelab.training.hooks import Calling
from vaelab.training.trackers import TRACKERS, tracker_named

CPU = Compute(accelerator="cpu", checkpoint_seconds=0.0)
FAST = "--latent-dim 2 --network mlp --network.hidden 8 --epochs 2 --compute.accelerator cpu --quiet"
FAST += " --densities second_stage([8],training(epochs=3))"


class FakeWandB:
    """What `WandB` uses of the package, from version 0.18 on."""

    def __init__(self):
        self.logged, self.axes, self.began, self.ended = [], {}, None, None
        self.Image = lambda path: ("image", path)

    def init(self, *, project, name, dir, mode):
        self.began = (project, mode)
        return self

    def define_metric(self, name, step_metric=None):
        self.axes[name] = step_metric

    def log(self, data):
        self.logged.append(data)

    def finish(self, exit_code=None):
        self.ended = exit_code


class FakeMLflow:
    """What `MLflow` uses of the package's client, from version 2 on."""

    def __init__(self):
        self.logged, self.kept, self.ended, self.uri = [], [], None, None

    def MlflowClient(self, tracking_uri):  # noqa: N802
        self.uri = tracking_uri
        return self

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return name

    def create_run(self, experiment_id, run_name):
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment_id}/{run_name}"))

    def log_metric(self, run_id, key, value, step):
        assert "," not in key
        self.logged.append((run_id, key, value, step))

    def log_artifact(self, run_id, local_path, artifact_path):
        self.kept.append((run_id, local_path, artifact_path))

    def set_terminated(self, run_id, status):
        self.ended = status


@pytest.fixture
def fakes(monkeypatch):
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    found = SimpleNamespace(wandb=FakeWandB(), mlflow=FakeMLflow())
    monkeypatch.setitem(sys.modules, "wandb", found.wandb)
    monkeypatch.setitem(sys.modules, "mlflow", found.mlflow)
    return found


def table(path):
    with path.open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"images": 0})
    found.Reload()
    numbers = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    return numbers, found.Tags()["images"]


def heard(kind, folder, fakes):
    """Name of a number → its steps and values, as the tracker has them."""
    if kind == "csv":
        rows = table(folder / "csv" / "metrics.csv")
        names = {name for row in rows for name in row} - {"step"}
        return {name: [(row["step"], row[name]) for row in rows if name in row] for name in names}
    if kind == "tensorboard":
        return events(folder / "tensorboard")[0]
    if kind == "wandb":
        rows = [row for row in fakes.wandb.logged if not any(name.startswith("pictures") for name in row)]
        found = {}
        for row in rows:
            (axis,) = (name for name in row if name.endswith("/step"))
            assert fakes.wandb.axes[f"{axis.removesuffix('/step')}/*"] == axis
            for name in row.keys() - {axis}:
                found.setdefault(name, []).append((row[axis], row[name]))
        return found
    found = {}
    for _, name, value, step in fakes.mlflow.logged:
        found.setdefault(name, []).append((step, value))
    return found


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_tracker_hears_every_number_of_every_stage_and_keeps_pictures(tmp_path, fakes, kind):
    picture = tmp_path / "samples.png"
    Image.fromarray(np.full((4, 6), 200, dtype=np.uint8)).save(picture)
    rows, settings = Rows(curved_manifold(100, d=6)), FitSettings(epochs=3, batch_size=20)
    with tracker_named(kind).of_run(tmp_path) as tracker:
        one = fit(small_vae(), rows, settings, compute=CPU, hooks=[tracker], stage="stage one", held_out=rows)
        two = fit(small_vae(seed=1), rows, settings, compute=CPU, hooks=[tracker], stage="stage two, again")
        tracker.picture(picture)
    found, comma = heard(kind, tmp_path, fakes), "" if kind == "mlflow" else ","
    for stage, history in (("stage one", one), (f"stage two{comma} again", two)):
        for name in ("loss", "kl", "gamma", "active_dimensions", "lr", "seconds"):
            got, wanted = zip(*found[f"{stage}/{name}"], strict=True), [(r["step"], r[name]) for r in history]
            steps, values = got
            assert list(steps) == [step for step, _ in wanted]
            assert list(values) == pytest.approx([value for _, value in wanted], rel=1e-6)
    assert "stage one/held_out_loss" in found
    assert not [name for name in found if name.endswith("/epoch")]
    if kind == "tensorboard":
        assert events(tmp_path / "tensorboard")[1] == ["pictures/samples"]
    if kind == "wandb":
        assert fakes.wandb.logged[-1] == {"pictures/samples": ("image", str(picture))}
        assert (fakes.wandb.began, fakes.wandb.ended) == (("vaelab", "offline"), 0)
    if kind == "mlflow":
        run_id = f"vaelab/{tmp_path.name}"
        assert fakes.mlflow.kept == [(run_id, str(picture), "pictures")]
        assert fakes.mlflow.ended == "FINISHED"
        assert fakes.mlflow.uri == (tmp_path / "mlflow").as_uri()


def test_a_run_that_fails_says_so(tmp_path, fakes):
    for tracker in (WandB(tmp_path), MLflow(tmp_path)):
        with pytest.raises(KeyError), tracker:
            raise KeyError
    assert (fakes.wandb.ended, fakes.mlflow.ended) == (1, "FAILED")


def test_any_logger_of_fabric_is_told(tmp_path):
    from lightning_fabric.loggers import CSVLogger

    rows, logger = Rows(curved_manifold(40, d=6)), CSVLogger(tmp_path, name="mine")
    fit(small_vae(), rows, FitSettings(epochs=2), compute=CPU, hooks=[Tracker(logger)])
    assert len(table(tmp_path / "mine" / "version_0" / "metrics.csv")) == 2


@pytest.mark.parametrize("kind", [CSV, TensorBoard])
def test_after_a_resume_nothing_is_missing(tmp_path, kind):
    rows, settings, state = Rows(curved_manifold(100, d=6)), FitSettings(epochs=4), tmp_path / "state.safetensors"

    def cut(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    for hooks, stops in (([Calling(cut)], pytest.raises(KeyboardInterrupt)), ([], nullcontext())):
        with stops, kind.of_run(tmp_path) as tracker:
            fit(small_vae(), rows, settings, compute=CPU, hooks=[tracker, *hooks], state_file=state, resume=True)
    assert {step for step, _ in heard(kind.kind, tmp_path, None)["training/loss"]} == {1, 2, 3, 4}


def test_the_shell_tracks_and_goes_on_tracking(tmp_path, fakes, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savetxt("x.csv", curved_manifold(60, d=3).numpy(), delimiter=",", header="a,b,c", comments="")
    assert main(["train", "x.csv", *FAST.split(), "--track", "csv", "wandb"]) == 0
    rows = table(tmp_path / "runs/x/csv/metrics.csv")
    assert [len([row for row in rows if f"stage {n}/loss" in row]) for n in ("one", "two")] == [2, 3]
    pictures = {name for row in fakes.wandb.logged for name in row if name.startswith("pictures/")}
    assert pictures == {f"pictures/{path.stem}" for path in (tmp_path / "runs/x").glob("*.png")} != set()
    assert main(["train", "--resume", "runs/x", "--quiet"]) == 0
    assert table(tmp_path / "runs/x/csv/metrics.csv") == rows


def test_what_cannot_track_is_said_before_a_folder_is_made(tmp_path, monkeypatch, capsys):
    assert main(["train", "digits", "--out", str(tmp_path / "runs"), "--track", "tensorbord"]) == 2
    assert "Did you mean 'tensorboard'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["train", "digits", "--out", str(tmp_path / "runs"), "--track", "wandb"]) != 0
    assert "vaelab[wandb]" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match="csv, tensorboard, wandb, mlflow"):
        tracker_named("excel")
    with pytest.raises(MissingExtraError):
        WandB(tmp_path)
