"""Rows to look at: real, rebuilt and sampled ones, and what lies between two codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vaelab.diagnostics.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Chart,
    Picture,
    Pixels,
    Strip,
    finite,
    number,
    share,
    strips,
)

if TYPE_CHECKING:
    from vaelab.diagnostics.diagnosis import Diagnosis
    from vaelab.diagnostics.measures import Reconstruction

_ACROSS = 12
_STEPS = 11
_PAIRS = 4
_COLUMNS = 8
_AXES = 5


def rows(diagnosis: Diagnosis) -> Picture | None:
    """Real rows above their reconstructions above samples; histograms of columns for a table."""
    examples = diagnosis.examples
    if not len(examples.real):
        return None
    return _images(diagnosis) if pictured(diagnosis) else _columns(diagnosis)


def pictured(diagnosis: Diagnosis) -> bool:
    """Whether rows are shown as images."""
    return diagnosis.kind == "image" and len(diagnosis.event_shape) == 3


def _point(diagnosis: Diagnosis) -> str:
    """Say what the rows show, in numbers where there are any."""
    parts = []
    measures = diagnosis.measures
    if measures.reconstruction is not None:
        parts.append(f"Reconstructions explain {explained(measures.reconstruction)} of the data's variance")
    if measures.manifold is not None:
        rate = measures.manifold.rates.get(diagnosis.sampler)
        if rate is not None:
            parts.append(f"{share(rate)} of the samples ({_named(diagnosis.sampler)}) are unlike any reconstruction")
    return "; ".join(parts) or "What goes in, what comes out, what is made up"


def explained(found: Reconstruction) -> str:
    """Say which share of the variance is rebuilt; none where the error is larger than a constant's."""
    return share(found.explained) if found.explained > 0 else "none"


def _named(density: str) -> str:
    return density.replace("_", " ")


def _images(diagnosis: Diagnosis) -> Picture:
    examples, pixels = diagnosis.examples, Pixels(diagnosis.examples.real)
    groups: dict[str, Tensor] = {"real": examples.real, "rebuilt": examples.rebuilt}
    groups |= {f"sampled: {_named(name)}": one for name, one in _sampled(diagnosis).items()}
    across = min(_ACROSS, max(len(one) for one in groups.values()))
    shape = " × ".join(map(str, diagnosis.event_shape))
    shown = [
        Strip(label, f"{min(len(one), across)} {label} images of {shape}", pixels(one[:across]))
        for label, one in groups.items()
        if len(one)
    ]
    text = (
        "Each column of the first two rows is one image and what the model makes of it; the samples below stand alone."
    )
    return Picture("rows", _point(diagnosis), text, strips(shown, across=across), wide=True)


def _sampled(diagnosis: Diagnosis) -> Mapping[str, Tensor]:
    """Return the prior's samples and the sampler's."""
    found = diagnosis.examples.samples
    return {name: found[name] for name in dict.fromkeys(("prior", diagnosis.sampler)) if name in found}


