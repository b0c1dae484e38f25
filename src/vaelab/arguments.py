"""Arguments that are numbers, names or records: checked where they come in, before any work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, cast

from vaelab.errors import InputError

MOST_DRAWS = 1_000_000
"""Of z per row; more take days."""


def check_count(name: str, value: object, least: int = 1, *, most: int | None = None) -> None:
    """Refuse what is no whole number, or less or more than it can be."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise InputError(f"{name}={_shown(value)}", f"a whole number of at least {least}", _as_number(value))
    if most is not None and int(value) > most:
        raise InputError(f"{name}={value:,}", f"at most {most:,}")


def check_draws(name: str, value: object) -> None:
    """Refuse what is no number of draws of z per row."""
    check_count(name, value, most=MOST_DRAWS)


def check_seed(value: object, name: str = "seed") -> None:
    """Refuse what generators do not take: all but whole numbers from 0 to 2⁶⁴ − 1."""
    check_count(name, value, 0)
    if int(value) >= 2**64:  # type: ignore[call-overload]
        raise InputError(f"{name}={value}", "a seed below 2⁶⁴")


def short_seed(seed: int) -> int:
    """Return a seed for scikit-learn's generators, which know those below 2³²: such a one is itself."""
    return seed % 2**32


def check_share(name: str, value: object) -> None:
    """Refuse what is no number between 0 and 1, both excluded."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < 1:
        raise InputError(f"{name}={_shown(value)}", "a number between 0 and 1, both excluded", _as_number(value))


def check_number(name: str, value: object, wanted: str, *, above: float = 0.0) -> None:
    """Refuse what is no finite number above a bound."""
    if isinstance(value, bool) or not isinstance(value, Real) or not above < float(value) < float("inf"):
        raise InputError(f"{name}={_shown(value)}", wanted, _as_number(value))


def check_real(name: str, value: object) -> None:
    """Refuse what is no number: text that looks like one, booleans, and arrays, of one number too."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name}={_shown(value)}", "a number", _as_number(value))


def _as_number(value: object) -> str:
    """Say how what holds one number becomes it."""
    return "Pass its .item()." if getattr(value, "ndim", None) == 0 and not isinstance(value, Real) else ""


def check_kind(name: str, value: object, kinds: type | tuple[type, ...], wanted: str, remedy: str = "") -> None:
    """Refuse what is not an instance of one of these classes."""
    if not isinstance(value, kinds):
        raise InputError(f"{name}={_shown(value)}", wanted, remedy)


def check_path(value: object, wanted: str = "a file or folder to write") -> Path:
    """Return a path; refuse what is none, and names that no system takes."""
    check_kind("path", value, (str, os.PathLike), wanted)
    text = os.fspath(cast("Any", value))
    if not isinstance(text, str) or "\0" in text or any(len(os.fsencode(part)) > 255 for part in Path(text).parts):
        raise InputError(f"path={_shown(text)}", wanted, "Names are text of at most 255 bytes, without a zero byte.")
    return Path(text)


def names_of(name: str, value: Any, kinds: tuple[type, ...] = (str,)) -> tuple[Any, ...]:
    """Return several values of an argument as a tuple; one that stands alone is one of them.

    Parameters
    ----------
    name
        Of the argument.
    value
        A value, or several.
    kinds
        What each may be.

    Raises
    ------
    InputError
        Some are of another kind.
    """
    if isinstance(value, kinds):
        return (value,)
    values = tuple(value) if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes | str) else None
    if values is None or not all(isinstance(each, kinds) for each in values):
        raise InputError(f"{name}={_shown(value)}", "names, such as ('gaussian',)" if name == "densities" else "names")
    return values


def check_memory(what: str, needed: float, remedy: str) -> None:
    """Refuse what takes more bytes than the machine has, where the system says how many; it would end the process."""
    try:
        most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return
    if needed > most:
        got = f"{what}, which takes {needed / 1e9:,.0f} GB where the machine has {most / 1e9:,.0f}"
        raise InputError(got, "what fits into memory", remedy)


def _shown(value: object, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
