"""Numbers with everything that they depend on, and tables of them that never mix protocols unmarked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from torch import Tensor

from vaelab import storage
from vaelab.errors import InputError

TITLES = {
    "frechet": "Fréchet ↓",
    "kernel": "kernel ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
    "density": "density ↑",
    "coverage": "coverage ↑",
    "sliced_wasserstein": "sliced W₂ ↓",
    "energy": "energy ↓",
    "two_sample": "told apart ↓",
}
"""Measure → heading; the arrow points to better."""

_Number = TypeVar("_Number", bound="Reading | RowMean")
_MARKS = "¹²³⁴⁵⁶⁷⁸⁹"


@dataclass(frozen=True)
class Reading:
    """One number.

    Attributes
    ----------
    row
        What was measured: a latent density, ``"reconstructions"``, a file.
    measure
        Key of `TITLES`.
    value
        The number; over repeated draws, their mean.
    low, high
        95 % interval, or None where there was nothing to repeat.
    interval
        How the interval was found.
    n, n_reference
        Rows compared.
    floor
        The same measure of real rows against the reference, `floor_n` of them, or None.
    protocol, version, hash
        Name, version and hash of the protocol.
    extractor
        Fingerprint of the features.
    reference
        Fingerprint of the reference rows.
    temperature
        Of the law of z that generated rows are from; 1 for the law itself, and for other rows.
    rejected
        Share of its draws that were off the manifold, and drawn again; None where none was looked at.
    """

    row: str
    measure: str
    value: float
    low: float | None
    high: float | None
    interval: str
    n: int
    n_reference: int
    floor: float | None
    floor_n: int
    protocol: str
    version: int
    hash: str
    extractor: str
    reference: str
    temperature: float = 1.0
    rejected: float | None = None

    @property
    def label(self) -> str:
        """What was measured, and how it was drawn where that is not as usual."""
        altered = [] if self.temperature == 1 else [f"T = {self.temperature:g}"]
        altered += [] if self.rejected is None else [f"{self.rejected:.1%} rejected"]
        return f"{self.row} ({', '.join(altered)})" if altered else self.row

    @property
    def comparable(self) -> tuple[str, str, str, int, int]:
        """What two numbers must share to be compared."""
        return self.hash, self.extractor, self.reference, self.n, self.n_reference

    @property
    def title(self) -> str:
        """Heading of its column; a Fréchet distance of published Inception features is the FID, no other is."""
        names = {"frechet": "FID ↓", "kernel": "KID ↓"} if self.extractor.startswith("6726825d") else {}
        return names.get(self.measure, TITLES[self.measure])


@dataclass(frozen=True)
class RowMean:
    """The mean over rows of a number that each row has: a bound on its log-density, an error of its reconstruction.

    Attributes
    ----------
    row
        The latent density, or ``"reconstructions"``.
    measure
        Key of `ROW_TITLES`.
    value, low, high
        Mean over rows and its 95 % interval; see `ROW_TITLES` for units.
    n
        Rows.
    protocol
        How it was computed: ``"iwae-500"`` has k = 500 draws, ``"dequantised"`` noise of one grey level.
    reference
        Fingerprint of the rows.
    caveat
        Why it is no log-density, or an empty string.
    """

    row: str
    measure: str
    value: float
    low: float
    high: float
    n: int
    protocol: str
    reference: str
    caveat: str = ""

    @classmethod
    def of(cls, row: str, measure: str, values: Tensor, *, protocol: str, reference: str, caveat: str = "") -> RowMean:
        """Average (n,) values."""
        mean = float(values.mean())
        half = 1.96 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(row, measure, mean, mean - half, mean + half, len(values), protocol, reference, caveat)

    @property
    def hash(self) -> str:
        """Eight digits that change with the way it was computed."""
        return hashlib.sha256(f"1 {self.protocol}".encode()).hexdigest()[:8]

    @property
    def comparable(self) -> tuple[str, str, int, str]:
        """What two numbers must share to be compared."""
        return self.protocol, self.reference, self.n, self.caveat


@dataclass
class Report:
    """What `vaelab evaluate` found.

    Attributes
    ----------
    subject
        What was evaluated.
    readings
        Distances between samples.
    rows
        Bounds on log-densities of test rows, and errors of their reconstructions.
    notes
        What a reader has to know, in sentences.
    """

    subject: str
    readings: list[Reading] = field(default_factory=list)
    rows: list[RowMean] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def value(self, row: str, measure: str) -> float:
        """Return one number by what was measured and how; the first if there are several protocols.

        Raises
        ------
        InputError
            There is no such number.
        """
        found: list[Reading | RowMean] = [*self.readings, *self.rows]
        for number in found:
            if (number.row, number.measure) == (row, measure):
                return number.value
        known = ", ".join(sorted({f"{number.row} {number.measure}" for number in found}))
        raise InputError(f"no {measure} of {row!r}", f"one of: {known}")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; numbers that are not finite become None."""
        values = asdict(self)
        for entry, number in zip(values["rows"], self.rows, strict=True):
            entry["hash"] = number.hash
        return json.loads(json.dumps(storage.json_value(values)))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return self.table()

    def table(self, style: Literal["text", "markdown"] = "text") -> str:
        """Lay everything out for people."""
        likelihood = [number for number in self.rows if number.measure in _NATS]
        errors = [number for number in self.rows if number.measure not in _NATS]
        parts = [
            _readings_table(self.readings, style),
            _rows_table("likelihood", likelihood, style),
            _rows_table("", errors, style),
            "\n".join(f"• {note}" if style == "text" else f"- {note}" for note in self.notes),
        ]
        return "\n\n".join(part for part in parts if part)


