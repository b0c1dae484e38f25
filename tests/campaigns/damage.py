"""A random file of a finished run is damaged: an error that names the run, or the right result."""

from __future__ import annotations

import resource
import shutil

import numpy as np

from .ground import RESUME, Ground, check, same, tensors_of, verb

SLOW = 60  # seconds of CPU, which other programs do not lengthen


def trial(ground: Ground, rng: np.random.Generator) -> str:
    """Damage a file, then load, describe and resume."""
    from vaelab import load
    from vaelab.errors import VaelabError

    place = ground.place(copied="run")
    run = place / "runs" / "run"
    path, how = _damaged(run, rng)
    what = f"{path.relative_to(run)} {how}"
    began = _seconds()
    try:
        found = load(run).sample(4, random_state=1)
    except VaelabError as error:
        check("runs/run" in str(error), f"{what}: an error without the name: {error}")
    else:
        check(np.array_equal(found, load(ground.whole).sample(4, random_state=1)), f"{what}: other samples")
    for arguments in (["info", "runs/run"], RESUME):
        done = verb(place, arguments)
        fine = done.status == 0 or (done.status == 2 and "runs/run" in done.said)
        check(fine, f"{what}: {arguments[0]} ended with {done.status}: {done.said[-300:]}")
    if done.status == 0:
        check(same(tensors_of(run), ground.tensors), f"{what}: resumed to another model")
    check(_seconds() - began < SLOW, f"{what}: slow")
    shutil.rmtree(place)
    return what


def _seconds() -> float:
    """CPU time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _damaged(run, rng):
    """Flip a bit, cut off, overwrite 16 bytes or empty one file; return it, and how."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.suffix != ".png" and path.stat().st_size)
    path = files[int(rng.integers(len(files)))]
    content, how = bytearray(path.read_bytes()), ("flipped", "cut off", "overwritten", "emptied")[int(rng.integers(4))]
    at = int(rng.integers(len(content)))
    if how == "flipped":
        content[at] ^= 1 << int(rng.integers(8))
    elif how == "cut off":
        del content[at:]
    elif how == "overwritten":
        content[at : at + 16] = rng.bytes(16)
    else:
        content.clear()
    path.write_bytes(content)
    return path, f"{how} at {at}"
