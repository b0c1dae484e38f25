"""Rows as an estimator is given them: checked as scikit-learn does, then as vaelab does, and coded where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from vaelab.data import ColumnReader, MappedArray, Rows, Schema
from vaelab.data.checks import (
    GAPS_REMEDY,
    MIXED,
    REMEDY,
    all_numbers,
    check_array,
    check_dense,
    check_finite,
    check_shape,
    frame_values,
    is_frame,
    plain_rows,
)
from vaelab.data.containers import opened_rows
from vaelab.data.mapped import in_memory
from vaelab.errors import InputError, NotNumbersError
from vaelab.estimators.specified import Specified
from vaelab.specs import Likelihood


class Reading(Specified):
    """What estimators of rows do with X."""

    schema_: Schema | None

    def _chosen_columns(self, X: Any = None) -> Mapping[str, ColumnReader] | None:
        """Return what columns are taken for, where a table is coded column by column; X, rows to train on, may decide.

        Arrays with missing entries are refused unless they are asked for, as everywhere in scikit-learn.
        """
        try:
            own = Likelihood.of(getattr(self, "likelihood", None) or "gaussian")
        except InputError:  # said by `fit`
            return None
        if own.kind == "auto":
            return {} if (is_frame(X) and not all_numbers(X)) or getattr(self, "schema_", None) is not None else None
        return getattr(own, "columns", {}) if own.takes == "columns" else None

    def _rows(self, X: Any, *, reset: bool) -> Rows:
        """Check X, which is no container; rows that are on disk stay there, unless columns are to be coded."""
        if not isinstance(X, MappedArray) or self._chosen_columns() is not None:
            return self._validated(X, reset=reset)
        if reset:
            self.schema_ = None
        check_shape(tuple(X.shape), min_rows=2 if reset else 1)
        check_finite(X, remedy=REMEDY)
        validate_data(self, X, reset=reset, skip_check_array=True)
        if not reset:
            self._check_fits(X)
        return X

    def _both(self, X: Any, y: Any) -> tuple[Tensor, Tensor | None]:
        """Check rows and conditions, of which a container may hold both."""
        check_is_fitted(self)
        X, y = opened_rows(X, y, labelled=self.conditional)
        x = self._validated(X, reset=False)
        return x, self.trained_.conditions(y, len(x))

    def _check_fits(self, x: Rows) -> None:
        if tuple(x.shape[1:]) != self.trained_.facts.event_shape:
            raise InputError(f"rows of shape {tuple(x.shape[1:])}", f"{self.trained_.facts.event_shape} as in fit")
        self.trained_.scaling.check(x)

    def _validated(self, X: Any, *, reset: bool) -> Tensor:
        """Check X as scikit-learn does, then as vaelab does; return a CPU tensor."""
        if reset:
            self.schema_ = None
        X = plain_rows(X)
        if isinstance(X, MappedArray):
            X = in_memory(X)
        columns = self._chosen_columns(X if reset else None)
        if columns is not None:
            return self._coded(X, columns, reset=reset)
        if isinstance(X, Tensor):
            X = check_array(X, min_rows=1, allow_nan=True).detach().cpu().numpy()
        elif is_frame(X):
            frame_values(X)  # names the columns that hold no numbers
        elif isinstance(X, np.ndarray) and X.dtype.kind in "mM":
            check_array(X)  # scikit-learn would count the nanoseconds
        images = getattr(X, "ndim", 2) > 2
        # images keep their dtype, since it says what their range is
        try:
            checked = validate_data(
                self,
                X,
                reset=reset,
                dtype=None if images else [np.float64, np.float32],
                allow_nd=True,
                ensure_all_finite=False,
                ensure_min_samples=2 if reset else 1,
            )
        except TypeError as error:
            if "feature name" in str(error).lower():  # scikit-learn's own words
                raise
            raise NotNumbersError(f"X with entries that are no numbers ({error})", "numbers") from error
        except (ValueError, OverflowError) as error:
            if "could not convert string" in str(error):
                raise InputError(f"X with text ({error})", "numbers", f"Use {MIXED}, or drop those columns.") from error
            check_array(X, min_rows=1, allow_nan=True)  # says it in vaelab's words, if it is not of names or columns
            raise
        x = check_array(checked, min_rows=2 if reset else 1, remedy=REMEDY if images else GAPS_REMEDY)
        if not reset:
            self._check_fits(x)
        return x

    def _coded(self, X: Any, columns: Mapping[str, ColumnReader], *, reset: bool) -> Tensor:
        """Check a table with categories and gaps, and code it by the schema of fit."""
        check_dense(X)
        if not isinstance(X, Tensor | np.ndarray) and not is_frame(X):
            X = np.array(X, dtype=object)
        check_shape(tuple(X.shape), min_rows=2 if reset else 1)
        if reset:
            self.schema_ = Schema.fit(X, columns=columns)
        assert self.schema_ is not None  # of a model for mixed tables
        X = self.schema_.without_apart(X)
        validate_data(self, X.numpy(force=True) if isinstance(X, Tensor) else X, reset=reset, skip_check_array=True)
        return self.schema_.to_tensor(X)
