"""Containers of rows that are no array, frame or file of rows: data sets, loaders, stores and streams."""

from vaelab.data.containers.gathering import gather, opened_rows
from vaelab.data.containers.kinds import KINDS, kind_of
from vaelab.data.containers.record import Block, Container, Opened, Wanted, Whole

__all__ = ["KINDS", "Block", "Container", "Opened", "Wanted", "Whole", "gather", "kind_of", "opened_rows"]
