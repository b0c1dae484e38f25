"""`TwoStageVAE`: latent densities are fitted on the codes, and samples come from the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
from sklearn.utils.validation import check_is_fitted

from vaelab.errors import InputError
from vaelab.estimators.base import Estimator
from vaelab.estimators.specified import keep_arguments
from vaelab.runs.drawing import Draws
from vaelab.specs import Compute, Condition, Density, FitSettings, Likelihood, Network, Penalty, Posterior, Settings


@final
class TwoStageVAE(Estimator):
    """Gaussian VAE whose codes get densities of their own; samples come from the best of them.

    Dai & Wipf 2019, section 4.

    Parameters
    ----------
    latent_dim, network, likelihood, posterior, penalties
        As for `GaussianVAE`.
    condition
        Whether and how the y of `fit` is a condition for every network and density, as for `ConditionalVAE`. None by
        default, since pipelines pass the target of a later step to every step.
    densities
        Which to fit on the codes, beside the prior: ``"gaussian"``, ``"mixture"`` (``Mixture(10)``), ``"flow"`` (the
        extra ``flow``), ``"flow_matching"``, ``"second_stage"`` (``SecondStage(hidden=(256,),
        training=FitSettings(20))``). All are conditional where the model is. Gaussian, mixture and second stage by
        default.
    epochs, batch_size, lr, training
        Training of stage one, as for `GaussianVAE`.
    compute
        As for `GaussianVAE`.
    held_out
        Share of the rows (at most 5,000, and at least 10 where that is no more than a fifth) to compare densities on,
        and to end each training with the weights best on it.
    random_state, score_draws, verbose
        As for `GaussianVAE`.
    """

    _defaults: ClassVar[Mapping[str, object]] = {}

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        network: Network | str | Any = "auto",
        likelihood: Likelihood | str = "auto",
        posterior: Posterior | str = "diagonal",
        condition: Condition | str | None = None,
        penalties: Sequence[Penalty | str] | Penalty | str | None = None,
        densities: Sequence[Density | str] | Density | str | None = None,
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
        """Return the arguments as settings; see `Estimator.settings`."""
        settings = super().settings(seed)
        if not settings.densities:
            raise InputError(
                "densities=()",
                "at least one of gaussian, mixture, flow, flow_matching, second_stage",
                "Or use GaussianVAE.",
            )
        return settings

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
        given: Mapping[Any, Any] | None = None,
        balance: str | int | None = None,
        missing: bool = False,
        observation_noise: bool | None = None,
        temperature: float = 1.0,
        on_manifold: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Draw n new rows, like X in fit.

        Parameters
        ----------
        n
            How many.
        y
            For a conditional model: n conditions, or a single one for all of them.
        density
            Where z comes from; ``"auto"`` is the density that explains held-out codes best.
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
            is made of are multiplied by it, so covariances of the prior and components become T²Σ.
        on_manifold
            Rows like X in fit; of a conditional model a pair with their conditions. Where its decoded mean is
            farther from their reconstructions than 95 % of reconstructions are, as `vaelab.diagnose` counts, z is drawn
            again. A warning says how many were; None keeps all.
        random_state
            Seed or generator; ``self.random_state`` if None.
        """
        how = Draws(density, observation_noise, missing, given, balance, temperature)
        return self._draw(n, y, how, random_state, on_manifold)
