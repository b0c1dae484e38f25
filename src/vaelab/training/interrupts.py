"""Ctrl-C and SIGTERM while a training runs: it goes on to the next border between steps, saves, and stops there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A signal that stopped the program.

    Attributes
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


_asked: int | None = None  # the signal that waits for a border
_running = 0  # trainings that will look for it


@contextmanager
def graceful() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM inside the block wait for a training's next border; a second one does not wait.

    Without a training, and outside the main thread, signals do what they did.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        global _asked
        if _running and _asked is None:
            _asked = number
            return
        raise Interrupted(number)

    before: dict[int, Any] = {}
    for one in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(one) not in (signal.SIG_IGN, None):  # what is ignored stays so
            before[one] = signal.signal(one, handle)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        _asked = None


@contextmanager
def awaited() -> Iterator[None]:
    """Mark a block that asks `pending` now and then."""
    global _running
    _running += 1
    try:
        yield
    finally:
        _running -= 1


def pending() -> int | None:
    """Return the signal that waits, if there is one."""
    return _asked
