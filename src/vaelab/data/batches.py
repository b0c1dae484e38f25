"""Rows on their way to the network: taken by index, converted to its units, and no more of them than asked for."""

from __future__ import annotations

import copy
from typing import Protocol, Self, TypeVar, final

import torch
from torch import Tensor

from vaelab.data.mapped import MappedArray, Rows
from vaelab.data.partition import partition
from vaelab.data.scaling import Scaling
from vaelab.data.sequences import Windows
from vaelab.errors import InputError
from vaelab.types import Batches

Conditions = Tensor | Windows
"""What holds the conditions of a data set: (n, *condition_shape) in memory, or windows made when they are asked for."""


@final
class ArrayBatches:
    """Rows held in memory, on whichever device; implements `vaelab.types.Batches`.

    Images stay in their own dtype, so uint8 takes a quarter of float32's memory, and only the rows of a batch are
    converted. Tables are small, and are standardised once.

    Parameters
    ----------
    x
        (n, *event_shape) in the user's units, or in the network's if there is no `scaling`.
    c
        (n, *condition_shape) conditions, or None.
    scaling
        Map to the network's units.
    dtype
        Of the batches.
    """

    def __init__(
        self,
        x: Tensor,
        c: Conditions | None = None,
        scaling: Scaling | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        _check(x, c, scaling)
        if scaling is not None and scaling.kind == "table":
            x, scaling = scaling.to_net(x, dtype=dtype), None
        elif scaling is not None and scaling.is_identity and x.dtype == dtype:
            scaling = None
        elif scaling is None:
            x = x.to(dtype)
        self.x, self.c = x, c
        self._scaling, self._dtype = scaling, dtype
        self._rows: Tensor | None = None  # of x and c that belong to this subset; None for all

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.x.shape[1:])

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(0,): taking a row is not random."""
        return (0,)

    def __len__(self) -> int:
        return len(self.x if self._rows is None else self._rows)

    def to(self, device: torch.device | str) -> Self:
        """Move to a device; a subset leaves the other rows behind."""
        wanted = torch.empty(0, device=device).device
        if self.x.device == wanted and (self.c is None or self.c.device == wanted):
            return self
        moved = copy.copy(self)
        moved._rows = None
        moved.x = (self.x if self._rows is None else self.x.index_select(0, self._rows)).to(device)
        if self.c is not None:
            moved.c = (self.c if self._rows is None else _some(self.c, self._rows)).to(device)
        return moved

    def subset(self, index: Tensor) -> Self:
        """Return a view of some rows, in the order given."""
        part = copy.copy(self)
        index = index.to(self.x.device)
        part._rows = index if self._rows is None else self._rows[index]
        return part

    def take(self, index: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return (B, *event_shape) in the network's units, and the conditions or None; `noise` is not used."""
        if self._rows is not None:
            index = self._rows.index_select(0, index)
        x = self.x.index_select(0, index)
        if self._scaling is not None:
            x = self._scaling.to_net(x, dtype=self._dtype)
        return x, None if self.c is None else self.c.index_select(0, index)


@final
class MappedBatches:
    """Rows left on disk; implements `vaelab.types.Batches`.

    Parameters
    ----------
    x
        (n, *event_shape) in the user's units, or in the network's if there is no `scaling`.
    c
        (n, *condition_shape) conditions, in memory, or None.
    scaling
        Map to the network's units.
    dtype
        Of the batches.
    """

    def __init__(
        self,
        x: MappedArray,
        c: Conditions | None = None,
        scaling: Scaling | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        _check(x, c, scaling)
        self.x, self.c = x, c
        self._scaling, self._dtype = scaling, dtype
        self._device = torch.device("cpu")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.x.shape[1:])

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(0,): taking a row is not random."""
        return (0,)

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device | str) -> Self:
        """Send batches to a device from now on; the rows stay on disk."""
        moved = copy.copy(self)
        moved._device = torch.device(device)
        moved.c = None if self.c is None else self.c.to(device)
        return moved

    def subset(self, index: Tensor) -> Self:
        """Return a view of some rows, in the order given."""
        part = copy.copy(self)
        part.x = self.x.subset(index.cpu())
        part.c = None if self.c is None else _some(self.c, index.to(self.c.device))
        return part

    def take(self, index: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read (B, *event_shape) in the network's units, and the conditions or None; `noise` is not used."""
        x = self.x.rows(index)
        if self._scaling is None:
            x = x.to(self._device, self._dtype)
        elif x.dtype == torch.uint8:  # a quarter of the bytes to move
            x = self._scaling.to_net(x.to(self._device), dtype=self._dtype)
        else:
            x = self._scaling.to_net(x, dtype=self._dtype).to(self._device)
        return x, None if self.c is None else self.c.index_select(0, index.to(self.c.device))


class Divisible(Batches, Protocol):
    """Batches of which a part is again batches of the same kind."""

    def subset(self, index: Tensor) -> Self:
        """Return some rows, in the order given."""
        ...


B = TypeVar("B", bound=Divisible)


def as_batches(
    x: Rows, c: Conditions | None = None, scaling: Scaling | None = None, *, dtype: torch.dtype = torch.float32
) -> ArrayBatches | MappedBatches:
    """Return `ArrayBatches` for rows in memory and `MappedBatches` for rows on disk."""
    if isinstance(x, MappedArray):
        return MappedBatches(x, c, scaling, dtype=dtype)
    return ArrayBatches(x, c, scaling, dtype=dtype)


def split(batches: B, fraction: float, *, seed: int = 0) -> tuple[B, B]:
    """Carve a held-out part out of training rows, at random.

    Parameters
    ----------
    batches
        All training rows.
    fraction
        Share that is held out, in (0, 1).
    seed
        Of the generator; the global one is neither read nor moved.

    Returns
    -------
    kept, held_out
        Views of the rows, in their original order.
    """
    kept, held_out = partition(len(batches), fraction, seed)
    return batches.subset(kept), batches.subset(held_out)


def _some(c: Conditions, index: Tensor) -> Conditions:
    """Return some rows; windows stay unmade."""
    return c.subset(index) if isinstance(c, Windows) else c.index_select(0, index)


def _check(x: Rows, c: Conditions | None, scaling: Scaling | None) -> None:
    given: dict[str, object] = {"x": x, "c": c}
    for name, values in given.items():
        if values is not None and not isinstance(values, Tensor | MappedArray | Windows):
            remedy = f"Use torch.from_numpy({name})."
            raise InputError(f"{name} of type {type(values).__name__}", "a torch tensor", remedy)
    if c is not None and len(c) != len(x):
        raise InputError(f"{len(c)} conditions for {len(x)} rows", "one condition per row")
    if scaling is None and not x.dtype.is_floating_point:
        raise InputError(
            f"rows of dtype {x.dtype} without a scaling",
            "floating-point rows, or a scaling",
            "Pass scaling=Scaling.fit(x, kind).",
        )
    if scaling is not None and tuple(x.shape[1:]) != scaling.event_shape:
        raise InputError(
            f"rows of shape {tuple(x.shape[1:])}", f"{scaling.event_shape}, the shape that the scaling was fitted on"
        )
