"""One-stage estimators, which sample from their prior: `GaussianVAE` and `ConditionalVAE`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np

from vaelab.config import LikelihoodName, Network, VarianceShape
from vaelab.estimators.base import Estimator, keep_arguments
from vaelab.training.settings import Accelerator, Precision, Schedule


@final
class GaussianVAE(Estimator):
    """One-stage Gaussian VAE; samples come from its prior.

    Parameters
    ----------
    latent_dim
        Latent dimensions; superfluous ones are left idle by training.
    network, hidden, base_width, norm_decay
        Networks; ``"auto"`` is InfoGAN for images and a multilayer perceptron for tables.
    posterior, posterior_variance
        Covariance of q(z | x): diagonal, a multiple of the identity (one for all x, learned unless given), or full.
    attention
        Let the decoder switch latent dimensions off by a trained gate.
    likelihood, logistic_components
        p(x | z): Gaussian; for pixels also ``"bernoulli"``, ``"continuous_bernoulli"`` and ``"logistic_mixture"``; for
        tables with categories or missing values ``"mixed"``.
    variance, variance_shape, draws, gamma, gamma_lr_scale, gamma_floor
        Its variance: profiled by default, from so many draws of z; one number (``"iso-i"``), one per dimension
        (``"diag-i"``), per row (``"iso-d"``) or both (``"diag-d"``). ``gamma_floor`` is relative to the variance of X.
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
        base_width: int | None = None,
        norm_decay: float | None = None,
        posterior: Literal["diagonal", "isotropic", "full"] = "diagonal",
        posterior_variance: float | None = None,
        attention: bool | None = None,
        likelihood: LikelihoodName = "gaussian",
        logistic_components: int = 10,
        variance: Literal["profiled", "learned", "fixed"] = "profiled",
        variance_shape: VarianceShape = "iso-i",
        draws: int = 1,
        gamma: float | None = None,
        gamma_lr_scale: float = 10.0,
        gamma_floor: float | None = None,
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
        keep_arguments(self, locals())

    def sample(self, n: int = 1, *, random_state: int | np.random.RandomState | None = None) -> Any:
        """Draw n new rows, like X in fit: z from the prior, decoder means without noise.

        Rows of a mixed table have their noise: levels are drawn with their probabilities, numbers with variance γ.
        """
        return self._draw(n, None, "prior", random_state)


@final
class ConditionalVAE(Estimator):
    """Conditional Gaussian VAE, p(x | y): y is a class, numbers, a table of both, or a sequence.

    With the decoder's attention the number of active dimensions follows y. `vaelab.manifold_dimension` counts them.

    J. Zheng, T. He, Y. Qiu, D. Wipf, "Learning Manifold Dimensions with Conditional Variational Autoencoders", NeurIPS
    2022, Definition 4 and section 4.4.

    Parameters
    ----------
    latent_dim
        Latent dimensions; superfluous ones are left idle by training.
    network, hidden, base_width, norm_decay
        Networks; ``"auto"`` is InfoGAN for images and a multilayer perceptron for tables.
    posterior, posterior_variance
        Covariance of q(z | x, y): diagonal, a multiple of the identity (one for all, learned unless given), or full.
    prior
        p(z), the standard normal, or p(z | y), a Gaussian whose mean and variances depend on y.
    attention
        Let the decoder switch latent dimensions off, depending on y; on by default.
    condition_hidden
        Hidden widths of the networks that read y.
    likelihood, logistic_components
        p(x | z, y): Gaussian; for pixels also ``"bernoulli"``, ``"continuous_bernoulli"``, ``"logistic_mixture"``; for
        tables with categories or missing values ``"mixed"``.
    variance, variance_shape, draws, gamma, gamma_lr_scale, gamma_floor
        Its variance: profiled by default, from so many draws of z; one number (``"iso-i"``), one per dimension
        (``"diag-i"``), per row (``"iso-d"``) or both (``"diag-d"``). ``gamma_floor`` is relative to the variance of X.
    kl_weight
        1 for a bound on log p(x | y), else β.
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
    >>> from vaelab import ConditionalVAE
    >>> y = np.array(["left", "right"] * 100)
    >>> X = np.where(y == "left", -1.0, 1.0)[:, None] + np.random.default_rng(0).normal(size=(200, 3))
    >>> model = ConditionalVAE(latent_dim=2, hidden=(16,), epochs=5, random_state=0).fit(X, y)
    >>> model.transform(X, y).shape, model.sample(3, y="left").shape
    ((200, 2), (3, 3))
    """

    conditional = True

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        network: Network = "auto",
        hidden: Sequence[int] = (256, 256),
        base_width: int | None = None,
        norm_decay: float | None = None,
        posterior: Literal["diagonal", "isotropic", "full"] = "diagonal",
        posterior_variance: float | None = None,
        prior: Literal["standard", "conditional"] = "standard",
        attention: bool | None = None,
        condition_hidden: Sequence[int] = (64,),
        likelihood: LikelihoodName = "gaussian",
        logistic_components: int = 10,
        variance: Literal["profiled", "learned", "fixed"] = "profiled",
        variance_shape: VarianceShape = "iso-i",
        draws: int = 1,
        gamma: float | None = None,
        gamma_lr_scale: float = 10.0,
        gamma_floor: float | None = None,
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
        keep_arguments(self, locals())

    def sample(self, n: int = 1, y: Any = None, *, random_state: int | np.random.RandomState | None = None) -> Any:
        """Draw n new rows, like X in fit: z from the prior, decoder means without noise.

        Rows of a mixed table have their noise: levels are drawn with their probabilities, numbers with variance γ.

        Parameters
        ----------
        n
            How many.
        y
            n conditions, or a single one for all of them.
        random_state
            Seed or generator; ``self.random_state`` if None.
        """
        return self._draw(n, y, "prior", random_state)
