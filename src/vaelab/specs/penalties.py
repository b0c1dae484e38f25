"""What is added to the distortion, each with its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vaelab.spec import Value

if TYPE_CHECKING:
    from vaelab import model


class Penalty(Value):
    """A penalty on one pass.

    Attributes
    ----------
    twice_differentiated
        Whether its gradient is a second derivative, which the compiler does not take.
    """

    axis: ClassVar[str] = "penalties"
    twice_differentiated: ClassVar[bool] = False

    def build(self, latent_dim: int, dimensions: int) -> model.Regularizer:
        """Build it, for codes of `latent_dim` numbers and rows of so many."""
        raise NotImplementedError


class KLSchedule(Value):
    """How the weight of the KL moves while a model trains."""

    axis: ClassVar[str] = "kl_schedule"

    def build(self) -> model.KLSchedule | None:
        """Build it; None for a weight that stays."""
        raise NotImplementedError


class Steady(KLSchedule):
    """The whole weight at every step."""

    kind: ClassVar[str] = "steady"

    def build(self) -> model.KLSchedule | None:
        """Return None."""
        return None


class Rising(KLSchedule):
    """From 0 to the weight over the first part of a training (KL annealing)."""

    kind: ClassVar[str] = "rising"
    share: float = Field(0.5, gt=0, le=1, description="of the steps that it rises over")

    def build(self) -> model.KLSchedule | None:
        """Build it."""
        from vaelab import model

        return model.Rising(self.share)


class Cyclical(KLSchedule):
    """From 0 to the weight, again and again (cyclical annealing)."""

    kind: ClassVar[str] = "cyclical"
    cycles: int = Field(4, ge=1, description="equal parts of the training")
    share: float = Field(0.5, gt=0, le=1, description="of the steps of each that it rises over")

    def build(self) -> model.KLSchedule | None:
        """Build it."""
        from vaelab import model

        return model.Rising(self.share, cycles=self.cycles)


class Controlled(KLSchedule):
    """A controller that moves the weight, up to the whole one, until the KL is as asked for (ControlVAE)."""

    kind: ClassVar[str] = "controlled"
    target: float = Field(gt=0, description="KL, nats per row")
    kp: float = Field(0.01, ge=0, description="of the proportional part")
    ki: float = Field(1e-4, gt=0, description="of the integral part")

    def build(self) -> model.KLSchedule | None:
        """Build it."""
        from vaelab import model

        return model.Controlled(self.target, kp=self.kp, ki=self.ki)


class KL(Penalty):
    """KL[q(z | x) ‖ p(z)]."""

    kind: ClassVar[str] = "kl"
    weight: float = Field(1.0, ge=0, description="1 for a bound on log p(x), else the β of a β-VAE")
    schedule: KLSchedule = Field(Steady(), description="of the weight while it trains: steady, rising, cyclical, …")

    def build(self, latent_dim: int, dimensions: int) -> model.Regularizer:
        """Build it."""
        from vaelab import model

        return model.KL(self.weight, schedule=self.schedule.build())


class MMD(Penalty):
    """The distance of the codes to the prior (WAE-MMD)."""

    kind: ClassVar[str] = "mmd"
    weight: float = Field(10.0, gt=0, description="of the squared distance")

    def build(self, latent_dim: int, dimensions: int) -> model.Regularizer:
        """Build it."""
        from vaelab import model

        return model.MMD(self.weight)


class Adversarial(Penalty):
    """A critic that tells codes from the prior (WAE-GAN)."""

    kind: ClassVar[str] = "adversarial"
    weight: float = Field(10.0, gt=0, description="of what the critic says")
    hidden: tuple[int, ...] = Field((512,) * 4, min_length=1, description="hidden widths of the critic")
    lr_scale: float = Field(1.0, gt=0, description="learning rate of the critic, relative to lr")
    log_prior: bool = Field(True, description="add the known log p(z) to the critic's logit")

    def build(self, latent_dim: int, dimensions: int) -> model.Regularizer:
        """Build it, with the critic."""
        from vaelab import model
        from vaelab.nets import MLP

        critic = MLP(latent_dim, 1, self.hidden)
        return model.Adversarial(self.weight, critic, log_prior=self.log_prior, lr_scale=self.lr_scale)


class CodeNorm(Penalty):
    """The squared norm of z (RAE)."""

    kind: ClassVar[str] = "code_norm"
    weight: float = Field(0.01, gt=0, description="of the squared norm")

    def build(self, latent_dim: int, dimensions: int) -> model.Regularizer:
        """Build it."""
        from vaelab import model

        return model.CodeNorm(self.weight)


class WeightNorm(Penalty):
    """The decoder's squared weights (RAE)."""

    kind: ClassVar[str] = "weight_norm"
    weight: float = Field(1e-4, gt=0, description="of the squared weights")
    dense: bool = Field(True, description="count dense layers, beside convolutions")

    def build(self, latent_dim: int, dimensions: int) -> model.Regularizer:
        """Build it."""
        from vaelab import model

        return model.WeightNorm(self.weight, dense=self.dense)


class Jacobian(Penalty):
    """The decoder's squared Jacobian (RAE-GP)."""

    kind: ClassVar[str] = "jacobian"
    twice_differentiated: ClassVar[bool] = True
    weight: float = Field(1e-6, gt=0, description="of the squared norm")
    form: Literal["jacobian", "program"] = Field("jacobian", description="the paper's, or what its program computes")

    def build(self, latent_dim: int, dimensions: int) -> model.Regularizer:
        """Build it."""
        from vaelab import model

        return model.JacobianPenalty(self.weight, dimensions=dimensions, form=self.form)
