"""The user's units and the network's: net = (x − shift) / scale, and normal scores for numbers of mixed tables.

A change of units changes densities: log p(x) in the user's units is log p in the network's units minus the constant
`Scaling.log_volume`; of a row with missing entries or normal scores, minus its own `Scaling.log_volume_of`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from vaelab.data.checks import GAPS_REMEDY, REMEDY, check_finite
from vaelab.data.mapped import Rows, blocks
from vaelab.data.marginals import Marginals
from vaelab.errors import InputError, VaelabWarning
from vaelab.rows import RunningVariance

Kind = Literal["image", "table"]


@dataclass(frozen=True, eq=False)
class Scaling:
    """A map between the user's units and the network's: affine, but for columns that have a marginal.

    Attributes
    ----------
    shift, scale
        float64, broadcastable to `event_shape`: one number for images, one per column for tables.
    dtype
        Name of the user's dtype, such as ``"uint8"``.
    kind
        ``"image"`` or ``"table"``.
    event_shape
        Shape of one row.
    constant
        Bool, broadcastable to `event_shape`: columns of a table that held one value only, which is `shift`.
    gaps
        Whether entries may be missing, which is NaN in both units.
    marginals
        Of a mixed table: its numbers as normal scores. `shift` and `scale` are those of the scores' units, 0 and 1,
        where a column has one.
    """

    shift: Tensor
    scale: Tensor
    dtype: str
    kind: Kind
    event_shape: tuple[int, ...]
    constant: Tensor = field(default_factory=lambda: torch.tensor(False))
    gaps: bool = False
    marginals: Marginals | None = None

    @classmethod
    def fit(
        cls,
        x: Rows,
        kind: Kind,
        *,
        columns: Sequence[str] | None = None,
        levels: Sequence[int] | None = None,
        scores: Sequence[bool] = (),
    ) -> Self:
        """Choose the map for some data.

        Images go to [0, 1]: uint8 is divided by 255, floats in [0, 1] stay, floats in [−1, 1] are shifted and halved.
        Floats in [0, 255] are divided by 255, and floats of any other range by their own, both with a warning; so is
        uint8 that holds only 0 and 1, which stays. Tables are standardised column by column, in float64; constant
        columns are only shifted, with a warning that names them. Of a table with gaps, what was observed decides;
        categories, which are numbers of levels, stay as they are.

        Parameters
        ----------
        x
            (n, *event_shape), finite; see `vaelab.data.check_array`.
        kind
            ``"image"`` or ``"table"``.
        columns
            Names of the columns of a table, for the messages.
        levels
            Of each column of a mixed table, as `Schema.levels`: above 0 for a category. Entries may then be missing
            (NaN); None for data without categories and gaps.
        scores
            Which columns of a mixed table are brought to normal scores by their ranks; see `vaelab.data.marginals`.

        Warns
        -----
        VaelabWarning
            A range was guessed, or columns are constant.
        """
        shift, scale, constant = _image_map(x) if kind == "image" else _table_map(x, columns, levels)
        dtype = str(x.dtype).removeprefix("torch.")
        marginals = None
        if any(scores) and isinstance(x, Tensor):
            marginals = Marginals.fit(x, scores)
            own = torch.tensor([column is not None for column in marginals.columns])
            shift, scale = torch.where(own, 0.0, shift), torch.where(own, 1.0, scale)
        return cls(shift, scale, dtype, kind, tuple(x.shape[1:]), constant, levels is not None, marginals)

    def reading(self, place: int) -> dict[str, Any]:
        """Say what a column of numbers of a mixed table is in the network's units, by the names of `TableColumn`."""
        constant = self.constant.expand(self.event_shape)[place]
        if bool(constant):
            value = float(self.shift.expand(self.event_shape)[place])
            return {"kind": "constant", "span": (value, value)}
        own = None if self.marginals is None else self.marginals.columns[place]
        if own is None:
            return {"kind": "standardised"}
        span = (float(own.values[0]), float(own.values[-1]))
        return {"kind": "scores", "step": own.step, "atoms": own.atoms(), "span": span}

    @classmethod
    def identity(cls, event_shape: tuple[int, ...], dtype: str = "float32") -> Self:
        """Return the map that leaves rows as they are, for networks that take the user's units, whatever they are.

        Its kind is a table's, of which any finite numbers are taken: nothing is known of the range of images.
        """
        one = torch.ones((), dtype=torch.float64)
        return cls(torch.zeros_like(one), one, dtype, "table", event_shape)

    @property
    def is_identity(self) -> bool:
        """Whether both units are the same."""
        return self.marginals is None and not bool(self.shift.any()) and bool((self.scale == 1).all())

    @property
    def log_volume(self) -> float:
        """Σ log scale over one row, nats: log p(x) = log p(net) − log_volume."""
        return float(self.scale.log().sum()) * (math.prod(self.event_shape) / self.scale.numel())

    def log_volume_of(self, x: Tensor) -> Tensor:
        """(n,) Σ log |dx/dnet| over the observed entries of each row, nats, float64 on the CPU; x (n, *event_shape)."""
        if not self.gaps:
            return torch.full((len(x),), self.log_volume, dtype=torch.float64)
        return self.log_volumes_of(x).flatten(1).sum(1)

    def log_volumes_of(self, x: Tensor) -> Tensor:
        """(n, *event_shape) log |dx/dnet| of every entry, 0 where one is missing, nats, float64 on the CPU."""
        log_scale = self.scale.log().expand(x.shape)
        own = torch.where(x.cpu().isnan(), 0.0, log_scale) if self.gaps else log_scale
        return own if self.marginals is None else own + self.marginals.log_volume(x)

    def check(self, x: Rows, *, name: str = "X") -> None:
        """Refuse new rows in other units than those that were fitted.

        Parameters
        ----------
        x
            (n, *event_shape). Images must be uint8 if and only if those were, and lie in the same range, give or take
            a hundredth of it; tables may hold any finite numbers, and gaps where `gaps` says so.
        name
            How the caller calls them, for the message.

        Raises
        ------
        InputError
            They are not, or some are not finite.
        """
        remedy = GAPS_REMEDY if self.kind == "table" else REMEDY
        check_finite(x, name=name, allow_nan=self.gaps, remedy=remedy)
        if self.kind == "table":
            return
        found = str(x.dtype).removeprefix("torch.")
        wanted = f"{'uint8' if self.dtype == 'uint8' else 'floating-point'} images as in training"
        low, high = float(self.shift), float(self.shift + self.scale)
        if (found == "uint8") != (self.dtype == "uint8"):
            raise InputError(f"{name} with images of dtype {found}", wanted, f"Convert them to [{low:g}, {high:g}].")
        least, most = _range(x)
        slack = 0.01 * (high - low)
        if least < low - slack or most > high + slack:
            raise InputError(
                f"{name} with pixels in [{least:g}, {most:g}]",
                f"{wanted}, in [{low:g}, {high:g}]",
                "Bring them to the units of the training data, or train again on data that cover this range.",
            )

    def to_net(
        self, x: Tensor, *, dtype: torch.dtype = torch.float32, generator: torch.Generator | None = None
    ) -> Tensor:
        """Map (…, *event_shape) in the user's units to the network's, as `dtype`; `x` is left as it is.

        With a generator, values that have a probability of their own are spread over their interval, as in training.
        """
        if self.marginals is not None:
            flat = x.reshape(-1, *self.event_shape)
            place = None if generator is None else torch.rand(flat.shape, generator=generator, dtype=torch.float64)
            x = self.marginals.to_normal(flat, place).to(x.device).reshape(x.shape)
        if self.scale.numel() == 1:  # plain numbers: no transfer, and two cheap operations on the device
            low, width = float(self.shift), float(self.scale)
            if not x.dtype.is_floating_point:
                x = x.to(dtype)  # a new tensor, so the rest can be in place
                x = x.sub_(low) if low else x
                return x.div_(width) if width != 1 else x
            x = x.to(torch.promote_types(x.dtype, dtype))  # subtract before rounding
            x = x - low if low else x
            return (x / width if width != 1 else x).to(dtype)
        flat = x.reshape(-1, *self.event_shape)
        out = torch.empty(flat.shape, dtype=dtype, device=x.device)
        like = _wide(flat[:0])
        shift, scale = self.shift.to(like), self.scale.to(like)
        start = 0
        for block in blocks(flat):  # float64 of a part only
            out[start : start + len(block)] = (_wide(block) - shift).div_(scale)
            start += len(block)
        return out.reshape(x.shape)

    def from_net(self, x: Tensor) -> Tensor:
        """Map (…, *event_shape) in the network's units to the user's, floating; differentiable.

        The result has the dtype of `x`, but is float64 where the user's data were (or were integers in a table).
        """
        wide = _wide(x)
        if self.scale.numel() == 1:
            wide = wide * float(self.scale) + float(self.shift)
        else:
            wide = wide * self.scale.to(wide) + self.shift.to(wide)
        if bool(self.constant.any()):  # exactly what was seen, whatever a model makes of it
            wide = torch.where(self.constant.to(wide.device) & ~wide.isnan(), self.shift.to(wide), wide)
        if self.marginals is not None:
            wide = self.marginals.from_normal(wide.reshape(-1, *self.event_shape)).to(wide).reshape(wide.shape)
        exact = self.dtype == "float64" or (self.kind == "table" and self.dtype == "uint8")
        return wide if exact else wide.to(x.dtype)

    def restore(self, x: Tensor) -> np.ndarray[Any, Any]:
        """Map the network's units to an array of the user's own dtype.

        uint8 images are clipped and rounded. Floats come back in their precision; integers in a table as float64,
        since a model's means are not integers.
        """
        out = self.from_net(x.detach().double().cpu())
        if self.dtype == "uint8":
            return out.clamp(0, 255).round().to(torch.uint8).numpy() if self.kind == "image" else out.numpy()
        return out.numpy().astype(self.dtype)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors, for a safetensors file."""
        own = {} if self.marginals is None else self.marginals.state()
        return {"shift": self.shift, "scale": self.scale, "constant": self.constant, **own}

    def meta(self) -> dict[str, Any]:
        """Return the rest, as plain values for JSON or YAML."""
        return {"dtype": self.dtype, "kind": self.kind, "event_shape": list(self.event_shape), "gaps": self.gaps}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self:
        """Rebuild from `state` and `meta`; without ``constant`` no column is, without ``gaps`` there are none.

        Raises
        ------
        InputError
            Something is missing, or is not what it should be.
        """
        missing = [key for key in ("shift", "scale") if key not in state]
        missing += [key for key in ("dtype", "kind", "event_shape") if key not in meta]
        if missing:
            raise InputError(f"a saved scaling without {', '.join(missing)}", "what Scaling.state and .meta return")
        shape = tuple(int(size) for size in meta["event_shape"])
        constant = state.get("constant", torch.tensor(False))
        for name, value in (("shift", state["shift"]), ("scale", state["scale"]), ("constant", constant)):
            sizes = zip(value.shape[::-1], shape[::-1], strict=False)
            if value.ndim > len(shape) or any(size not in (1, whole) for size, whole in sizes):
                got = f"a saved scaling with {name} of shape {tuple(value.shape)}"
                raise InputError(got, f"one for rows of shape {shape}")
        if meta["kind"] not in ("image", "table") or not bool((state["scale"] > 0).all()):
            raise InputError(f"a saved scaling of kind {meta['kind']!r}", "'image' or 'table', with a scale above 0")
        return cls(
            state["shift"].double(),
            state["scale"].double(),
            str(meta["dtype"]),
            meta["kind"],
            shape,
            constant,
            bool(meta.get("gaps", False)),
            Marginals.from_state(state),
        )


def _wide(x: Tensor) -> Tensor:
    """Raise the precision as far as the device can: Apple's has no float64."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def _range(x: Rows, *, enough: float = math.inf) -> tuple[float, float]:
    """Smallest and largest value; of a part only, once a value above `enough` was met."""
    low, high = math.inf, -math.inf
    for block in blocks(x):
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if high > enough:
            break
    return low, high