def merge(reports: Iterable[Report]) -> Report:
    """Put several reports into one; rows are named after their subjects where there are several."""
    given = list(reports)
    if len(given) == 1:
        return given[0]
    whole = Report(", ".join(report.subject for report in given))
    for report in given:
        whole.readings += [replace(entry, row=f"{report.subject}: {entry.row}") for entry in report.readings]
        whole.rows += [replace(number, row=f"{report.subject}: {number.row}") for number in report.rows]
        whole.notes += [f"{report.subject}: {note}" for note in report.notes]
    return whole


def _number(value: float, digits: int = 3) -> str:
    """Three significant digits, without an exponent where one can do without."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or abs(value) < 1e-5:
        return "0" if value == 0 else f"{value:.1e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 6)}f}"


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return _number(value)
    half = (high - low) / 2
    if half == 0 or not math.isfinite(half):
        return f"{_number(value)} ± {half:.0f}"
    places = min(6, max(0, 1 - math.floor(math.log10(half))))
    return f"{value:,.{places}f} ± {half:.{places}f}"


def _readings_table(readings: Sequence[Reading], style: str) -> str:
    """One row per thing measured and protocol, one column per measure, the floor of each protocol below its rows."""
    if not readings:
        return ""
    groups = _grouped(readings)
    headings = list(dict.fromkeys(reading.title for reading in readings))
    rows: list[list[str]] = []
    notes: list[str] = []
    for mark, group in groups:
        for name in dict.fromkeys(reading.label for reading in group):
            cells = {r.title: _with_interval(r.value, r.low, r.high) for r in group if r.label == name}
            rows.append([name + mark, *(cells.get(heading, "") for heading in headings)])
        floors = {r.title: _number(r.floor) for r in group if r.floor is not None}
        some = next((r for r in group if r.floor is not None), group[0])
        if floors:
            label = f"floor: {some.floor_n:,} real rows{mark}"
            rows.append([label, *(floors.get(heading, "") for heading in headings)])
        notes.append(
            f"{mark and mark + ' '}protocol {some.protocol} v{some.version} ({some.hash}), features "
            f"{some.extractor[:8]}, reference {some.reference[:8]}, {some.n:,} against {some.n_reference:,} rows"
            + _intervals(group)
        )
    return _laid_out("", headings, rows, notes, style, marked=len(groups) > 1)


def _intervals(readings: Sequence[Reading]) -> str:
    """Say how intervals were found, and of which rows where that differs."""
    kinds: dict[str, list[str]] = {}
    for reading in readings:
        if reading.interval and reading.row not in kinds.setdefault(reading.interval, []):
            kinds[reading.interval].append(reading.row)
    if not kinds:
        return ""
    if len(kinds) == 1:
        return f"; ±: 95 %, {next(iter(kinds))}"
    rare = min(kinds, key=lambda kind: len(kinds[kind]))
    usual = ", ".join(kind for kind in kinds if kind != rare)
    return f"; ±: 95 %, {usual} ({', '.join(kinds[rare])}: {rare})"


ROW_TITLES = {
    "bound": "log p(x) ≥, nats",
    "elbo": "ELBO",
    "distortion": "distortion",
    "kl": "KL",
    "bits": "bits per dim ≤",
    "squared_error": "squared error, summed",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
}
"""Measure of single rows → heading, with its unit; all in the network's units ([0, 1] for images)."""

_NATS = ("bound", "elbo", "distortion", "kl", "bits")


def _rows_table(title: str, numbers: Sequence[RowMean], style: str) -> str:
    """One row per density and protocol, one column per measure."""
    if not numbers:
        return ""
    groups = _grouped(numbers)
    measures = [name for name in ROW_TITLES if any(x.measure == name for x in numbers)]
    rows, notes = [], []
    for mark, group in groups:
        for name in dict.fromkeys(x.row for x in group):
            cells = {x.measure: _with_interval(x.value, x.low, x.high) for x in group if x.row == name}
            rows.append([name + mark, *(cells.get(measure, "") for measure in measures)])
        some = group[0]
        caveat = f"; not a log-density: {some.caveat}" if some.caveat else ""
        notes.append(
            f"{mark and mark + ' '}protocol {some.protocol} ({some.hash}), {some.n:,} rows {some.reference[:8]}"
            f"; ±: 95 %, over rows{caveat}"
        )
    headings = [ROW_TITLES[measure] for measure in measures]
    return _laid_out(title, headings, rows, notes, style, marked=len(groups) > 1)


def _grouped(numbers: Sequence[_Number]) -> list[tuple[str, list[_Number]]]:
    """Group numbers that compare and have one protocol, each group with its mark; none where there is one group."""
    groups: dict[tuple[object, ...], list[_Number]] = {}
    for number in numbers:
        groups.setdefault((number.protocol, *number.comparable), []).append(number)
    marks = [_MARKS[i] if i < len(_MARKS) else f"[{i + 1}]" for i in range(len(groups))] if len(groups) > 1 else [""]
    return list(zip(marks, groups.values(), strict=True))


def _laid_out(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
    style: str,
    *,
    marked: bool,
) -> str:
    last = ["Rows with different marks do not compare."] if marked else []
    return "\n".join([_grid([title, *headings], rows, style), *notes, *last])


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    if style == "markdown":
        lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = []
    for row in [headings, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
