"""The way into an encoder for tables with categories and missing entries.

A table of d columns is a tensor (n, d): numbers as they are, categories as the number of their level, NaN where an
entry is missing. A network is given numbers with 0 for those that are missing, one-hot levels, and a flag per column
that is 1 where the entry is missing, so that it can tell a gap from a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.nets.network import whole
from vaelab.nets.slicing import keep_outputs


def table_width(levels: Sequence[int]) -> int:
    """Return how many numbers `TableReader` gives its encoder for columns of these levels; 0 levels for a number."""
    return sum(max(1, count) for count in levels) + len(levels)


@final
class TableReader(nn.Module):
    """An encoder of coded tables: x (B, d) → (B, table_width(levels)) → the encoder.

    Mattei & Frellsen 2019, section 3.1 fill missing entries with zeros too; the flags are additional.

    Parameters
    ----------
    encoder
        Module of ((B, table_width(levels)), c=None), such as ``MLPEncoder((table_width(levels),), …)``.
    levels
        Of each column: 0 for a number, else how many levels it has.

    Raises
    ------
    InputError
        The encoder reads another width, or there is no column.

    Examples
    --------
    >>> from vaelab.nets import MLPEncoder
    >>> levels = (0, 3)
    >>> reader = TableReader(MLPEncoder((table_width(levels),), 4, hidden=(8,)), levels)
    >>> reader(torch.tensor([[0.5, 2.0], [float("nan"), 0.0]])).shape
    torch.Size([2, 4])
    """

    numbers: Tensor
    choices: Tensor
    level: Tensor

    def __init__(self, encoder: nn.Module, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(whole("levels", count, least=0) for count in levels)
        wanted = (table_width(self.levels),)
        if not self.levels or getattr(encoder, "event_shape", wanted) != wanted:
            got = f"an encoder of rows {getattr(encoder, 'event_shape', wanted)} for levels {self.levels}"
            raise InputError(got, f"at least one column, and rows {wanted}", "Build it with table_width(levels).")
        self.encoder = encoder
        columns = range(len(self.levels))
        pairs = [(j, level) for j in columns for level in range(self.levels[j])]
        constants = {
            "numbers": [j for j in columns if not self.levels[j]],
            "choices": [j for j, _ in pairs],  # the column behind every one-hot entry, and the level it stands for
            "level": [level for _, level in pairs],
        }
        for name, values in constants.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)

    @property
    def out_features(self) -> int:
        """Width of the output: the encoder's."""
        return int(self.encoder.out_features)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Map coded rows (B, d), NaN where missing, and a condition to the encoder's output."""
        if x.shape[1:] != (len(self.levels),):
            raise InputError(f"x of shape {tuple(x.shape)}", f"shape (B, {len(self.levels)})")
        missing = x.isnan()
        filled = torch.where(missing, 0.0, x)
        # NaN equals nothing, so a missing category is a row of zeros
        chosen = x.index_select(1, self.choices) == self.level
        coded = torch.cat([filled.index_select(1, self.numbers), chosen.to(x.dtype), missing.to(x.dtype)], dim=1)
        out: Tensor = self.encoder(coded, c)
        return out

    def extra_repr(self) -> str:
        """Show the columns in ``repr``."""
        return f"levels={self.levels}"


@keep_outputs.register
def _(network: TableReader, index: Tensor) -> None:
    keep_outputs(network.encoder, index)
