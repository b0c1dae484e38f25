"""Pictures as markup for a page: charts as inline SVG that takes the page's colours, images as data addresses.

A chart is drawn once and serves light and dark: its ink becomes ``currentColor``, its other colours have enough
contrast on both.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from torch import Tensor

from vaelab.diagnostics.pictures import tile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

BLUE, ORANGE, GREEN, PURPLE, GREY = "#3f7fce", "#d9691a", "#2c9a62", "#9666d6", "#8390a2"
INK = "#010203"
"""Stands for the page's text colour."""

_WIDTH = 5.0  # inches: near the width of a phone, so that text is never scaled down by much
_MOST_SIDE = 96  # pixels of an image on the page
_LOSSLESS_SIDE = 32  # up to which colour images are stored without loss
_UP, _DOWN = "⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789"
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "vaelab",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.8,
}


class Picture(NamedTuple):
    """A picture on the page.

    Attributes
    ----------
    name
        Short and unique on the page.
    title
        Its point, in words and numbers.
    help
        How to read it, in one sentence.
    body
        Markup, with a description of every image in it.
    wide
        Whether it takes the page's whole width.
    """

    name: str
    title: str
    help: str
    body: Markup
    wide: bool = False


class Strip(NamedTuple):
    """One row of images with what it shows, and how many images are in it."""

    label: str
    alt: str
    images: NDArray[Any]


class Chart:
    """A figure in the house style; `markup` ends it.

    Examples
    --------
    >>> with Chart(2.0) as chart:
    ...     axis = chart.axes()
    >>> str(chart.markup("x", "An empty chart."))[:4]
    '<svg'
    """

    def __init__(self, height: float = 2.6) -> None:
        from matplotlib import rc_context

        self._context = rc_context(_STYLE)  # type: ignore[arg-type]
        self._height = height
        self.figure: Figure

    def __enter__(self) -> Chart:
        from matplotlib.figure import Figure

        self._context.__enter__()
        self.figure = Figure(figsize=(_WIDTH, self._height), layout="constrained", dpi=72)
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            for axis in (one for axes in self.figure.axes for one in (axes.xaxis, axes.yaxis)):
                if axis.get_scale() == "log":
                    _label(axis)
            buffer = io.StringIO()
            self.figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=200)
            self._text = buffer.getvalue()
        self._context.__exit__(None, None, None)

    def axes(self) -> Axes:
        """Return the only axes."""
        return self.figure.subplots()

    def markup(self, name: str, alt: str) -> Markup:
        """Return the drawing as inline SVG, with a description; after the ``with`` block."""
        text = self._text[self._text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
        box = re.search(r'viewBox="([^"]+)"', text)
        assert box is not None
        head = f'<svg viewBox="{box[1]}" role="img" aria-label="{html.escape(alt)}">'
        text = head + text[text.index(">") + 1 :]
        used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', text))
        # ids that nothing refers to go; the others get the picture's name, since several drawings share a page
        text = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
        text = re.sub(r'(url\(#|href="#)([\w.-]+)', lambda m: f"{m[1]}{name}-{m[2]}", text)
        text = text.replace("xlink:href", "href").replace(INK, "currentColor")
        text = re.sub(r"(font:[^;\"]*?)\s*'[^;\"]*", r"\1 inherit", text)
        return Markup(re.sub(r">\s+<", "><", text).replace("\n", " "))


def _label(axis: Axis) -> None:
    """Place and write the ticks of a logarithmic axis, by how much it spans; a power needs no mathematics renderer."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    if decades < 0.5:
        axis.set_major_locator(MaxNLocator(4))
    else:
        axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0), numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def number(value: float | None) -> str:
    """Write a number to three digits, with a power of ten where it is small or large; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e6:
        text = f"{int(value):,}"
    elif 1e-3 <= abs(value) < 1e4:
        text = f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
    else:
        mantissa, exponent = f"{value:.1e}".replace(".0e", "e").split("e")
        factor = {"1": "", "-1": "-"}.get(mantissa, f"{mantissa}·")
        text = f"{factor}10" + str(int(exponent)).replace("-", "⁻").translate(str.maketrans(_DOWN, _UP))
    return text.replace("-", "−")


def words(value: float) -> str:
    """Write a number as `number` does, and one that is not finite in words."""
    return number(value) if math.isfinite(value) else "not finite"


def share(value: float) -> str:
    """Write a share as a percentage; one above 0 and below 1 never as 0 or 100."""
    if 0.995 < value < 1:
        return "more than 99\N{NO-BREAK SPACE}%"
    if 0 < value < 0.005:
        return "below 1\N{NO-BREAK SPACE}%"
    return f"{value:.0%}".replace("%", "\N{NO-BREAK SPACE}%").replace("-", "−")


def strips(rows: Sequence[Strip], *, across: int) -> Markup:
    """Lay out rows of images, each beside its label; `across` images in a full row."""
    parts = []
    for label, alt, images in rows:
        wide = len(images) / across
        parts.append(
            f'<div class="strip"><span class="of" aria-hidden="true">{html.escape(label)}</span>'
            f'<img src="{address(tile(images, len(images)))}" alt="{html.escape(alt)}" '
            f'style="width:{min(1.0, wide):.4%}"></div>'
        )
    return Markup(f'<div class="strips">{"".join(parts)}</div>')


class Pixels:
    """Turns rows in the network's units into uint8 images of a modest size, all by the range of the real ones."""

    def __init__(self, real: Tensor) -> None:
        low, high = (float(edge) for edge in real[real.isfinite()].aminmax()) if real.numel() else (0.0, 1.0)
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        elif low >= -1 and high <= 1:
            low, high = -1.0, 1.0
        self.low, self.high = low, high if high > low else low + 1

    def __call__(self, rows: Tensor) -> NDArray[Any]:
        """(n, C, H, W) floats to (n, 1 or 3, h, w) uint8 with neither side above 96."""
        rows = rows.detach().float().nan_to_num(self.low)
        rows = rows[:, :3] if rows.shape[1] >= 3 else rows[:, :1]
        side = max(rows.shape[2:])
        if side > _MOST_SIDE:
            size = [max(1, round(length * _MOST_SIDE / side)) for length in rows.shape[2:]]
            rows = torch.nn.functional.interpolate(rows, size=size, mode="area")
        unit = ((rows - self.low) / (self.high - self.low)).clamp(0, 1)
        return (unit * 255).round().byte().numpy()


def finite(values: Tensor) -> NDArray[np.float64]:
    """(m,) the finite numbers of a tensor; plots take no others."""
    flat = values.detach().double().flatten().cpu().numpy()
    kept: NDArray[np.float64] = flat[np.isfinite(flat)]
    return kept


def address(grid: NDArray[Any], *, lossless: bool | None = None) -> str:
    """Return the data address of (H, W) or (H, W, 3) bytes; by default large pictures in colour lose a little."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(grid)
    if grid.ndim == 3 and not (grid.shape[0] <= _LOSSLESS_SIDE if lossless is None else lossless):
        picture.save(buffer, "JPEG", quality=88, subsampling=0)
        kind = "jpeg"
    else:
        picture.save(buffer, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
