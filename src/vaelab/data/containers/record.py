"""What a container of rows is: how it is recognised, and how its rows are read, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

USUAL_ROWS = ("x", "X", "images", "image", "data", "features")
USUAL_LABELS = ("y", "Y", "labels", "label", "target", "targets", "cls")


@dataclass(frozen=True)
class Wanted:
    """What is asked of a container.

    Attributes
    ----------
    name
        How the caller calls it, for messages.
    key
        What in it holds the rows; None where there is no doubt.
    y
        What in it holds the labels; True for those that come with the rows, False for none, None if there are any.
    rows
        How many of the first are read; None for all.
    image_size, grey
        What is done to encoded images, as for `vaelab.data.load`.
    """

    name: str = "X"
    key: str | None = None
    y: str | bool | None = False
    rows: int | None = None
    image_size: tuple[int, int] | None = None
    grey: bool | None = None


class Block(NamedTuple):
    """Some consecutive rows, (b, *event_shape), and their labels, of length b, or None."""

    x: np.ndarray[Any, Any]
    y: Any = None


class Whole(NamedTuple):
    """All rows, where they are an array, a tensor or a data frame already, and their labels or None."""

    x: Any
    y: Any = None


@dataclass(frozen=True)
class Opened:
    """Rows that are read a block at a time.

    Attributes
    ----------
    blocks
        Starts to read them.
    rows
        How many there are, or None where nobody knows.
    columns
        Names of a table's columns, if known.
    labels
        Reads all labels without the rows, where that is possible.
    """

    blocks: Callable[[], Iterator[Block]]
    rows: int | None = None
    columns: tuple[str, ...] | None = None
    labels: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Container:
    """One kind of container.

    Attributes
    ----------
    title
        What messages call it.
    recognises
        Whether something is one.
    opens
        Finds rows and labels in one, or says why it cannot.
    endless
        Whether it may have no end, and can be read only once.
    framework
        Whose arrays rows are that come from a model of such data; where it is a table, they are frames of pandas.
    """

    title: str
    recognises: Callable[[object], bool]
    opens: Callable[[Any, Wanted], Opened | Whole]
    endless: Callable[[Any], bool] = lambda _: False
    framework: Literal["numpy", "torch"] = "numpy"


def of_module(package: str, *names: str) -> Callable[[object], bool]:
    """Return what recognises objects of classes of a package, which is not imported to find out."""

    def recognises(x: object) -> bool:
        kind = type(x)
        return kind.__module__.split(".")[0] == package and kind.__name__ in names

    return recognises
