"""A theorem as something to look at: what it says, numbers that show it, and their picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes


BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#718096"


class Shown(NamedTuple):
    """What was computed.

    Attributes
    ----------
    head
        Names of the columns.
    rows
        Numbers, one row for each setting.
    holds
        Whether they are as the theorem says, within what `criterion` allows.
    criterion
        What was asked of them.
    draw
        Draws them on axes.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[float]]
    holds: bool
    criterion: str
    draw: Callable[[Axes], None]


@dataclass(frozen=True)
class Theorem:
    """A statement of a paper, and how it is shown.

    Attributes
    ----------
    name
        ``paper/theoremN``.
    title
        What it says, in one sentence.
    source
        Paper and number.
    how
        What is computed.
    show
        Computes it; seconds, the same at every call.
    """

    name: str
    title: str
    source: str
    how: str
    show: Callable[[], Shown]

    def markdown(self, shown: Shown) -> str:
        """Return title, table and outcome."""
        rows = ["| " + " | ".join(f"{number:.4g}" for number in row) + " |" for row in shown.rows]
        return "\n".join(
            [
                f"**{self.title}** ({self.source})",
                "",
                self.how,
                "",
                "| " + " | ".join(shown.head) + " |",
                "|" + "---|" * len(shown.head),
                *rows,
                "",
                f"{'✓' if shown.holds else '✗'} {shown.criterion}",
            ]
        )


def pictured(shown: Sequence[Shown], path: Path) -> None:
    """Write the pictures of some theorems, three to a row, as one PNG."""
    from vaelab.diagnostics.pictures import figure, save

    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    picture = figure(4.6 * columns, 3.4 * rows)
    for axes, each in zip(picture.subplots(rows, columns, squeeze=False).flat, shown, strict=False):
        each.draw(axes)
        axes.title.set_fontsize(10)
        if axes.get_xscale() == "log":
            axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in picture.axes[len(shown) :]:
        axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    save(picture, path)
