"""What the campaigns share: a finished run to compare with, and verbs in processes of their own that come to harm."""

from __future__ import annotations

import builtins
import io
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

SECONDS = 120  # longer than any verb of a campaign takes

_NETWORK = ["--network", "mlp(hidden=[8])", "--latent-dim", "2", "--epochs", "30", "--batch-size", "20"]
_DENSITIES = ["--densities", "gaussian", "second_stage([8],training(epochs=10))"]
TRAIN = ["train", "x.csv", *_NETWORK, *_DENSITIES, "--compute.accelerator", "cpu", "--name", "run", "--quiet"]
RESUME = ["train", "--resume", "runs/run", "--quiet"]

# a server that has never trained: torch's threads do not survive a fork
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["torch", "numpy", "pandas", "sklearn.mixture", "lightning_fabric", "matplotlib.pyplot"]
)


class TrialError(AssertionError):
    """A trial did not end as it should."""


class Done(NamedTuple):
    """How a verb ended.

    Attributes
    ----------
    status
        As of the process: negative for a signal.
    said
        On both outputs.
    events
        How often it changed a file; 0 if it was killed.
    """

    status: int
    said: str
    events: int


class Harm(Protocol):
    """What happens at one of the events, which are counted from 1; must be picklable."""

    def begin(self) -> None:
        """Set what holds for the process."""

    def meet(self, event: int, name: str, path: str) -> None:
        """Raise, die or let pass; called before the event."""


def verb(folder: Path, arguments: Sequence[str], harm: Harm | None = None, *, seconds: float = SECONDS) -> Done:
    """Run a verb of the command line, or `save`, in a folder; it is killed after some seconds."""
    notes = folder.with_name(f"{folder.name}-notes")
    shutil.rmtree(notes, ignore_errors=True)
    notes.mkdir()
    process = _CONTEXT.Process(target=_child, args=(folder, notes, list(arguments), harm))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    said, events = notes / "said", notes / "events"
    number = int(events.read_text() or 0) if events.exists() else 0
    status = process.exitcode
    assert status is not None
    return Done(status, said.read_text(errors="replace") if said.exists() else "", number)


def _child(folder: Path, notes: Path, arguments: list[str], harm: Harm | None) -> None:
    import torch

    torch.set_num_threads(1)
    os.chdir(folder)
    handle = os.open(notes / "said", os.O_CREAT | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(handle, stream)
    count = os.open(notes / "events", os.O_CREAT | os.O_WRONLY)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - the number of an open file
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    met = [0]

    def hit(name: str, path: str) -> None:
        met[0] += 1
        if harm is not None:
            harm.meet(met[0], name, path)

    watch(folder, hit)
    if harm is not None:
        harm.begin()
    status = save() if arguments == ["save"] else main_of(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(count, str(met[0]).encode())
    os._exit(status)


def main_of(arguments: list[str]) -> int:
    """Run the command line; a traceback becomes status 70."""
    import traceback

    from vaelab.cli import main

    try:
        return main(arguments)
    except BaseException:
        traceback.print_exc()
        return 70


def save() -> int:
    """Load the whole run as an estimator and save it over another."""
    import traceback

    from vaelab import load
    from vaelab.errors import VaelabError

    try:
        load("runs/whole").save("runs/saved", overwrite=True)
    except VaelabError as error:
        print(f"vaelab save: {error}")
        return 2
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def watch(folder: Path, hit: Callable[[str, str], None]) -> None:
    """Call `hit` before each change of a file below a folder, in this process and from now on."""
    import safetensors
    import safetensors.torch

    def below(path) -> str | None:
        if isinstance(path, int):  # an open file
            link = Path(f"/proc/self/fd/{path}")
            path = link.readlink() if link.exists() else os.devnull
        found = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link is not followed
        return found if found.startswith(f"{folder}{os.sep}") else None

    def counted(name: str, function: Callable, changes: Callable[..., bool] = lambda *rest: True) -> Callable:
        def wrapper(path, *rest, **options):
            where = below(path)
            if where is not None and changes(*rest, *options.values()):
                hit(name, where)
            return function(path, *rest, **options)

        return wrapper

    for name in ("replace", "rename", "mkdir", "fsync"):
        setattr(os, name, counted(name, getattr(os, name)))
    os.open = counted("open", os.open, lambda flags, *rest: bool(flags & os.O_CREAT))
    opened = counted("open", io.open, lambda mode="r", *rest: any(letter in str(mode) for letter in "wax+"))
    io.open = builtins.open = opened
    save_file = safetensors.torch.save_file

    def saved(tensors, path, *rest, **options):
        try:
            hit("save_file", str(path))
        except OSError as error:  # as the library says it
            raise safetensors.SafetensorError(f"I/O error: {error.strerror} (os error {error.errno})") from None
        save_file(tensors, path, *rest, **options)

    safetensors.torch.save_file = saved


class Ground:
    """A folder with data, a whole run, and a place for each trial.

    Parameters
    ----------
    folder
        New.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        first = self.folder / "first"
        first.mkdir(parents=True)
        x = np.random.default_rng(0).normal(size=(200, 3))
        np.savetxt(first / "x.csv", x, delimiter=",", header="a,b,c", comments="")
        self.whole = first / "runs" / "whole"
        began = time.monotonic()
        done = verb(first, TRAIN)
        check(done.status == 0, done.said)
        self.events, self.seconds = done.events, time.monotonic() - began
        (first / "runs" / "run").rename(self.whole)
        self.tensors = tensors_of(self.whole)

    def place(self, *, copied: str = "") -> Path:
        """Return an empty place with the data, and a copy of the whole run under a name."""
        trial = self.folder / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        trial.mkdir()
        shutil.copy(self.folder / "first" / "x.csv", trial)
        if copied:
            shutil.copytree(self.whole, trial / "runs" / copied)
        return trial

    def finish(self, trial: Path) -> None:
        """Go on with a training, or begin anew where there is nothing to go on with: it ends at the same model."""
        known = (trial / "runs" / "run" / "config.yaml").exists()
        done = verb(trial, RESUME if known else TRAIN)
        check(done.status == 0, f"{'resume' if known else 'a new training'}: {done.status} {done.said[-400:]}")
        check(same(tensors_of(trial / "runs" / "run"), self.tensors), "another model")
        nothing_left(trial)


def tensors_of(run: Path) -> dict:
    """Return the tensors of a run's model."""
    from vaelab import storage

    return storage.load_tensors(run / "model.safetensors")[0]


def same(one: dict, other: dict) -> bool:
    """Whether tensors are equal to the last bit."""
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def check(fine: bool, text: str) -> None:
    """Raise `TrialError` with a text."""
    if not fine:
        raise TrialError(text)


def nothing_left(folder: Path) -> None:
    """Raise `TrialError` where there are files or folders under temporary names."""
    left = [str(path.relative_to(folder)) for path in folder.rglob(".vaelab-unfinished-*")]
    check(not left, f"left over: {left}")


def contents(folder: Path) -> dict[str, bytes]:
    """Return what is in every file below a folder, without the seconds that things took."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    seconds = re.compile(rb'"seconds": [0-9.e+-]+|[0-9.]+ seconds')
    return {name: seconds.sub(b"", text) for name, text in sorted(found.items())}
