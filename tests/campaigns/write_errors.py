"""The disk is full, over quota, read-only or broken from a random change of a file on, or takes no file of this size.

Each verb that writes ends in one line that says so; what was there before is whole; and done again, the verb leaves
what it would have left.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
from dataclasses import dataclass

import numpy as np

from vaelab import storage

from .ground import RESUME, TRAIN, Ground, check, contents, nothing_left, same, tensors_of, verb

_OUT = {
    "sample": ["sample", "runs/whole", "-n", "400", "-o", "out/s.csv"],
    "sample an array": ["sample", "runs/whole", "-n", "400", "-o", "out/s.npy"],
    "encode": ["encode", "runs/whole", "x.csv", "-o", "out/z.npy"],
    "evaluate": ["evaluate", "runs/whole", "--draws", "1", "--likelihood-draws", "5", "-o", "out", "--quiet"],
    "diagnose": ["diagnose", "runs/whole", "--rows", "100", "-o", "out/r.html", "--json", "out/r.json", "--quiet"],
    "enhance": ["enhance", "runs/whole", "-n", "100", "-o", "out/better", "--quiet"],
}
VERBS = ("train", "resume", "save", *_OUT)

_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES)


@dataclass(frozen=True)
class Refused:
    """Changes fail: one of them, or all from it on; those that remove do not."""

    event: int
    number: int
    lasting: bool

    def begin(self) -> None:
        """Nothing holds before."""

    def meet(self, event: int, name: str, path: str) -> None:
        """Raise."""
        if event == self.event or (self.lasting and event > self.event):
            raise OSError(self.number, os.strerror(self.number), path)


@dataclass(frozen=True)
class TooLarge:
    """No file may be longer than some bytes; this comes late, and from below Python."""

    size: int

    def begin(self) -> None:
        """Tell the system."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))

    def meet(self, event: int, name: str, path: str) -> None:
        """Let pass."""


def trial(ground: Ground, rng: np.random.Generator, name: str | None = None) -> str:
    """Refuse writes to one verb, then let it do its work."""
    name = VERBS[int(rng.integers(len(VERBS)))] if name is None else name
    arguments = {"train": TRAIN, "resume": RESUME, "save": ["save"], **_OUT}[name]
    if name not in _known(ground):
        place = _set_up(ground, name)
        done = verb(place, arguments)
        check(done.status == 0, f"{name} without harm: {done.status} {done.said[-400:]}")
        again = contents(place / "out") if name in _OUT else {}
        largest = max((path.stat().st_size for path in place.rglob("*") if path.is_file()), default=1)
        _known(ground)[name] = done.events, largest, again
    events, largest, wanted = _known(ground)[name]
    harm: Refused | TooLarge
    if rng.random() < 0.3:
        harm = TooLarge(int(rng.integers(largest)))
    else:
        number = _ERRORS[int(rng.integers(len(_ERRORS)))]
        harm = Refused(int(rng.integers(1, events + 1)), number, bool(rng.integers(2)))
    place = _set_up(ground, name)
    before = contents(place)
    done = verb(place, arguments, harm)
    what = f"{name}, {harm}"
    check("Traceback" not in done.said and done.status in (0, 1, 2), f"{what}: {done.status} {done.said[-600:]}")
    if done.status:
        last = done.said.strip().splitlines()[-1]
        check(last.startswith("vaelab "), f"{what}: no line that says what happened: {done.said[-300:]}")
    nothing_left(place)
    if name in ("train", "resume"):
        ground.finish(place)
        return what
    found = contents(place)
    if name == "save":
        old, new = ({k: v for k, v in each.items() if k.startswith("runs/saved")} for each in (before, found))
        check(done.status == 0 or old == new, f"{what}: what was there changed")
        done = verb(place, arguments)
        check(done.status == 0, f"{what}: again {done.status} {done.said[-300:]}")
        check(same(tensors_of(place / "runs" / "saved"), ground.tensors), f"{what}: another model")
        return what
    changed = [k for k in before if found.get(k) != before[k]]
    check(not changed, f"{what}: changed {changed}")
    partial = [k for k in found if k not in before and found[k] != wanted.get(k.removeprefix("out/"))]
    check(not partial, f"{what}: half-written {partial}")
    if name == "enhance":
        shutil.rmtree(place / "out", ignore_errors=True)  # which it does not write over
    done = verb(place, arguments)
    check(done.status == 0, f"{what}: again {done.status} {done.said[-300:]}")
    check(contents(place / "out") == wanted, f"{what}: another result")
    nothing_left(place)
    return what


def _known(ground: Ground) -> dict:
    """Events, largest file, and results of the verbs tried so far."""
    return ground.__dict__.setdefault("verbs", {})


def _set_up(ground: Ground, name: str):
    """Return a place as the verb needs it."""
    if name == "train":
        return ground.place()
    if name == "resume":  # between the stages
        place = ground.place(copied="run")
        run = place / "runs" / "run"
        for path in run.glob("*.png"):
            path.unlink()
        states = sorted((run / "train_state").glob("*"))
        for path in (run / "model.safetensors", run / "results.json", states[-1]):
            path.unlink()
        return place
    place = ground.place(copied="whole")
    if name == "save":
        tensors = {
            name: value + 1 if value.is_floating_point() else value for name, value in ground.tensors.items()
        }  # of another model
        saved = shutil.copytree(ground.whole, place / "runs" / "saved")
        storage.save_tensors(saved / "model.safetensors", tensors)
    return place
