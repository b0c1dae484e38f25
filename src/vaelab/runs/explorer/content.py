"""What a page shows of a model: rows with their codes, axes, columns, draws, and what decodes; as plain values."""

from __future__ import annotations

import base64
import contextlib
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaelab.data import Split
from vaelab.diagnostics.report.canvas import Pixels, address
from vaelab.errors import InputError
from vaelab.runs.explorer.decoding import STEPS, Decoding, decoded, decoding_of, outputs_along
from vaelab.runs.trained import Trained
from vaelab.training import stream

_DRAWN = {"image": 96, "table": 64}  # rows from each density
_OF_CLASSES = 240  # draws of all classes together, at least 8 of each
_OPEN, _KEPT = 6, 12  # axes that are shown at once, and that are decoded beforehand, at most
_ACROSS = 20  # images beside each other in one picture


class Rows(NamedTuple):
    """Rows to look at: in the user's units, with conditions in the network's, and the numbers of their classes."""

    x: Tensor
    c: Tensor | None
    labels: Tensor | None
    classes: tuple[str, ...] | None
    where: str

    @classmethod
    def of(cls, split: Split, classes: tuple[str, ...] | None, where: str, *, most: int, seed: int) -> Rows:
        """Take some rows of a split at random, in their order."""
        order = torch.randperm(len(split), generator=stream("cpu", seed, "explorer", "rows"))[:most].sort().values
        parts = list(split.subset(order).parts())
        x = torch.cat([part for part, _ in parts]).cpu()
        c = None if split.c is None else torch.cat([part for _, part in parts if part is not None]).cpu()
        return cls(x, c, None if split.labels is None else split.labels[order].cpu(), classes, where)


@torch.no_grad()
def content_of(trained: Trained, rows: Rows, *, name: str, most: float, score_draws: int, seed: int) -> dict[str, Any]:
    """Return all that a page shows, as plain values.

    Parameters
    ----------
    trained
        The model.
    rows
        To look at.
    name
        Of the model.
    most
        Bytes that the decoder's weights may have; a larger one is replaced by what it makes of each axis.
    score_draws
        Of z per row, for its nats.
    seed
        Of draws.
    """
    codes = _codes(trained, rows, score_draws)
    axes = _axes(codes, trained)
    first = None if rows.c is None else rows.c[:1]
    decoding = decoding_of(trained, first, most=most)
    centre, directions = _plane(codes["means"])
    show = _pictures(trained, rows) if trained.facts.kind == "image" else _table(trained)
    found: dict[str, Any] = {
        "name": name,
        "kind": trained.facts.kind,
        "about": _about(trained, rows),
        "latent_dim": len(axes),
        "axes": axes,
        "open": min(_OPEN, max(3, sum(axis["active"] for axis in axes))),
        "plane": {"centre": centre.tolist(), "directions": directions.tolist()},
        "rows": _rows(rows, codes, show(rows.x, True)),
        "condition": _condition(trained, rows),
        "draws": _draws(trained, rows, show, seed),
        "program": decoding.program,
        "reason": decoding.reason,
        "rounded": decoding.rounded,
        "caveat": codes["caveat"],
    }
    if trained.facts.kind == "image":
        low, high = _range(trained, rows)
        found["image"] = {"shape": list(trained.facts.event_shape), "low": low, "high": high}
    else:
        found["columns"] = _columns(trained, rows)
    if decoding.program is None:
        found["along"] = _beforehand(decoding, axes[:_KEPT], first, codes, rows, show)
    return found


