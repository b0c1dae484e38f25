"""Pictures of the decoder's variance: three accounts of it, what it should make of the posterior, and the residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vaelab.diagnostics.report.canvas import (
    BLUE,
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
from vaelab.diagnostics.report.rows import pictured

if TYPE_CHECKING:
    from vaelab.diagnostics.diagnosis import Diagnosis

_ALIKE = 1.25  # factor between two variances that a reader may take for the same
_POINTS = 1500
_BARS = 40


def gammas(diagnosis: Diagnosis) -> Picture | None:
    """Draw the decoder variance as declared, as the posterior implies it, and as the residuals have it, on one line."""
    rebuilt, optimum = diagnosis.measures.reconstruction, diagnosis.measures.optimality
    if rebuilt is None or not rebuilt.residual > 0:
        return None
    declared = _declared(diagnosis)
    implied = optimum.implied_gamma if optimum is not None else None
    shown = [
        ("the data's variance", rebuilt.data_variance, GREY, "s"),
        ("found in the residuals", rebuilt.residual, BLUE, "o"),
        *([("declared by the model", declared, ORANGE, "D")] if declared else []),
        *([("implied by the posterior", implied, PURPLE, "v")] if implied else []),
    ]
    shown = [one for one in shown if one[1] > 0 and np.isfinite(one[1])]
    with Chart(0.5 + 0.42 * len(shown)) as chart:
        axis = chart.axes()
        axis.set_xscale("log")
        for height, (_, value, colour, marker) in enumerate(reversed(shown)):
            axis.plot([rebuilt.residual, value], [height, height], color=colour, alpha=0.45, linewidth=3)
            axis.plot([value], [height], marker, color=colour, markersize=9)
            axis.annotate(number(value), (value, height), (0, 8), textcoords="offset points", ha="center", fontsize=9)
        if implied and optimum is not None and optimum.implied_low and optimum.implied_high:
            axis.plot([optimum.implied_low, optimum.implied_high], [0, 0], color=PURPLE, linewidth=1)
        axis.axvline(rebuilt.residual, color=BLUE, linewidth=0.9, linestyle=":")
        axis.set_yticks(range(len(shown)), [one[0] for one in reversed(shown)])
        axis.set_ylim(-0.5, len(shown) - 0.35)
        axis.margins(x=0.12)
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
        axis.spines["left"].set_visible(False)
        axis.set_xlabel("variance per dimension, network's units", fontsize=8.5)
    alt = "Variances on a logarithmic line: " + ", ".join(f"{name} {number(value)}" for name, value, *_ in shown) + "."
    return Picture("gammas", _said(declared, implied, rebuilt.residual), _HELP, chart.markup("gammas", alt))


def _declared(diagnosis: Diagnosis) -> float | None:
    """Return the decoder variance that the model declares, where one is known."""
    rebuilt = diagnosis.measures.reconstruction
    return rebuilt.gamma if diagnosis.gamma_known and rebuilt is not None and rebuilt.gamma else None


_HELP = (
    "At an optimum all accounts of the decoder variance γ agree: a bar to the right of the dotted line claims more "
    "noise than there is, which smooths; one to the left claims less."
)


def _said(declared: float | None, implied: float | None, residual: float) -> str:
    """Say the point of the line of variances."""
    if declared is not None:
        ratio = declared / residual
        if 1 / _ALIKE < ratio < _ALIKE:
            said = "The decoder variance is what the residuals have"
        else:
            word = "larger" if ratio > 1 else "smaller"
            said = f"The decoder variance is {number(max(ratio, 1 / ratio))} times {word} than the residuals"
    else:
        said = f"The residuals' variance is {number(residual)}"
    if implied is None:
        return said
    against = declared or residual
    ratio = implied / against
    which = "declared one" if declared else "residuals"
    apart = max(ratio, 1 / ratio)
    if apart < 2 * _ALIKE:
        return f"{said}, and the posterior agrees" + (f" up to a factor of {number(apart)}" if apart > _ALIKE else "")
    word = "above" if ratio > 1 else "below"
    return f"{said}; the posterior was made for one {number(apart)} times {word} the {which}"


def posterior(diagnosis: Diagnosis) -> Picture | None:
    """Posterior variances found against those of the optimum under the γ that they imply: their spread, not γ."""
    found = diagnosis.measures.optimality
    if found is None:
        return None
    pairs = np.stack([found.expected.double().flatten().numpy(), found.found.double().flatten().numpy()])
    pairs = pairs[:, (np.isfinite(pairs) & (pairs > 0)).all(0)]
    if not pairs.shape[1]:
        return None
    pairs = pairs[:, :: -(-pairs.shape[1] // _POINTS)]
    low, high = float(pairs.min()) * 0.7, float(max(pairs.max(), 1.0)) * 1.4
    with Chart(3.4) as chart:
        axis = chart.axes()
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle="--")
        axis.scatter(pairs[0], pairs[1], s=9, color=BLUE, alpha=0.45, linewidths=0, rasterized=True)
        axis.set(xlim=(low, high), ylim=(low, high))
        axis.set_xlabel(f"expected under {'implied' if found.implied_gamma else 'the'} γ: 1 / (1 + curvature / γ)")
        axis.set_ylabel("found: posterior variance λ")
    factor = float(np.exp(found.misfit))
    under, apart = _under(found.implied_gamma, found.gamma, _declared(diagnosis))
    title = f"Under {under}, its variances miss their optimum by a factor of {number(factor)}{apart}"
    alt = (
        f"{pairs.shape[1]} posterior variances found against those expected from the decoder's curvature under "
        f"{under}; they differ by a factor of {number(factor)} (median)."
    )
    text = (
        f"Each dot is one latent dimension of one row, and the dashed line is the optimum under {under}: distance "
        "from it is misfit between dimensions"
        + (", and says nothing on whether that variance is right." if found.implied_gamma else ".")
    )
    return Picture("posterior", title, text, chart.markup("posterior", alt))


def _under(implied: float | None, assumed: float, declared: float | None) -> tuple[str, str]:
    """Say which variance posteriors are held against, and how far it is from the declared one."""
    if implied is None:
        known = "declared" if declared else "assumed"
        return f"the {known} variance of {number(assumed)}", " (they are too few to imply another)"
    under = "the variance that the posterior implies"
    if declared is None:
        return under, f"; it is {number(implied)}, and none is declared"
    ratio = implied / declared
    if 1 / _ALIKE < ratio < _ALIKE:
        return under, "; the declared one is about the same"
    word = "smaller" if ratio > 1 else "larger"
    return under, f"; the declared one is {number(max(ratio, 1 / ratio))} times {word}"


def noise(diagnosis: Diagnosis) -> Picture | None:
    """How much noise on a latent axis changes the output, against the axis's λ."""
    found = diagnosis.measures.axes
    if found is None:
        return None
    ratios, variance = found.ratios.double().numpy(), found.variance.double().numpy()
    kept = np.isfinite(ratios) & np.isfinite(variance) & (ratios > 0)
    if not kept.any() or not (variance[kept] > 0).any():
        return None
    ratios, variance = ratios[kept], variance[kept]
    floor = max(variance.max() * 1e-8, variance[variance > 0].min() * 0.5)
    with Chart(2.9) as chart:
        axis = chart.axes()
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.scatter(ratios, np.maximum(variance, floor), s=34, color=BLUE, alpha=0.75, linewidths=0)
        axis.set_xlabel("posterior variance λ of the axis (1 = the prior's)")
        axis.set_ylabel("variance of the output")
    least, most = int(ratios.argmin()), int(ratios.argmax())
    title = (
        f"Noise moves the output by {number(variance[least])} where λ = {number(ratios[least])}, "
        f"by {number(variance[most])} where λ = {number(ratios[most])}"
    )
    alt = f"Output variance against posterior variance for {len(ratios)} latent axes. {title}."
    text = (
        "Each dot is a latent axis under standard normal noise; axes in use (left) must move the output, idle ones "
        "(right) must not."
    )
    return Picture("noise", title, text, chart.markup("noise", alt))


