"""What `vaelab.data.load` was asked for, handed on to whatever reads the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vaelab.data.checks import all_numbers
from vaelab.data.columns import ColumnReader, Schema
from vaelab.errors import InputError

OF_TEXT = ("separator", "missing")
"""Options of tables that are text."""


@dataclass(frozen=True)
class LoadOptions:
    """The choices of one `load`; see there.

    Attributes
    ----------
    image_size
        (height, width) that image files are resized and cropped to, or None.
    grey
        True and False convert image files to grey or RGB; None leaves them.
    test_fraction, seed
        Of the random split, where the source brings none.
    label_column
        Column that holds the class.
    memory_map
        True leaves rows of a ``.npy`` file or a store on disk, False reads them, None decides by their size.
    key
        What in a store or in the samples of tars holds the rows.
    whole
        Keep all rows in one piece and in the source's order, be there one of them only, read no labels, and pass over
        choices that mean nothing for the source.
    mixed
        Keep the categories and missing entries of a table; None where it has any.
    columns
        What columns of such a table are taken for.
    separator, missing
        Of the columns of a text table, and what stands for a missing entry.
    schema
        How to code the table, where a trained model says it; else the table itself does.
    """

    image_size: tuple[int, int] | None = None
    grey: bool | None = None
    test_fraction: float = 0.1
    seed: int = 0
    label_column: str | None = None
    memory_map: bool | None = None
    key: str | None = None
    whole: bool = False
    mixed: bool | None = False
    columns: Mapping[str, ColumnReader] = field(default_factory=dict)
    schema: Schema | None = None
    separator: str | None = None
    missing: tuple[str, ...] = ()

    def schema_of(self, x: Any, name: str) -> Schema | None:
        """Return how a table is to be coded; None for one of numbers without gaps."""
        return Schema.fit(x, name=name, columns=self.columns) if self.schema is None and self.coded(x) else self.schema

    def coded(self, x: Any) -> bool:
        """Whether a table is to be coded column by column."""
        if self.schema is not None or self.mixed is not None:
            return self.schema is not None or bool(self.mixed)
        return not all_numbers(x)

    @property
    def min_rows(self) -> int:
        """Fewest rows that make sense."""
        return 1 if self.whole else 2

    def refuse(self, source: str, *names: str) -> None:
        """Refuse options that mean nothing for this source, rather than ignore them."""
        given = [name for name in names if getattr(self, name) not in (None, False, ())]
        if given and not self.whole:
            raise InputError(f"{' and '.join(given)} for {source}", "options that apply to it", "Leave them out.")
