"""What is added to the distortion: per-sample penalties, each already weighted.

A penalty that is a property of the whole batch, as a distance between sets of codes, is the same for every row.

References
----------
Tolstikhin et al. 2018 (MMD, adversarial).
Ghosh et al. 2020 (the others).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple, final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.errors import InputError
from vaelab.model.distributions import draw as draw_from
from vaelab.model.distributions import kl
from vaelab.model.kl_schedules import KLSchedule
from vaelab.model.likelihoods import Likelihood
from vaelab.types import ParameterGroup, Step

WAE_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of the inverse multi-quadratic kernel in the program of Tolstikhin et al."""


class Draw(NamedTuple):
    """One pass through a VAE: all that a regulariser may look at.

    Attributes
    ----------
    x, c
        (B, *event) data, and (B, *condition_shape) or None.
    q, p
        q(z | x) and p(z).
    z, parameters
        (B, κ) a draw of q, and the decoder's raw output for it.
    decoder, likelihood
        What made the output of z, and what makes it a mean.
    noise
        (B, n) standard normals, of the number n that the regulariser has asked for; None where none has.
    """

    x: Tensor
    c: Tensor | None
    q: Distribution
    p: Distribution
    z: Tensor
    parameters: Tensor
    decoder: nn.Module
    likelihood: Likelihood
    noise: Tensor | None = None


StillCodes = Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, Distribution, Tensor]]
"""(x, c, noise) → (B, κ) codes without gradient, the prior, and the part of the noise that is the regulariser's own."""


class Regularizer(nn.Module, ABC):
    """A penalty on one pass, in nats per sample.

    Attributes
    ----------
    name
        Under which it is logged.
    weight
        Factor that the penalty already has.
    needs_density
        Whether it reads log q(z | x), which a deterministic posterior does not have.
    """

    name: str
    weight: float
    needs_density: ClassVar[bool] = False

    @abstractmethod
    def forward(self, draw: Draw) -> Tensor:
        """(B,) the weighted penalty."""

    def noise_count(self, latent_dim: int) -> int:
        """Return how many standard normals per sample and step it needs; none by default."""
        return 0

    def begin_step(self, share: float) -> None:
        """Hear, before every step, which share of the training's steps is done; nothing by default."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters with a learning rate of their own; none by default."""
        return []

    def step_before(self, codes: StillCodes) -> Step | None:
        """Return the step that alternates with the networks', as that of a critic; None by default.

        Parameters
        ----------
        codes
            Function of a batch x, c and its noise, to be called in the step's loss.
        """
        return None

    def extra_repr(self) -> str:
        """Show the weight in ``repr``."""
        return f"weight={self.weight}"


def _weight(name: str, weight: float, remedy: str = "") -> float:
    if not weight >= 0:
        raise InputError(f"{name} weight {weight}", "a number ≥ 0", remedy)
    return float(weight)


@final
class KL(Regularizer):
    """weight · KL[q(z | x) ‖ p(z)], nats; the weight is 1 for a bound on log p(x), else the β of a β-VAE.

    Parameters
    ----------
    weight
        In the end, and wherever a model is scored.
    schedule
        Of the weight while the model trains; it stays by default.
    """

    name = "kl"
    needs_density = True

    def __init__(self, weight: float = 1.0, *, schedule: KLSchedule | None = None) -> None:
        super().__init__()
        self.weight = _weight("KL", weight, "Use 1 for the negative ELBO.")
        self.schedule = schedule

    def begin_step(self, share: float) -> None:
        """Tell the schedule."""
        if self.schedule is not None:
            self.schedule.begin_step(share)

    def forward(self, draw: Draw) -> Tensor:
        """(B,) closed form where there is one."""
        value = kl(draw.q, draw.p, draw.z)
        if self.schedule is not None and self.training:
            factor: Tensor = self.schedule(value)
            return self.weight * factor * value
        return value if self.weight == 1 else self.weight * value