def _columns(diagnosis: Diagnosis) -> Picture:
    """Histograms of the columns that vary most."""
    examples = diagnosis.examples
    real = examples.real.flatten(1).double()
    spread = (real - real.nanmean(0)).square().nanmean(0).nan_to_num()
    chosen = sorted(spread.argsort(descending=True)[:_COLUMNS].tolist())
    groups = {"rebuilt": examples.rebuilt, **_sampled(diagnosis)}
    colours = (BLUE, ORANGE, GREEN)
    across = min(2, len(chosen))
    down = -(-len(chosen) // across)
    with Chart(1.05 * down + 0.5) as chart:
        grid = chart.figure.subplots(down, across, squeeze=False)
        for axis, column in zip(grid.flat, [*chosen, *[None] * (down * across - len(chosen))], strict=True):
            if column is None:
                axis.set_axis_off()
                continue
            own = finite(real[:, column])
            low, high = np.quantile(own, [0.005, 0.995]) if len(own) else (0.0, 1.0)
            bins = np.linspace(low, high if high > low else low + 1, 25).tolist()
            axis.hist(own, bins, density=True, histtype="stepfilled", color=GREY, alpha=0.4, label="real")
            for colour, (name, other) in zip(colours, groups.items(), strict=False):
                values = finite(other.flatten(1)[:, column])
                if len(values):
                    style = {"histtype": "step", "color": colour, "linewidth": 1.4}
                    label = name if name == "rebuilt" else f"sampled: {_named(name)}"
                    axis.hist(np.clip(values, bins[0], bins[-1]), bins, density=True, label=label, **style)
            axis.set_title(f"column {column}", fontsize=8.5, pad=2)
            axis.set_yticks([])
            axis.tick_params(labelsize=7.5)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        chart.figure.legend(handles, labels, loc="outside upper center", ncols=4, handlelength=1.2, columnspacing=1)
    listed = ", ".join(str(column) for column in chosen)
    alt = f"Histograms of columns {listed} of {len(real)} real rows, of their reconstructions and of samples."
    text = (
        "Filled is what the data hold; a line that leaves it is what the model gets wrong (the outermost bars hold "
        "what lies beyond)."
    )
    return Picture("rows", _point(diagnosis), text, chart.markup("rows", alt))


def between(diagnosis: Diagnosis) -> Picture | None:
    """Show what the decoder makes of points between two codes."""
    walks = diagnosis.examples.between
    if walks is None or not pictured(diagnosis) or not len(walks):
        return None
    pixels = Pixels(diagnosis.examples.real)
    steps = np.linspace(0, walks.shape[1] - 1, min(_STEPS, walks.shape[1])).round().astype(int).tolist()
    shown = [
        Strip(f"pair {i + 1}", f"Pair {i + 1}: {len(steps)} images from one code to another", pixels(walk[steps]))
        for i, walk in enumerate(walks[:_PAIRS])
    ]
    found = diagnosis.measures.manifold
    title = "What lies between two codes"
    if found is not None:
        title = f"Of the midpoints between two codes {share(found.holes)} are unlike any reconstruction"
    text = (
        "Each row walks from the code of one image to that of another; steps in the middle that look like nothing "
        "are holes."
    )
    return Picture("between", title, text, strips(shown, across=len(steps)))


def perturbed(diagnosis: Diagnosis) -> Picture | None:
    """One image with its code moved along one latent axis, for axes from the smallest λ to the largest."""
    found = diagnosis.measures.axes
    if found is None or not pictured(diagnosis) or not len(found.shown):
        return None
    pixels = Pixels(diagnosis.examples.real)
    chosen = np.linspace(0, len(found.shown) - 1, min(_AXES, len(found.shown))).round().astype(int).tolist()
    steps = np.linspace(0, found.shown.shape[1] - 1, min(_STEPS, found.shown.shape[1])).round().astype(int).tolist()
    reach = f"{found.shown_steps[steps[0]]:+g} to {found.shown_steps[steps[-1]]:+g}"
    reach = reach.replace("-", "−")
    ratio = dict(zip(found.order.tolist(), found.ratios.tolist(), strict=True))
    shown, labels = [], []
    for i in chosen:
        axis = int(found.shown_axes[i])
        labels.append(f"λ = {number(ratio[axis])}")
        alt = f"{len(steps)} images decoded from one code moved by {reach} along latent axis {axis}, whose {labels[-1]}"
        shown.append(Strip(labels[-1], alt, pixels(found.shown[i, steps])))
    title = f"Moving a code along one axis: {labels[0]} in the first row, {labels[-1]} in the last"
    text = (
        f"Each row moves one code by {reach} prior deviations along a single axis: the image changes on an axis in use "
        "and stands still on an idle one."
    )
    return Picture("perturbed", title, text, strips(shown, across=len(steps)))
