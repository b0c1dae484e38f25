"""The numbers of a diagnosis as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vaelab.diagnostics.report.canvas import number
from vaelab.diagnostics.row_means import Mean

if TYPE_CHECKING:
    from vaelab.diagnostics.diagnosis import Diagnosis

_MOST_ROWS = 256
_MOST_ITEMS = 12


@dataclass(frozen=True)
class ReportCell:
    """What is shown, and what rows are sorted by."""

    text: str
    key: float | str

    @classmethod
    def of(cls, value: float | str | None) -> ReportCell:
        """Write a number to three digits; one that is missing sorts last."""
        if isinstance(value, str):
            return cls(value, value)
        missing = value is None or not math.isfinite(value)
        return cls(number(value), math.inf if missing or value is None else float(value))


@dataclass(frozen=True)
class ReportTable:
    """A table of the page.

    Attributes
    ----------
    title, caption
        What it is about.
    columns
        Headings; the first heads the names of rows.
    rows
        A cell per heading.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[ReportCell, ...], ...]

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, but for the names of rows."""
        return tuple(
            place > 0 and any(not isinstance(cell.key, str) for cell in column)
            for place, column in enumerate(zip(*self.rows, strict=True))
        )


def tables(diagnosis: Diagnosis) -> list[ReportTable]:
    """All tables whose measures are there."""
    found = [_dimensions(diagnosis), _densities(diagnosis), _smoothness(diagnosis), _numbers(diagnosis)]
    return [table for table in found if table is not None and table.rows]


def _dimensions(diagnosis: Diagnosis) -> ReportTable | None:
    """List a row per latent dimension, those in use first."""
    measures, size = diagnosis.measures, diagnosis.latent_dim
    columns: dict[str, Tensor] = {}
    use = measures.code_use
    if use is not None:
        columns |= {"KL, nats": use.kl} if use.kl is not None else {}
        columns |= {"λ": use.ratios} if use.ratios is not None else {}
        columns["variance of codes"] = use.code_variance
    if measures.aggregated is not None:
        for name in dict.fromkeys(("prior", diagnosis.sampler)):
            if name in measures.aggregated.matches:
                columns[f"KS, {name.replace('_', ' ')}"] = measures.aggregated.matches[name].ks
    if measures.axes is not None:
        spread = torch.full((size,), math.nan, dtype=torch.float64)
        spread[measures.axes.order.long()] = measures.axes.variance.double()
        columns["output variance under noise"] = spread
    columns = {name: values for name, values in columns.items() if len(values) == size}
    if not columns:
        return None
    by = columns.get("λ", -columns["KL, nats"] if "KL, nats" in columns else torch.arange(size))
    order = by.argsort()[:_MOST_ROWS].tolist()
    rows = tuple(
        (ReportCell.of(float(j)), *(ReportCell.of(float(values[j])) for values in columns.values())) for j in order
    )
    caption = (
        "λ is the posterior's variance over the prior's, near 0 in use and near 1 idle; KS is the Kolmogorov–Smirnov "
        "distance of codes from a density, 0 if alike."
    )
    if size > len(order):
        caption += f" The {len(order)} most used of {size} dimensions; the JSON report has all."
    return ReportTable("Latent dimensions", caption, ("Dimension", *columns), rows)


def _densities(diagnosis: Diagnosis) -> ReportTable | None:
    """List a row per density that samples may be drawn from."""
    matches = diagnosis.measures.aggregated.matches if diagnosis.measures.aggregated is not None else {}
    rates = diagnosis.measures.manifold.rates if diagnosis.measures.manifold is not None else {}
    rows = []
    for name in dict.fromkeys([*matches, *rates]):
        match = matches.get(name)
        values: list[float | None] = [None] * 5
        if match is not None:
            told = None if match.accuracy is None else match.accuracy.accuracy
            values = [match.energy, match.floor, match.share, told, float(match.ks.max())]
        label = name.replace("_", " ") + (" (this model's)" if name == diagnosis.sampler else "")
        rows.append((ReportCell.of(label), *(ReportCell.of(one) for one in (*values, rates.get(name)))))
    columns = ("Density", "Energy distance", "Codes to codes", "Share", "Told apart", "Worst KS", "Off the manifold")
    caption = (
        "How far codes are from each density; told apart is a classifier's accuracy, 0.5 by chance; off the manifold "
        "is the share of decoded draws that are unlike any reconstruction."
    )
    return ReportTable("Densities", caption, columns, tuple(rows))


def _smoothness(diagnosis: Diagnosis) -> ReportTable:
    """List how smooth the decoder is, what its code says, and what noise on the code costs."""
    found, fit = diagnosis.measures.smoothness, diagnosis.measures.reconstruction
    rows: list[tuple[str, Mean]] = []
    if found is not None:
        rows += [(f"expected gap Δ² at s² = {number(s2)}", gap) for s2, gap in found.gaps.items()]
        per_dimension = Mean(found.local_per_dimension, found.local.error / found.latent_dim)
        rows += [("expected local smoothness ELS", found.local), ("ELS/κ, per latent dimension", per_dimension)]
        if found.information is not None:
            rows += [("I(x; z) at least, nats", found.information.lower)]
            rows += [("I(x; z) at most, nats", found.information.upper)]
        if found.linearised is not None:
            parts = zip(("error at the mean", "gradient penalty", "constant", "KL"), found.linearised, strict=True)
            rows += [(f"linearised −ELBO, {part}, nats", one) for part, one in parts]
            rows += [("linearised −ELBO, sum, nats", Mean(found.linearised.total, math.nan))]
    if fit is not None:
        rows += [("squared error at the posterior mean", fit.error_at_mean)]
        rows += [("squared error of draws", fit.error_of_draws)]
        rows += [("gap, share of the error of draws", Mean(fit.gap_share, math.nan))]
    caption = (
        "Small Δ² and ELS with little information I(x; z) mean a decoder that blurs, as a large gradient penalty asks "
        "for. At an optimum draws of the posterior rebuild a row almost as well as its mean does: the gap's share is "
        "near the dimensions in use over those of a row, or below."
    )
    # what is the same for all rows has an error by rounding alone
    errors = (0.0 if one.error < 1e-12 * abs(one.value) else one.error for _, one in rows)
    cells = tuple(
        (ReportCell.of(name), ReportCell.of(one.value), ReportCell.of(error))
        for (name, one), error in zip(rows, errors, strict=True)
    )
    return ReportTable("Smoothness and noise on the code", caption, ("Quantity", "Value", "Standard error"), cells)


def _numbers(diagnosis: Diagnosis) -> ReportTable:
    """Every single number of the measures."""
    rows = [
        (ReportCell.of(measure.replace("_", " ")), ReportCell.of(name), ReportCell.of(value))
        for measure, name, value in _walked(diagnosis)
    ]
    caption = (
        "Every number that was measured, in the network's units and in nats; the JSON report has them unrounded, "
        "with all lists."
    )
    return ReportTable("All numbers", caption, ("Measure", "Quantity", "Value"), tuple(rows))


def _walked(diagnosis: Diagnosis) -> Iterator[tuple[str, str, float | str | None]]:
    for one in fields(diagnosis.measures):
        record = getattr(diagnosis.measures, one.name)
        if record is not None:
            for name, value in _flat(record, ""):
                yield one.name, name.strip(), value


def _flat(value: Any, name: str) -> Iterator[tuple[str, float | str | None]]:
    """Leaves of a record with their paths in words; long tensors are left to the JSON."""
    if is_dataclass(value) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        names = [one.name for one in fields(value)] if is_dataclass(value) else list(value._fields)
        for field in names:
            yield from _flat(getattr(value, field), f"{name} {field.replace('_', ' ')}".replace(" value", ""))
    elif isinstance(value, Mapping):
        for key, one in list(value.items())[:_MOST_ITEMS]:
            yield from _flat(one, f"{name} {number(key) if isinstance(key, float) else key}")
    elif isinstance(value, bool):
        yield name, "yes" if value else "no"
    elif isinstance(value, int | float | str):
        yield name, value
    elif isinstance(value, tuple) and len(value) <= _MOST_ITEMS:
        for i, one in enumerate(value):
            yield from _flat(one, f"{name} {('from', 'to')[i] if len(value) == 2 else i}")
