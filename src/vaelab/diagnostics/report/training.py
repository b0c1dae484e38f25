"""Pictures of a training: rows it saw against rows it did not, what further steps gain, and its course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vaelab.diagnostics.report.canvas import BLUE, GREY, ORANGE, Chart, Picture, number, share

if TYPE_CHECKING:
    from vaelab.diagnostics.diagnosis import Diagnosis

_COURSE = {
    "gamma": "decoder variance γ",
    "distortion": "distortion, nats",
    "active_dimensions": "active dimensions (λ < 0.05)",
}


def held_out(diagnosis: Diagnosis) -> Picture | None:
    """Error and −ELBO on training rows against those on held-out ones."""
    found = diagnosis.measures.generalisation
    if found is None:
        return None
    panels = [
        (label, getattr(found.train, name), getattr(found.held_out, name))
        for name, label in _TERMS.items()
        if getattr(found.train, name, None) is not None and getattr(found.held_out, name, None) is not None
    ]
    if not panels:
        return None
    with Chart(2.4) as chart:
        for axis, (label, seen, unseen) in zip(
            chart.figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            values, errors = zip(*(_mean(one) for one in (seen, unseen)), strict=True)
            axis.bar([0, 1], values, yerr=errors, color=[BLUE, ORANGE], width=0.66, ecolor=GREY)
            axis.set_xticks([0, 1], ["train", "held out"])
            axis.tick_params(axis="x", length=0)
            axis.grid(visible=False, axis="x")
            axis.set_title(label, fontsize=9)
            axis.margins(y=0.15)
    listed = "; ".join(f"{label}: {number(_mean(a)[0])} and {number(_mean(b)[0])}" for label, a, b in panels)
    title = f"Rows held out have {number(found.error_ratio)} times the error of training rows"
    if found.gap is not None:
        title += f" and cost {number(found.gap.value)} nats more"
    text = (
        "Bars of one height mean that the model learned what rows have in common; a taller orange bar means that it "
        "learned rows by heart."
    )
    return Picture("held-out", title, text, chart.markup("held-out", f"On training and held-out rows: {listed}."))


_TERMS = {"error": "squared error of a row", "kl": "KL, nats"}


def _mean(value: Any) -> tuple[float, float]:
    """Take a number, or a mean with its standard error, as both."""
    if isinstance(value, tuple):
        return float(value[0]), 0.0 if value[1] != value[1] else float(value[1])
    return float(value), 0.0


def further(diagnosis: Diagnosis) -> Picture | None:
    """Show what a short further training changes."""
    found = diagnosis.measures.continuation
    if found is None:
        return None
    before, after = found.error_before, found.error_after
    with Chart(2.2) as chart:
        axis = chart.axes()
        values, errors = (before.value, after.value), (_mean(before)[1], _mean(after)[1])
        axis.barh([1, 0], values, xerr=errors, color=[GREY, BLUE], height=0.6, ecolor=ORANGE)
        axis.set_yticks([1, 0], ["as it is", f"{found.steps} steps later"])
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
        axis.set_xlabel("squared error of a row")
    title = (
        f"{found.steps} further steps take {share(max(0.0, found.gain))} off the error and {number(found.nats)} nats "
        "off the loss"
    )
    alt = (
        f"Squared error per row {number(before.value)} before and {number(after.value)} after {found.steps} further "
        "steps."
    )
    text = (
        "A copy was trained a little longer: a bar that gets clearly shorter means that the training was stopped too "
        "early."
    )
    return Picture("further", title, text, chart.markup("further", alt))


def course(diagnosis: Diagnosis) -> Picture | None:
    """γ, distortion and dimensions in use over the epochs."""
    series = {key: _series(diagnosis.history, key) for key in _COURSE}
    series = {key: found for key, found in series.items() if len(found[0]) > 1}
    if not series:
        return None
    with Chart(1.45 * len(series) + 0.3) as chart:
        grid = chart.figure.subplots(len(series), 1, squeeze=False, sharex=True)[:, 0]
        for axis, (key, (epochs, values)) in zip(grid, series.items(), strict=True):
            axis.plot(epochs, values, color=BLUE)
            if key == "gamma" and min(values) > 0:
                axis.set_yscale("log")
            axis.set_title(_COURSE[key], fontsize=9, loc="left", pad=3)
        grid[-1].set_xlabel("epoch")
    ends = {key: (values[0], values[-1]) for key, (_, values) in series.items()}
    listed = "; ".join(f"{_COURSE[key]} from {number(a)} to {number(b)}" for key, (a, b) in ends.items())
    first = next(iter(ends))
    last = max(epochs[-1] for epochs, _ in series.values())
    title = (
        f"Over {number(last)} epochs {_COURSE[first]} went from {number(ends[first][0])} to {number(ends[first][1])}"
    )
    text = (
        "Curves that are flat at the right end have settled; the decoder variance falls to the noise level and "
        "dimensions not needed switch off."
    )
    return Picture("course", title, text, chart.markup("course", f"Curves over the epochs: {listed}."))


def _series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    found = [(float(one["epoch"]), float(one[key])) for one in records if "epoch" in one and one.get(key) is not None]
    found = [(epoch, value) for epoch, value in found if abs(value) < float("inf")]
    return [epoch for epoch, _ in found], [value for _, value in found]
