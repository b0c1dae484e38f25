"""Plant faults one at a time in a copy of the source, and see that the tests named beside each fail.

A fault is one exact piece of text in one file, and what stands there instead. It is caught if a test that it names
fails on the copy; the same tests pass on the source as it is, or the campaign says so.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
FAULTS = Path(__file__).parent / "faults"
HEAVY = ("torch", "numpy", "sklearn.mixture", "pandas", "pytest", "lightning_fabric", "matplotlib.pyplot", "rich")
SECONDS = 300  # a planted endless loop counts as noticed

Outcome = Literal["caught", "survived", "broken"]


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes
    ----------
    name
        Unique.
    file
        Below ``src``.
    old, new
        The text that is replaced, which occurs once, and its replacement.
    tests
        Node ids, files or folders of tests, relative to the root; one of them must fail.
    survives
        Why no test can notice it; empty for all others.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str = ""

    def planted(self, text: str) -> str:
        """Return the file's text with the fault."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: the text to replace occurs {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Result:
    """What the tests said of a fault."""

    fault: Fault
    outcome: Outcome
    seconds: float = field(compare=False)


def read(folder: Path = FAULTS) -> list[Fault]:
    """Return all faults, in the order of the files."""
    faults = []
    for path in sorted(folder.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text("utf-8")):
            entry["tests"] = tuple(entry["tests"])
            faults.append(Fault(**entry))
    names = [fault.name for fault in faults]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"faults with one name: {sorted(twice)}")
    return faults


def run(faults: Sequence[Fault], *, jobs: int = 2) -> Iterable[Result]:
    """Plant each fault, run its tests, and yield what they said."""
    for name in HEAVY:  # before the forks, so that a fault costs its tests and little more
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(_plant, faults)


def unharmed(faults: Sequence[Fault]) -> bool:
    """Whether all the tests that the faults name pass on the source as it is."""
    tests = sorted({test for fault in faults for test in fault.tests})
    return _tested(SOURCE, tests, seconds=None) == 0


def _plant(fault: Fault) -> Result:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Path(folder) / "src"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        path = copy / fault.file
        path.write_text(fault.planted(path.read_text("utf-8")), "utf-8")
        status = _tested(copy, fault.tests)
    # pytest: 1 tests failed, 2 interrupted (an import that fails, for one); None ran too long; 4, 5 no such test
    outcome: Outcome = "caught" if status in (1, 2, None) else "survived" if status == 0 else "broken"
    return Result(fault, outcome, time.monotonic() - began)


def _tested(source: Path, tests: Sequence[str], *, seconds: float | None = SECONDS) -> int | None:
    child = multiprocessing.get_context("fork").Process(target=_pytest, args=(source, tests))
    child.start()
    child.join(seconds)
    if child.is_alive():
        child.kill()
        child.join()
        return None
    return child.exitcode


def _pytest(source: Path, tests: Sequence[str]) -> None:
    """Run tests against a copy of the source; in a process of its own, which it ends."""
    import pytest

    os.chdir(ROOT)
    os.environ["PYTHONPATH"] = str(source)  # for the processes that tests start
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.path.insert(0, str(source))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        status = pytest.main(["-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "", *tests])
    os._exit(int(status))
