"""What may look on while a model trains: functions of each epoch, progress, metrics files; see `trackers` too."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaelab import storage
from vaelab.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Record = dict[str, float | int | str]
"""Numbers of one epoch: ``stage``, ``epoch``, ``step``, ``lr``, ``loss``, the terms, γ, active dimensions, seconds."""


@dataclass(frozen=True)
class Start:
    """What a hook is told before the first step."""

    stage: str
    epochs: int
    steps_per_epoch: int
    first_step: int
    history: Sequence[Record]


class Hook:
    """Base of all hooks; every method may be left out. Hooks run in the first process only."""

    def start(self, start: Start) -> None:
        """Get ready: training is about to start, or to go on."""

    def update(self, step: int, record: Record) -> None:
        """Hear of progress a few times per second; `record` holds means since the last call."""

    def epoch(self, record: Record) -> bool | None:
        """Take one epoch's record; True ends this training, whose model is kept."""

    def note(self, text: str) -> None:
        """Take a line about something other than training."""

    def picture(self, path: Path) -> None:
        """Take a picture that was drawn of the run, a PNG file."""

    def end(self) -> None:
        """Clean up: training has ended, by completion or by an exception."""


Callback = Callable[[Record], object]
"""A function of each recorded epoch; True ends this training, whose model is kept."""


class Calling(Hook):
    """Call a function with a copy of every record."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback

    def epoch(self, record: Record) -> bool:
        """Whether it says True; anything else, such as what a list's `append` returns, is no answer."""
        answer = self._callback(dict(record))
        return isinstance(answer, bool | np.bool_) and bool(answer)


def hooks_of(callbacks: Sequence[Hook | Callback]) -> list[Hook]:
    """Return hooks for hooks and functions.

    Raises
    ------
    InputError
        Something else, such as a class, or no list.
    """
    wanted, remedy = "a list of hooks, or functions of a record", "Pass callbacks=[function]."
    if not isinstance(callbacks, list | tuple):
        raise InputError(f"callbacks={callbacks!r}", wanted, remedy)
    for each in callbacks:
        if isinstance(each, type) or not (isinstance(each, Hook) or callable(each)):
            raise InputError(f"{each!r} among callbacks", wanted, remedy)
    return [each if isinstance(each, Hook) else Calling(each) for each in callbacks]


class JsonLines(Hook):
    """Append one JSON object per recorded epoch; after a resume, drop the lines that will be written again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stage = ""

    def start(self, start: Start) -> None:
        """Keep other stages' lines and this stage's lines up to the state resumed from."""
        kept = [line for line in read_records(self.path) if line.get("stage") != start.stage]
        lines = [json.dumps(record) + "\n" for record in [*kept, *start.history]]
        storage.write_text(self.path, "".join(lines))

    def epoch(self, record: Record) -> None:
        """Append."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read_records(path: Path) -> list[Record]:
    """Read a metrics file; from a line on that a crash cut off, or that is damaged, nothing."""
    records: list[Record] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not isinstance(record, dict) or not isinstance(record.get("stage"), str):
                break
            records.append(record)
    return records


def describe(record: Record) -> str:
    """One line for people: loss, its parts, √γ, active dimensions."""
    parts = [f"loss {record['loss']:.2f}"] if "loss" in record else []
    skip = {"stage", "epoch", "step", "lr", "loss", "seconds", "gamma", "active_dimensions"}
    parts += [f"{name} {value:.2f}" for name, value in record.items() if name not in skip and "held_out" not in name]
    if "gamma" in record:
        parts.append(f"γ {float(record['gamma']):.2e}")
    if "active_dimensions" in record:
        parts.append(f"active {record['active_dimensions']:.0f}")
    return "  ".join(parts)


class Progress(Hook):
    """A live bar on a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._steps_per_epoch, self._epochs = 1, 1

    def start(self, start: Start) -> None:
        """Open the bar."""
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._steps_per_epoch, self._epochs = start.steps_per_epoch, start.epochs
        columns = (
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.fields[epoch]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[terms]}"),
        )
        self._bar = RichProgress(*columns, console=Console(stderr=True))
        total = start.epochs * start.steps_per_epoch
        self._task = self._bar.add_task(start.stage, total=total, completed=start.first_step, epoch="", terms="")
        self._bar.start()

    def update(self, step: int, record: Record) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            epoch = f"epoch {min(step // self._steps_per_epoch + 1, self._epochs)}/{self._epochs}"
            self._bar.update(self._task, completed=step, epoch=epoch, terms=describe(record))

    def note(self, text: str) -> None:
        """Say what is being done."""
        if sys.stderr.isatty():
            sys.stderr.write(f"{text} …\n")

    def end(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
