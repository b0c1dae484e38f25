"""Pictures of a training and of its samples; each is one PNG that says its point in its title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaelab import storage
from vaelab.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from vaelab.training import Record

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#718096"


def figure(width: float, height: float) -> Figure:
    """Return an empty figure that no window manager knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=130)


def save(picture: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; a ``$`` in the name of a column is one."""
    from matplotlib.text import Text

    for text in picture.findobj(Text):
        if isinstance(text, Text) and not text.get_text().startswith("$\\mathdefault"):  # as numbers of axes do
            text.set_parse_math(False)
    storage.replace_file(path, lambda temporary: picture.savefig(temporary, format="png"))


def tile(images: NDArray[Any], columns: int) -> NDArray[Any]:
    """Lay (n, C, H, W) images out in a grid (rows·H, columns·W[, C]) with a thin white line between them.

    Channels beyond three are left out.
    """
    n, _, height, width = images.shape
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1]
    rows = -(-n // columns)
    white = 255 if images.dtype == np.uint8 else 1
    gap = 1
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, images.shape[1]), white, images.dtype)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        grid[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return grid[..., 0] if grid.shape[2] == 1 else grid


def side_by_side(groups: Mapping[str, NDArray[Any]], columns: int = 8) -> Figure:
    """Draw grids of images beside each other, one per name."""
    picture = figure(3.2 * len(groups), 3.6)
    axes = picture.subplots(1, len(groups), squeeze=False)[0]
    for axis, (name, images) in zip(axes, groups.items(), strict=True):
        grid = tile(images, columns)
        top = 255 if grid.dtype == np.uint8 else 1
        axis.imshow(grid, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
        axis.set_title(name, fontsize=11)
        axis.set_axis_off()
    return picture


def reconstructions(real: NDArray[Any], rebuilt: NDArray[Any]) -> Figure:
    """Draw images above their reconstructions."""
    n = len(real)
    picture = figure(0.62 * n + 0.9, 1.75)
    axis = picture.subplots()
    grid = tile(np.concatenate([real, rebuilt]), n)
    axis.imshow(grid, cmap="gray", vmin=0, vmax=255 if grid.dtype == np.uint8 else 1, interpolation="nearest")
    height = grid.shape[0]
    axis.set_yticks([height / 4, 3 * height / 4], ["real", "rebuilt"])
    axis.set_xticks([])
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    return picture


def interpolations(groups: Mapping[str, NDArray[Any]]) -> Figure:
    """Draw walks from one real image to another, one walk a row, the groups beside each other.

    The real images stand apart from the decoded steps between them.

    Parameters
    ----------
    groups
        Title → (pairs, steps, C, H, W) with at least 3 steps; the first and the last of every row are the real images.

    Raises
    ------
    InputError
        No groups, or one of another shape.
    """
    for name, images in groups.items():
        if images.ndim != 5 or not len(images) or images.shape[1] < 3:
            raise InputError(f"{name!r} of shape {images.shape}", "(pairs, steps, C, H, W) with at least 3 steps")
    if not groups:
        raise InputError("no groups of walks", "at least one")
    pairs, steps = (max(images.shape[axis] for images in groups.values()) for axis in (0, 1))
    picture = figure((0.36 * steps + 0.9) * len(groups), 0.36 * pairs + 0.8)
    axes = picture.subplots(1, len(groups), squeeze=False, gridspec_kw={"wspace": 0.15})[0]
    for axis, (name, images) in zip(axes, groups.items(), strict=True):
        between = images[:, 1:-1]
        parts = [
            tile(images[:, 0], 1),
            tile(between.reshape(-1, *images.shape[2:]), between.shape[1]),
            tile(images[:, -1], 1),
        ]
        top = 255 if images.dtype == np.uint8 else 1
        gap = np.full((parts[0].shape[0], max(3, images.shape[-1] // 4), *parts[0].shape[2:]), top, images.dtype)
        grid = np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=1)
        axis.imshow(grid, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
        axis.set_title(name, fontsize=11)
        half, wide = images.shape[-1] / 2, grid.shape[1]
        axis.set_xticks([half, wide / 2, wide - half], ["real", "decoded between", "real"], fontsize=8)
        axis.xaxis.tick_top()
        axis.set_yticks([])
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)
    return picture


def marginals(
    real: NDArray[Any], samples: Mapping[str, NDArray[Any]], columns: Sequence[str], most: int = 12
) -> Figure:
    """Draw the histogram of each table column, real against every kind of sample."""
    shown = min(len(columns), most)
    across = min(4, shown)
    down = -(-shown // across)
    picture = figure(3.0 * across, 2.2 * down + 0.4)
    axes = picture.subplots(down, across, squeeze=False)
    colours = [_ORANGE, _BLUE, "#38a169", "#805ad5"]
    for i, axis in enumerate(axes.flat):
        if i >= shown:
            axis.set_axis_off()
            continue
        low, high = np.nanquantile(real[:, i], [0.005, 0.995])
        bins = np.linspace(low, high if high > low else low + 1, 30).tolist()
        axis.hist(real[:, i], bins, density=True, color=_GREY, alpha=0.4, label="real")
        for colour, (name, rows) in zip(colours, samples.items(), strict=False):
            axis.hist(rows[:, i], bins, density=True, histtype="step", color=colour, linewidth=1.5, label=name)
        axis.set_title(columns[i], fontsize=9)
        axis.set_yticks([])
    picture.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return picture


def curves(records: Sequence[Record]) -> Figure:
    """Draw γ, distortion, KL and active dimensions of stage one over its epochs."""
    panels = {
        "gamma": "decoder variance γ (falls to the noise level)",
        "distortion": "distortion, nats",
        "kl": "KL, nats",
        "active_dimensions": "active dimensions (of the latent ones)",
    }
    picture = figure(9, 5.4)
    epochs = [float(record["epoch"]) for record in records]
    for axis, (name, title) in zip(picture.subplots(2, 2).flat, panels.items(), strict=True):
        for key, colour, label in ((f"held_out_{name}", _ORANGE, "held out"), (name, _BLUE, "training")):
            points = [(e, float(r[key])) for e, r in zip(epochs, records, strict=True) if key in r]
            if points and key != "held_out_gamma":  # the same number: γ does not depend on the rows scored
                axis.plot(*zip(*points, strict=True), color=colour, label=label, linewidth=1.6)
        if name == "gamma" and all(float(r.get("gamma", 0)) > 0 for r in records):
            axis.set_yscale("log")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.2)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(frameon=False, fontsize=8)
    return picture


def variance_histogram(ratios: NDArray[Any], active: int, threshold: float) -> Figure:
    """Draw the posterior variance of every latent dimension: a cluster near 0 is active, one near 1 idle."""
    picture = figure(6.4, 3.2)
    axis = picture.subplots()
    axis.hist(ratios, np.linspace(0, max(1.1, float(ratios.max()) * 1.05), 45).tolist(), color=_BLUE)
    axis.axvline(threshold, color=_ORANGE, linestyle="--", linewidth=1.2)
    axis.set_title(f"{active} active dimensions (left of the line), {len(ratios) - active} others", fontsize=11)
    axis.set_xlabel("posterior variance of a latent dimension, mean over the data (1 = the prior's)")
    axis.set_ylabel("latent dimensions")
    axis.grid(alpha=0.2)
    return picture


def scatter(real: NDArray[Any], rebuilt: NDArray[Any], columns: Sequence[str], most: int = 12) -> Figure:
    """Draw each table column's reconstruction against its true value; perfect ones lie on the diagonal."""
    shown = min(len(columns), most)
    across = min(4, shown)
    picture = figure(2.6 * across, 2.5 * -(-shown // across))
    for i, axis in enumerate(picture.subplots(-(-shown // across), across, squeeze=False).flat):
        if i >= shown:
            axis.set_axis_off()
            continue
        ends = [float(np.nanmin(real[:, i])), float(np.nanmax(real[:, i]))]
        axis.plot(ends, ends, color=_GREY, linewidth=0.8)
        axis.scatter(real[:, i], rebuilt[:, i], s=4, alpha=0.4, color=_BLUE, linewidths=0)
        axis.set_title(columns[i], fontsize=9)
        axis.set_xlabel("real", fontsize=8)
        axis.set_ylabel("rebuilt", fontsize=8)
    return picture
