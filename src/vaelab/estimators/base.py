"""What every estimator of rows does: arrays in, arrays out, in the caller's own units, shape, dtype and container."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from vaelab import runs
from vaelab.arguments import check_count, check_draws, check_memory
from vaelab.data import Conditioning, Dataset, MappedArray, Rows, Schema, TestSplit, TrainSplit
from vaelab.data.cells import container_of
from vaelab.data.checks import (
    check_array,
    is_frame,
)
from vaelab.data.containers import opened_rows
from vaelab.data.frames import polars_dtypes
from vaelab.diagnostics.prune import Pruned
from vaelab.errors import InputError, VaelabWarning
from vaelab.estimators.imputation import Completing
from vaelab.estimators.reading import Reading
from vaelab.estimators.specified import drawn_seed, seed_of, unchanged_by_failure
from vaelab.runs.drawing import Draws
from vaelab.runs.trained import Trained
from vaelab.training.hooks import Callback, Hook

if TYPE_CHECKING:
    from sklearn.utils import Tags


class Estimator(Completing, ClassNamePrefixFeaturesOutMixin, TransformerMixin, Reading):  # type: ignore[misc]
    """What `GaussianVAE`, `ConditionalVAE` and `TwoStageVAE` do.

    Attributes
    ----------
    trained_ : vaelab.runs.Trained
        Networks, densities, units and facts.
    active_dimensions_ : int
        Latent dimensions whose mean ratio on the training data is below 0.05. The code of a `TwoStageVAE` of a table
        may be the whitened columns (``trained_.facts.lossless``), all of which are active.
    gamma_ : float or ndarray or None
        Decoder variance in the network's units (columns of variance 1, pixels in [0, 1]); of the shape of a row where
        every dimension has its own, and a mean over rows where rows differ.
    variance_ratios_ : ndarray of shape (latent_dim,)
        Mean posterior variance of every latent dimension, relative to the prior's.
    classes_ : tuple of str or None
        Names of the classes, where the condition is one class.
    schema_ : vaelab.data.Schema or None
        What the columns of X hold and how each is modelled, for ``likelihood="mixed"``; prints as a table.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.
    """

    random_state: int | np.random.RandomState | None
    score_draws: int
    verbose: bool
    _has_bound = True
    _defaults: ClassVar[Mapping[str, object]] = {"densities": ()}
    trained_: Trained
    schema_: Schema | None
    pruned_: Pruned

    def fit(self, X: Any, y: Any = None, *, callbacks: Sequence[Hook | Callback] = ()) -> Self:
        """Train.

        Parameters
        ----------
        X
            (n, d) table or (n, C, H, W) images; numpy, torch, pandas, polars, or a container that
            `vaelab.data.gather` reads. With ``likelihood="mixed"`` a table may have columns of text, booleans, dates or
            categories, and missing entries.
        y
            Conditions, for a conditional model: n classes (text, whole numbers or booleans), n floating-point numbers,
            an (n, k) array or data frame of both, or n sequences (time, features). Of a container: the name of what
            holds them, or None for what comes with its rows. Not used by others.
        callbacks
            Functions of the record of each epoch, a dictionary: ``stage`` (its name begins with ``"stage one"`` or
            ``"stage two"``), ``epoch``, ``loss``, its terms, ``held_out_loss``, ``gamma``, ``seconds`` and others. True
            ends the stage, whose model is kept. Also `vaelab.training.Hook`, such as a tracker.

        Raises
        ------
        InputError
            Wrong rank, type or range, values that are not finite, too few rows, conditions that are missing, or
            settings that contradict each other; before training starts.
        """
        with unchanged_by_failure(self):
            hooks = self._hooks(callbacks)
            check_draws("score_draws", self.score_draws)
            settings = self.settings(seed_of(self.random_state))
            came = X
            X, y = opened_rows(X, y, labelled=self.conditional)
            x = self._rows(X, reset=True)
            conditioning = Conditioning.fit(_required(y)) if self.conditional else None
            c = None if conditioning is None else conditioning.to_net(y, len(x))
            data = self._joined(x, conditioning, c)
            self.trained_ = runs.train(data, settings, hooks=hooks)
            container = container_of(X if is_frame(X) else came)
            self.trained_.facts.container, self.trained_.facts.dtypes = container, polars_dtypes(X)
            self._describe()
        return self

    def as_dataset(self, X: Any, y: Any = None) -> Dataset:
        """Return rows and conditions, checked as in `transform`, as the training split of a data set."""
        check_is_fitted(self)
        X, y = opened_rows(X, y, labelled=self.conditional)
        x = self._rows(X, reset=False)
        return self._joined(x, self.trained_.conditioning, self.trained_.conditions(y, len(x)))

    def _joined(self, x: Rows, conditioning: Conditioning | None, c: Tensor | None) -> Dataset:
        labels = None if conditioning is None or c is None else conditioning.labels(c)
        names = getattr(self, "feature_names_in_", None)
        return Dataset(
            name="array",
            kind="image" if len(x.shape) == 4 else "table",
            train=TrainSplit(x, labels, c),
            test=TestSplit(x.subset(torch.arange(0)) if isinstance(x, MappedArray) else x[:0]),
            columns=None if names is None else tuple(names),
            classes=None if conditioning is None else conditioning.classes,
            source="memory",
            conditioning=conditioning,
            schema=self.schema_,
        )

    def _describe(self) -> None:
        """Set what is learned, from `trained_` alone."""
        variance = self.trained_.vae.likelihood.variance
        self.variance_ratios_ = np.array(self.trained_.facts.variance_ratios)
        self.active_dimensions_ = self.trained_.active_dimensions
        gamma = None if variance is None else variance.gamma.detach().cpu().double()
        self.gamma_ = None if gamma is None else gamma.numpy() if gamma.ndim else float(gamma)
        self.schema_ = self.trained_.schema
        conditioning = self.trained_.conditioning
        self.classes_ = None if conditioning is None else conditioning.classes
        self.score_noise_ = self.trained_.score_noise(self.score_draws)

    @property
    def _n_features_out(self) -> int:
        return int(self.trained_.settings.size)

    def fit_transform(self, X: Any, y: Any = None, *, callbacks: Sequence[Hook | Callback] = ()) -> Any:
        """Train, then encode the same rows."""
        return self.fit(X, y, callbacks=callbacks).transform(X, y if self.conditional else None)

    def transform(self, X: Any, y: Any = None) -> Any:
        """Encode: (n, latent_dim) posterior means, in X's floating dtype; y as in `fit`."""
        x, c = self._both(X, y)
        return self._floats(self.trained_.encode(x, c), x.dtype, as_torch=container_of(X) == "torch")

    def inverse_transform(self, Z: Any, y: Any = None) -> Any:
        """Decode (n, latent_dim) codes to decoder means, like X in fit; y as in `fit`."""
        check_is_fitted(self)
        z = check_array(Z, name="Z", min_rows=1)
        if z.ndim != 2 or z.shape[1] != self._n_features_out:
            raise InputError(
                f"codes of shape {tuple(z.shape)}", f"(n, {self._n_features_out})", "Use transform's output."
            )
        decoded = self.trained_.decode(z, self.trained_.conditions(y, len(z), spread=True))
        return _indexed(self.trained_.returned(decoded, decided=True), Z)

    def reconstruct(self, X: Any, y: Any = None) -> Any:
        """Return the decoder means at the posterior means, like X in fit; y as in `fit`."""
        check_is_fitted(self)
        X, y = opened_rows(X, y, labelled=self.conditional)
        x, c = self._both(X, y)
        return _indexed(self.trained_.returned(self.trained_.reconstruct(x, c), like=X, decided=True), X)

    @available_if(lambda self: self._has_bound)  # type: ignore[untyped-decorator]
    def score_samples(self, X: Any, y: Any = None) -> np.ndarray[Any, Any]:
        """(n,) lower bound on log p(x) in nats, in X's own units: the mean ELBO over ``score_draws`` fixed draws of z.

        It is of log p(x | y) for a conditional model. For uint8 images add ``d · log 255`` to compare with numbers for
        pixels in [0, 1]. With ``likelihood="mixed"`` it is of what was observed in a row: a density of its numbers
        times a probability of its levels, which compares models of the same rows.
        """
        x, c = self._both(X, y)
        return self.trained_.bound(x, self.score_noise_, c).cpu().numpy()

    @available_if(lambda self: self._has_bound)  # type: ignore[untyped-decorator]
    def costs(self, X: Any, y: Any = None) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Divide minus `score_samples` of each row: nats of every entry, of the shape of X, and (n,) KL."""
        x, c = self._both(X, y)
        entries, divergence = self.trained_.costs(x, self.score_noise_, c)
        return entries.numpy(), divergence.numpy()

    @available_if(lambda self: self._has_bound)  # type: ignore[untyped-decorator]
    def log_likelihood(
        self,
        X: Any,
        y: Any = None,
        *,
        k: int = 100,
        density: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray[Any, Any]:
        """(n,) importance-weighted lower bound on log p(x) in nats, in X's own units; the higher k, the tighter.

        log p(x) ≥ E log (1/k) Σ p(x | z) p(z) / q(z | x) over k draws of z (Burda et al. 2016, eq. 8). p(z) is the
        law that samples are drawn from, so that this is the density of what `sample` returns; `score_samples` is the
        bound of the training, under the prior (of whitened columns under their law), whose one draw k = 1 and
        ``density="prior"`` give.

        Parameters
        ----------
        X, y
            Rows, and conditions as in `fit`.
        k
            Draws of z per row.
        density
            Name of the latent density that is p(z); ``"auto"`` is that of `sample`, of models with one law the prior.
        random_state
            Seed or generator of the draws; ``self.random_state`` if None.

        Raises
        ------
        InputError
            k below 1, an unknown density, or rows that do not fit.
        """
        check_is_fitted(self)
        check_draws("k", k)
        x, c = self._both(X, y)
        seed = seed_of(self.random_state if random_state is None else random_state)
        return self.trained_.log_likelihood(x, c, k=k, density=density, seed=seed).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of `score_samples`, so that model selection prefers the higher bound."""
        return float(self.score_samples(X, y if self.conditional else None).mean())

    def _draw(
        self, n: int, y: Any, how: Draws, random_state: int | np.random.RandomState | None, on_manifold: Any = None
    ) -> Any:
        """Draw rows; say how many were rejected."""
        check_is_fitted(self)
        check_count("n", n)
        remedy = "Draw them in parts, each with its own random_state."
        check_memory(f"n={n:,}", 12 * int(n) * math.prod(self.trained_.facts.event_shape), remedy)
        rejection = None
        if on_manifold is not None:
            rows = on_manifold if isinstance(on_manifold, tuple) and self.conditional else (on_manifold,)
            rejection = runs.rejection_of(self.trained_, self.as_dataset(*rows).train)
        source = self.random_state if random_state is None else random_state
        how = dataclasses.replace(how, rejection=rejection, seed=drawn_seed(source))
        drawn = self.trained_.sample(n, self.trained_.conditions(y, n, spread=True), how)
        if rejection is not None:
            warnings.warn(rejection.said, VaelabWarning, stacklevel=3)
        return self.trained_.returned(drawn, decided=how.observation_noise is False)

    def prune(self, X: Any, y: Any = None, *, keep: Sequence[int] | None = None, tolerance: float = 0.1) -> Self:
        """Return the same model without its idle latent dimensions; latent densities are fitted again.

        Parameters
        ----------
        X, y
            Rows and conditions, as in `fit`, to count and to compare on.
        keep
            Dimensions to keep; those that are active in all rows or in a class if None.
        tolerance
            Largest change of reconstructions and samples, in units of √γ, that passes without a warning.

        Returns
        -------
        Estimator
            Fitted, with a smaller ``latent_dim``; its ``pruned_`` says what was kept and what that changed.
        """
        check_is_fitted(self)
        batches = self.trained_.batches_of(self.as_dataset(X, y).train)
        trained, pruned = runs.prune(self.trained_, batches, keep=keep, tolerance=tolerance)
        smaller = self.around(trained, {"latent_dim": trained.settings.size})
        smaller.pruned_ = pruned
        return smaller

    def around(self, trained: Trained, changes: Mapping[str, object]) -> Self:
        """Return an estimator of this kind around another training; `changes` are the arguments that differ."""
        other: Self = clone(self).set_params(**changes)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(other, name, getattr(self, name))
        other.trained_ = trained
        other._describe()
        return other

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return what a run folder says of the estimator."""
        return {"estimator": {"score_draws": self.score_draws, "n_features_in": int(self.n_features_in_)}}

    def _floats(self, values: Tensor, dtype: torch.dtype, *, as_torch: bool) -> Any:
        out = values.cpu().to(dtype if dtype.is_floating_point else torch.float32)
        return out if as_torch else out.numpy()

    def __sklearn_tags__(self) -> Tags:
        """Declare what scikit-learn wants to know: float32 and float64 stay what they are."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.target_tags.required = self.conditional
        mixed = self._chosen_columns() is not None
        tags.input_tags.allow_nan = tags.input_tags.categorical = tags.input_tags.string = mixed
        return tags


def _indexed(rows: Any, like: Any) -> Any:
    """Give a data frame the index of the one that it was made of."""
    return rows.set_axis(like.index, axis=0) if is_frame(rows) and is_frame(like) else rows


def _required(y: Any) -> Any:
    if y is None:
        raise InputError("no y, for a conditional model", "a condition for every row", "Call fit(X, y).")
    return y
