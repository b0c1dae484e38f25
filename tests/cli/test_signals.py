"""Signals, pipes and terminals: what is saved, what is said, and the exit status."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vaelab import GaussianVAE, storage
from vaelab.cli import main
from vaelab.cli.terminal import plain
from vaelab.training import interrupts

VAELAB = [sys.executable, "-m", "vaelab"]
SHORT = ["--network", "mlp(hidden=[16])", "--densities", "gaussian", "--latent-dim", "2", "--batch-size", "20"]


@pytest.fixture
def table(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 3))
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", header="a,b,c", comments="")
    return tmp_path


def _train(folder, name, epochs, *more):
    place = ["--out", str(folder), "--name", name]
    return ["train", str(folder / "x.csv"), *SHORT, "--epochs", str(epochs), *place, *more]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.campaign)]
)
def test_a_signal_saves_and_a_resume_ends_at_the_same_model(table, number, status):
    """States are written every 30 seconds by default, and the signal comes within the first."""
    process = subprocess.Popen([*VAELAB, *_train(table, "run", 150)], stderr=subprocess.PIPE, text=True)
    metrics = table / "run" / "metrics.jsonl"
    end = time.monotonic() + 120
    while time.monotonic() < end and not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == status
    assert f"vaelab train --resume {table / 'run'}" in said
    assert "Traceback" not in said
    state, meta = storage.load_tensors(table / "run" / "train_state" / "stage-one.safetensors")
    assert 0 < meta["step"] < 150 * 13
    assert state
    assert main(["train", "--resume", str(table / "run")]) == 0
    assert main(_train(table, "whole", 150, "--quiet")) == 0
    one, other = (storage.load_tensors(table / name / "model.safetensors")[0] for name in ("run", "whole"))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)


def _told(number, times):
    """Send signals to this process, which waits in a training if there are several."""
    with interrupts.graceful(), interrupts.awaited() if times > 1 else contextlib.nullcontext():
        for sent in range(times):
            assert interrupts.pending() == (number if sent else None)
            os.kill(os.getpid(), number)
            time.sleep(0.01)
        time.sleep(5)


@pytest.mark.parametrize(("number", "times"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGINT, 2)])
def test_without_a_training_or_sent_twice_a_signal_does_not_wait(number, times):
    with pytest.raises(interrupts.Interrupted, match=number.name):
        _told(number, times)
    assert interrupts.pending() is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_control_characters_of_names_do_not_reach_the_terminal(tmp_path):
    assert plain("a\x1b[2Jb\tc\n\x9b") == "a\\x1b[2Jb\tc\n\\x9b"
    assert plain("γ − × ✓") == "γ − × ✓"
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a\x1b[31m", "price $x_{$", "c"])
    frame["c"] = 1.0  # constant columns are named
    frame.to_csv(tmp_path / "x\x1b[2J.csv", index=False)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        arguments = [*SHORT, "--likelihood", "gaussian(shape=diag-i)", "--epochs", "2", "--out", str(tmp_path)]
        assert main(["train", str(tmp_path / "x\x1b[2J.csv"), *arguments, "--name", "run"]) == 0
        assert main(["info", str(tmp_path / "run")]) == 0
    assert "\\x1b" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert (tmp_path / "run" / "variance.png").stat().st_size > 1000
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(["train", str(tmp_path / "no\x1b[2J.csv")]) == 2
    assert "\x1b" not in said.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp1252", marks=pytest.mark.campaign)])
def test_a_terminal_without_greek_letters_gets_question_marks(table, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*VAELAB, *_train(table, "run", 2)], capture_output=True, env=environment, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert b"?" in done.stdout
    assert b"Traceback" not in done.stderr


def test_output_that_cannot_be_written_is_no_traceback(table):
    GaussianVAE(2, network="mlp([4])", epochs=1).fit(np.zeros((30, 2)) + np.arange(30)[:, None]).save(table / "run")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*VAELAB, "info", str(table / "run")], stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60
    )
    assert b"Traceback" not in done.stderr
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*VAELAB, "info", str(table / "run")], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
            )
        assert done.returncode != 0
        assert b"No space left" in done.stderr
        assert b"Traceback" not in done.stderr
