"""Which entries of a table are missing, given z.

    p(m | z) = Π_k σ(a_k)^{m_k} (1 − σ(a_k))^{1 − m_k},   a_k = a_k(z) + Σ_{l<k} W_kl m_l

m_k says whether a pattern is missing: a column that has gaps, or columns whose gaps always coincide. The decoder emits
a_k(z), so that gaps may depend on all that z tells. W makes a sigmoid belief network of them (Frey 1998), so that gaps
come together where z tells nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.types import ParameterGroup

_LR_SCALE = 10.0  # of W, which is far from its start where gaps come together


def gap_patterns(missing: Tensor) -> tuple[int, ...]:
    """Return the pattern of each column's gaps from (n, d) booleans: 0 for none, one number for equal ones.

    Examples
    --------
    >>> nan = float("nan")
    >>> gap_patterns(torch.tensor([[nan, 1.0, nan, nan], [2.0, 3.0, nan, 4.0]]).isnan())
    (1, 0, 2, 1)
    """
    known: dict[bytes, int] = {}
    found = []
    for column in missing.cpu().T:
        own = column.numpy().tobytes()
        found.append(known.setdefault(own, len(known) + 1) if bool(column.any()) else 0)
    return tuple(found)


@final
class Gaps(nn.Module):
    """The law of what is missing.

    Parameters
    ----------
    patterns
        Of each column, 0 where nothing is missing, as from `gap_patterns`.

    Attributes
    ----------
    count
        Of patterns, for each of which the decoder emits a number.

    Raises
    ------
    InputError
        Patterns are not numbered from 1 on, or there is none.
    """

    _columns: Tensor
    _pattern: Tensor

    def __init__(self, patterns: Sequence[int]) -> None:
        super().__init__()
        self.patterns = tuple(int(pattern) for pattern in patterns)
        known = sorted(set(self.patterns) - {0})
        if not known or known != list(range(1, len(known) + 1)):
            raise InputError(f"patterns={self.patterns}", "numbers from 1 on, and 0 for columns without gaps")
        self.count = len(known)
        self.ties = nn.Parameter(torch.zeros(len(known), len(known)))
        columns = [j for j, pattern in enumerate(self.patterns) if pattern]
        indices = {
            "_columns": columns,
            "_pattern": [self.patterns[j] - 1 for j in columns],
        }
        for name, index in indices.items():
            self.register_buffer(name, torch.tensor(index, dtype=torch.int64), persistent=False)

    @property
    def first(self) -> list[int]:
        """Of each pattern, a column that has it."""
        return [self.patterns.index(k + 1) for k in range(self.count)]

    def nll(self, raw: Tensor, x: Tensor) -> Tensor:
        """(B,) −log p(m | z), nats, for the decoder's (B, count) numbers and rows (B, d), NaN where missing."""
        missing = x[:, self.first].isnan().to(raw.dtype)
        logits = raw + missing @ self.ties.to(raw.dtype).tril(-1).T
        return F.binary_cross_entropy_with_logits(logits, missing, reduction="none").sum(1)

    def open(self, x: Tensor, raw: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """(B, d) rows with gaps drawn from p(m | z)."""
        uniform = torch.rand(raw.shape, dtype=raw.dtype, device=raw.device, generator=generator)
        ties, missing = self.ties.to(raw.dtype).tril(-1), torch.zeros_like(raw)
        for k in range(self.count):  # each given those before it
            missing[:, k] = (uniform[:, k] < (raw[:, k] + missing @ ties[k]).sigmoid()).to(raw.dtype)
        out = x.clone()
        out[:, self._columns] = out[:, self._columns].masked_fill(missing[:, self._pattern].bool(), torch.nan)
        return out

    def parameter_groups(self) -> list[ParameterGroup]:
        """W, at a larger learning rate."""
        return [ParameterGroup([self.ties], _LR_SCALE, decays=False)]

    def extra_repr(self) -> str:
        """Show the patterns in ``repr``."""
        return f"patterns={self.patterns}"
