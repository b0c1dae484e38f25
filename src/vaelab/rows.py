"""The one loop over blocks of rows: how many go through a network together, and what each block is drawn with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vaelab.arguments import check_memory
from vaelab.types import Batches


def rows_at_once(event_shape: tuple[int, ...], most: int = 1000) -> int:
    """Return how many rows of this shape to send through a network together, so that activations stay small."""
    return max(1, min(most, 1_000_000 // max(1, torch.Size(event_shape).numel())))


def check_drawn(n: int, event_shape: tuple[int, ...], name: str = "n") -> None:
    """Refuse to draw more rows than fit into memory; `name` is what the number is called.

    Raises
    ------
    InputError
        With the number of bytes.
    """
    numbers = 3 * n * math.prod(event_shape)  # in the network's units, in the data's, and as they are returned
    check_memory(f"{name}={n:,}", 4 * numbers, "Draw them in parts, each with its own random_state or seed.")


class RunningVariance:
    """Mean and variance of every dimension over all rows seen, float64.

    Chan et al. 1979: blocks are centred before they are squared, so that a large mean costs no digits.

    Parameters
    ----------
    gaps
        Whether NaN stands for an entry that is missing, and is left out.

    Attributes
    ----------
    count
        (d,) entries seen.
    """

    def __init__(self, *, gaps: bool = False) -> None:
        self.gaps = gaps
        self.count = self._mean = self._sum = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take in (B, d) rows."""
        values = values.double()
        missing = values.isnan() if self.gaps else torch.zeros_like(values, dtype=torch.bool)
        n = (~missing).sum(0)
        mean = torch.where(missing, 0.0, values).sum(0) / n.clamp(min=1)
        own = torch.where(missing, 0.0, values - mean).square().sum(0)
        step, total = mean - self._mean, self.count + n
        share = n / total.clamp(min=1)
        self._sum = self._sum + own + step.square() * (self.count * share)
        self._mean = self._mean + step * share
        self.count = total

    @property
    def mean(self) -> Tensor:
        """(d,) means, on the CPU."""
        return self._mean.cpu()

    @property
    def variance(self) -> Tensor:
        """(d,) mean squared deviations from the mean, on the CPU; NaN where there is no entry."""
        return (self._sum / self.count).cpu()


def spans(n: int, size: int) -> Iterator[slice]:
    """Divide n rows into slices of `size`; the last may be shorter."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


class Block(NamedTuple):
    """Some consecutive rows.

    Attributes
    ----------
    rows
        Which.
    x, c
        (B, *event) data, and (B, *condition_shape) or None.
    generator
        That the rows' own noise was drawn from, for what else is drawn; None where rows were taken without noise.
    """

    rows: slice
    x: Tensor
    c: Tensor | None
    generator: torch.Generator | None = None


def blocks(
    batches: Batches,
    device: torch.device | str,
    *,
    size: int | None = None,
    draws: Callable[[int], torch.Generator] | None = None,
) -> Iterator[Block]:
    """Take all rows, a block at a time; a model meets them within `vaelab.model.contexts.evaluating`.

    Parameters
    ----------
    batches
        On the device, where it has one.
    device
        Of the indices.
    size
        Rows of a block; `rows_at_once` by default.
    draws
        Number of a block's first row → generator of its noise, on the device; None takes rows without noise.
    """
    for rows in spans(len(batches), size or rows_at_once(batches.event_shape)):
        index = torch.arange(rows.start, rows.stop, device=device)
        if draws is None:
            yield Block(rows, *batches.take(index))
            continue
        generator = draws(rows.start)
        noise = torch.randn(len(index), *batches.noise_shape, generator=generator, device=device)
        yield Block(rows, *batches.take(index, noise), generator)
