"""Pictures of the codes: which dimensions are in use, and whether samples are drawn from where codes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vaelab.diagnostics.measures.code_use import IN_USE
from vaelab.diagnostics.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    Chart,
    Picture,
    finite,
    number,
    share,
)

if TYPE_CHECKING:
    from vaelab.diagnostics.diagnosis import Diagnosis

_CLASSES = 10


def variances(diagnosis: Diagnosis) -> Picture | None:
    """Histogram of the posterior variances of latent dimensions."""
    from matplotlib.ticker import MaxNLocator

    found = diagnosis.measures.code_use
    if found is None or found.ratios is None or found.used is None:
        return None
    values = finite(found.ratios)
    if not len(values):
        return None
    with Chart(2.5) as chart:
        axis = chart.axes()
        axis.hist(values, np.linspace(0, max(1.1, float(values.max()) * 1.05), 45).tolist(), color=BLUE)
        axis.axvline(IN_USE, color=ORANGE, linestyle="--", linewidth=1.2)
        axis.set_xlabel("posterior variance λ of a dimension (1 = the prior's)")
        axis.set_ylabel("latent dimensions")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    total = len(values)
    title = f"{found.used} of {total} latent dimensions carry something, {total - found.used} idle"
    alt = f"Histogram of {total} posterior variances, from {number(values.min())} to {number(values.max())}: {title}."
    text = (
        "At an optimum there are two clusters, dimensions in use near 0 and idle ones near 1; what lies between has "
        "not settled."
    )
    return Picture("variances", title, text, chart.markup("variances", alt))


def spectra(diagnosis: Diagnosis) -> Picture | None:
    """Singular values of codes beside those of normal draws."""
    from matplotlib.ticker import MaxNLocator

    found = diagnosis.measures.aggregated
    if found is None or not found.spectra:
        return None
    with Chart(2.7) as chart:
        axis = chart.axes()
        axis.set_yscale("log")
        shown = {}
        for name, values in found.spectra.items():
            own = finite(values)
            if not len(own):
                continue
            shown[name] = own
            normal = "normal" in name
            colour = INK if normal else (GREEN if name.startswith("u") else BLUE)
            axis.plot(
                range(1, len(own) + 1),
                np.maximum(own, max(own.max() * 1e-6, 1e-12)),
                color=colour,
                linestyle="--" if normal else "-",
                marker="" if normal or len(own) > 40 else "o",
                markersize=4,
                label=name,
            )
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("singular value")
        axis.set_ylabel("size (1 = standard normal)")
        axis.legend()
    codes = next((own for name, own in shown.items() if name.startswith("z")), None)
    if codes is None:
        return None
    title = (
        f"Codes spread between {number(float(codes.min()))} and {number(float(codes.max()))} times a standard normal"
    )
    ends = "; ".join(f"{name} from {number(float(own[0]))} to {number(float(own[-1]))}" for name, own in shown.items())
    text = (
        "Where the line of codes leaves the dashed one, draws from the prior miss the codes in scale along some "
        "direction."
    )
    return Picture("spectra", title, text, chart.markup("spectra", f"Singular values over √n: {ends}."))


def plane(diagnosis: Diagnosis) -> Picture | None:
    """t-SNE of codes with draws from the prior among them."""
    examples = diagnosis.examples
    if examples.embedding is None or examples.drawn is None:
        return None
    places, drawn = examples.embedding.double().numpy(), examples.drawn.bool().numpy()
    if not drawn.any() or drawn.all():
        return None
    labels = None if examples.labels is None else examples.labels.numpy()
    with Chart(3.7) as chart:
        axis = chart.axes()
        known = labels is not None and len(np.unique(labels[~drawn])) <= _CLASSES
        colours = {"c": labels[~drawn], "cmap": "tab10"} if labels is not None and known else {"color": BLUE}
        style: dict[str, Any] = {"s": 8, "linewidths": 0, "alpha": 0.75, "rasterized": True}
        axis.scatter(*places[~drawn].T, **(colours | style))
        named = "codes (by class)" if known else "codes"
        axis.scatter([], [], s=30, color=BLUE, label=named)
        crosses: dict[str, Any] = {"s": 13, "color": GREY, "marker": "x", "linewidths": 0.9, "rasterized": True}
        axis.scatter(*places[drawn].T, **crosses)
        axis.scatter([], [], s=30, color=GREY, marker="x", label="draws from the prior")
        axis.set_axis_off()
        chart.figure.legend(loc="outside upper center", ncols=2)
    match = diagnosis.measures.aggregated.matches.get("prior") if diagnosis.measures.aggregated is not None else None
    title = "Codes and draws from the prior, side by side"
    if match is not None and match.accuracy is not None:
        told = match.accuracy.accuracy
        title = f"A classifier tells codes from draws of the prior in {share(told)} of cases"
        title += " (50 % is chance)" if told < 0.65 else ""
    alt = f"A t-SNE plane with {int((~drawn).sum())} codes and {int(drawn.sum())} draws from the prior. {title}."
    text = (
        "Where crosses and dots mix, the prior draws what the decoder knows; crosses among themselves are codes it "
        "never saw."
    )
    return Picture("plane", title, text, chart.markup("plane", alt))


def rates(diagnosis: Diagnosis) -> Picture | None:
    """Share of samples off the manifold of reconstructions, per density."""
    found = diagnosis.measures.manifold
    if found is None or not found.rates:
        return None
    names = sorted(found.rates, key=lambda name: found.rates[name])
    with Chart(0.9 + 0.36 * len(names)) as chart:
        axis = chart.axes()
        values = [100 * found.rates[name] for name in names]
        colours = [BLUE if name == diagnosis.sampler else GREY for name in names]
        axis.barh(range(len(names)), values, color=colours, height=0.62)
        for height, value in enumerate(values):
            axis.annotate(
                f"{value:.0f} %", (value, height), (4, 0), textcoords="offset points", va="center", fontsize=9
            )
        axis.axvline(100 * found.floor, color=ORANGE, linestyle="--", linewidth=1.3)
        axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
        axis.set_xlim(0, max(12.0, 1.14 * max(values)))
        axis.set_xlabel("samples unlike any reconstruction, %")
    own = found.rates.get(diagnosis.sampler, found.rates[names[0]])
    title = f"{share(own)} of samples from the {diagnosis.sampler.replace('_', ' ')} are off the manifold"
    title += f"; real rows give {share(found.floor)}"
    listed = ", ".join(f"{name} {share(found.rates[name])}" for name in names)
    text = (
        "Bars near the dashed line are as good as reconstructions of real rows; blue is the density that this model "
        "samples from."
    )
    return Picture("rates", title, text, chart.markup("rates", f"Share of samples off the manifold: {listed}."))


def profile(diagnosis: Diagnosis) -> Picture | None:
    """Distance to the manifold along lines between codes."""
    found = diagnosis.measures.manifold
    if found is None:
        return None
    values = finite(found.profile)
    if len(values) < 3:
        return None
    with Chart(2.3) as chart:
        axis = chart.axes()
        lines = {"straight lines": (values, PURPLE), "great circles": (finite(found.profile_spherical), GREEN)}
        for name, (own, colour) in lines.items():
            axis.plot(np.linspace(0, 1, len(own)), own, color=colour, marker="o", markersize=4, label=name)
        axis.axhline(1.0, color=ORANGE, linestyle="--", linewidth=1.2)
        axis.set_ylim(0, max(1.15, 1.1 * max(float(own.max()) for own, _ in lines.values())))
        axis.set_xlabel("way from one code to another")
        axis.set_ylabel("distance over the usual")
        axis.legend()
    middle = float(values[len(values) // 2])
    title = f"Half-way between codes, outputs are {number(middle)} times as far from reconstructions as usual"
    alt = (
        f"Median distance to the nearest reconstruction along paths between codes: {number(float(values[0]))} times "
        f"the usual at the start, {number(middle)} half-way, {number(float(values[-1]))} at the end."
    )
    text = "A hump above the dashed line is ground that the decoder never learned: interpolations cross a hole there."
    return Picture("profile", title, text, chart.markup("profile", alt))
