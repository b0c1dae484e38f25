"""Columns that name rows: what their values look like, and fresh ones of the same look.

Nothing of the rows is kept but the pattern, so that what is made is nobody's: numbers that count on behind the largest,
or, where every place of a text of one length has its own kind of characters (as in UUIDs), characters drawn anew.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

_COUNTED = re.compile(r"(\d+)(?!.*\d)", re.DOTALL)  # the last number in a text
_CLASSES = (
    string.digits,
    string.digits + "abcdef",
    string.digits + "ABCDEF",
    string.ascii_lowercase,
    string.ascii_uppercase,
    string.ascii_letters,
    string.digits + string.ascii_lowercase,
    string.digits + string.ascii_uppercase,
    string.digits + string.ascii_letters,
)
_ROOM = 1e6  # how many more texts of a pattern there are than rows, at least, so that no two meet


@dataclass(frozen=True)
class Pattern:
    """How the values of an identifier look.

    Attributes
    ----------
    prefix, suffix
        Text around a number that counts.
    width
        Digits of that number, filled up with zeros; 0 where they are as many as they are.
    last
        The largest number of the rows.
    places
        Of texts of one length instead: the characters that may stand at each place.
    """

    prefix: str = ""
    suffix: str = ""
    width: int = 0
    last: int = 0
    places: tuple[str, ...] = ()

    @classmethod
    def of_texts(cls, name: str, texts: Sequence[str]) -> Self:
        """Learn it from distinct texts; where they share none, it is the column's name and a number."""
        counted = cls._counted(texts)
        if counted is not None:
            return counted
        if len({len(text) for text in texts}) == 1:
            places = tuple(_class_of({text[j] for text in texts}) for j in range(len(texts[0])))
            if all(places) and sum(np.log(len(place)) for place in places) > np.log(_ROOM * len(texts)):
                return cls(places=places)
        return cls(prefix=f"{name}-")

    @classmethod
    def _counted(cls, texts: Sequence[str]) -> Self | None:
        """Return the pattern of a prefix and a suffix that all share, with a number between."""
        found = [_COUNTED.search(text) for text in texts]
        parts = {(text[: each.start()], text[each.end() :]) for text, each in zip(texts, found, strict=True) if each}
        if None in found or len(parts) != 1:
            return None
        numbers = [each[1] for each in found if each]
        widths = {len(number) for number in numbers}
        padded = any(number.startswith("0") and len(number) > 1 for number in numbers)
        if padded and len(widths) > 1:
            return None
        ((prefix, suffix),) = parts
        return cls(prefix, suffix, widths.pop() if padded else 0, max(map(int, numbers)))

    def numbers(self, n: int, first: int = 0) -> list[int]:
        """Return n whole numbers behind the last, after the first so many."""
        return [self.last + 1 + i for i in range(first, first + n)]

    def texts(self, rows: np.ndarray[Any, Any], first: int = 0) -> list[str]:
        """Return fresh texts, one for each of (n, d) rows, whose content seeds those that are drawn."""
        if not self.places:
            return [f"{self.prefix}{number:0{self.width}d}{self.suffix}" for number in self.numbers(len(rows), first)]
        seed = hashlib.sha256(np.ascontiguousarray(rows).tobytes()).digest()[:16]
        rng = np.random.default_rng(int.from_bytes(seed))
        drawn = [rng.integers(len(place), size=len(rows)) for place in self.places]
        return ["".join(place[i] for place, i in zip(self.places, row, strict=True)) for row in np.stack(drawn, 1)]

    @property
    def described(self) -> str:
        """An example in words."""
        if self.places:
            return f"{len(self.places)} characters, drawn anew"
        return f"{self.prefix}{self.last + 1:0{self.width}d}{self.suffix} and on"

    def meta(self) -> dict[str, Any]:
        """Return plain values."""
        return {name: list(each) if name == "places" else each for name, each in asdict(self).items() if each}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Self:
        """Rebuild from `meta`."""
        return cls(**{**meta, "places": tuple(meta.get("places", ()))})


def _class_of(found: set[str]) -> str:
    """Return the smallest class of characters that holds all of some; one alone stays, and others are none."""
    if len(found) == 1:
        return next(iter(found))
    return next((each for each in _CLASSES if found <= set(each)), "")
