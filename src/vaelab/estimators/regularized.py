"""`RegularizedAutoencoder`: deterministic codes, a penalty in place of the KL, and densities fitted afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
from sklearn.utils.validation import check_is_fitted

from vaelab.estimators.base import Estimator
from vaelab.estimators.specified import keep_arguments
from vaelab.runs.drawing import Draws
from vaelab.specs import (
    CodeNorm,
    Compute,
    Density,
    Deterministic,
    FitSettings,
    Fixed,
    Gaussian,
    Likelihood,
    Network,
    Penalty,
    WeightNorm,
)


@final
class RegularizedAutoencoder(Estimator):
    """Autoencoder with penalties on codes and decoder; samples come from a density fitted on its codes.

    The objective is ‖x − x̂‖² / (2γ) + penalties, summed over dimensions; with the default γ = ½ the weights are
    relative to the plain squared error, on pixels in [0, 1] or columns of variance 1. No penalty makes it an
    autoencoder; ``"mmd"`` alone WAE-MMD, ``"adversarial"`` alone WAE-GAN, the others the RAE family.

    Ghosh et al. 2020, eq. 9; Tolstikhin et al. 2018.

    Parameters
    ----------
    latent_dim
        Latent dimensions.
    network
        As for `GaussianVAE`; ``"rae"`` is the paper's, ``RAE(spectral=True)`` with every layer normalised.
    likelihood
        p(x | z): Gaussian with the fixed variance ½ by default.
    penalties
        ``CodeNorm(0.01)`` and ``WeightNorm(1e-4)`` by default; also ``Jacobian``, ``MMD``, ``Adversarial``; or ().
    densities
        Which to fit on the codes, beside N(0, I); Gaussian and mixture by default.
    epochs, batch_size, lr, training, compute, held_out, random_state, verbose
        As for `TwoStageVAE`.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import RegularizedAutoencoder
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) @ np.ones((1, 4))
    >>> model = RegularizedAutoencoder(latent_dim=2, network="mlp([16])", epochs=5, random_state=0).fit(X)
    >>> model.transform(X).shape, model.sample(3).shape
    ((200, 2), (3, 4))
    """

    _defaults: ClassVar[Mapping[str, object]] = {
        "posterior": Deterministic(),
        "likelihood": Gaussian(variance=Fixed(value=0.5)),
        "penalties": (CodeNorm(weight=0.01), WeightNorm(weight=1e-4)),
        "densities": ("gaussian", "mixture"),
    }
    _has_bound = False  # codes without noise have no KL, so there is none on log p(x)
    score_draws = 1

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        network: Network | str | Any = "auto",
        likelihood: Likelihood | str | None = None,
        penalties: Sequence[Penalty | str] | Penalty | str | None = None,
        densities: Sequence[Density | str] | Density | str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        training: FitSettings | None = None,
        compute: Compute | None = None,
        held_out: float = 0.1,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        keep_arguments(self, locals())

    @property
    def code_scores_(self) -> dict[str, float]:
        """Density → mean log-density of held-out codes, nats (a lower bound for the second stage)."""
        check_is_fitted(self)
        return dict(self.trained_.facts.code_scores)

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the mean squared error of `reconstruct`, per dimension, in the network's units."""
        check_is_fitted(self)
        x = self._validated(X, reset=False)
        scaling = self.trained_.scaling
        rebuilt = scaling.to_net(self.trained_.reconstruct(x).cpu())
        return -float((rebuilt - scaling.to_net(x)).double().square().mean())

    def sample(
        self,
        n: int = 1,
        *,
        density: str = "auto",
        temperature: float = 1.0,
        on_manifold: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Any:
        """Draw n new rows, like X in fit.

        Parameters
        ----------
        n
            How many.
        density
            Where z comes from; ``"auto"`` is the density that explains held-out codes best.
        temperature
            Of z: below 1 rows are more typical and less various than the data, above 1 the reverse. The normals that z
            is made of are multiplied by it, so covariances of the prior and components become T²Σ.
        on_manifold
            Rows like X in fit. Where its decoded mean is farther
            from their reconstructions than 95 % of reconstructions are, as `vaelab.diagnose` counts, z is drawn again.
            A warning says how many were; None keeps all.
        random_state
            Seed or generator; ``self.random_state`` if None.
        """
        how = Draws(density, observation_noise=False, temperature=temperature)
        return self._draw(n, None, how, random_state, on_manifold)
