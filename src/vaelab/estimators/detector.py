"""`VAEDetector`: which rows are unlike those of fit, with p-values that hold whatever the model."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples, check_is_fitted

from vaelab import runs
from vaelab.arguments import check_path, check_share
from vaelab.data import MappedArray
from vaelab.data.checks import check_dense, is_frame, plain_rows
from vaelab.data.partition import partition
from vaelab.errors import InputError, VaelabWarning
from vaelab.estimators.base import Estimator
from vaelab.estimators.one_stage import GaussianVAE
from vaelab.estimators.specified import keep_arguments, seed_of, unchanged_by_failure
from vaelab.metrics.conformal import Rule, alarms, check_rate, conformal_p_values, threshold
from vaelab.training.hooks import Callback, Hook

if TYPE_CHECKING:
    from sklearn.utils import Tags

Floats = NDArray[np.float64]


class Explanation(NamedTuple):
    """What a row's score is made of: minus the score is the sum of all entries and the KL.

    Attributes
    ----------
    entries
        Like X: nats that each column or pixel costs, E −log p(x_j | z) in X's own units. Compare a row with another,
        not a column with another, whose units differ.
    kl
        (n,) KL[q(z | x) ‖ p(z)], nats: what is odd in how the columns go together.
    """

    entries: Any
    kl: Floats


@final
class VAEDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Outliers by the bound on log p(x), with p-values from rows that are set aside: conformal calibration.

    Of rows like those of `fit`, a share of at most ``false_alarms`` is called an outlier, in the mean over what is set
    aside, whatever the model is worth; a better model finds more of the others.

    Parameters
    ----------
    model
        What is trained: `GaussianVAE` or another estimator with `score_samples` and without a condition;
        ``GaussianVAE()`` if None. ``model__latent_dim`` sets what is inside. One that is fitted already may stay as it
        is: `calibrate` takes the place of `fit`.
    false_alarms
        See `rule`.
    rule
        ``"each"``: a row is called an outlier where its p-value is at most ``false_alarms``. ``"benjamini_hochberg"``:
        as many of the rows of one call of `predict` as keep the share of false ones among them at most at that.
    calibration
        Share of the rows that `fit` sets aside. With m of them no p-value is below 1/(m + 1).
    random_state
        Seed of which rows these are.

    Attributes
    ----------
    model_
        The fitted estimator.
    calibration_scores_ : ndarray of shape (m,)
        `score_samples` of the rows set aside, ascending.
    offset_ : float
        Score below which a p-value is at most ``false_alarms``.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import GaussianVAE, VAEDetector
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) @ np.ones((1, 4))
    >>> X += 0.1 * np.random.default_rng(1).normal(size=X.shape)
    >>> model = GaussianVAE(latent_dim=2, network="mlp([16])", epochs=5, random_state=0)
    >>> detector = VAEDetector(model, random_state=0).fit(X)
    >>> detector.predict([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -9.0, 1.0]])
    array([ 1, -1])
    >>> int(detector.explain([[1.0, 1.0, -9.0, 1.0]]).entries.argmax())
    2
    """

    model_: Estimator
    calibration_scores_: Floats
    offset_: float

    def __init__(
        self,
        model: Estimator | None = None,
        *,
        false_alarms: float = 0.05,
        rule: Rule = "each",
        calibration: float = 0.2,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        keep_arguments(self, locals())

    def fit(self, X: Any, y: Any = None, *, callbacks: Sequence[Hook | Callback] = ()) -> Self:
        """Train on a part of the rows, and calibrate on the others.

        Parameters
        ----------
        X
            (n, d) table or (n, C, H, W) images, without outliers as far as possible: those among the rows set aside
            make alarms rarer.
        y
            Not used.
        callbacks
            As for the model's `fit`.

        Raises
        ------
        InputError
            As the model's `fit`; a model without a bound or with a condition; false_alarms, calibration or rule that
            is none.
        """
        with unchanged_by_failure(self):
            check_rate(self.false_alarms, self.rule)
            check_share("calibration", self.calibration)
            model = _checked(GaussianVAE() if self.model is None else self.model)
            check_dense(X)
            X = plain_rows(X)
            if _num_samples(X) < 3:
                raise InputError(f"X with n_samples={_num_samples(X)}", "rows to train on, and to set aside")
            kept, aside = partition(_num_samples(X), self.calibration, seed_of(self.random_state))
            self.model_ = clone(model).fit(_rows(X, kept), callbacks=callbacks)
            self.calibrate(_rows(X, aside))
        return self

    def calibrate(self, X: Any) -> Self:
        """Take other rows for what is as it should be; without `fit`, of a model that is fitted already.

        Parameters
        ----------
        X
            Rows that the model was not trained on.

        Raises
        ------
        InputError
            Rows that do not fit the model, or no model that can score.

        Warns
        -----
        VaelabWarning
            There are too few rows for p-values as small as ``false_alarms``.
        """
        check_rate(self.false_alarms, self.rule)
        model = _checked(getattr(self, "model_", self.model))
        check_is_fitted(model)
        scores = np.sort(model.score_samples(X))
        least = 1 / (len(scores) + 1)
        if least > self.false_alarms:
            warnings.warn(
                f"{len(scores)} calibration rows: no p-value is below {least:.2g}, so that false_alarms="
                f"{self.false_alarms:g} calls nothing an outlier. Take more rows, or a larger share for calibration.",
                VaelabWarning,
                stacklevel=2,
            )
        self._take(model, scores)
        return self

    def _take(self, model: Estimator, scores: Floats) -> None:
        """Set what is learned."""
        self.model_ = model
        self.calibration_scores_ = scores
        self.offset_ = threshold(scores, self.false_alarms)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def score_samples(self, X: Any) -> Floats:
        """(n,) lower bound on log p(x), nats, as that of the model; finite for all finite rows."""
        check_is_fitted(self, "model_")
        return np.asarray(self.model_.score_samples(X), dtype=np.float64)

    def decision_function(self, X: Any) -> Floats:
        """(n,) `score_samples` less `offset_`, nats: below 0 where the p-value is at most ``false_alarms``."""
        return self.score_samples(X) - self.offset_

    def p_values(self, X: Any) -> Floats:
        """(n,) (1 + number of calibration scores that are no higher) / (m + 1).

        Of new rows like those of `fit` each value in (1, 2, …, m + 1)/(m + 1) is as likely, exactly.
        """
        return conformal_p_values(self.score_samples(X), self.calibration_scores_)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """(n,) −1 for rows that are called outliers, 1 for others; see `rule`."""
        found = alarms(self.p_values(X), self.false_alarms, self.rule)
        return np.where(found, -1, 1)

    def explain(self, X: Any) -> Explanation:
        """Say which columns or pixels cost a row how many nats, for Gaussian likelihoods and those of mixed tables.

        Raises
        ------
        InputError
            Rows that do not fit, or a likelihood without terms per entry.
        """
        check_is_fitted(self, "model_")
        entries, divergence = self.model_.costs(X)
        if is_frame(X):
            import pandas as pd

            schema = self.model_.schema_  # which leaves some columns out
            columns = X.columns if schema is None else schema.names
            entries = pd.DataFrame(entries, index=getattr(X, "index", None), columns=list(columns))
        return Explanation(entries, divergence)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a run folder: that of the model, and the calibration scores. `vaelab.load` reads it back.

        Parameters
        ----------
        path
            A new folder.
        overwrite
            Put it in the place of another run's folder, with all that this holds.

        Raises
        ------
        RunFolderError
            There is something there already, or, with `overwrite`, something that is no run.
        """
        check_is_fitted(self, "model_")
        calibrated = dataclasses.replace(self.model_.trained_, calibration=torch.from_numpy(self.calibration_scores_))
        runs.save_new(calibrated, check_path(path, "a new folder"), self.sections(), overwrite=overwrite)

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return what a run folder says of the detector and its model."""
        own = {"false_alarms": float(self.false_alarms), "rule": self.rule, "calibration": float(self.calibration)}
        return self.model_.sections() | {"detector": own}

    @classmethod
    def of(cls, model: Estimator, section: dict[str, Any]) -> Self:
        """Return the detector of a run that was read.

        Parameters
        ----------
        model
            With the calibration scores in its ``trained_``.
        section
            Its arguments.
        """
        detector = cls(clone(model), **section)
        scores = model.trained_.calibration
        if scores is None:
            raise InputError("a detector without calibration scores", "those of its run", "Call fit or calibrate.")
        detector._take(model, scores.numpy())
        return detector

    def __sklearn_tags__(self) -> Tags:
        """Declare what scikit-learn wants to know: what the model takes."""
        tags = super().__sklearn_tags__()
        model = GaussianVAE() if self.model is None else self.model
        tags.input_tags = model.__sklearn_tags__().input_tags
        return tags


def _checked(model: object) -> Estimator:
    """Return a model that can score rows; refuse others."""
    if not isinstance(model, Estimator) or not hasattr(model, "score_samples"):
        got = f"model={type(model).__name__}"
        raise InputError(got, "an estimator of rows with a bound", "Such as GaussianVAE() or TwoStageVAE().")
    if model.conditional:
        raise InputError("a conditional model for a detector", "one without a condition", "Put y into X as columns.")
    return model


def _rows(X: Any, index: torch.Tensor) -> Any:
    if isinstance(X, torch.Tensor):
        return X[index.to(X.device)]
    if isinstance(X, MappedArray):
        return X.subset(index)
    return _safe_indexing(X if hasattr(X, "__getitem__") else np.asarray(X), index.numpy())
