"""A change of units as tensor operations alone, for graphs that are run without this library.

The same numbers as those of `Scaling`, which works through large arrays in blocks and column by column.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from vaelab.data.conditions import Conditioning
from vaelab.data.marginals import Marginals
from vaelab.data.normal import cdf, quantile
from vaelab.data.scaling import Scaling
from vaelab.data.ties import in_order, on_grid

if TYPE_CHECKING:
    from vaelab.data.columns import Schema


class _Module(nn.Module):
    """What has tensors that it neither learns nor saves by name."""

    def _keep(self, **tensors: Tensor) -> None:
        for name, value in tensors.items():
            self.register_buffer(name, value, persistent=False)

    def _kept(self, name: str) -> Tensor:
        found: Tensor = self.get_buffer(name)
        return found


@final
class Units(_Module):
    """`Scaling.to_net`, `from_net` and `log_volume_of`.

    Attributes
    ----------
    dtype
        Of rows in the user's units: float64 for tables, whose numbers may be seconds since 1970; else float32.
    """

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        self.dtype = torch.float64 if scaling.kind == "table" else torch.float32
        self.event_shape, self.gaps, self.flat_volume = scaling.event_shape, scaling.gaps, scaling.log_volume
        self._keep(shift=scaling.shift.to(self.dtype), scale=scaling.scale.to(self.dtype))
        self._keep(constant=scaling.constant, log_scale=scaling.scale.log().expand(scaling.event_shape).clone())
        self.any_constant = bool(scaling.constant.any())
        self.scores = None if scaling.marginals is None else _Scores(scaling.marginals)

    def to_net(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """(n, *event) of `dtype` in the network's units, for rows in the user's, of this dtype."""
        if self.scores is not None:
            x = self.scores.to_normal(x)
        return ((x - self._kept("shift")) / self._kept("scale")).to(dtype)

    def from_net(self, x: Tensor) -> Tensor:
        """(n, *event) in the user's units."""
        own, shift = x.to(self.dtype), self._kept("shift")
        own = own * self._kept("scale") + shift
        if self.any_constant:
            own = torch.where(self._kept("constant") & ~own.isnan(), shift, own)
        return own if self.scores is None else self.scores.from_normal(own)

    def log_volume(self, x: Tensor) -> Tensor:
        """(n,) Σ log |dx/dnet| over the observed entries, nats, float64."""
        if not self.gaps:
            return torch.full_like(x.flatten(1)[:, 0], self.flat_volume, dtype=torch.float64)
        own = torch.where(x.isnan(), 0.0, self._kept("log_scale"))
        return (own if self.scores is None else own + self.scores.log_volume(x)).sum(1)