def residual_map(diagnosis: Diagnosis) -> Picture | None:
    """Where residuals are: a map of pixels, or a bar per column."""
    found = diagnosis.measures.residuals
    if found is None:
        return None
    values = found.per_dimension.double()
    image = pictured(diagnosis)
    with Chart(3.2 if image else 2.7) as chart:
        axis = chart.axes()
        if image:
            shown = values.mean(0).numpy()
            drawn = axis.imshow(shown, cmap="magma", vmin=0, interpolation="none")
            axis.set_axis_off()
            bar = chart.figure.colorbar(drawn, ax=axis, shrink=0.85)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=8)
        else:
            flat = values.flatten().numpy()
            order = np.argsort(-flat)[:_BARS]
            axis.bar(range(len(order)), flat[order], color=BLUE)
            step = -(-len(order) // 16)
            axis.set_xticks(range(0, len(order), step), [str(column) for column in order[::step]])
            axis.axhline(float(flat.mean()), color=ORANGE, linewidth=1.2, linestyle="--")
            axis.set_xlabel("column" + ("" if len(order) == len(flat) else f" ({len(order)} worst of {len(flat)})"))
            axis.set_ylabel("mean squared residual")
            axis.grid(visible=False, axis="x")
    where = "pixels" if image else "columns"
    title = f"Residuals differ between {where} by a factor of {number(found.spread_dimensions)}"
    alt = (
        f"Mean squared residual per {where[:-1]}, from {number(float(values.min()))} to {number(float(values.max()))}; "
        f"the 90th percentile is {number(found.spread_dimensions)} times the 10th."
    )
    text = (
        "Bright pixels are rebuilt worst; one variance for all cannot fit both bright and dark ones."
        if image
        else (
            "Columns are ordered by their error and the dashed line is the mean, which one shared variance would "
            "claim for all."
        )
    )
    return Picture("residual-map", title, text, chart.markup("residual-map", alt))


def residual_rows(diagnosis: Diagnosis) -> Picture | None:
    """How residuals differ between rows."""
    found = diagnosis.measures.residuals
    if found is None:
        return None
    values = finite(found.per_row)
    values = values[values > 0]
    if len(values) < 2:
        return None
    with Chart(2.5) as chart:
        axis = chart.axes()
        low, high = float(values.min()), float(values.max())
        bins = np.geomspace(low, high if high > low else low * 1.1, 40).tolist()
        axis.hist(values, bins, histtype="stepfilled", color=BLUE)
        axis.set_xscale("log")
        axis.axvline(float(values.mean()), color=ORANGE, linewidth=1.2, linestyle="--")
        axis.set_xlabel("mean squared residual of a row")
        axis.set_ylabel("rows")
    title = f"Residuals differ between rows by a factor of {number(found.spread_rows)}"
    alt = (
        f"Histogram of the mean squared residuals of {len(values)} rows, from {number(low)} to {number(high)}; "
        f"the 90th percentile is {number(found.spread_rows)} times the 10th."
    )
    text = "One variance for all rows is right where the histogram is narrow around the dashed line, its mean."
    return Picture("residual-rows", title, text, chart.markup("residual-rows", alt))


def residual_spectrum(diagnosis: Diagnosis) -> Picture | None:
    """Spectrum of the residuals' covariance, with the directions that noise does not explain."""
    found = diagnosis.measures.residuals
    if found is None:
        return None
    values = finite(found.spectrum)
    values = values[values > 0]
    if len(values) < 2:
        return None
    count = min(found.structured, len(values))
    with Chart(2.5) as chart:
        axis = chart.axes()
        places = np.arange(1, len(values) + 1)
        axis.plot(places[count:], values[count:], "o", color=GREY, markersize=3.5, label="as noise would have")
        if count:
            axis.plot(places[:count], values[:count], "o", color=ORANGE, markersize=5, label="structured")
            axis.legend()
        axis.axhline(1.0, color=INK, linewidth=0.7, linestyle=":")
        axis.set_ylim(max(0.7 * float(values[-1]), 1e-3 * float(values[0])), 1.5 * float(values[0]))
        axis.set_yscale("log")
        axis.set_xlabel("direction")
        axis.set_ylabel("variance over the mean")
    if count:
        title = (
            f"{count} direction{'s hold' if count > 1 else ' holds'} {share(found.structured_share)} of the "
            "residuals: structure that was left out"
        )
    else:
        title = "The residuals have no structure: they look like noise"
    alt = (
        f"The {len(values)} largest variances of the residuals along their principal directions, from "
        f"{number(float(values[0]))} times the mean downwards; {count} are above what noise gives."
    )
    text = (
        "Orange directions stand out from noise of the same variances: a larger or better trained model could still "
        "learn them."
    )
    return Picture("residual-spectrum", title, text, chart.markup("residual-spectrum", alt))
