"""A perceptron whose output for one dimension depends on the dimensions before it alone.

Every hidden unit has a degree m and reads inputs of rank below m and units of degree at most m; what is said of rank j
reads units of degree at most j.

Germain et al. 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional


@final
class Autoregressive(nn.Module):
    """(B, dim), and (B, context) that all may read, → (B, dim, numbers).

    Parameters
    ----------
    dim
        Numbers of one x.
    numbers
        That are said of each of them.
    hidden
        Widths of the hidden layers; ReLU after each.
    context
        Width of the context; 0 for none.
    backwards
        Whether the last dimension comes first.
    """

    def __init__(
        self, dim: int, numbers: int, hidden: Sequence[int], *, context: int = 0, backwards: bool = False
    ) -> None:
        super().__init__()
        self.numbers = numbers
        ranks = torch.arange(dim).flip(0) if backwards else torch.arange(dim)
        self.order: list[int] = ranks.argsort().tolist()
        before = torch.cat([ranks + 1, torch.zeros(context, dtype=torch.long)])  # least degree that may read an input
        least = 0 if context or dim == 1 else 1  # without a context, a unit of degree 0 would read nothing
        layers = []
        for width in hidden:
            degrees = least + torch.arange(width) * (dim - least) // width  # all of them, also where units are few
            layers.append(_Masked(degrees[:, None] >= before))
            before = degrees
        self.body = nn.ModuleList(layers)
        self.last = _Masked((ranks[:, None] >= before).repeat_interleave(numbers, 0))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map to (B, dim, numbers)."""
        out: Tensor = self.last(self._hidden(x, context)).view(len(x), -1, self.numbers)
        return out

    def of(self, j: int, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, numbers) of dimension j; what x has in it and after it does not matter."""
        rows = slice(j * self.numbers, (j + 1) * self.numbers)
        return functional.linear(self._hidden(x, context), self.last.masked()[rows], self.last.bias[rows])

    def _hidden(self, x: Tensor, context: Tensor | None) -> Tensor:
        h = x if context is None else torch.cat([x, context], 1)
        for layer in self.body:
            h = functional.relu(layer(h))
        return h


class _Masked(nn.Linear):
    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask)

    def masked(self) -> Tensor:
        return self.weight * cast("Tensor", self.mask)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.masked(), self.bias)