def _codes(trained: Trained, rows: Rows, score_draws: int) -> dict[str, Any]:
    """Encode rows: means, deviations, nats per axis (None for points), nats of rows and of their entries."""
    means, deviations, nats = [], [], []
    for vae, x, c in trained.whole_blocks(rows.x, rows.c):
        q = vae.encode(x, c)
        means.append(q.mean.float().cpu())
        if not vae.posterior.degenerate:
            p = vae.prior(c)
            ratio = (q.stddev / p.stddev).square()
            nats.append((0.5 * (((q.mean - p.mean) / p.stddev).square() + ratio - 1 - ratio.log())).float().cpu())
            deviations.append(q.stddev.expand_as(q.mean).float().cpu())
    found: dict[str, Any] = {"means": torch.cat(means), "caveat": ""}
    found |= dict.fromkeys(("bound", "entries", "nats", "code"))
    found["deviations"] = torch.cat(deviations) if deviations else torch.zeros_like(found["means"])
    if not nats:
        return found
    noise = trained.score_noise(score_draws)
    found["nats"] = torch.cat(nats)
    found["code"] = found["nats"].sum(1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found["bound"] = trained.bound(rows.x, noise, rows.c)
        if trained.facts.kind == "table":
            with contextlib.suppress(InputError):  # no terms per entry
                costs, found["code"] = trained.costs(rows.x, noise, rows.c)
                found["entries"] = -costs
    found["caveat"] = next((str(each.message) for each in told), "")
    return found


def _axes(codes: dict[str, Any], trained: Trained) -> list[dict[str, Any]]:
    """Describe latent axes, those that carry most first."""
    means, deviations, nats = codes["means"], codes["deviations"], codes["nats"]
    spread = (means.var(0, correction=0) + deviations.square().mean(0)).sqrt().clamp(min=1e-6)
    carried = means.var(0, correction=0) if nats is None else nats.mean(0)
    ratios = torch.tensor(trained.facts.variance_ratios)
    active = [True] * len(spread)
    if nats is None:
        active = (carried > 1e-4 * carried.max()).tolist()
    elif len(ratios) == len(spread):
        active = (ratios < trained.active_below).tolist()
    return [
        {
            "index": j,
            "nats": None if nats is None else float(carried[j]),
            "active": bool(active[j]),
            "centre": float(means[:, j].mean()),
            "low": float(means[:, j].mean() - 3 * spread[j]),
            "high": float(means[:, j].mean() + 3 * spread[j]),
        }
        for j in carried.argsort(descending=True).tolist()
    ]


def _plane(means: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centre (κ,) of codes and the (2, κ) directions in which they differ most; the second may be 0."""
    centre = means.mean(0)
    directions = torch.linalg.svd(means - centre, full_matrices=False).Vh[:2]
    # signs are arbitrary: the largest entry is positive
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    directions = directions * torch.where(signs == 0, 1.0, signs)
    return centre, torch.cat([directions, directions.new_zeros(2 - len(directions), means.shape[1])])


def _about(trained: Trained, rows: Rows) -> str:
    facts, size = trained.facts, trained.vae.latent_dim
    active = "" if trained.vae.posterior.degenerate else f", {trained.active_dimensions} active"
    shape = " × ".join(map(str, facts.event_shape))
    what = "images" if facts.kind == "image" else "rows"
    network = trained.settings.network.kind
    return (
        f"{network} · {size} latent dimensions{active} · {what} of {shape} · {len(rows.x):,} {rows.where}{what} shown"
    )


def _rows(rows: Rows, codes: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    found = {"n": len(rows.x), "z": packed(codes["means"]), **shown}
    for name in ("bound", "entries", "nats", "code"):
        if codes[name] is not None:
            found[name] = packed(codes[name])
    if rows.c is not None:
        found["c"] = packed(rows.c.flatten(1))
    if rows.labels is not None and rows.classes is not None:
        found["labels"], found["classes"] = rows.labels.tolist(), list(rows.classes)
    return found


def _condition(trained: Trained, rows: Rows) -> dict[str, Any] | None:
    """Describe what a condition consists of; one that is a sequence is taken from a row."""
    known = trained.conditioning
    if known is None or rows.c is None:
        return None
    columns = [
        {"name": each.name, "classes": list(each.classes), "mean": each.mean, "std": each.std} for each in known.columns
    ]
    return {"form": known.form, "columns": [] if known.form == "sequence" else columns}


def _draws(
    trained: Trained, rows: Rows, show: Callable[[Tensor, bool], dict[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """Draw from every density: codes, and rows as `Trained.sample` makes them, with the decoder's noise for tables."""
    titles = {law.name: law.title for law in trained.settings.densities} | {"prior": "the prior"}
    bounds = {law.name for law in trained.settings.densities if law.bound}
    c, labels, n = _conditions_of_draws(trained, rows, seed)
    found = []
    for name in trained.densities:
        source = stream(trained.device, seed, "explorer", name)
        own = None if c is None else c.to(trained.device)
        kind = next(trained.vae.parameters())
        z = trained.densities[name].sample(n, own, generator=source).to(kind.dtype)
        x = trained.scaling.from_net(trained.vae.emit(z, own, generator=source, observation_noise=trained.draws_noise))
        x = x if trained.schema is None else trained.schema.tied(x)
        drawn = {
            "name": name,
            "title": titles.get(name, name.replace("_", " ")),
            "score": trained.facts.code_scores.get(name),
            "bound": name in bounds,
            "best": name == trained.facts.best_density,
            "n": n,
            "z": packed(z),
            **show(x.cpu(), False),
        }
        found.append(drawn if labels is None else drawn | {"labels": labels})
    return sorted(found, key=lambda each: not each["best"])


def _conditions_of_draws(trained: Trained, rows: Rows, seed: int) -> tuple[Tensor | None, list[int] | None, int]:
    """Conditions of draws, their classes if a condition is one, and how many there are."""
    n = _DRAWN[trained.facts.kind]
    if trained.conditioning is None or rows.c is None:
        return None, None, n
    classes = trained.conditioning.classes
    if classes is None:
        order = torch.randint(len(rows.c), (n,), generator=stream("cpu", seed, "explorer", "conditions"))
        return rows.c[order], None, n
    labels = torch.arange(len(classes)).repeat_interleave(max(8, _OF_CLASSES // len(classes)))
    return torch.nn.functional.one_hot(labels, len(classes)).float(), labels.tolist(), len(labels)


def _beforehand(
    decoding: Decoding,
    axes: list[dict[str, Any]],
    c: Tensor | None,
    codes: dict[str, Any],
    rows: Rows,
    show: Callable[[Tensor, bool], dict[str, Any]],
) -> dict[str, Any]:
    """Decode along axes, and every row."""
    event = decoding.network.units.event_shape
    along = outputs_along(decoding.network, axes, c)
    rebuilt = decoded(decoding.network, codes["means"], rows.c)
    if len(event) == 1:
        return {"steps": STEPS, "outputs": packed(along, exact=True), "rebuilt": packed(rebuilt, exact=True)}
    pictures = (each.unflatten(1, event) for each in (along, rebuilt))
    return {"steps": STEPS, **dict(zip(("outputs", "rebuilt"), (show(each, False) for each in pictures), strict=True))}


def _pictures(trained: Trained, rows: Rows) -> Callable[[Tensor, bool], dict[str, Any]]:
    """Return what turns images in the user's units into one picture with all of them."""
    pixels = Pixels(trained.scaling.to_net(rows.x))

    def show(x: Tensor, real: bool) -> dict[str, Any]:
        images = pixels(trained.scaling.to_net(x))
        n, channels, height, width = images.shape
        across = min(_ACROSS, max(1, n))
        down = -(-n // across)
        blank = np.zeros((across * down - n, channels, height, width), images.dtype)
        grid = np.concatenate([images, blank]).reshape(down, across, channels, height, width)
        grid = grid.transpose(0, 3, 1, 4, 2).reshape(down * height, across * width, channels)
        picture = address(grid[..., 0] if channels == 1 else grid, lossless=max(height, width) <= 32)
        return {"picture": picture, "across": across, "height": height, "width": width}

    return show


def _range(trained: Trained, rows: Rows) -> tuple[float, float]:
    """Return what is black and white, in the user's units."""
    pixels, scaling = Pixels(trained.scaling.to_net(rows.x)), trained.scaling
    shift, scale = float(scaling.shift), float(scaling.scale)
    return pixels.low * scale + shift, pixels.high * scale + shift


def _table(trained: Trained) -> Callable[[Tensor, bool], dict[str, Any]]:
    """Return what packs rows of a table."""
    return lambda x, real: {"values": packed(x, exact=True)}


def _columns(trained: Trained, rows: Rows) -> list[dict[str, Any]]:
    """Describe columns: how their numbers are written, and how far they spread."""
    names = trained.facts.columns or tuple(f"x{j}" for j in range(trained.facts.event_shape[0]))
    known = (None,) * len(names) if trained.schema is None else trained.schema.columns
    found = []
    for j, (name, column) in enumerate(zip(names, known, strict=True)):
        values = rows.x[:, j].double()
        values = values[values.isfinite()]
        spread = float(values.std(correction=0)) if len(values) else 0.0
        own: dict[str, Any] = {"name": str(name), "kind": "number", "spread": spread, "digits": _digits(spread)}
        if column is not None:
            own["name"] = column.name
            if column.levels is not None:
                own |= {"kind": "category", "levels": [str(level) for level in column.levels]}
            elif column.time:
                own["kind"] = "time" if column.dtype.startswith("datetime") else "duration"
            elif column.step >= 1 or (column.whole and column.kind == "scores"):
                own["digits"] = 0
        found.append(own)
    return found


def _digits(spread: float) -> int:
    """Digits behind the point that tell values of this spread apart."""
    return 3 if not spread > 0 else int(min(12, max(0, 2 - math.floor(math.log10(spread)))))


def packed(values: Tensor, *, exact: bool = False) -> dict[str, Any]:
    """Return numbers as base64, float32 or, if `exact`, float64, little-endian."""
    array = np.ascontiguousarray(values.detach().cpu().numpy(), dtype="<f8" if exact else "<f4")
    dtype = "float64" if exact else "float32"
    return {"shape": list(array.shape), "dtype": dtype, "data": base64.b64encode(array.tobytes()).decode()}
