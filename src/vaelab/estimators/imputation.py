"""What estimators say of missing entries, and of columns given the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from vaelab.arguments import check_count, check_share, names_of
from vaelab.data import MappedArray, Schema
from vaelab.data.checks import is_frame
from vaelab.data.containers import opened_rows
from vaelab.data.frames import is_polars
from vaelab.data.mapped import in_memory
from vaelab.errors import InputError
from vaelab.estimators.gaps import as_mask, as_rows, blanked, gaps_of, painted, without
from vaelab.estimators.specified import seed_of
from vaelab.runs.containers import in_container
from vaelab.runs.imputation import Imputation

if TYPE_CHECKING:
    from vaelab.runs.trained import Trained

_MOST_DRAWS = 1_000_000  # of z per row, which take days
_MOST_TABLES = 10_000


class Interval(NamedTuple):
    """Ends between which an entry is with a given probability; both are rows like those that were asked for."""

    lower: Any
    upper: Any


class Completing:
    """What follows from p(x_missing | x_observed) of a fitted model.

    The methods have in common:

    - X are rows with gaps: NaN, None, NaT or masked entries of a table, whatever likelihood the model has; NaN pixels
      of images, or those where ``mask``, booleans of the shape of X (or with one channel for all), is true.
    - ``k`` is the number of draws of z per row. Where fewer than 5 carry the weight in many rows, a warning says so.
    - ``random_state`` is the seed or generator of the draws; ``self.random_state`` if None.

    They presume that entries are missing at random, given what is there. Likelihoods without a place for gaps
    (logistic mixtures) are refused.
    """

    if TYPE_CHECKING:
        conditional: bool
        random_state: Any
        trained_: Trained
        schema_: Schema | None
        feature_names_in_: Any

        def _validated(self, X: Any, *, reset: bool) -> Tensor: ...

    def impute(
        self,
        X: Any,
        y: Any = None,
        *,
        draws: int | None = None,
        mask: Any = None,
        k: int = 200,
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Fill in missing entries: by their means, or as many times as is asked for by draws (multiple imputation).

        Numbers become their mean given what was observed in the row, categories the most likely level. Statistics of
        such a table are too sure. With `draws` each of so many tables is a draw of all missing entries together;
        statistics of each are pooled by Rubin's rules.

        Parameters
        ----------
        X, y
            Rows with missing entries, and conditions as in `fit`.
        draws
            How many completed tables; one of means if None.
        mask, k, random_state
            As `Completing` says.

        Returns
        -------
        array or data frame, or a list of `draws` of them
            Copies of X, in its own container; entries that were there are the same. After
            ``likelihood="mixed"`` columns keep their dtypes, so that means of whole numbers are rounded; a model of
            numbers alone turns nullable whole numbers into floating-point ones where a mean is not whole.

        Raises
        ------
        InputError
            Rows that do not fit, a likelihood that has no place for gaps, or draws of a deterministic posterior.
        """
        if draws is not None:
            check_count("draws", draws, most=_MOST_TABLES)
        asked, back = self._asked(X, y, mask, k, random_state)
        if draws is None:
            return back(asked.mean())
        return [back(table) for table in asked.draws(int(draws))]

    def impute_quantiles(
        self,
        X: Any,
        q: Sequence[float] | float,
        y: Any = None,
        *,
        mask: Any = None,
        k: int = 200,
        random_state: int | np.random.RandomState | None = None,
    ) -> list[Any]:
        """Fill in missing entries by quantiles of p(x_missing | x_observed), one table for each.

        Levels with an order have quantiles too; those of categories without one stay missing: see `impute_proba`.

        Parameters
        ----------
        X, y
            Rows with missing entries, and conditions as in `fit`.
        q
            Probabilities in (0, 1).
        mask, k, random_state
            As `Completing` says.
        """
        levels = _levels(q)
        asked, back = self._asked(X, y, mask, k, random_state)
        return [back(table) for table in asked.quantiles(levels)]

    def impute_interval(
        self,
        X: Any,
        y: Any = None,
        *,
        coverage: float = 0.9,
        mask: Any = None,
        k: int = 200,
        random_state: int | np.random.RandomState | None = None,
    ) -> Interval:
        """Give the interval that each missing entry is in with probability `coverage`, as much on either side.

        Parameters
        ----------
        X, y
            Rows with missing entries, and conditions as in `fit`.
        coverage
            In (0, 1).
        mask, k, random_state
            As `Completing` says.

        Returns
        -------
        Interval
            ``lower`` and ``upper``, like X; both are what is there where nothing is missing. Categories without an
            order stay missing.
        """
        return Interval(*self.impute_quantiles(X, _ends(coverage), y, mask=mask, k=k, random_state=random_state))

    def impute_proba(
        self, X: Any, y: Any = None, *, k: int = 200, random_state: int | np.random.RandomState | None = None
    ) -> dict[str, Any]:
        """Give the probability of each level of each category, after a fit with ``likelihood="mixed"``.

        Parameters
        ----------
        X, y, k, random_state
            As for `impute`.

        Returns
        -------
        dict
            Column → data frame of pandas (n, levels) with the levels for columns and the index of X; of an entry that
            is there, 1 for its level. Columns of arrays are called by their place: ``"0"``, ``"1"``, ….
        """
        asked, _ = self._asked(X, y, None, k, random_state)
        return self._labelled(asked.probabilities(), getattr(X, "index", None) if is_frame(X) else None)

    def predictive(
        self,
        X: Any,
        columns: Sequence[Any] | str | int,
        y: Any = None,
        *,
        k: int = 200,
        random_state: int | np.random.RandomState | None = None,
    ) -> Predictive:
        """Return p(columns | the others), row by row: regression and classification by a model of a whole table.

        Parameters
        ----------
        X
            Rows with the other columns, which may have gaps. The columns asked for may be there, and are not read; a
            data frame may be without them.
        columns
            Names, or places in an array.
        y, k, random_state
            As for `impute`.

        Raises
        ------
        InputError
            Columns that the model does not have, or no table.
        """
        check_is_fitted(self)
        own = self.schema_ or Schema.of_numbers(self.trained_.facts.event_shape[0], self.trained_.facts.columns)
        if self.trained_.facts.kind != "table":
            raise InputError("columns of images", "a model of a table", "Use impute(X, mask=…) for pixels.")
        wanted = tuple(str(column) for column in names_of("columns", columns, (str, int)))
        unknown = [name for name in wanted if name not in own.names]
        if unknown or not wanted or len(set(wanted)) < len(wanted):
            got = f"columns={list(wanted)}"
            raise InputError(got, f"some of {', '.join(map(repr, own.names[:20]))}, each once")
        x = without(as_rows(X), wanted, own)
        asked, _ = self._asked(x, y, None, k, random_state)
        return Predictive(self, asked, wanted, tuple(own.names), getattr(x, "index", None) if is_frame(x) else None)

    def _asked(
        self, X: Any, y: Any, mask: Any, k: int, random_state: int | np.random.RandomState | None
    ) -> tuple[Imputation, Callable[[Tensor], Any]]:
        """Return what is asked, and what turns completed rows into the container of X."""
        check_is_fitted(self)
        check_count("k", k, most=_MOST_DRAWS)
        X, y = opened_rows(X, y, labelled=self.conditional)
        X = in_memory(X) if isinstance(X, MappedArray) else X
        x, back = self._with_gaps(X, mask)
        seed = seed_of(self.random_state if random_state is None else random_state)
        return Imputation(self.trained_, x, self.trained_.conditions(y, len(x)), k=int(k), seed=seed), back

    def _with_gaps(self, X: Any, mask: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
        """Return rows in the data's units, floating, NaN where an entry is missing, and the way back."""
        images = self.trained_.facts.kind == "image"
        if mask is not None and not images:
            raise InputError("a mask for a table", "gaps in the table itself", "Put NaN or None where it is true.")
        schema = self.schema_
        if schema is not None:
            return self._validated(X, reset=False), lambda rows: schema.fill(X, rows)
        plain = as_rows(X)
        gaps = gaps_of(plain)
        if images:
            gaps = gaps | as_mask(mask, tuple(plain.shape))
            hidden = plain if plain.dtype in (np.uint8, torch.uint8) else blanked(plain, gaps)
            x = self._validated(hidden, reset=False)
            x = x if x.dtype.is_floating_point else x.float()
            x = x.masked_fill(torch.from_numpy(gaps), torch.nan)
            return x, lambda rows: painted(plain, gaps, rows)
        x = self._validated(blanked(plain, gaps), reset=False).clone()
        numbers = Schema.of_numbers(x.shape[1], self.trained_.facts.columns if is_frame(plain) else None)
        return x.masked_fill_(torch.from_numpy(gaps), torch.nan), lambda rows: numbers.fill(X, rows)

    def _labelled(self, found: dict[int, Tensor], index: Any) -> dict[str, Any]:
        import pandas

        assert self.schema_ is not None  # of a table with categories
        columns = self.schema_.columns
        return {
            columns[place].name: pandas.DataFrame(p.numpy(), index=index, columns=list(columns[place].levels or ()))
            for place, p in found.items()
        }


@dataclass(frozen=True)
class Predictive:
    """p(columns | the others) for the rows that `Completing.predictive` was called with.

    Rows come in the container of fit, with the columns asked for alone.
    """

    model: Completing = dataclasses.field(repr=False)
    asked: Imputation = dataclasses.field(repr=False)
    columns: tuple[str, ...]
    names: tuple[str, ...] = dataclasses.field(repr=False)
    index: Any = dataclasses.field(default=None, repr=False)

    def predict(self) -> Any:
        """Means in the columns' own units, floating, and the most likely level of categories."""
        return self._back(self.asked.mean(), rounded=False)

    def draws(self, count: int) -> list[Any]:
        """Draw all columns together, `count` times, in their own dtypes."""
        check_count("draws", count, most=_MOST_TABLES)
        return [self._back(table) for table in self.asked.draws(int(count))]

    def quantiles(self, q: Sequence[float] | float) -> list[Any]:
        """Quantiles of each column, a table for each; missing for categories without an order."""
        return [self._back(table) for table in self.asked.quantiles(_levels(q))]

    def interval(self, coverage: float = 0.9) -> Interval:
        """Give ends between which a column is with this probability, as much on either side."""
        return Interval(*self.quantiles(_ends(coverage)))

    def proba(self) -> dict[str, Any]:
        """Column → data frame (n, levels) of the probabilities of its levels, for those that are categories."""
        found = self.model._labelled(self.asked.probabilities(), self.index)
        return {name: table for name, table in found.items() if name in self.columns}

    def _back(self, rows: Tensor, *, rounded: bool = True) -> Any:
        trained = self.model.trained_
        out = in_container(trained, rows, rounded=rounded)
        if is_frame(out):
            label = {str(column): column for column in out.columns}
            out = out[[label[name] for name in self.columns]]
            return out if self.index is None or is_polars(out) else out.set_axis(self.index, axis=0)
        names = self.names if trained.schema is None else trained.schema.returned
        return out[:, [names.index(column) for column in self.columns]]


def _levels(q: Sequence[float] | float) -> Tensor:
    """(m,) probabilities that quantiles are asked for."""
    wanted = names_of("q", q, (float, int))
    if not wanted:
        raise InputError("q without a probability", "some in (0, 1)")
    for each in wanted:
        check_share("q", each)
    return torch.tensor(wanted, dtype=torch.float64)


def _ends(coverage: float) -> tuple[float, float]:
    """Return the levels of the ends of an interval."""
    check_share("coverage", coverage)
    return (1 - coverage) / 2, (1 + coverage) / 2
