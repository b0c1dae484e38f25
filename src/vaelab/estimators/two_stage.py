"""`TwoStageVAE`: latent densities are fitted on the codes, and samples come from the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np
from sklearn.utils.validation import check_is_fitted

from vaelab.config import Density, LikelihoodName, Network, Settings, VarianceShape
from vaelab.errors import InputError
from vaelab.estimators.base import Estimator, keep_arguments
from vaelab.training.settings import Accelerator, Precision, Schedule


@final
class TwoStageVAE(Estimator):
    """Gaussian VAE whose codes get densities of their own; samples come from the best of them.

    B. Dai, D. Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019, section 4.

    Parameters
    ----------
    latent_dim
        Latent dimensions; superfluous ones are left idle by training.
    network, hidden, base_width, norm_decay
        Networks; ``"auto"`` is InfoGAN for images and a multilayer perceptron for tables.
    posterior, posterior_variance
        Covariance of q(z | x): diagonal, a multiple of the identity (one for all x, learned unless given), or full.
    conditional
        Whether the y of `fit` is a condition for every network and density. Off by default, since pipelines pass the
        target of a later step to every step.
    prior, attention, condition_hidden
        Of a conditional model, as for `ConditionalVAE`.
    likelihood, logistic_components, variance, variance_shape, draws, gamma, gamma_lr_scale, gamma_floor
        p(x | z) and its variance, as for `GaussianVAE`; profiled by default.
    kl_weight
        1 for a bound on log p(x), else β.
    epochs, batch_size, lr, schedule, halve_every, weight_decay
        Training of stage one; 2,000 to 10,000 steps, at least 5 epochs, unless ``epochs`` says otherwise.
    densities
        Which to fit on the codes, beside the prior: ``"gaussian"``, ``"mixture"``, ``"flow"`` (the extra ``flow``),
        ``"second_stage"``. All are conditional where the model is.
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
        base_width: int | None = None,
        norm_decay: float | None = None,
        posterior: Literal["diagonal", "isotropic", "full"] = "diagonal",
        posterior_variance: float | None = None,
        conditional: bool = False,
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
        keep_arguments(self, locals())

    def _settings(self, seed: int) -> Settings:
        if not self.densities:
            raise InputError(
                "densities=()", "at least one of gaussian, mixture, flow, second_stage", "Or use GaussianVAE."
            )
        return super()._settings(seed)

    @property
    def code_scores_(self) -> dict[str, float]:
        """Density → mean log-density of held-out codes, nats (a lower bound for the second stage)."""
        check_is_fitted(self)
        return dict(self.trained_.facts.code_scores)

    def sample(
        self,
        n: int = 1,
        y: Any = None,
        *,
        density: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Draw n new rows, like X in fit: decoder means without noise, of a mixed table with it.

        Parameters
        ----------
        n
            How many.
        y
            For a conditional model: n conditions, or a single one for all of them.
        density
            Where z comes from; ``"auto"`` is the density that explains held-out codes best.
        random_state
            Seed or generator; ``self.random_state`` if None.
        """
        return self._draw(n, y, density, random_state)
