"""Tables as text: what separates the columns, which mark decimals have, what stands for a missing entry.

Nothing is guessed in silence: what differs from commas, points and empty entries is said, and lines of another length
than the first are refused.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaelab.errors import InputError, VaelabWarning

if TYPE_CHECKING:
    from pandas import DataFrame, Series

_SEPARATORS = (",", ";", "\t", "|")
_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", r"\s+": "blanks"}
_SAMPLE = 200  # lines that are looked at for a separator
_ALIKE = 0.9  # share of them that must have as many fields as most have
_MISSING = {"?", "-", "--", ".", "*", "na", "n/a", "#n/a", "nan", "none", "null", "missing", "unknown", "..."}
_NUMERIC = 0.9  # share of numbers from which a column is one of numbers, with something in between
_CODES = 20  # different values up to which it may be one of codes
_COMMA = re.compile(r"(?=.*\d)[+-]?(\d{1,3}(\.\d{3})+|\d*)(,\d+)?([eE][+-]?\d+)?|[+-]?\d{1,3}(,\d{3})+")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})*")
_ISO = r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?"  # ISO 8601, years first
_SLASHES = r"\d{4}/\d{2}/\d{2}( \d{2}:\d{2}(:\d{2})?)?"  # which is as clear, where years are first

_SPAN = r"-?\d+ days?( [+-]?\d{2}:\d{2}:\d{2}(\.\d+)?)?|-?P(?=\d|T\d)(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?"
"""Durations as pandas and ISO 8601 write them; what only looks like a time of day stays text."""


def read_csv(path: Path, *, separator: str | None = None, missing: Sequence[str] = ()) -> tuple[DataFrame, bool]:
    """Read a text table.

    Parameters
    ----------
    path
        UTF-8, or else Windows-1252.
    separator
        Of columns: one character; found out if None.
    missing
        What stands for a missing entry, beside nothing, ``NA``, ``?`` and their kin.

    Returns
    -------
    frame : DataFrame
        Numbers, booleans, dates (ISO 8601), durations (``3 days 04:00:00``, ``P3DT4H``) and text.
    headless : bool
        Whether the first line holds numbers only, so that it is data.

    Raises
    ------
    InputError
        It cannot be read, or a line has another number of fields than the first.

    Warns
    -----
    VaelabWarning
        Of what was assumed.
    """
    import pandas

    if separator is not None and len(separator) != 1:
        raise InputError(f"separator={separator!r}", "one character")
    try:
        text, assumed = _decoded(path)
        if "\0" in text:
            raise InputError(f"{path} with zero bytes, which no text has", "a table as text, in UTF-8")
        with _long_fields():
            found = separator or _separator(text)
            _check_lengths(path, text, found)
        options: Any = {"sep": found, "skipinitialspace": True}
        first = pandas.read_csv(io.StringIO(text), header=None, nrows=1, dtype=str, **options)
        _check_names(path, first.iloc[0])
        headless = all(_is_number(word, comma=found != ",") for word in first.iloc[0].fillna("0").astype(str))
        frame = pandas.read_csv(io.StringIO(text), header=None if headless else 0, na_values=list(missing), **options)
    except (ValueError, OSError, csv.Error) as error:  # pandas' own errors are ValueErrors
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}, which cannot be read ({error})", "columns of text") from error
    if found != "," and separator is None and frame.shape[1] > 1:
        assumed.insert(0, f"columns separated by {_WORDS[found]}")
    for name in list(frame.columns):
        frame, said = _without_row_numbers(frame, name) if not headless else (frame, "")
        assumed += [said] if said else []
    assumed += [*_with_commas(frame, found), *_typed(frame)]
    if assumed:
        warnings.warn(f"{path} is read with {'; '.join(assumed)}.", VaelabWarning, stacklevel=5)
    return frame, headless


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Let csv read fields of any length: a wide table is one where it is split by the wrong character."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _decoded(path: Path) -> tuple[str, list[str]]:
    content = path.read_bytes()
    for encoding in ("utf-8-sig", "utf-16") if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig",):
        with contextlib.suppress(UnicodeDecodeError):
            return _lines(content.decode(encoding)), []
    return _lines(content.decode("cp1252", errors="replace")), ["the letters of Windows-1252, since it is not UTF-8"]


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _separator(text: str) -> str:
    """Return what splits most lines into one number of fields, more than one; a comma where nothing does.

    Where commas do, but semicolons, tabs or bars leave numbers with decimal commas, these are meant.
    """
    lines = [line for line in itertools.islice(io.StringIO(text), _SAMPLE) if line.strip()]
    found: dict[str, tuple[float, int, bool]] = {}
    for each in _SEPARATORS:
        table = list(csv.reader(lines, delimiter=each, skipinitialspace=True))
        width, alike = Counter(map(len, table)).most_common(1)[0] if table else (1, 0)
        if width > 1 and alike >= _ALIKE * len(table):
            words = [word for fields in table[1:] for word in fields if word.strip()]
            numbers = bool(words) and all(_is_number(word, comma=True) for word in words)
            found[each] = (alike / len(table), width, numbers and any("," in word for word in words))
    others = [each for each, (_, _, commas) in found.items() if each != "," and commas]
    if others:
        return others[0]
    if found:
        return max(found, key=lambda each: found[each][:2])
    widths = {len(line.split()) for line in lines}
    numbers = all(_is_number(word) for line in lines[1:] for word in line.split())
    return r"\s+" if len(widths) == 1 and widths != {1} and len(lines) > 1 and numbers else ","


def _is_number(word: str, *, comma: bool = False) -> bool:
    if comma and _COMMA.fullmatch(word.strip()):
        return True
    with contextlib.suppress(ValueError):
        float(word)
        return True
    return False


def _check_lengths(path: Path, text: str, separator: str) -> None:
    """Refuse lines that have more or fewer fields than the first, which would be shifted or filled up."""
    if separator == r"\s+":
        return
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    width = 0
    for fields in reader:
        if not fields or (len(fields) == 1 and not fields[0].strip()):
            continue
        width = width or len(fields)
        if len(fields) != width:
            got = f"{path}, whose line {reader.line_num} has {len(fields)} fields where the first line has {width}"
            remedy = "Mend that line, name the separator (--separator ';'), or put text with separators into quotes."
            raise InputError(got, "as many in every line", remedy)


def _check_names(path: Path, names: Iterable[object]) -> None:
    """Refuse a header that names two columns alike; pandas would rename one."""
    words = [str(name).strip() for name in names if isinstance(name, str) and not _is_number(name, comma=True)]
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        got = f"{path} with several columns named {', '.join(map(repr, twice[:5]))}"
        raise InputError(got, "one column of each name", "Rename them in the first line.")


def _with_commas(frame: DataFrame, separator: str) -> list[str]:
    """Turn text of numbers with commas into numbers, in place, column by column; return what was assumed.

    A comma stands between thousands where that is possible in all of them and other columns have decimal points; else
    it is a decimal mark.
    """
    import pandas

    if separator == ",":
        return []
    points = any(column.dtype.kind == "f" and (column.dropna() % 1 != 0).any() for _, column in frame.items())
    named: dict[str, list[str]] = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype.kind in "iufbmM":
            continue
        words = column.astype(object).map(lambda word: word.strip() if isinstance(word, str) else word)
        known = words.dropna()
        known = known[[str(word).casefold() not in _MISSING for word in known]].astype(str)
        if not len(known) or not known.str.contains(",").any() or not all(map(_COMMA.fullmatch, known)):
            continue
        thousands = points and all(map(_THOUSANDS.fullmatch, known))
        plain = known.str.replace(",", "") if thousands else known.str.replace(".", "").str.replace(",", ".")
        frame[name] = pandas.to_numeric(plain).reindex(frame.index)
        named.setdefault("commas between thousands" if thousands else "decimal commas", []).append(repr(name))
    return [f"{what} in {', '.join(names[:5])}{' …' if len(names) > 5 else ''}" for what, names in named.items()]


def _without_row_numbers(frame: DataFrame, name: str) -> tuple[DataFrame, str]:
    """Leave out a column without a name that counts the rows, as pandas writes its index."""
    if not re.fullmatch(r"Unnamed: \d+", str(name)):
        return frame, ""
    column = frame[name]
    if column.isna().all():  # lines that end with a separator
        return frame.drop(columns=[name]), ""
    if column.dtype.kind in "iu" and frame.shape[1] > 1 and column.diff().dropna().eq(1).all() and column[0] in (0, 1):
        return frame.drop(columns=[name]), "a column without a name left out, which counts the rows"
    return frame, f"a column without a name, as {name!r}"


def _typed(frame: DataFrame) -> list[str]:
    """Turn text into numbers and dates where it is some, in place; return what was assumed."""
    import pandas

    said: list[str] = []
    for place, name in enumerate(frame.columns):
        column = frame.iloc[:, place]
        known = column.dropna()
        if column.dtype.kind in "iufbmM" or not len(known):
            continue
        words = known.astype(str).str.strip()
        if _as_times(frame, name, words, said):
            continue
        numbers = pandas.to_numeric(words, errors="coerce")
        between = sorted(set(words[numbers.isna()]))
        if not 0 < len(between) <= 3 or numbers.notna().mean() < _NUMERIC:
            continue
        if all(word.casefold() in _MISSING for word in between):
            frame[name] = pandas.to_numeric(column.where(numbers.notna().reindex(column.index, fill_value=False)))
            said.append(_for_missing(between, name))
        elif numbers.nunique() > _CODES:
            shown = ", ".join(map(repr, between))
            said.append(
                f"column {name!r} as text, for {shown} among its numbers; if that stands for a missing entry, say "
                f"missing=[{shown}] (--missing)"
            )
    return said


def _as_times(frame: DataFrame, name: Any, words: Series, said: list[str]) -> bool:
    """Turn a column of dates or durations into those, but for words for missing entries; say whether it is one."""
    import pandas

    gone = words.str.casefold().isin(_MISSING)
    there = words[~gone]
    slashes = bool(there.str.fullmatch(_SLASHES).all())
    dates = slashes or bool(there.str.fullmatch(_ISO).all())
    if not len(there) or not (dates or there.str.fullmatch(_SPAN).all()):
        return False
    column = there.reindex(frame.index)
    with contextlib.suppress(ValueError):  # a 31st of February, or beyond some 290 years: it stays text
        if dates:
            frame[name] = pandas.to_datetime(column.str.replace("/", "-") if slashes else column, format="ISO8601")
        else:
            frame[name] = pandas.to_timedelta(column)
        said += [f"column {name!r} as dates, year first"] * slashes
        said += [_for_missing(sorted(set(words[gone])), name)] * bool(gone.any())
    return True


def _for_missing(words: list[str], name: Any) -> str:
    return f"{', '.join(map(repr, words))} for missing entries of column {name!r}"
