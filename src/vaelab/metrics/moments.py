"""Mean and covariance of feature rows, summed block by block in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vaelab.errors import InputError

_ROWS = 512  # centred at a time: a block stays in the processor's cache
_ALIVE = 1e-12  # least variance along an axis, relative to the largest
_PANEL = 256  # columns at a time in a symmetric product: half the work of a full one, still large enough to be fast


def comparable(*sets: Tensor, names: tuple[str, ...], min_rows: int = 1) -> tuple[Tensor, ...]:
    """Refuse sets of rows that cannot be compared, before any work starts.

    Parameters
    ----------
    *sets
        (n, d), (m, d), … floating point.
    names
        How the caller calls them, for the messages.
    min_rows
        Fewest rows that each must have.

    Returns
    -------
    tuple of Tensor
        The same rows without gradient, on a device that has float64; dtype kept.

    Raises
    ------
    InputError
        Not 2-D, no columns, not floating point, different widths, too few rows, or NaN and infinities.
    """
    symbols = "nm"[: len(sets)]
    wanted = " and ".join(f"({symbol}, d)" for symbol in symbols) + f" with {', '.join(symbols)} ≥ {min_rows}"
    shapes = " and ".join(str(tuple(x.shape)) for x in sets)
    if any(x.ndim != 2 for x in sets):
        remedy = f"Flatten each row: {names[0]}.flatten(1)." if any(x.ndim > 2 for x in sets) else ""
        raise InputError(f"{' and '.join(names)} of shape {shapes}", wanted, remedy)
    if any(x.shape[1] != sets[0].shape[1] or x.shape[1] == 0 for x in sets):
        raise InputError(
            f"{' and '.join(names)} of shape {shapes}", f"{wanted}, the same d ≥ 1", "Use the same features for both."
        )
    for name, x in zip(names, sets, strict=True):
        if len(x) < min_rows:
            raise InputError(f"{name} with {len(x)} row(s)", wanted, "Give more rows.")
        if not x.is_floating_point():
            raise InputError(f"{name} of dtype {x.dtype}", "floating point", f"Call {name}.double() first.")
        # one sum tells whether a closer look is needed; it may also have overflowed
        if not torch.isfinite(x.detach().sum()):
            bad = int((~torch.isfinite(x)).any(1).sum())
            if bad:
                raise InputError(
                    f"{name} with NaN or infinity in {bad} of {len(x)} rows",
                    "finite values",
                    f"Drop them: {name}[torch.isfinite({name}).all(1)], or find where they come from.",
                )
    return tuple((x.cpu() if x.device.type == "mps" else x).detach() for x in sets)


@dataclass(frozen=True)
class Moments:
    """Count, mean and centred second moments of n rows of d features; all float64.

    Parts of a data set may be summed apart and merged, so features need not be held together.

    Attributes
    ----------
    n
        Rows seen.
    mean
        (d,).
    scatter
        (d, d) Σ (x − mean)(x − mean)ᵀ; not divided by anything.

    Examples
    --------
    >>> halves = Moments.of(torch.tensor([[0.0], [2.0]])).merge(Moments.of(torch.tensor([[4.0]])))
    >>> halves.n, float(halves.mean), float(halves.covariance)
    (3, 2.0, 4.0)
    """

    n: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, features: Tensor) -> Self:
        """Sum rows.

        Two passes, the mean first, so that a large common shift costs no digits.

        Parameters
        ----------
        features
            (n, d) with n ≥ 1, floating point, on any device; the result stays there (on the CPU for MPS).

        Raises
        ------
        InputError
            See `comparable`.
        """
        (features,) = comparable(features, names=("features",))
        n, d = features.shape
        scatter = torch.zeros(d, d, dtype=torch.float64, device=features.device)
        mean, buffer = scatter.new_zeros(d), scatter.new_empty(min(n, _ROWS), d)
        for rows in features.split(_ROWS):
            mean += buffer[: len(rows)].copy_(rows).sum(0) / n
        for rows in features.split(_ROWS):
            add_gram(scatter, buffer[: len(rows)].copy_(rows).sub_(mean))
        mirror(scatter)
        return cls(n, mean, scatter)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows together.

        Chan et al. 1983.

        Parameters
        ----------
        other
            Of the same width and device.

        Raises
        ------
        InputError
            The widths differ.
        """
        check_widths(self, other)
        n = self.n + other.n
        shift = other.mean - self.mean
        scatter = torch.addr(self.scatter + other.scatter, shift, shift, alpha=self.n * other.n / n)
        return Moments(n, self.mean + shift * (other.n / n), scatter)

    @property
    def covariance(self) -> Tensor:
        """(d, d) unbiased covariance, scatter / (n − 1); needs two rows."""
        if self.n < 2:
            raise InputError(f"moments of {self.n} row(s)", "at least 2", "Give more rows.")
        return self.scatter / (self.n - 1)

    def state(self) -> dict[str, Tensor]:
        """Tensors for a file; `from_state` takes them back."""
        return {"n": torch.tensor(self.n), "mean": self.mean, "scatter": self.scatter}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Rebuild from `state`.

        Raises
        ------
        InputError
            Names, shapes or dtypes are not those of `state`.
        """
        wanted = "'n' of one integer, 'mean' (d,) and 'scatter' (d, d) in float64"
        if set(state) != {"n", "mean", "scatter"}:
            raise InputError(f"a state with {sorted(state)}", wanted, "Give what Moments.state() returned.")
        n, mean, scatter = state["n"], state["mean"], state["scatter"]
        fits = n.numel() == 1 and not n.is_floating_point() and mean.ndim == 1
        if not fits or scatter.shape != (len(mean), len(mean)) or {mean.dtype, scatter.dtype} != {torch.float64}:
            found = ", ".join(f"{name} {tuple(x.shape)} {x.dtype}" for name, x in state.items())
            raise InputError(f"a state with {found}", wanted, "Give what Moments.state() returned.")
        return cls(int(n), mean, scatter)


def check_widths(x: Moments, y: Moments) -> None:
    """Refuse moments of different features."""
    if len(x.mean) != len(y.mean):
        raise InputError(f"moments of {len(x.mean)} and {len(y.mean)} features", "the same width", "Recompute one.")


def add_gram(total: Tensor, rows: Tensor) -> None:
    """Add rowsᵀ rows to the lower triangle of `total`, in place.

    Panels of columns, each against those up to its own: about half the work of the full product. What lies above the
    diagonal is not to be read until `mirror`.
    """
    for start in range(0, total.shape[1], _PANEL):
        stop = start + _PANEL
        total[start:stop, :stop].addmm_(rows[:, start:stop].T, rows[:, :stop])


def mirror(total: Tensor) -> None:
    """Copy the lower triangle to the upper one, in place; exactly symmetric afterwards."""
    for start in range(0, total.shape[1], _PANEL):
        stop = start + _PANEL
        square = total[start:stop, start:stop]
        square.copy_(square.tril() + square.tril(-1).T)
        total[:start, start:stop] = total[start:stop, :start].T


def principal_axes(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variances in descending order, and unit directions of rows, on the smaller side of the matrix.

    Parameters
    ----------
    rows
        (n, d) floating point, n ≥ 2.

    Returns
    -------
    mean, values, axes
        (d,), (k,) and (d, k) float64; directions along which the rows do not vary are left out, so k may be 0.
    """
    mean = rows.double().mean(0)
    centred = rows.double() - mean
    few = len(rows) < rows.shape[1]
    products = centred @ centred.T if few else centred.T @ centred
    values, vectors = torch.linalg.eigh(products / max(len(rows) - 1, 1))
    kept = (values > _ALIVE * values[-1]).nonzero()[:, 0].flip(0)
    axes = vectors[:, kept]
    # the few rows' inner products have the same eigenvalues as the many columns' covariance
    return mean, values[kept], torch.nn.functional.normalize(centred.T @ axes, dim=0) if few else axes
