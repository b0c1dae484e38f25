"""Steps of a long analysis on the error output, each with the seconds that it took."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self


class Steps:
    """Says what is being done: a line per step once it has ended, and on a terminal the one that runs.

    Examples
    --------
    >>> with Steps(quiet=True) as steps:
    ...     steps("smoothness")
    """

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(file=sys.stderr)
        parts = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
        self._shown = Progress(*parts, console=console, transient=True, disable=quiet or not console.is_terminal)
        self._quiet, self._step, self._since = quiet, "", 0.0

    def __enter__(self) -> Self:
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(", not finished" if kind else "")
        self._shown.stop()

    def __call__(self, text: str) -> None:
        """End the step that runs, and begin another."""
        self._end("")
        self._step, self._since = text, time.perf_counter()
        self._shown.add_task(text, total=None)

    def _end(self, how: str) -> None:
        if self._step and not self._quiet:
            line = f"[{time.perf_counter() - self._since:3.0f} s] {self._step}{how}"
            self._shown.console.print(line, markup=False, highlight=False, soft_wrap=True)
        for task in self._shown.task_ids:
            self._shown.remove_task(task)
        self._step = ""