@final
class MMD(Regularizer):
    """weight · MMD² between the batch's codes and as many draws of the prior (Tolstikhin et al., algorithm 2).

    The kernel is the inverse multi-quadratic k(a, b) = Σ_s C/(C + ‖a − b‖²), C = 2 κ s, for a prior of unit variance.
    The estimate is unbiased, so it is negative about half of the time where both laws agree.

    Parameters
    ----------
    weight
        λ.
    scales
        The s.
    """

    name = "mmd"
    scales: Tensor

    def __init__(self, weight: float = 1.0, *, scales: Sequence[float] = WAE_SCALES) -> None:
        super().__init__()
        self.weight = _weight("MMD", weight)
        if not scales or min(scales) <= 0:
            raise InputError(f"scales={tuple(scales)}", "at least one positive number")
        self.register_buffer("scales", torch.tensor(tuple(scales)), persistent=False)

    def noise_count(self, latent_dim: int) -> int:
        """Return κ, for a draw of the prior."""
        return latent_dim

    def forward(self, draw: Draw) -> Tensor:
        """(B,), the same number for every row."""
        assert draw.noise is not None
        value = mmd(draw.z, draw_from(draw.p, draw.noise), self.scales.to(draw.z))
        return (self.weight * value).expand(len(draw.z))


