"""What a column of a mixed table is taken for, where that is not what it looks like.

What it reads with is imported inside its methods, so that reading settings does not load it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from vaelab.spec import Value

if TYPE_CHECKING:
    from vaelab.data import TableColumn
    from vaelab.data.cells import Cells

Levels = tuple[bool | int | float | str, ...]


class Column(Value):
    """How a column is modelled."""

    axis: ClassVar[str] = "column"

    def read(self, name: str, cells: Callable[[], Cells], where: str) -> TableColumn:
        """Return what the column holds.

        Parameters
        ----------
        name
            Of the column.
        cells
            What reads them.
        where
            The column in messages.

        Raises
        ------
        InputError
            Its cells cannot be taken so.
        """
        raise NotImplementedError


class Auto(Column):
    """What it looks like: numbers and dates as numbers, text as categories, text that hardly repeats as identifier."""

    kind: ClassVar[str] = "auto"

    def read(self, name: str, cells: Callable[[], Cells], where: str) -> TableColumn:
        """Read it by what its cells are."""
        from vaelab.data.column import as_it_is

        return as_it_is(name, cells(), where)


class _Number(Column):
    """A number, a date or a duration; itself no value."""

    def read(self, name: str, cells: Callable[[], Cells], where: str) -> TableColumn:
        """Read its numbers."""
        from vaelab.data.column import as_number

        return as_number(name, cells(), where)


class Scores(_Number):
    """Numbers by their rank: in range, with the column's tails, repeated values and grid."""

    kind: ClassVar[str] = "scores"


class Standardised(_Number):
    """Numbers less their mean, over their standard deviation: relations that are linear and exact stay so."""

    kind: ClassVar[str] = "standardised"


class Category(Column):
    """A probability for every level."""

    kind: ClassVar[str] = "category"
    levels: Levels | None = Field(None, description="all of them, also those that do not occur; default: those that do")

    def read(self, name: str, cells: Callable[[], Cells], where: str) -> TableColumn:
        """Read its levels."""
        from vaelab.data.column import as_category

        return as_category(name, cells(), where, self.levels)


class Ordered(Column):
    """Levels in an order, by the probabilities of being above each."""

    kind: ClassVar[str] = "ordered"
    levels: Levels | None = Field(None, description="in their order; default: that of pandas, or sorted")

    def read(self, name: str, cells: Callable[[], Cells], where: str) -> TableColumn:
        """Read its levels."""
        from vaelab.data.column import as_category

        return as_category(name, cells(), where, self.levels, ordered=True)


class Identifier(Column):
    """A name of the row: left out of the model, and made anew for samples, of the same look."""

    kind: ClassVar[str] = "identifier"

    def read(self, name: str, cells: Callable[[], Cells], where: str) -> TableColumn:
        """Read how its values look."""
        from vaelab.data.column import as_identifier

        return as_identifier(name, cells(), where)


class Drop(Column):
    """Left out, and not in samples."""

    kind: ClassVar[str] = "drop"

    def read(self, name: str, cells: Callable[[], Cells], where: str) -> TableColumn:
        """Read nothing."""
        from vaelab.data.column import TableColumn

        return TableColumn(name, kind="drop")
