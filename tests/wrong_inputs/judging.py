"""A wrong input, and what the library made of it."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

LONGEST = 10.0  # seconds of the processor that a refusal or a right answer may take, however busy the machine is
_PATIENCE, _STILL = 25, 120  # seconds after which a case is broken off: of the processor, and where nothing is done


@dataclass(frozen=True)
class Case:
    """One call with one wrong value.

    Attributes
    ----------
    name
        Place and value.
    call
        Makes the value and gives it to the place.
    may
        Whether it may also be taken: the result must then be of finite numbers.
    """

    name: str
    call: Callable[[], Any]
    may: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a case: ``"refused"`` or ``"handled"``, which are right; ``"foreign"``, ``"silent"``, ``"slow"``."""

    case: Case
    kind: str
    said: str = ""

    @property
    def right(self) -> bool:
        return self.kind in ("refused", "handled")


def dealt(cases: Iterable[Case], part: int, number: int) -> list[Case]:
    """Return the given part of the cases, in an order at random that each name decides; parts do not overlap."""
    found = sorted(cases, key=lambda case: hashlib.sha256(case.name.encode()).digest())
    if (part + 1) * number > len(found):
        raise ValueError(f"part {part} of {number} out of {len(found)} cases")
    return found[part * number : (part + 1) * number]


def judged(case: Case, refusals: tuple[type[BaseException], ...]) -> Outcome:
    """Make the call."""
    start = time.process_time()
    kind, said = "", ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _broken_off():
                found = case.call()
        except _TooLong:
            said = "broken off"
        except refusals as error:
            kind, said = "refused", f"{type(error).__name__}: {error}"
            if not str(error).strip():
                kind = "foreign"
        except Exception as error:
            kind, said = "foreign", _where(error)
            if _of_scikit_learn(error):
                kind = "refused"
        else:
            kind, said = ("handled", "") if case.may and finite(found) else ("silent", repr(found)[:200])
    seconds = time.process_time() - start
    return Outcome(case, "slow", f"{seconds:.0f} s, {kind} {said}") if seconds > LONGEST else Outcome(case, kind, said)


class _TooLong(BaseException):
    """Nothing in the library catches it."""


@contextlib.contextmanager
def _broken_off() -> Iterator[None]:
    """End the block after so many seconds."""

    def end(number: int, frame: object) -> None:
        raise _TooLong

    clocks = ((signal.ITIMER_PROF, signal.SIGPROF, _PATIENCE), (signal.ITIMER_REAL, signal.SIGALRM, _STILL))
    before = [signal.signal(number, end) for _, number, _ in clocks]
    for clock, _, seconds in clocks:
        signal.setitimer(clock, seconds)
    try:
        yield
    finally:
        for (clock, number, _), handler in zip(clocks, before, strict=True):
            signal.setitimer(clock, 0)
            signal.signal(number, handler)


def _where(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/vaelab/" in f.filename]
    place = f"{frames[-1].filename.split('/vaelab/')[-1]}:{frames[-1].lineno}" if frames else "outside"
    return f"{type(error).__name__}: {str(error)[:200]} (at {place})"


def _of_scikit_learn(error: Exception) -> bool:
    """Whether it is a message that scikit-learn's own contract fixes, about names or numbers of columns."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return isinstance(error, ValueError | TypeError) and last.filename.endswith("sklearn/utils/validation.py")


def finite(found: Any) -> bool:
    """Whether numbers, if there are any, are finite."""
    if isinstance(found, torch.Tensor):
        return not found.is_floating_point() or bool(found.isfinite().all())
    if isinstance(found, np.ndarray):
        return found.dtype.kind != "f" or bool(np.isfinite(found).all())
    if hasattr(found, "select_dtypes"):
        return bool(np.isfinite(found.select_dtypes("number").to_numpy(dtype=float)).all())
    return not isinstance(found, float) or bool(np.isfinite(found))


def counted(outcomes: Sequence[Outcome]) -> str:
    """Lay out how many there are of each kind, and those that are wrong."""
    lines = [
        f"{len(outcomes)} cases: " + ", ".join(f"{n} {kind}" for kind, n in Counter(o.kind for o in outcomes).items())
    ]
    lines += [f"{one.kind:8} {one.case.name}: {one.said}" for one in outcomes if not one.right]
    return "\n".join(lines)