def mmd(a: Tensor, b: Tensor, scales: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of two sets, inverse multi-quadratic kernel summed over scales.

    Parameters
    ----------
    a, b
        (n, κ) each.
    scales
        (S,) multiples s of the kernel's C = 2 κ s.

    Returns
    -------
    Tensor
        Scalar, 0 for n = 1: Σ_{i≠j} [k(a_i, a_j) + k(b_i, b_j)] / (n² − n) − 2 Σ_{ij} k(a_i, b_j) / n².
    """
    n = len(a)
    if n < 2:  # no two points to compare
        return (a.sum() + b.sum()) * 0
    both = torch.cat([a, b])
    norm = both.square().sum(1)
    squared = torch.addmm(norm[:, None] + norm, both, both.T, alpha=-2).clamp(min=0)
    kernel = torch.zeros_like(squared)
    for c in (2 * a.shape[1] * scales).unbind():
        kernel = kernel + c / (c + squared)
    kernel = kernel.fill_diagonal_(0)  # a pair of a point with itself
    within = kernel[:n, :n].sum() + kernel[n:, n:].sum()
    return within / (n * n - n) - 2 * kernel[:n, n:].sum() / (n * n)


@final
class CodeNorm(Regularizer):
    """weight · ‖z‖² (Ghosh et al., eq. 10 without its ½)."""

    name = "code_norm"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = _weight("code norm", weight)

    def forward(self, draw: Draw) -> Tensor:
        """(B,)."""
        return self.weight * draw.z.square().sum(1)


@final
class WeightNorm(Regularizer):
    """weight · Σ w² over the decoder's kernels, without biases and normalisations (Ghosh et al., section 3.1).

    Parameters
    ----------
    weight
        λ.
    dense
        Whether matrices count, or convolutions only (as in the program's networks for MNIST and CIFAR-10).
    """

    name = "weight_norm"

    def __init__(self, weight: float = 1.0, *, dense: bool = True) -> None:
        super().__init__()
        self.weight, self.dense = _weight("weight norm", weight), dense

    def forward(self, draw: Draw) -> Tensor:
        """(B,), the same number for every row."""
        least = 2 if self.dense else 3
        kernels = [p for p in draw.decoder.parameters() if p.ndim >= least and p.requires_grad]
        total = sum((p.square().sum() for p in kernels), torch.zeros((), device=draw.z.device))
        return (self.weight * total).expand(len(draw.z))


@final
class JacobianPenalty(Regularizer):
    """Punish a decoder that changes fast with z.

    ``"jacobian"``: weight · ‖∂μ_x/∂z‖_F² (Ghosh et al., eq. 11), estimated without bias from one probe v of random
    signs in data space, since E ‖Jᵀv‖² = ‖J‖_F² (Hutchinson 1990): one more backward pass, and no d × κ matrix.

    ``"program"``: weight · ‖∂‖μ_x‖²/∂z‖², what the program of that paper computes.

    Parameters
    ----------
    weight
        Of the sum over dimensions.
    dimensions
        d, numbers in one x.
    form
        Which.
    """

    name = "jacobian"

    def __init__(
        self, weight: float = 1.0, *, dimensions: int, form: Literal["jacobian", "program"] = "jacobian"
    ) -> None:
        super().__init__()
        self.weight, self.dimensions, self.form = _weight("Jacobian", weight), dimensions, form

    def noise_count(self, latent_dim: int) -> int:
        """Count the entries of the probe."""
        return self.dimensions if self.form == "jacobian" else 0

    def forward(self, draw: Draw) -> Tensor:
        """(B,)."""
        training = torch.is_grad_enabled() and draw.z.requires_grad
        with torch.enable_grad():
            z, parameters = draw.z, draw.parameters
            if not training:  # an evaluation keeps no graph
                z = z.detach().requires_grad_()
                parameters = draw.decoder(z, draw.c)
            mean = draw.likelihood.mean(parameters)
            if self.form == "program":
                scalar = mean.square().sum()
            else:
                assert draw.noise is not None
                scalar = (mean * draw.noise.sign().view_as(mean)).sum()
            (gradient,) = torch.autograd.grad(scalar, z, create_graph=training)
            return self.weight * gradient.square().sum(1)


@final
class Adversarial(Regularizer):
    """Weight · loss of an encoder against a critic that tells codes from draws of the prior (WAE-GAN, algorithm 1).

    The encoder's loss is −log D(z), z ~ q(z | x); the critic's −log D(z̃) − log(1 − D(z)), z̃ ~ p(z), in a step of its
    own before the encoder's.

    Parameters
    ----------
    weight
        λ.
    critic
        (B, κ) → (B, 1) or (B,) logits of D.
    log_prior
        Add log p(z) to the logit, since the best one is log p(z) − log q(z) and the first part is known (the paper's
        appendix C.2).
    lr_scale
        Learning rate of the critic, as a multiple of the networks'.
    """

    name = "adversarial"

    def __init__(self, weight: float, critic: nn.Module, *, log_prior: bool = True, lr_scale: float = 1.0) -> None:
        super().__init__()
        self.weight, self.critic, self.log_prior = _weight("adversarial", weight), critic, log_prior
        self.lr_scale = float(lr_scale)

    def noise_count(self, latent_dim: int) -> int:
        """Return κ, for a draw of the prior."""
        return latent_dim

    def parameter_groups(self) -> list[ParameterGroup]:
        """Those of the critic, without weight decay."""
        return [ParameterGroup(list(self.critic.parameters()), self.lr_scale, decays=False)]

    def step_before(self, codes: StillCodes) -> Step:
        """One of the critic, on the batch's codes as they are before the encoder moves."""

        def loss(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
            return self.critic_loss(*codes(x, c, noise))

        return Step("critic", list(self.critic.parameters()), loss)

    def _logit(self, z: Tensor, p: Distribution) -> Tensor:
        logit: Tensor = self.critic(z).reshape(len(z))
        return logit + p.log_prob(z) if self.log_prior else logit

    def forward(self, draw: Draw) -> Tensor:
        """(B,) weight · −log D(z)."""
        return self.weight * F.softplus(-self._logit(draw.z, draw.p))

    def critic_loss(self, z: Tensor, p: Distribution, noise: Tensor) -> Tensor:
        """(B,) weight · [−log D(z̃) − log(1 − D(z))].

        Parameters
        ----------
        z
            (B, κ) codes; no gradient reaches them.
        p
            The prior.
        noise
            (B, κ) standard normals, which make z̃.
        """
        real = self._logit(draw_from(p, noise).detach(), p)
        fake = self._logit(z.detach(), p)
        return self.weight * (F.softplus(-real) + F.softplus(fake))
