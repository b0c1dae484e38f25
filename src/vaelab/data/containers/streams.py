"""Generators and other iterators: what they yield, in its order, once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vaelab.data.containers.record import Opened, Wanted
from vaelab.data.containers.samples import blocks_of


def is_stream(x: object) -> bool:
    """Whether x is an iterator."""
    return isinstance(x, Iterator)


def open_stream(x: Iterator[Any], wanted: Wanted) -> Opened:
    """Read samples: rows, tuples of a row and its label, or dictionaries."""
    return Opened(lambda: blocks_of(x, wanted))