def _image_map(x: Rows) -> tuple[Tensor, Tensor, Tensor]:
    # of uint8, all that matters is whether there is more than 0 and 1
    low, high = _range(x, enough=1 if x.dtype == torch.uint8 else math.inf)
    shift, scale = 0.0, 1.0
    if x.dtype == torch.uint8:
        if high == 1:
            _warn("uint8 images that hold only 0 and 1 are taken as they are, not divided by 255.")
        else:
            scale = 255.0
    elif low >= 0 and high <= 1:
        pass
    elif low >= -1 and high <= 1:
        shift, scale = -1.0, 2.0
    elif low >= 0 and 1.5 < high <= 255:
        _warn(
            f"Floating-point images in [{low:g}, {high:g}] are taken as pixel values and divided by 255. "
            "Divide them yourself, or give uint8, to say so."
        )
        scale = 255.0
    else:
        _warn(
            f"Floating-point images in [{low:g}, {high:g}], which is none of [0, 1], [−1, 1], [0, 255], are mapped to "
            "[0, 1] by their own smallest and largest value."
        )
        shift, scale = low, high - low if high > low else 1.0
    return torch.tensor(shift, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64), torch.tensor(False)


def _table_map(x: Rows, columns: Sequence[str] | None, levels: Sequence[int] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation per column, over blocks of rows."""
    d, spread = x.shape[1], RunningVariance(gaps=True)
    low, high = torch.full((d,), math.inf, dtype=torch.float64), torch.full((d,), -math.inf, dtype=torch.float64)
    for raw in blocks(x):
        block = raw.cpu().double()
        spread.add(block)
        low = torch.minimum(low, block.nan_to_num(nan=math.inf).amin(0))
        high = torch.maximum(high, block.nan_to_num(nan=-math.inf).amax(0))
    category = torch.tensor([count > 0 for count in levels] if levels else [False] * d)
    names = [columns[i] if columns else str(i) for i in range(d)]
    empty = [names[i] for i in (spread.count == 0).nonzero().flatten().tolist()]
    if empty:
        raise InputError(f"column(s) {', '.join(empty)} without any entry", "something in every column", "Drop them.")
    constant = (low == high) & ~category  # exact, where a standard deviation of 1e-17 would not be zero
    mean, scale = spread.mean, spread.variance.sqrt()
    scale = torch.where(scale > 0, scale, high - low)  # squares of tiny numbers vanish
    mean, scale = torch.where(constant, low, mean), torch.where(constant, 1.0, scale)
    mean, scale = torch.where(category, 0.0, mean), torch.where(category, 1.0, scale)
    if not bool(torch.isfinite(scale).all()):
        wide = [names[i] for i in (~torch.isfinite(scale)).nonzero().flatten().tolist()]
        raise InputError(
            f"column(s) {', '.join(wide)} whose squares exceed float64", "values below 1e150", "Rescale them."
        )
    if bool(constant.any()):
        flat = [names[i] for i in constant.nonzero().flatten().tolist()]
        shown = ", ".join(flat[:20]) + (f" and {len(flat) - 20} more" if len(flat) > 20 else "")
        _warn(f"{len(flat)} constant column(s), which teach a model nothing and are only shifted: {shown}.")
    return mean, scale, constant


def _warn(text: str) -> None:
    warnings.warn(text, VaelabWarning, stacklevel=4)
