"""Pictures of where, and for which rows, a decoder is unsure: its variance γ in all four shapes.

Shapes are named as by Takida et al. 2022, section 5.1. Standard deviations √γ are drawn, in the units of what they are
about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaelab.diagnostics.pictures import figure, tile
from vaelab.errors import InputError
from vaelab.model import VAE, Gaussian, Mixed, draw
from vaelab.model.contexts import evaluating
from vaelab.rows import rows_at_once, spans
from vaelab.training import stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#718096"
_COLOURS = "magma"
_DRAWS = 16
_EXTREMES = 8  # rows at either end
_MAPS = 8  # rows shown with their maps


@torch.no_grad()
def row_variances(vae: VAE, x: Tensor, c: Tensor | None = None, *, draws: int = _DRAWS, seed: int = 0) -> Tensor:
    """γ of each row, a mean over draws of z ~ q(z|x): E_z e² where it is profiled per row and dimension.

    Parameters
    ----------
    vae
        With a Gaussian likelihood; used in evaluation mode.
    x, c
        (n, *event) rows in the network's units, with their conditions if the model has one.
    draws
        Of z per row.
    seed
        Of the draws.

    Returns
    -------
    Tensor
        (n, *event), or with size 1 along the axes that γ does not differ on; on the CPU.

    Raises
    ------
    InputError
        The likelihood has no such variance, or there are no rows or draws.
    """
    likelihood = vae.likelihood
    if not isinstance(likelihood, Gaussian):
        raise InputError(f"a likelihood of type {type(likelihood).__name__}", "a Gaussian one, which has a variance")
    if not len(x) or draws < 1:
        raise InputError(f"{len(x)} rows and {draws} draws", "at least one of each")
    device = next(vae.parameters()).device
    noise = torch.randn(draws, len(x), vae.latent_dim, generator=stream("cpu", seed, "variance pictures"))
    found = []
    with evaluating(vae):
        for rows in spans(len(x), rows_at_once(tuple(x.shape[1:]))):
            own, condition = x[rows].to(device), None if c is None else c[rows].to(device)
            q = vae.encode(own, condition)
            total = torch.zeros((), device=device)
            for one in noise[:, rows].to(own):
                total = total + likelihood.variance_of(vae.decoder(draw(q, one), condition).to(own.dtype), own)
            found.append((total / draws).cpu().expand(len(own), *total.shape[1:]))
    return torch.cat(found)


@torch.no_grad()
def decoder_variance(
    vae: VAE, x: Tensor, c: Tensor | None = None, *, columns: Sequence[str] | None = None, seed: int = 0
) -> Figure | None:
    """Draw the decoder variance of a model in the way that suits its shape and the data.

    Parameters
    ----------
    vae, x, c
        As for `row_variances`; a few hundred rows are enough.
    columns
        Names of a table's columns.
    seed
        Of the draws.

    Returns
    -------
    Figure or None
        None where there is nothing to draw: one number for everything, or a likelihood without a variance.
    """
    likelihood = vae.likelihood
    if isinstance(likelihood, Mixed) and likelihood.variance is not None and likelihood.variance.diagonal:
        every = columns or tuple(f"column {i}" for i in range(x.shape[1]))
        numbers = [name for name, levels in zip(every, likelihood.levels, strict=True) if not levels]
        return deviation_bars(likelihood.variance.gamma.double().sqrt().cpu().numpy(), numbers)
    if not isinstance(likelihood, Gaussian):
        return None
    gamma = row_variances(vae, x, c, seed=seed)
    by_dimension = gamma[0].numel() > 1
    # a shared γ is the same tensor for every row
    by_row = len(x) > 1 and bool((gamma != gamma[:1]).any())
    deviations = gamma.double().sqrt().numpy()
    image = x.ndim == 4
    if not by_row and not by_dimension:
        return None
    names = columns or tuple(f"column {i}" for i in range(x.shape[1]))
    if not by_row:
        return deviation_map(deviations[0]) if image else deviation_bars(deviations[0], names)
    if not by_dimension:
        flat = deviations.reshape(len(x))
        return deviation_histogram(flat, _pixels(x)) if image else deviation_histogram(flat)
    if not image:
        return deviation_boxes(deviations, names)
    shown = slice(0, _MAPS)
    device = next(vae.parameters()).device
    with evaluating(vae):
        rebuilt = vae.reconstruct(x[shown].to(device), None if c is None else c[shown].to(device))
    return deviation_maps(_pixels(x[shown]), _pixels(rebuilt), deviations[shown])


def deviation_map(deviation: NDArray[Any]) -> Figure:
    """Draw √γ of every pixel, (C, H, W), one map for all images; the mean over channels."""
    values = deviation.mean(0)
    picture = figure(4.4, 4.0)
    axis = picture.subplots()
    drawn = axis.imshow(values, cmap=_COLOURS, norm=_logarithmic(values), interpolation="nearest")
    _colour_bar(picture, drawn, axis)
    axis.set_title("Where the decoder expects errors\n(bright: high noise level)", fontsize=10)
    axis.set_axis_off()
    return picture


def deviation_maps(real: NDArray[Any], rebuilt: NDArray[Any], deviation: NDArray[Any]) -> Figure:
    """Draw images, their reconstructions, and √γ of every pixel of each, all (n, C, H, W).

    One colour scale serves all maps, so that images can be compared.
    """
    n = len(real)
    values = deviation.mean(1, keepdims=True)
    picture = figure(0.95 * n + 1.8, 3.7)
    upper, lower = picture.subplots(2, 1, gridspec_kw={"height_ratios": [2, 1]})
    grid = tile(np.concatenate([real, rebuilt]), n)
    upper.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    upper.set_yticks([grid.shape[0] / 4, 3 * grid.shape[0] / 4], ["real", "rebuilt"])
    between = tile(np.zeros_like(values), n) == 1
    maps = np.ma.masked_array(tile(values, n), between)
    drawn = lower.imshow(maps, cmap=_COLOURS, norm=_logarithmic(values), interpolation="nearest", aspect="equal")
    lower.set_yticks([maps.shape[0] / 2], ["noise\nlevel √γ"])
    _colour_bar(picture, drawn, [upper, lower])
    for axis in (upper, lower):
        _bare(axis)
    picture.suptitle("Where the decoder expects errors, image by image (bright: high noise level)", fontsize=10)
    return picture


def deviation_histogram(deviation: NDArray[Any], images: NDArray[Any] | None = None) -> Figure:
    """Draw how √γ, one number per row (n,), is spread; with images (n, C, H, W), those at both ends beside it."""
    order = np.argsort(deviation)
    few = min(_EXTREMES, len(deviation) // 2)
    picture = figure(6.4, 2.8 if images is None else 4.2)
    if images is None or not few:
        axis = picture.subplots()
    else:
        grid = picture.add_gridspec(3, 1, height_ratios=[2.4, 1, 1])
        axis = picture.add_subplot(grid[0])
        for place, chosen, text, colour in (
            (1, order[:few], "surest", _BLUE),
            (2, order[-few:], "least sure", _ORANGE),
        ):
            strip = picture.add_subplot(grid[place])
            strip.imshow(tile(images[chosen], few), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            span = f"√γ {deviation[chosen[0]]:.2g}–{deviation[chosen[-1]]:.2g}"
            strip.set_yticks([strip.get_ylim()[0] / 2], [f"{text}\n{span}"], color=colour)
            _bare(strip)
    low, high = float(deviation.min()), float(deviation.max())
    wide = high > 20 * low > 0
    bins = np.geomspace(low, high, 41) if wide else np.linspace(low, high if high > low else low + 1, 41)
    axis.hist(deviation, bins.tolist(), color=_GREY)
    if wide:
        axis.set_xscale("log")
    for ends, colour in ((order[:few], _BLUE), (order[-few:], _ORANGE)):
        if images is not None and few:
            axis.axvspan(float(deviation[ends[0]]), float(deviation[ends[-1]]), color=colour, alpha=0.25, linewidth=0)
    ratio = np.quantile(deviation, 0.95) / max(np.quantile(deviation, 0.05), 1e-300)
    axis.set_title(f"Which rows the decoder is unsure of: 90 % lie within a factor of {ratio:.2g}", fontsize=10)
    axis.set_xlabel("noise level √γ of a row")
    axis.set_ylabel("rows")
    axis.grid(alpha=0.2)
    return picture


def deviation_bars(deviation: NDArray[Any], columns: Sequence[str], most: int = 30) -> Figure:
    """Draw √γ of the columns of a table, (d,), largest first."""
    order = np.argsort(-deviation)[:most]
    picture = figure(6.4, 0.22 * len(order) + 1.1)
    axis = picture.subplots()
    axis.barh([columns[i] for i in order], deviation[order], color=_BLUE)
    axis.invert_yaxis()
    more = f", the {most} highest of {len(deviation)}" if len(deviation) > most else ""
    axis.set_title(f"Which columns the decoder cannot tell from the code{more}", fontsize=10)
    axis.set_xlabel("noise level √γ (1: the column's own standard deviation)")
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(alpha=0.2, axis="x")
    return picture


def deviation_boxes(deviation: NDArray[Any], columns: Sequence[str], most: int = 30) -> Figure:
    """Draw how √γ of the columns of a table is spread over the rows, (n, d), highest median first."""
    order = np.argsort(-np.median(deviation, 0))[:most]
    picture = figure(6.4, 0.26 * len(order) + 1.1)
    axis = picture.subplots()
    axis.boxplot(
        [deviation[:, i] for i in order],
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": "#bee3f8", "edgecolor": _BLUE},
        medianprops={"color": _ORANGE},
        widths=0.6,
    )
    axis.set_yticks(range(1, len(order) + 1), [columns[i] for i in order], fontsize=8)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_title("How unsure the decoder is of each column, from row to row", fontsize=10)
    axis.set_xlabel("noise level √γ (1: the column's own standard deviation); whiskers: 90 % of rows", fontsize=8)
    axis.grid(alpha=0.2, axis="x")
    return picture


def _pixels(x: Tensor) -> NDArray[Any]:
    """(n, C, H, W) in [0, 1]."""
    shown: NDArray[Any] = x.detach().float().clamp(0, 1).cpu().numpy()
    return shown


def _logarithmic(values: NDArray[Any]) -> Any:
    """Scale colours from the second percentile to nearly the highest, over a factor of 1.5 or more."""
    from matplotlib.colors import LogNorm

    low, high = (max(float(np.quantile(values, level)), 1e-12) for level in (0.02, 0.998))
    return LogNorm(low, max(high, 1.5 * low), clip=True)


def _colour_bar(picture: Figure, drawn: Any, axes: Axes | list[Axes]) -> None:
    from matplotlib.ticker import LogLocator

    bar = picture.colorbar(drawn, ax=axes, fraction=0.046, pad=0.02, aspect=25)
    bar.set_label("noise level √γ (1: black to white)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.minorticks_off()


def _bare(axis: Axes) -> None:
    """Leave the labels of rows alone."""
    axis.set_xticks([])
    axis.tick_params(length=0, labelsize=9)
    for side in axis.spines.values():
        side.set_visible(False)