class _Scores(_Module):
    """`Marginals`, of all columns at once: knots stand in rows, filled up with the last of each."""

    def __init__(self, marginals: Marginals) -> None:
        super().__init__()
        columns = [(j, column) for j, column in enumerate(marginals.columns) if column is not None]
        own = [column for _, column in columns]
        steps = torch.tensor([column.step for column in own], dtype=torch.float64)
        finer = steps < 1
        inverse = torch.tensor([round(1 / step) if 0 < step < 1 else 1 for step in steps.tolist()]).double()
        self._keep(
            places=torch.tensor([j for j, _ in columns]),
            back=_inverse([j for j, _ in columns], len(marginals.columns)),
            values=_padded([column.values for column in own]),
            low=_padded([column.low for column in own]),
            high=_padded([column.high for column in own]),
            twice=_padded([column.values.repeat_interleave(2) for column in own]),
            heights=_padded([column.heights for column in own]),
            last=torch.tensor([len(column.values) - 1 for column in own])[:, None],
            least=torch.tensor([column.least for column in own], dtype=torch.float64)[:, None],
            gridded=(steps > 0)[:, None],
            times=torch.where(finer, inverse, 1.0)[:, None],
            over=torch.where(finer | (steps == 0), 1.0, steps)[:, None],
        )

    def to_normal(self, x: Tensor) -> Tensor:
        """(n, d) rows with scores in the columns that have them."""
        return self._joined(x, self._scores(self._own(x)))

    def from_normal(self, z: Tensor) -> Tensor:
        """(n, d) scores to rows."""
        own = self._interpolated(cdf(self._own(z)), "heights", "twice")
        times, over = self._kept("times"), self._kept("over")
        own = torch.where(self._kept("gridded"), (own * times / over).round() / times * over, own)
        values = self._kept("values")
        return self._joined(z, torch.minimum(torch.maximum(own, values[:, :1]), values[:, -1:]))

    def log_volume(self, x: Tensor) -> Tensor:
        """(n, d) nats of `Marginal.log_volume`; 0 for columns without scores and missing entries."""
        own, values = self._own(x), self._kept("values")
        low, high, least = self._kept("low"), self._kept("high"), self._kept("least")
        z, index = self._scores(own), self._place("values", own).minimum(self._kept("last"))
        there = values.gather(1, index) == own
        jump = torch.where(there, high.gather(1, index) - low.gather(1, index), 0.0)
        index = index.clamp(min=1)
        rise = (low.gather(1, index) - high.gather(1, index - 1)) / (
            values.gather(1, index) - values.gather(1, index - 1)
        )
        weight = torch.maximum(torch.where(jump > 0, jump, rise), least**2)
        beyond = torch.maximum(values[:, :1] - own, own - values[:, -1:]).clamp(min=0.0)
        tail = 2 * (1 + beyond * (weight / least)).log()
        nats = tail - 0.5 * z * z - 0.5 * math.log(2 * math.pi) - weight.log()
        return torch.where(x.isnan(), 0.0, self._joined(torch.zeros_like(x), nats))

    def _own(self, x: Tensor) -> Tensor:
        """(columns with scores, n) entries, 0 where one is missing."""
        own = x.index_select(1, self._kept("places")).T
        return torch.where(own.isnan(), 0.0, own)

    def _joined(self, x: Tensor, own: Tensor) -> Tensor:
        """(n, d) rows with those columns in their places; what is missing stays so."""
        both = torch.cat([x, own.T], 1).index_select(1, self._kept("back"))
        return torch.where(x.isnan(), math.nan, both)

    def _scores(self, own: Tensor) -> Tensor:
        index = self._place("values", own).minimum(self._kept("last"))
        low, high = self._kept("low").gather(1, index), self._kept("high").gather(1, index)
        between = self._interpolated(own, "twice", "heights")
        u = torch.where(self._kept("values").gather(1, index) == own, (low + high) / 2, between)
        least = self._kept("least")
        return quantile(torch.minimum(torch.maximum(u, least), 1 - least))

    def _interpolated(self, x: Tensor, xs_name: str, ys_name: str) -> Tensor:
        xs, ys = self._kept(xs_name), self._kept(ys_name)
        index = self._place(xs_name, x).minimum(2 * self._kept("last") + 1).clamp(min=1)
        left, right = xs.gather(1, index - 1), xs.gather(1, index)
        width = right - left
        share = torch.where(width > 0, (x - left) / torch.where(width > 0, width, 1.0), 1.0).clamp(0, 1)
        begin = ys.gather(1, index - 1)
        return begin + share * (ys.gather(1, index) - begin)

    def _place(self, name: str, x: Tensor) -> Tensor:
        """How many knots of its column are below each entry: a search that halves, as graphs have none of their own."""
        knots = self._kept(name)
        found = torch.zeros_like(x, dtype=torch.int64)
        step = 1 << (knots.shape[1].bit_length() - 1)
        while step:
            ahead = found + step
            inside = ahead.clamp(max=knots.shape[1])
            below = (knots.gather(1, inside - 1) < x) & (ahead <= knots.shape[1])
            found = torch.where(below, ahead, found)
            step //= 2
        return found


