"""One-stage estimators, which sample from their prior: `GaussianVAE` and `ConditionalVAE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from vaelab.estimators.base import Estimator
from vaelab.estimators.specified import keep_arguments
from vaelab.runs.drawing import Draws
from vaelab.specs import Compute, Condition, FitSettings, Likelihood, Network, Penalty, Posterior


@final
class GaussianVAE(Estimator):
    """One-stage Gaussian VAE; samples come from its prior.

    An axis takes the name of a value, a call as text, or a spec of `vaelab.specs`: ``likelihood="bernoulli"``,
    ``"gaussian(shape=diag-i)"`` or ``Gaussian(shape="diag-i")``; ``set_params(likelihood__shape="diag-i")`` does.

    Parameters
    ----------
    latent_dim
        Latent dimensions; superfluous ones are left idle by training.
    network
        ``"auto"`` is InfoGAN for images and a multilayer perceptron for tables; ``MLP(hidden=(64,))`` and its kin; your
        own function of `Shapes`, or a pair of modules.
    likelihood
        p(x | z): Gaussian, whose variance is profiled by default; for pixels also ``"bernoulli"``,
        ``"continuous_bernoulli"`` and ``"logistic_mixture"``; for tables, column by column, ``"mixed"``. ``"auto"`` is
        that for a data frame with text, categories, dates or missing entries, and Gaussian for all else; where folds of
        a cross-validation may differ in that, ask for ``"mixed"``.
    posterior
        Covariance of q(z | x): ``"diagonal"``, ``"isotropic"`` (one number for all x), or ``"full"``.
    penalties
        Beside the distortion; ``"kl"`` by default, ``KL(4)`` for a β-VAE.
    epochs, batch_size, lr
        Those of `training`; by default 2,000 to 10,000 steps of 100 rows at 1e-3.
    training
        `FitSettings`: schedule, weight decay and the like.
    compute
        `Compute`: device, number format.
    held_out
        Share of the rows (at most 5,000) that is set aside, to end with the weights best on it.
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
    >>> model = GaussianVAE(latent_dim=2, network="mlp([16])", epochs=5, random_state=0).fit(X)
    >>> model.transform(X).shape, model.sample(3).shape
    ((200, 2), (3, 4))
    """

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        network: Network | str | Any = "auto",
        likelihood: Likelihood | str = "auto",
        posterior: Posterior | str = "diagonal",
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

    def sample(
        self,
        n: int = 1,
        *,
        given: Mapping[Any, Any] | None = None,
        balance: str | int | None = None,
        missing: bool = False,
        observation_noise: bool | None = None,
        temperature: float = 1.0,
        on_manifold: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Draw n new rows, like X in fit, with z from the prior.

        Parameters
        ----------
        n
            How many.
        given
            Of a table: column, by name or place → a value, a pair (low, high), both included, or a list of values. Rows
            are drawn until n of them match, so they follow the model's law given that; too rare values are refused.
        balance
            Of a table: a category, or a number of at most 20 values, whose levels have equal shares in what is drawn,
            such as to train a classifier; a level that is too rare for it is refused. Goes with `given`.
        missing
            Of a mixed table: leave entries out as the rows of fit did, by what the model has learned of gaps; otherwise
            rows are complete.
        observation_noise
            Draw from p(x | z), or take decoder means; by default tables are drawn, and images are means.
        temperature
            Of z: below 1 rows are more typical and less various than the data, above 1 the reverse. The normals that z
            is made of are multiplied by it, so covariances of the prior become T²Σ.
        on_manifold
            Rows like X in fit. Where its decoded mean is farther
            from their reconstructions than 95 % of reconstructions are, as `vaelab.diagnose` counts, z is drawn again.
            A warning says how many were; None keeps all.
        random_state
            Seed or generator; ``self.random_state`` if None.
        """
        how = Draws("prior", observation_noise, missing, given, balance, temperature)
        return self._draw(n, None, how, random_state, on_manifold)


@final
class ConditionalVAE(Estimator):
    """Conditional Gaussian VAE, p(x | y): y is a class, numbers, a table of both, or a sequence.

    With the decoder's attention the number of active dimensions follows y. `vaelab.manifold_dimension` counts them.

    Zheng et al. 2022, Definition 4 and section 4.4.

    Parameters
    ----------
    latent_dim, network, likelihood, posterior, penalties
        As for `GaussianVAE`, of q(z | x, y) and p(x | z, y).
    condition
        How y enters: ``"standard"`` leaves p(z) = N(0, I), ``"conditional"`` learns p(z | y), a Gaussian whose mean and
        variances depend on y. Options: ``attention`` (whether the decoder may switch latent dimensions off, as y says),
        ``hidden`` (widths of the networks that read y).
    epochs, batch_size, lr, training, compute, held_out, random_state, score_draws, verbose
        As for `GaussianVAE`.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import ConditionalVAE
    >>> y = np.array(["left", "right"] * 100)
    >>> X = np.where(y == "left", -1.0, 1.0)[:, None] + np.random.default_rng(0).normal(size=(200, 3))
    >>> model = ConditionalVAE(latent_dim=2, network="mlp([16])", epochs=5, random_state=0).fit(X, y)
    >>> model.transform(X, y).shape, model.sample(3, y="left").shape
    ((200, 2), (3, 3))
    """

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        network: Network | str | Any = "auto",
        likelihood: Likelihood | str = "auto",
        posterior: Posterior | str = "diagonal",
        condition: Condition | str = "standard",
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

    def sample(
        self,
        n: int = 1,
        y: Any = None,
        *,
        missing: bool = False,
        observation_noise: bool | None = None,
        temperature: float = 1.0,
        on_manifold: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Draw n new rows, like X in fit, with z from the prior.

        Parameters
        ----------
        n
            How many.
        y
            n conditions, or a single one for all of them.
        missing
            Of a mixed table: leave entries out as the rows of fit did, by what the model has learned of gaps; otherwise
            rows are complete.
        observation_noise
            Draw from p(x | z), or take decoder means; by default tables are drawn, and images are means.
        temperature
            Of z: below 1 rows are more typical and less various than the data, above 1 the reverse. The normals that z
            is made of are multiplied by it, so covariances of the prior become T²Σ.
        on_manifold
            Pair of rows and conditions like those of fit. Where its decoded mean is farther
            from their reconstructions than 95 % of reconstructions are, as `vaelab.diagnose` counts, z is drawn again.
            A warning says how many were; None keeps all.
        random_state
            Seed or generator; ``self.random_state`` if None.
        """
        how = Draws("prior", observation_noise, missing, temperature=temperature)
        return self._draw(n, y, how, random_state, on_manifold)
