"""`VAEImputer`: missing entries filled in, by scikit-learn's contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from vaelab.arguments import check_count, check_kind
from vaelab.errors import InputError
from vaelab.estimators.base import Estimator
from vaelab.estimators.specified import keep_arguments, seed_of, unchanged_by_failure
from vaelab.estimators.two_stage import TwoStageVAE
from vaelab.specs import MLP
from vaelab.training.hooks import Callback, Hook

if TYPE_CHECKING:
    from sklearn.utils import Tags


@final
class VAEImputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Missing entries of a table filled in by a model of its rows, for pipelines.

    Parameters
    ----------
    model
        What is trained: an estimator with ``likelihood="mixed"``, without a condition; if None,
        ``TwoStageVAE(network="mlp([64], skip=True)", likelihood="mixed(numbers=chosen)", densities="mixture",
        lr=3e-3)``: unseen rows choose between a small network and the whitened numbers under a mixture of Gaussians
        that is fitted to rows with gaps, which few rows prefer. ``model__latent_dim`` sets what is inside. One that is
        trained on rows without gaps may have another likelihood.
    sample_posterior
        Fill in a draw, with its spread, instead of the mean: as `sklearn.impute.IterativeImputer` has it. Several
        imputers with seeds of their own make multiple imputations; ``model_.impute(X, draws=20)`` makes them at once.
    k
        Draws of z per row.
    random_state
        Seed of the draws, and of the model if that is None.

    Attributes
    ----------
    model_
        The fitted estimator.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import GaussianVAE, VAEImputer
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) @ np.ones((1, 3))
    >>> X[::5, 0] = np.nan
    >>> model = GaussianVAE(latent_dim=2, network="mlp([16])", likelihood="mixed", epochs=5, random_state=0)
    >>> bool(np.isfinite(VAEImputer(model, random_state=0).fit_transform(X)).all())
    True
    """

    model_: Estimator

    def __init__(
        self,
        model: Estimator | None = None,
        *,
        sample_posterior: bool = False,
        k: int = 200,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        keep_arguments(self, locals())

    def fit(self, X: Any, y: Any = None, *, callbacks: Sequence[Hook | Callback] = ()) -> Self:
        """Train the model.

        Parameters
        ----------
        X
            (n, d) table, with gaps.
        y
            Not used.
        callbacks
            As for the model's `fit`.

        Raises
        ------
        InputError
            As the model's `fit`; a model with a condition, or that is no estimator of rows.
        """
        with unchanged_by_failure(self):
            check_count("k", self.k)
            check_kind("sample_posterior", self.sample_posterior, (bool, np.bool_), "True or False")
            seed_of(self.random_state)  # refuses what is no seed before it trains
            self.model_ = clone(self._model).fit(X, callbacks=callbacks)
            for name in ("n_features_in_", "feature_names_in_"):
                if hasattr(self.model_, name):
                    setattr(self, name, getattr(self.model_, name))
            schema = self.model_.schema_
            if schema is not None:  # columns that the model does not see come back too
                self.n_features_in_ = len(schema.given)
                if hasattr(self, "feature_names_in_"):
                    self.feature_names_in_ = np.array([column.name for column in schema.given], dtype=object)
        return self

    def transform(self, X: Any) -> Any:
        """Return a copy of X, in its own container, with its gaps filled in; entries that were there are the same.

        Raises
        ------
        InputError
            Rows that do not fit.
        """
        check_is_fitted(self, "model_")
        seed = seed_of(self.random_state)
        if not self.sample_posterior:
            return self.model_.impute(X, k=self.k, random_state=seed)
        return self.model_.impute(X, draws=1, k=self.k, random_state=seed)[0]

    @property
    def _model(self) -> Estimator:
        model = _usual(self.random_state) if self.model is None else self.model
        if not isinstance(model, Estimator):
            raise InputError(f"model={type(model).__name__}", "an estimator of rows", "Such as GaussianVAE().")
        if model.conditional:
            raise InputError(
                "a conditional model for an imputer", "one without a condition", "Put y into X as columns."
            )
        return model

    def __sklearn_tags__(self) -> Tags:
        """Declare what scikit-learn wants to know: what the model takes."""
        tags = super().__sklearn_tags__()
        model = _usual(self.random_state) if self.model is None else self.model
        tags.input_tags = model.__sklearn_tags__().input_tags
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _usual(random_state: int | np.random.RandomState | None) -> TwoStageVAE:
    """Return the model that fills gaps best by default, as `benchmarks.imputation` has it."""
    network = MLP(hidden=(64,), skip=True)
    return TwoStageVAE(
        network=network, likelihood="mixed(numbers=chosen)", densities="mixture", lr=3e-3, random_state=random_state
    )
