"""Numbers with everything that they depend on, and tables of them that never mix protocols unmarked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

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
class Nats:
    """A log-likelihood bound, or a part of one.

    Attributes
    ----------
    row
        The latent density.
    measure
        ``"elbo"``, ``"distortion"``, ``"kl"``, ``"bound"`` (importance-weighted) or ``"bits"`` (per dimension).
    value, low, high
        Mean over rows and its 95 % interval; nats per row of the network's units, or bits per dimension.
    draws, n
        z per row; rows.
    caveat
        Why it is no log-density, or an empty string.
    """

    row: str
    measure: str
    value: float
    low: float
    high: float
    draws: int
    n: int
    caveat: str = ""


@dataclass
class Report:
    """What `vaelab evaluate` found.

    Attributes
    ----------
    subject
        What was evaluated.
    readings
        Distances between samples.
    likelihood
        Bounds on log-densities.
    pixels
        Mean squared error (summed over a row), and for images PSNR (dB) and SSIM, of reconstructions of test rows.
    notes
        What a reader has to know, in sentences.
    """

    subject: str
    readings: list[Reading] = field(default_factory=list)
    likelihood: list[Nats] = field(default_factory=list)
    pixels: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def value(self, row: str, measure: str) -> float:
        """Return one number by what was measured and how; the first if there are several protocols.

        Raises
        ------
        InputError
            There is no such number.
        """
        found: list[Reading | Nats] = [*self.readings, *self.likelihood]
        for number in found:
            if (number.row, number.measure) == (row, measure):
                return number.value
        known = ", ".join(sorted({f"{number.row} {number.measure}" for number in found}))
        raise InputError(f"no {measure} of {row!r}", f"one of: {known}")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; numbers that are not finite become None."""
        return json.loads(json.dumps(_plain(asdict(self))))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return self.table()

    def table(self, style: Literal["text", "markdown"] = "text") -> str:
        """Lay everything out for people."""
        parts = [
            _readings_table(self.readings, style),
            _likelihood_table(self.likelihood, style),
            ", ".join(f"{name} {_number(value)}" for name, value in self.pixels.items()),
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
        whole.likelihood += [replace(entry, row=f"{report.subject}: {entry.row}") for entry in report.likelihood]
        whole.pixels |= {f"{report.subject}: {name}": value for name, value in report.pixels.items()}
        whole.notes += [note for note in report.notes if note not in whole.notes]
    return whole


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    keys = list(dict.fromkeys(reading.comparable for reading in readings))
    first = {key: next(r for r in readings if r.comparable == key) for key in keys}
    headings = list(dict.fromkeys(reading.title for reading in readings))
    rows: list[list[str]] = []
    for key, mark in zip(keys, _marks(len(keys)), strict=True):
        mine = [reading for reading in readings if reading.comparable == key]
        for name in dict.fromkeys(reading.row for reading in mine):
            cells = {r.title: _with_interval(r.value, r.low, r.high) for r in mine if r.row == name}
            rows.append([name + mark, *(cells.get(heading, "") for heading in headings)])
        floors = {r.title: _number(r.floor) for r in mine if r.floor is not None}
        if floors:
            label = f"floor: {first[key].floor_n:,} real rows{mark}"
            rows.append([label, *(floors.get(heading, "") for heading in headings)])
    notes = []
    for key, mark in zip(keys, _marks(len(keys)), strict=True):
        r = first[key]
        how = ", ".join(dict.fromkeys(x.interval for x in readings if x.comparable == key and x.interval))
        notes.append(
            f"{mark and mark + ' '}protocol {r.protocol} v{r.version} ({r.hash}), features {r.extractor[:8]}, "
            f"reference {r.reference[:8]}, {r.n:,} against {r.n_reference:,} rows"
            + (f"; ±: 95 %, {how}" if how else "")
        )
    if len(keys) > 1:
        notes.append("Rows with different marks do not compare.")
    return _grid(["", *headings], rows, style) + "\n" + "\n".join(notes)


def _marks(count: int) -> list[str]:
    """One mark per protocol; none where there is one protocol only."""
    if count == 1:
        return [""]
    return [_MARKS[i] if i < len(_MARKS) else f"[{i + 1}]" for i in range(count)]


_PARTS = {
    "bound": "log p(x) ≥",
    "elbo": "ELBO",
    "distortion": "distortion",
    "kl": "KL",
    "bits": "bits per dim ≤",
}


def _likelihood_table(numbers: Sequence[Nats], style: str) -> str:
    if not numbers:
        return ""
    measures = [name for name in _PARTS if any(number.measure == name for number in numbers)]
    rows = []
    for name in dict.fromkeys(number.row for number in numbers):
        cells = {x.measure: _with_interval(x.value, x.low, x.high) for x in numbers if x.row == name}
        rows.append([name, *(cells.get(measure, "") for measure in measures)])
    some = numbers[0]
    caveats = "".join(f" Not a log-density: {caveat}." for caveat in dict.fromkeys(x.caveat for x in numbers) if caveat)
    note = f"nats per row, {some.n:,} rows, k = {some.draws:,} draws; ±: 95 %, over rows.{caveats}"
    return _grid(["likelihood", *(_PARTS[measure] for measure in measures)], rows, style) + "\n" + note


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
