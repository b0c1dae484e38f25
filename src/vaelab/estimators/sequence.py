"""`SequenceVAE`: p(x_l | x_<l) for sequences of any length, point by point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self, final

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from vaelab import runs
from vaelab.arguments import check_count, check_draws, check_memory
from vaelab.data import Conditioning, Dataset, Ragged, TestSplit, TrainSplit, Windows
from vaelab.data.sequences import advance, context_of, latest_windows, target_rows
from vaelab.errors import InputError
from vaelab.estimators.specified import (
    Specified,
    drawn_seed,
    keep_arguments,
    seed_of,
    settings_of,
    unchanged_by_failure,
)
from vaelab.runs.trained import Trained
from vaelab.specs import LSTM, Compute, FitSettings, Gaussian, Likelihood, Penalty, Settings
from vaelab.training import Progress, stream

_SEQUENTIAL = ("units", "context", "loss", "shared_prior", "random_state", "score_draws", "verbose")


@final
class SequenceVAE(TransformerMixin, Specified):  # type: ignore[misc]
    """Sequential conditional VAE: every point given those before it, x_l ~ p(x_l | z_l, x_<l), z_l ~ p(z_l | x_<l).

    Encoder, prior and decoder are LSTMs. Zheng et al. 2022, sections 3.3 and 4.6.

    Parameters
    ----------
    latent_dim
        Latent dimensions of a point; superfluous ones are left idle by training.
    units
        Width of each LSTM.
    context
        Earlier points that are read; default: the longest past in fit, at most 64.
    loss
        ``"all"`` sums over all points; ``"last"`` scores the last point of each sequence only, as the paper does.
    shared_prior
        Let the prior read with the encoder's weights. The loss then stays above a constant (Theorem 3); for comparison.
    likelihood
        p(x_l | z_l, x_<l): Gaussian of one variance, profiled by default; ``"gaussian(learned)"`` for another.
    penalties
        ``"kl"`` by default, ``KL(4)`` for a β-VAE.
    epochs, batch_size, lr, training, compute
        Training on points, as for `GaussianVAE`.
    held_out
        Share of the sequences that is set aside, to end with the weights best on it.
    random_state
        Seed of everything random in fit, and of `sample` unless it is given one.
    score_draws
        Draws of z per point in `score_samples`.
    verbose
        Show progress on a terminal.

    Attributes
    ----------
    trained_ : vaelab.runs.Trained
        Networks, units and facts.
    context_ : int
        Earlier points that are read.
    active_dimensions_ : int
        Latent dimensions whose mean variance ratio is below 0.05.
    variance_ratios_ : ndarray of shape (latent_dim,)
        Mean posterior variance of every latent dimension, relative to the prior's.
    gamma_ : float
        Decoder variance in the network's units, where every feature has variance 1.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import SequenceVAE
    >>> X = [np.random.default_rng(i).normal(size=(5 + i, 2)) for i in range(20)]
    >>> model = SequenceVAE(latent_dim=2, units=8, epochs=2, random_state=0).fit(X)
    >>> model.score_samples(X).shape, model.sample(3, steps=4, prefix=X[0]).shape
    ((20,), (3, 4, 2))
    """

    def __init__(
        self,
        latent_dim: int = 16,
        *,
        units: int = 32,
        context: int | None = None,
        loss: Literal["last", "all"] = "all",
        shared_prior: bool = False,
        likelihood: Likelihood | str = "gaussian",
        penalties: Sequence[Penalty | str] | Penalty | str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        training: FitSettings | None = None,
        compute: Compute | None = None,
        held_out: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
        score_draws: int = 16,
        verbose: bool = False,
    ) -> None:
        keep_arguments(self, locals())

    def settings(self, seed: int = 0) -> Settings:
        """Return the arguments as settings.

        Raises
        ------
        InputError
            An unknown value, a contradiction, or a likelihood other than a Gaussian of one variance.
        """
        given = {name: value for name, value in self.get_params(deep=False).items() if name not in _SEQUENTIAL}
        networks = {"network": LSTM(units=self.units), "densities": ()}
        kind = "shared" if self.shared_prior else "conditional"
        settings = settings_of({**given, **networks, "condition": {"kind": kind, "attention": False}}, seed)
        likelihood = settings.likelihood
        if not isinstance(likelihood, Gaussian) or likelihood.shape != "iso-i":
            raise InputError(f"likelihood={likelihood!r} for sequences", "a Gaussian one of one variance")
        return settings

    def fit(self, X: Any, y: object = None) -> Self:
        """Train.

        Parameters
        ----------
        X
            A list of n arrays (time, features) of any lengths, or an array (n, time, features) in which sequences that
            end early are filled up with NaN; numpy, torch or pandas.
        y
            Not used.

        Raises
        ------
        InputError
            No sequences, other numbers of features, values that are not finite, or settings that contradict each
            other; before training starts.
        """
        with unchanged_by_failure(self):
            check_draws("score_draws", self.score_draws)
            sequences = _on_cpu(Ragged.of(X))
            settings = self.settings(seed_of(self.random_state))
            target_rows(sequences, self.loss)  # refuses another loss
            self.context_ = context_of(sequences, self.context)
            self.starts_ = self.loss == "all"
            data = self._points(sequences, Conditioning.fit(sequences, steps=self.context_))
            self.trained_: Trained = runs.train(data, settings, hooks=[Progress()] if self.verbose else [])
            self._describe()
        return self

    def as_dataset(self, X: Any, y: object = None) -> Dataset:
        """Return the points that are scored and the windows before them, labelled by their place in the sequence.

        This is what `vaelab.manifold_dimension` counts on: a point with much before it has fewer dimensions left.
        """
        check_is_fitted(self)
        if y is not None:
            raise InputError("conditions beside sequences", "sequences alone", "A point's condition is its past.")
        conditioning = self.trained_.conditioning
        assert conditioning is not None
        return self._points(self._read(X), conditioning)

    def _points(self, sequences: Ragged, conditioning: Conditioning) -> Dataset:
        rows = target_rows(sequences, "all" if self.starts_ else "last")
        windows = Windows.before(conditioning.standardised(sequences), rows, self.context_)
        owner = torch.searchsorted(sequences.offsets, rows, right=True) - 1
        place = (rows - sequences.offsets[owner]).clamp(max=self.context_)
        names = (*(f"point {i + 1}" for i in range(self.context_)), f"from {self.context_ + 1}")
        points = sequences.points[rows]
        return Dataset(
            name="sequences",
            kind="table",
            train=TrainSplit(points, place, windows, groups=owner),
            test=TestSplit(points[:0]),
            classes=names,
            source="memory",
            conditioning=conditioning,
        )

    def _describe(self) -> None:
        """Set what is learned, from `trained_` alone."""
        likelihood = self.trained_.vae.likelihood
        assert likelihood.variance is not None
        self.gamma_ = float(likelihood.variance.gamma)
        self.variance_ratios_ = np.array(self.trained_.facts.variance_ratios)
        self.active_dimensions_ = self.trained_.active_dimensions
        self.n_features_in_ = self.trained_.facts.event_shape[0]
        seed = self.trained_.settings.seed
        self.score_noise_ = torch.randn(self.score_draws, self.latent_dim, generator=stream("cpu", seed, "score"))

    def _read(self, X: Any, name: str = "X") -> Ragged:
        """Check sequences, as wide as those of fit."""
        sequences = _on_cpu(Ragged.of(X, name=name))
        if sequences.points.shape[1] != self.n_features_in_:
            raise InputError(
                f"{name} with {sequences.points.shape[1]} features per step", f"{self.n_features_in_} as in fit"
            )
        return sequences

    def _windows(self, sequences: Ragged, rows: Tensor) -> Windows:
        conditioning = self.trained_.conditioning
        assert conditioning is not None
        return Windows.before(conditioning.standardised(sequences), rows, self.context_)

    def transform(self, X: Any) -> np.ndarray[Any, Any]:
        """Encode the last point of each sequence given those before it: (n, latent_dim) posterior means."""
        check_is_fitted(self)
        sequences = self._read(X)
        rows = target_rows(sequences, "last")
        z = self.trained_.encode(sequences.points[rows], self._windows(sequences, rows))
        return z.cpu().numpy()

    def score_samples(self, X: Any) -> np.ndarray[Any, Any]:
        """(n,) lower bound on log p(x_1 … x_t) of each sequence, nats in X's own units; the sum over its points.

        After ``loss="last"`` it is of the last point given the others alone.
        """
        check_is_fitted(self)
        points = self.as_dataset(X).train
        assert isinstance(points.x, Tensor)
        assert points.groups is not None
        bounds = self.trained_.bound(points.x, self.score_noise_, points.c).cpu()
        return bounds.new_zeros(int(points.groups[-1]) + 1).index_add_(0, points.groups, bounds).numpy()

    def score(self, X: Any, y: object = None) -> float:
        """Mean of `score_samples`."""
        return float(self.score_samples(X).mean())

    @torch.no_grad()
    def sample(
        self,
        n: int = 1,
        steps: int = 10,
        *,
        prefix: Any = None,
        observation_noise: bool = True,
        random_state: int | np.random.RandomState | None = None,
    ) -> np.ndarray[Any, Any]:
        """Draw what comes next, one point after the other: z_l ~ p(z_l | x_<l), x_l ~ p(x_l | z_l, x_<l).

        Parameters
        ----------
        n
            How many sequences.
        steps
            How many points of each.
        prefix
            The beginning: one sequence (time, features) for all draws, or n of them; nothing if None.
        observation_noise
            Draw x_l with the decoder's noise; without it, its mean.
        random_state
            Seed or generator; ``self.random_state`` if None.

        Returns
        -------
        ndarray
            (n, steps, features), without the prefix, in X's own units.

        Raises
        ------
        InputError
            The prefix has other features, or there are neither 1 nor n; or there is none after ``loss="last"``, which
            never saw a sequence begin.
        """
        check_is_fitted(self)
        check_count("n", n)
        check_count("steps", steps)
        if prefix is None and not self.starts_:
            raise InputError("no prefix, after loss='last'", "the points to go on from", "Or fit with loss='all'.")
        numbers = 3 * int(n) * int(steps) * math.prod(self.trained_.facts.event_shape)
        check_memory(f"n={n:,} of {steps:,} steps", 4 * numbers, "Draw fewer, or shorter ones.")
        trained = self.trained_
        source = self.random_state if random_state is None else random_state
        generator = stream(trained.device, drawn_seed(source), "sequences")
        windows = self._started(prefix, n).to(trained.device)
        conditioning = trained.conditioning
        assert conditioning is not None
        drawn = []
        for _ in range(steps):
            x = trained.vae.sample(n, windows, generator=generator, observation_noise=observation_noise)
            drawn.append(trained.scaling.from_net(x).cpu())
            one = Ragged(drawn[-1], torch.arange(n + 1))
            windows = advance(windows, conditioning.standardised(one).points.to(windows))
        return torch.stack(drawn, 1).numpy()

    def _started(self, prefix: Any, n: int) -> Tensor:
        """(n, context, features + 1), the windows that drawing starts from."""
        conditioning = self.trained_.conditioning
        assert conditioning is not None
        if prefix is None:
            return torch.zeros(n, *conditioning.shape)
        one = getattr(prefix, "ndim", None) == 2
        sequences = self._read([prefix] if one else prefix, "prefix")
        if len(sequences) not in (1, n):
            raise InputError(f"{len(sequences)} prefixes for n={n}", "one for all, or one for each")
        windows = latest_windows(conditioning.standardised(sequences), self.context_)
        return windows.expand(n, *windows.shape[1:]).contiguous() if len(windows) == 1 else windows

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return what a run folder says of the estimator."""
        return {"estimator": {"score_draws": self.score_draws, "context": self.context_, "loss": self.loss}}

    @classmethod
    def of(cls, trained: Trained, section: dict[str, Any]) -> Self:
        """Return what `save` wrote, from its two parts."""
        settings = trained.settings
        fields = set(Settings.model_fields) & set(cls().get_params(deep=False))
        assert isinstance(settings.network, LSTM)
        assert settings.condition is not None
        model = cls(
            **{name: getattr(settings, name) for name in fields},
            units=settings.network.units,
            shared_prior=settings.condition.kind == "shared",
            random_state=settings.seed,
            **{name: section[name] for name in ("score_draws", "context", "loss")},
        )
        model.trained_, model.context_, model.starts_ = trained, section["context"], section["loss"] == "all"
        model._describe()
        return model


def _on_cpu(sequences: Ragged) -> Ragged:
    return Ragged(sequences.points.cpu(), sequences.offsets.cpu())
