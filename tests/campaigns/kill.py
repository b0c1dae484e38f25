"""A training is killed at a random moment, or before a random change of a file, and gone on with."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import numpy as np

from .ground import TRAIN, Ground, check, verb


@dataclass(frozen=True)
class At:
    """The process is killed before one change of a file."""

    event: int

    def begin(self) -> None:
        """Nothing holds before."""

    def meet(self, event: int, name: str, path: str) -> None:
        """Die."""
        if event == self.event:
            os.kill(os.getpid(), signal.SIGKILL)


def trial(ground: Ground, rng: np.random.Generator) -> str:
    """Kill and go on; the model is the same, and nothing is left."""
    place = ground.place()
    if rng.random() < 0.5:
        event = int(rng.integers(1, ground.events + 1))
        what = f"killed before change {event} of {ground.events}"
        done = verb(place, TRAIN, At(event))
        check(done.status == -signal.SIGKILL, f"{what}: not killed, {done.status} {done.said[-200:]}")
    else:
        seconds = float(rng.uniform(0.2, 1.1)) * ground.seconds
        what = f"killed after {seconds:.2f} s"
        verb(place, TRAIN, seconds=seconds)
    ground.finish(place)
    return what