def _padded(rows: list[Tensor]) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows]).double()


def _inverse(places: list[int], columns: int) -> Tensor:
    """Where each column of a table is, in the table followed by the columns at `places`."""
    back = torch.arange(columns)
    back[places] = columns + torch.arange(len(places))
    return back


@final
class Ties(_Module):
    """`Schema.tied`: sets the columns of coded rows (n, d) that others determine."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        ties = {each.name: each.tie for each in schema.columns if each.tie is not None}
        names, self.steps = schema.names, []
        for k, (name, tie) in enumerate(in_order(ties)):
            place = names.index(name)
            self.steps.append(schema.columns[place].step)
            table = torch.tensor(tie.table or [(0.0, 0.0)], dtype=torch.float64)
            self._keep(
                **{
                    f"own_{k}": torch.arange(len(names)) == place,
                    f"sources_{k}": torch.tensor([names.index(source) for source in tie.sources]),
                    f"weights_{k}": torch.tensor(tie.weights, dtype=torch.float64),
                    f"constant_{k}": torch.tensor(tie.constant, dtype=torch.float64),
                    f"keys_{k}": table[:, 0],
                    f"values_{k}": table[:, 1],
                }
            )

    def forward(self, x: Tensor) -> Tensor:
        """Set them, in their order; where they say nothing, or a gap is, all stays."""
        for k, step in enumerate(self.steps):
            sources, weights = x.index_select(1, self._kept(f"sources_{k}")).double(), self._kept(f"weights_{k}")
            new = sources @ weights + self._kept(f"constant_{k}") if len(weights) else self._looked_up(k, sources)
            new = (on_grid(new, step) if step else new).to(x.dtype)[:, None]
            x = torch.where(self._kept(f"own_{k}") & ~new.isnan() & ~x.isnan(), new, x)
        return x

    def _looked_up(self, k: int, sources: Tensor) -> Tensor:
        """Value that goes with the nearest of the keys, which graphs find by comparing all; NaN where none is near."""
        keys = self._kept(f"keys_{k}")
        near = (sources - keys).abs().nan_to_num(math.inf).argmin(1)
        own = keys.index_select(0, near)
        met = (sources[:, 0] - own).abs() <= 1e-6 * (1 + own.abs())
        return torch.where(met, self._kept(f"values_{k}").index_select(0, near), math.nan)


@final
class ConditionUnits(_Module):
    """`Conditioning.to_net`, of conditions as numbers: of classes the place in ``classes``.

    Attributes
    ----------
    shape
        Of one condition: () for one value, (k,) for k columns, (T, features + 1) for windows of a sequence that are
        padded with 0 on the left and whose last channel is 1 where there is a step.
    """

    def __init__(self, conditioning: Conditioning) -> None:
        super().__init__()
        columns = conditioning.columns
        self.form, self.widths = conditioning.form, [len(column.classes) for column in columns]
        sizes = {"column": (), "table": (len(columns),), "sequence": (conditioning.steps, len(columns) + 1)}
        self.shape: tuple[int, ...] = sizes[conditioning.form]
        self._keep(mean=torch.tensor([column.mean for column in columns], dtype=torch.float64))
        self._keep(std=torch.tensor([column.std for column in columns], dtype=torch.float64))

    def forward(self, c: Tensor) -> Tensor:
        """(n, *Conditioning.shape) float32 for c (n, *shape) float64."""
        mean, std = self._kept("mean"), self._kept("std")
        if self.form == "sequence":
            there = c[..., -1:]
            return torch.cat([(c[..., :-1] - mean) / std * there, there], -1).float()
        c = c if self.form == "table" else c[:, None]
        parts = [
            (c[:, [j]] == torch.arange(width, dtype=c.dtype)).float()
            if width
            else ((c[:, [j]] - mean[j]) / std[j]).float()
            for j, width in enumerate(self.widths)
        ]
        return torch.cat(parts, 1)
