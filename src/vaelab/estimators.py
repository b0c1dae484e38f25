"""The scikit-learn face: arrays in, arrays out, in the caller's own units, shape, dtype and container.

`GaussianVAE` is one stage and samples from its prior; `TwoStageVAE` fits latent densities as well and samples from the
one that explains held-out codes best. Their arguments are the fields of `vaelab.config.Settings`, apart from
``random_state``, which is ``seed`` under scikit-learn's name, ``score_draws`` and ``verbose``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, final

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from vaelab import runs
from vaelab.config import Density, Network, Settings, parse_settings
from vaelab.data import Dataset, TestSplit, TrainSplit
from vaelab.data.checks import check_array
from vaelab.errors import InputError
from vaelab.model import Gaussian, count_active
from vaelab.runs.trained import Trained
from vaelab.training import Progress, stream
from vaelab.training.settings import Accelerator, Precision, Schedule

if TYPE_CHECKING:
    from sklearn.utils import Tags

Container = Literal["numpy", "torch", "pandas"]
_LARGEST_SEED = 2**31 - 1
_OWN = ("random_state", "score_draws", "verbose")


class _Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What both estimators do.

    Attributes
    ----------
    trained_ : vaelab.runs.Trained
        Networks, densities, units and facts.
    active_dimensions_ : int
        Latent dimensions whose mean posterior variance on the training data is below 0.05.
    gamma_ : float or None
        Decoder variance in the network's units (columns of variance 1, pixels in [0, 1]).
    variance_ratios_ : ndarray of shape (latent_dim,)
        Mean posterior variance of every latent dimension.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.
    """

    random_state: int | np.random.RandomState | None
    score_draws: int
    verbose: bool

    def _settings(self, seed: int) -> Settings:
        values = {name: value for name, value in self.get_params(deep=False).items() if name not in _OWN}
        return parse_settings({"densities": (), **values, "seed": seed})

    def fit(self, X: Any, y: object = None) -> Self:
        """Train.

        Parameters
        ----------
        X
            (n, d) table or (n, C, H, W) images; numpy, torch or pandas.
        y
            Not used.

        Raises
        ------
        InputError
            Wrong rank, type or range, values that are not finite, too few rows, or settings that contradict each
            other; before training starts.
        """
        _check_count("score_draws", self.score_draws)
        x = self._validated(X, reset=True)
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(_LARGEST_SEED)
        settings = self._settings(int(seed))
        names = getattr(self, "feature_names_in_", None)
        data = Dataset(
            name="array",
            kind="image" if x.ndim == 4 else "table",
            train=TrainSplit(x),
            test=TestSplit(x[:0]),
            columns=None if names is None else tuple(names),
            classes=None,
            source="memory",
        )
        self.trained_ = runs.train(data, settings, hooks=[Progress()] if self.verbose else [])
        self._describe()
        return self

    def _describe(self) -> None:
        """Set what is learned, from `trained_` alone."""
        likelihood = self.trained_.vae.likelihood
        self.variance_ratios_ = np.array(self.trained_.facts.variance_ratios)
        self.active_dimensions_ = count_active(torch.as_tensor(self.variance_ratios_))
        self.gamma_ = float(likelihood.variance.gamma) if isinstance(likelihood, Gaussian) else None
        self.score_noise_ = torch.randn(
            self.score_draws,
            self.trained_.settings.latent_dim,
            generator=stream("cpu", self.trained_.settings.seed, "score"),
        )

    @property
    def _n_features_out(self) -> int:
        return int(self.trained_.settings.latent_dim)

    def _validated(self, X: Any, *, reset: bool) -> Tensor:
        """Check X as scikit-learn does, then as vaelab does; return a CPU tensor."""
        if reset:
            self.container_: Container = _container_of(X)
        if isinstance(X, Tensor):
            X = check_array(X, min_rows=1, allow_nan=True).detach().cpu().numpy()
        images = getattr(X, "ndim", 2) > 2
        # images keep their dtype, since it says what their range is
        checked = validate_data(
            self,
            X,
            reset=reset,
            dtype=None if images else [np.float64, np.float32],
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_samples=2 if reset else 1,
        )
        x = check_array(checked, min_rows=2 if reset else 1)
        if not reset and tuple(x.shape[1:]) != self.trained_.facts.event_shape:
            raise InputError(f"rows of shape {tuple(x.shape[1:])}", f"{self.trained_.facts.event_shape} as in fit")
        if not reset:
            self.trained_.scaling.check(x)
        return x

    def transform(self, X: Any) -> Any:
        """Encode: (n, latent_dim) posterior means, in X's floating dtype."""
        check_is_fitted(self)
        x = self._validated(X, reset=False)
        return self._floats(self.trained_.encode(x), x.dtype, as_torch=isinstance(X, Tensor))

    def inverse_transform(self, Z: Any) -> Any:
        """Decode (n, latent_dim) codes to decoder means, like X in fit."""
        check_is_fitted(self)
        z = check_array(Z, name="Z", min_rows=1)
        if z.ndim != 2 or z.shape[1] != self._n_features_out:
            raise InputError(
                f"codes of shape {tuple(z.shape)}", f"(n, {self._n_features_out})", "Use transform's output."
            )
        return self._like_x(self.trained_.decode(z))

    def reconstruct(self, X: Any) -> Any:
        """Return the decoder means at the posterior means, like X in fit."""
        check_is_fitted(self)
        return self._like_x(self.trained_.reconstruct(self._validated(X, reset=False)))

    def score_samples(self, X: Any) -> np.ndarray[Any, Any]:
        """(n,) lower bound on log p(x) in nats, in X's own units: the mean ELBO over ``score_draws`` fixed draws of z.

        For uint8 images add ``d · log 255`` to compare with numbers for pixels in [0, 1].
        """
        check_is_fitted(self)
        return self.trained_.bound(self._validated(X, reset=False), self.score_noise_).cpu().numpy()

    def score(self, X: Any, y: object = None) -> float:
        """Mean of `score_samples`, so that model selection prefers the higher bound."""
        return float(self.score_samples(X).mean())

    def _draw(self, n: int, density: str, random_state: int | np.random.RandomState | None) -> Any:
        check_is_fitted(self)
        _check_count("n", n)
        source = self.random_state if random_state is None else random_state
        seed = int(check_random_state(source).randint(_LARGEST_SEED))
        return self._like_x(self.trained_.sample(n, density=density, seed=seed))

    def save(self, path: str | Path) -> None:
        """Write a run folder: YAML and safetensors, no pickle. `vaelab.load` reads it back."""
        check_is_fitted(self)
        section = {
            "container": self.container_,
            "score_draws": self.score_draws,
            "n_features_in": int(self.n_features_in_),
        }
        runs.save(self.trained_, Path(path), {"estimator": section})

    def _floats(self, values: Tensor, dtype: torch.dtype, *, as_torch: bool) -> Any:
        out = values.cpu().to(dtype if dtype.is_floating_point else torch.float32)
        return out if as_torch else out.numpy()

    def _like_x(self, values: Tensor) -> Any:
        """Turn decoder means in the user's units into the container and dtype of fit's X."""
        trained = self.trained_
        name = trained.scaling.dtype
        out = values.cpu()
        if name == "uint8" and trained.facts.kind == "image":
            out = out.clamp(0, 255).round().to(torch.uint8)
        else:
            out = out.to(getattr(torch, name, torch.float64))
        if self.container_ == "torch":
            return out
        array = out.numpy()
        if self.container_ == "pandas":
            import pandas as pd

            return pd.DataFrame(array, columns=self.feature_names_in_)
        return array

    def __sklearn_tags__(self) -> Tags:
        """Declare what scikit-learn wants to know: float32 and float64 stay what they are."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@final
class GaussianVAE(_Estimator):
    """One-stage Gaussian VAE; samples come from its prior.

    Parameters
    ----------
    latent_dim
        Latent dimensions; superfluous ones are left idle by training.
    network, hidden, base_width, norm_decay
        Networks; ``"auto"`` is InfoGAN for images and a multilayer perceptron for tables.
    likelihood, variance, gamma, gamma_lr_scale, gamma_floor
        p(x | z) and its variance; profiled by default. ``gamma_floor`` is relative to the data's variance.
    kl_weight
        1 for a bound on log p(x), else β.
    epochs, batch_size, lr, schedule, halve_every, weight_decay
        Training; 2,000 to 10,000 steps, at least 5 epochs, unless ``epochs`` says otherwise.
    held_out, keep_best
        Share of the rows (at most 5,000) that is set aside, and whether to end with the weights best on it.
    precision, compile, accelerator, checkpoint_seconds
        How to compute.
    random_state
        Seed of everything random in fit, and of `sample` unless it is given one.
    score_draws
        Draws of z per row in `score_samples`.
    verbose
        Show progress on a terminal.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import GaussianVAE
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) @ np.ones((1, 4))
    >>> model = GaussianVAE(latent_dim=2, hidden=(16,), epochs=5, random_state=0).fit(X)
    >>> model.transform(X).shape, model.sample(3).shape
    ((200, 2), (3, 4))
    """

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        network: Network = "auto",
        hidden: Sequence[int] = (256, 256),
        base_width: int = 32,
        norm_decay: float = 0.99,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        variance: Literal["profiled", "learned", "fixed"] = "profiled",
        gamma: float | None = None,
        gamma_lr_scale: float = 10.0,
        gamma_floor: float = 1e-6,
        kl_weight: float = 1.0,
        epochs: int | None = None,
        batch_size: int = 100,
        lr: float = 1e-3,
        schedule: Schedule = "cosine",
        halve_every: int | None = None,
        weight_decay: float = 0.0,
        held_out: float = 0.1,
        keep_best: bool = True,
        precision: Precision = "32-true",
        compile: bool = False,
        accelerator: Accelerator = "auto",
        checkpoint_seconds: float = 30.0,
        random_state: int | np.random.RandomState | None = None,
        score_draws: int = 16,
        verbose: bool = False,
    ) -> None:
        self.latent_dim = latent_dim
        self.network = network
        self.hidden = hidden
        self.base_width = base_width
        self.norm_decay = norm_decay
        self.likelihood = likelihood
        self.variance = variance
        self.gamma = gamma
        self.gamma_lr_scale = gamma_lr_scale
        self.gamma_floor = gamma_floor
        self.kl_weight = kl_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.schedule = schedule
        self.halve_every = halve_every
        self.weight_decay = weight_decay
        self.held_out = held_out
        self.keep_best = keep_best
        self.precision = precision
        self.compile = compile
        self.accelerator = accelerator
        self.checkpoint_seconds = checkpoint_seconds
        self.random_state = random_state
        self.score_draws = score_draws
        self.verbose = verbose

    def sample(self, n: int = 1, *, random_state: int | np.random.RandomState | None = None) -> Any:
        """Draw n new rows, like X in fit: z from the prior, decoder means without noise."""
        return self._draw(n, "prior", random_state)


@final
class TwoStageVAE(_Estimator):
    """Gaussian VAE whose codes get densities of their own; samples come from the best of them.

    B. Dai, D. Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019, section 4.

    Parameters
    ----------
    latent_dim
        Latent dimensions; superfluous ones are left idle by training.
    network, hidden, base_width, norm_decay
        Networks; ``"auto"`` is InfoGAN for images and a multilayer perceptron for tables.
    likelihood, variance, gamma, gamma_lr_scale, gamma_floor
        p(x | z) and its variance; profiled by default. ``gamma_floor`` is relative to the data's variance.
    kl_weight
        1 for a bound on log p(x), else β.
    epochs, batch_size, lr, schedule, halve_every, weight_decay
        Training of stage one; 2,000 to 10,000 steps, at least 5 epochs, unless ``epochs`` says otherwise.
    densities
        Which to fit on the codes, beside the prior: ``"gaussian"``, ``"mixture"``, ``"second_stage"``.
    components, covariance
        Of the mixture; chosen on held-out codes where not given.
    second_hidden, second_epochs, second_lr, second_schedule, second_halve_every
        Network and training of stage two.
    held_out, keep_best
        Share of the rows (at most 5,000) to compare densities on, and whether to end with the weights best on it.
    precision, compile, accelerator, checkpoint_seconds
        How to compute.
    random_state
        Seed of everything random in fit, and of `sample` unless it is given one.
    score_draws
        Draws of z per row in `score_samples`.
    verbose
        Show progress on a terminal.
    """

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        network: Network = "auto",
        hidden: Sequence[int] = (256, 256),
        base_width: int = 32,
        norm_decay: float = 0.99,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        variance: Literal["profiled", "learned", "fixed"] = "profiled",
        gamma: float | None = None,
        gamma_lr_scale: float = 10.0,
        gamma_floor: float = 1e-6,
        kl_weight: float = 1.0,
        epochs: int | None = None,
        batch_size: int = 100,
        lr: float = 1e-3,
        schedule: Schedule = "cosine",
        halve_every: int | None = None,
        weight_decay: float = 0.0,
        densities: Sequence[Density] = ("gaussian", "mixture", "second_stage"),
        components: int | None = None,
        covariance: Literal["full", "diag"] | None = None,
        second_hidden: Sequence[int] = (1024, 1024, 1024),
        second_epochs: int | None = None,
        second_lr: float = 1e-3,
        second_schedule: Schedule = "cosine",
        second_halve_every: int | None = None,
        held_out: float = 0.1,
        keep_best: bool = True,
        precision: Precision = "32-true",
        compile: bool = False,
        accelerator: Accelerator = "auto",
        checkpoint_seconds: float = 30.0,
        random_state: int | np.random.RandomState | None = None,
        score_draws: int = 16,
        verbose: bool = False,
    ) -> None:
        self.latent_dim = latent_dim
        self.network = network
        self.hidden = hidden
        self.base_width = base_width
        self.norm_decay = norm_decay
        self.likelihood = likelihood
        self.variance = variance
        self.gamma = gamma
        self.gamma_lr_scale = gamma_lr_scale
        self.gamma_floor = gamma_floor
        self.kl_weight = kl_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.schedule = schedule
        self.halve_every = halve_every
        self.weight_decay = weight_decay
        self.densities = densities
        self.components = components
        self.covariance = covariance
        self.second_hidden = second_hidden
        self.second_epochs = second_epochs
        self.second_lr = second_lr
        self.second_schedule = second_schedule
        self.second_halve_every = second_halve_every
        self.held_out = held_out
        self.keep_best = keep_best
        self.precision = precision
        self.compile = compile
        self.accelerator = accelerator
        self.checkpoint_seconds = checkpoint_seconds
        self.random_state = random_state
        self.score_draws = score_draws
        self.verbose = verbose

    def _settings(self, seed: int) -> Settings:
        if not self.densities:
            raise InputError("densities=()", "at least one of gaussian, mixture, second_stage", "Or use GaussianVAE.")
        return super()._settings(seed)

    @property
    def code_scores_(self) -> dict[str, float]:
        """Density → mean log-density of held-out codes, nats (a lower bound for the second stage)."""
        check_is_fitted(self)
        return dict(self.trained_.facts.code_scores)

    def sample(
        self, n: int = 1, *, density: str = "auto", random_state: int | np.random.RandomState | None = None
    ) -> Any:
        """Draw n new rows, like X in fit.

        Parameters
        ----------
        n
            How many.
        density
            Where z comes from; ``"auto"`` is the density that explains held-out codes best.
        random_state
            Seed or generator; ``self.random_state`` if None.
        """
        return self._draw(n, density, random_state)


def load(path: str | Path) -> GaussianVAE | TwoStageVAE:
    """Read a run folder, made by `save` or by ``vaelab train``, as an estimator.

    Raises
    ------
    RunFolderError
        The folder is missing, unfinished, foreign, corrupt or from a newer version.
    """
    folder = Path(path)
    trained: Trained = runs.load(folder)
    section = runs.read_config(folder).get("estimator", {})
    values = trained.settings.model_dump(exclude={"seed"})
    own = {"random_state": trained.settings.seed, "score_draws": section.get("score_draws", 16)}
    model: GaussianVAE | TwoStageVAE
    if trained.settings.densities:
        model = TwoStageVAE(**values, **own)
    else:
        model = GaussianVAE(**{name: values[name] for name in GaussianVAE().get_params() if name in values}, **own)
    model.trained_ = trained
    model.container_ = section.get("container", "numpy")
    model.n_features_in_ = section.get("n_features_in", trained.facts.event_shape[0])
    if trained.facts.columns is not None:
        model.feature_names_in_ = np.array(trained.facts.columns, dtype=object)
    model._describe()
    return model


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name}={value!r}", "a whole number of at least 1")


def _container_of(X: Any) -> Container:
    if isinstance(X, Tensor):
        return "torch"
    return "pandas" if type(X).__module__.startswith("pandas") else "numpy"
