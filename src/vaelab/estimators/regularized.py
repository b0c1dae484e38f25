"""`RegularizedAutoencoder`: deterministic codes, a penalty in place of the KL, and densities fitted afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import numpy as np
from sklearn.utils.validation import check_is_fitted

from vaelab.config import Density, JacobianForm, Network
from vaelab.estimators.base import Estimator, keep_arguments
from vaelab.training.settings import Accelerator, Precision, Schedule


@final
class RegularizedAutoencoder(Estimator):
    """Autoencoder with penalties on codes and decoder; samples come from a density fitted on its codes.

    The objective is ‖x − x̂‖² / (2γ) + penalties, summed over dimensions; with the default γ = ½ the weights are
    relative to the plain squared error, on pixels in [0, 1] or columns of variance 1. All weights 0 make it an
    autoencoder; ``mmd_weight`` alone WAE-MMD, ``adversarial_weight`` alone WAE-GAN, the others the RAE family.

    P. Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020, eq. 9; I. Tolstikhin et al.,
    "Wasserstein Auto-Encoders", ICLR 2018.

    Parameters
    ----------
    latent_dim
        Latent dimensions.
    network, hidden, base_width, norm_decay, spectral
        Networks; ``"auto"`` is InfoGAN for images and a multilayer perceptron for tables. ``"rae"`` is the paper's, in
        which ``spectral`` normalises every layer.
    gamma
        Fixed decoder variance.
    code_norm_weight
        Of ‖z‖².
    weight_norm_weight, weight_norm_dense
        Of the decoder's squared weights, and whether dense layers count beside convolutions.
    jacobian_weight, jacobian_form
        Of ‖∂x̂/∂z‖_F², or of what the RAE program computes: ``"jacobian"`` or ``"program"``.
    mmd_weight
        Of the distance between codes and N(0, I).
    adversarial_weight, critic_hidden, critic_lr_scale, critic_log_prior
        Of a critic that tells codes from N(0, I), its hidden widths, its learning rate as a multiple of ``lr``, and
        whether the known log-density of N(0, I) is added to its logit.
    epochs, batch_size, lr, schedule, halve_every, beta1, weight_decay
        Training; 2,000 to 10,000 steps, at least 5 epochs, unless ``epochs`` says otherwise.
    densities
        Which to fit on the codes, beside N(0, I).
    components, covariance
        Of the mixture; chosen on held-out codes where not given.
    second_hidden, second_epochs, second_lr, second_schedule, second_halve_every
        Network and training of the second stage, if it is among the densities.
    held_out, keep_best
        Share of the rows (at most 5,000) to compare densities on, and whether to end with the weights best on it.
    precision, compile, accelerator, checkpoint_seconds
        How to compute.
    random_state
        Seed of everything random in fit, and of `sample` unless it is given one.
    verbose
        Show progress on a terminal.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import RegularizedAutoencoder
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) @ np.ones((1, 4))
    >>> model = RegularizedAutoencoder(latent_dim=2, hidden=(16,), epochs=5, random_state=0).fit(X)
    >>> model.transform(X).shape, model.sample(3).shape
    ((200, 2), (3, 4))
    """

    _given: ClassVar[Mapping[str, object]] = {"posterior": "deterministic", "variance": "fixed"}
    _has_bound = False  # codes without noise have no KL, so there is none on log p(x)
    score_draws = 1

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        network: Network = "auto",
        hidden: Sequence[int] = (256, 256),
        base_width: int | None = None,
        norm_decay: float | None = None,
        spectral: bool = False,
        gamma: float = 0.5,
        code_norm_weight: float = 0.01,
        weight_norm_weight: float = 1e-4,
        weight_norm_dense: bool = True,
        jacobian_weight: float = 0.0,
        jacobian_form: JacobianForm = "jacobian",
        mmd_weight: float = 0.0,
        adversarial_weight: float = 0.0,
        critic_hidden: Sequence[int] = (512, 512, 512, 512),
        critic_lr_scale: float = 1.0,
        critic_log_prior: bool = True,
        epochs: int | None = None,
        batch_size: int = 100,
        lr: float = 1e-3,
        schedule: Schedule = "cosine",
        halve_every: int | None = None,
        beta1: float = 0.9,
        weight_decay: float = 0.0,
        densities: Sequence[Density] = ("gaussian", "mixture"),
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
        return self._draw(n, None, density, random_state)
