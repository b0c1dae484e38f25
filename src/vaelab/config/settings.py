"""Flat, frozen settings of a whole two-stage training.

The command line's flags, the estimators' arguments, a run's ``config.yaml`` and the presets are all these fields.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vaelab.errors import InputError
from vaelab.training.settings import Accelerator, FitSettings, Precision, Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping


Network = Literal["auto", "mlp", "infogan", "resnet", "residual", "wae", "rae", "arelbo", "lstm"]
PosteriorName = Literal["diagonal", "isotropic", "full", "deterministic"]
LikelihoodName = Literal["gaussian", "bernoulli", "continuous_bernoulli", "logistic_mixture", "mixed"]
VarianceShape = Literal["iso-i", "diag-i", "iso-d", "diag-d"]
JacobianForm = Literal["jacobian", "program"]
Density = Literal["gaussian", "mixture", "mixture_10", "mixture_100", "bayesian_mixture", "flow", "second_stage"]
Stage = Literal["first", "second"]

# default length of a stage: this many steps, but neither fewer epochs nor many more than a data set can bear
_STEPS, _LEAST_STEPS = 10_000, 2_000
_LEAST_EPOCHS, _MOST_EPOCHS = 5, 200


class Settings(BaseModel):
    """Everything that decides what is trained and how; data apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latent_dim: int = Field(32, ge=1, description="latent dimensions; superfluous ones are left idle by training")
    network: Network = Field("auto", description="auto: infogan for images, mlp for tables; lstm: of SequenceVAE")
    hidden: tuple[int, ...] = Field((256, 256), min_length=1, description="hidden widths of the mlp; units of the lstm")
    base_width: int | None = Field(
        None, ge=1, description="channels after the first convolution of resnet, residual, wae, rae, arelbo"
    )
    spectral: bool = Field(False, description="spectral normalisation of all layers of rae")
    norm_decay: float | None = Field(
        None, gt=0, lt=1, description="decay of batch norm's running averages; default: 0.99, less in short trainings"
    )
    posterior: PosteriorName = Field(
        "diagonal", description="covariance of q(z|x): isotropic is one number for all x, deterministic an autoencoder"
    )
    posterior_variance: float | None = Field(
        None, gt=0, description="fixed variance of an isotropic posterior; default: learned"
    )
    conditional: bool = Field(False, description="give every network a condition: the label, from a data set")
    prior: Literal["standard", "conditional", "shared"] = Field(
        "standard", description="p(z), p(z|c), or p(z|c) with the encoder's own weights (lstm only)"
    )
    attention: bool | None = Field(
        None, description="let the decoder switch latent dimensions off; default: where there is a condition"
    )
    condition_hidden: tuple[int, ...] = Field(
        (64,), min_length=1, description="hidden widths of the networks that read the condition"
    )
    likelihood: LikelihoodName = Field(
        "gaussian",
        description="p(x|z); bernoulli, continuous_bernoulli and logistic_mixture take pixels, mixed takes categories "
        "and missing values",
    )
    logistic_components: int = Field(10, ge=1, description="of logistic_mixture")
    variance: Literal["profiled", "learned", "fixed"] = Field(
        "profiled", description="how the decoder variance is obtained"
    )
    variance_shape: VarianceShape = Field(
        "iso-i", description="one decoder variance; one per dimension (diag-i), per row (iso-d), or both (diag-d)"
    )
    draws: int = Field(1, ge=1, description="of z per row and step")
    gamma: float | None = Field(None, gt=0, description="fixed decoder variance (default 1), or where learning starts")
    gamma_lr_scale: float = Field(10.0, gt=0, description="learning rate of a learned gamma, relative to lr")
    gamma_floor: float | None = Field(
        None,
        gt=0,
        description="smallest decoder variance, relative to the data's; default: 1e-6, 0.01 for profiled diag-d",
    )
    kl_weight: float = Field(1.0, ge=0, description="weight of the KL term; other than 1 is no bound on log p(x)")
    mmd_weight: float = Field(0.0, ge=0, description="of the distance of the codes to the prior (WAE-MMD)")
    adversarial_weight: float = Field(0.0, ge=0, description="of a critic on the codes (WAE-GAN)")
    critic_hidden: tuple[int, ...] = Field((512,) * 4, min_length=1, description="hidden widths of the critic")
    critic_lr_scale: float = Field(1.0, gt=0, description="learning rate of the critic, relative to lr")
    critic_log_prior: bool = Field(True, description="add the known log p(z) to the critic's logit")
    code_norm_weight: float = Field(0.0, ge=0, description="of the squared norm of z (RAE)")
    weight_norm_weight: float = Field(0.0, ge=0, description="of the decoder's squared weights (RAE)")
    weight_norm_dense: bool = Field(True, description="count dense layers there, beside convolutions")
    jacobian_weight: float = Field(0.0, ge=0, description="of the decoder's squared Jacobian (RAE-GP)")
    jacobian_form: JacobianForm = Field("jacobian", description="that of the paper, or what its program computes")

    epochs: int | None = Field(None, ge=1, description="of stage one; default: to suit the data")
    batch_size: int = Field(100, ge=1, description="rows per step, over all processes")
    lr: float = Field(1e-3, gt=0, description="learning rate of Adam")
    schedule: Schedule = Field("cosine", description="how the learning rate moves")
    halve_every: int | None = Field(
        None, ge=1, description="epochs between halvings, for schedule step; epochs to wait, for plateau"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of Adam's mean of gradients, in stage one")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty inside Adam")

    densities: tuple[Density, ...] = Field(
        ("gaussian", "mixture", "second_stage"), description="latent densities to fit on the codes, beside the prior"
    )
    components: int | None = Field(None, ge=1, description="of the mixture; default: chosen on held-out codes")
    covariance: Literal["full", "diag"] | None = Field(None, description="of the mixture; default: chosen")
    second_hidden: tuple[int, ...] = Field((1024, 1024, 1024), min_length=1, description="hidden widths of stage two")
    second_epochs: int | None = Field(None, ge=1, description="of stage two; default: to suit the data")
    second_lr: float = Field(1e-3, gt=0, description="learning rate of stage two")
    second_schedule: Schedule = Field("cosine", description="how it moves")
    second_halve_every: int | None = Field(None, ge=1, description="epochs between halvings, for schedule step")

    held_out: float = Field(0.1, ge=0, lt=1, description="share of the training rows (at most 5,000) to compare on")
    keep_best: bool = Field(True, description="end each stage with the weights that were best on held-out rows")
    precision: Precision = Field("32-true", description="number format, as Lightning Fabric names it")
    compile: bool = Field(False, description="compile the training step")
    accelerator: Accelerator = Field("auto", description="kind of device; auto takes a CUDA device if there is one")
    checkpoint_seconds: float = Field(30.0, ge=0, description="least time between two training states on disk")
    seed: int = Field(0, ge=0, description="seed of initial weights, splits, data order and noise")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for stage in ("first", "second"):
            self.fit_settings(stage)
        given = self.gamma is not None or self.variance != "profiled" or self.variance_shape != "iso-i"
        if self.likelihood not in ("gaussian", "mixed") and given:
            raise ValueError(f"likelihood={self.likelihood!r} has no variance; leave gamma and variance out")
        if self.likelihood == "mixed" and self.variance_shape.endswith("-d"):
            raise ValueError("likelihood='mixed' has the same variances for all rows; use variance_shape='diag-i'")
        if self.variance == "fixed" and self.variance_shape != "iso-i":
            raise ValueError(f"variance='fixed' is one number; leave variance_shape={self.variance_shape!r} out")
        if self.posterior == "deterministic" and (self.kl_weight != 1 or self.draws > 1):
            raise ValueError("posterior='deterministic' has no KL and one z; leave kl_weight and draws out")
        if self.posterior_variance is not None and self.posterior != "isotropic":
            raise ValueError("posterior_variance is for posterior='isotropic'")
        if self.jacobian_weight and self.compile:
            # its gradient is a second derivative, which the compiler does not take
            raise ValueError("jacobian_weight with compile=True; leave compile out")
        if self.gamma_lr_scale != 10 and self.variance != "learned":
            raise ValueError("gamma_lr_scale is for variance='learned'")
        critic = self.critic_hidden != (512,) * 4 or self.critic_lr_scale != 1 or not self.critic_log_prior
        if critic and not self.adversarial_weight:
            raise ValueError("critic_hidden, critic_lr_scale and critic_log_prior need an adversarial_weight")
        if self.logistic_components != 10 and self.likelihood != "logistic_mixture":
            raise ValueError("logistic_components is for likelihood='logistic_mixture'")
        if self.spectral and self.network != "rae":
            raise ValueError("spectral=True is for network='rae'")
        if "plateau" in (self.schedule, self.second_schedule) and not self.held_out:
            raise ValueError("schedule='plateau' watches held-out rows; leave held_out above 0")
        if self.prior != "standard" and not self.conditional:
            raise ValueError(f"prior={self.prior!r} without a condition; set conditional=True, or leave prior out")
        if self.prior == "shared" and self.network != "lstm":
            raise ValueError("prior='shared' is for network='lstm'; use prior='conditional'")
        if self.variance == "profiled" and self.gamma is not None:
            raise ValueError("gamma has no effect with variance='profiled'; use variance='fixed' or 'learned'")
        if len(set(self.densities)) != len(self.densities):
            raise ValueError(f"densities={self.densities} names one twice")
        return self

    def fit_settings(self, stage: Stage) -> FitSettings:
        """Return one stage's training settings; one epoch where the length is still open, before `resolve`."""
        first = stage == "first"
        return FitSettings(
            epochs=(self.epochs if first else self.second_epochs) or 1,
            batch_size=self.batch_size,
            lr=self.lr if first else self.second_lr,
            schedule=self.schedule if first else self.second_schedule,
            halve_every=self.halve_every if first else self.second_halve_every,
            beta1=self.beta1 if first else 0.9,
            weight_decay=self.weight_decay,
            keep_best=self.keep_best and self.held_out > 0,
            precision=self.precision,
            compile=self.compile,
            accelerator=self.accelerator,
            checkpoint_seconds=self.checkpoint_seconds,
            seed=self.seed,
        )

    def resolve(self, rows: int, event_shape: tuple[int, ...]) -> Self:
        """Fill in what depends on the data: the network and the lengths of the stages.

        Raises
        ------
        InputError
            The settings do not suit rows of this shape.
        """
        image = len(event_shape) == 3
        network = ("infogan" if image else "mlp") if self.network == "auto" else self.network
        if network == "lstm" and (image or not self.conditional):
            raise InputError("network='lstm' without sequences", "points and their past", "Use SequenceVAE.")
        if network not in ("mlp", "lstm") and not image:
            raise InputError(
                f"network={network!r} for rows of shape {event_shape}", "images (n, C, H, W)", "Use 'mlp'."
            )
        if self.likelihood not in ("gaussian", "mixed") and not image:
            got = f"likelihood={self.likelihood!r} for a table"
            raise InputError(got, "pixels in [0, 1]", "Use likelihood='gaussian'.")
        if self.likelihood == "mixed" and (image or network == "lstm"):
            raise InputError("likelihood='mixed' without a table", "rows (n, d)", "Use likelihood='gaussian'.")
        if network not in ("mlp", "lstm") and min(self.batch_size, rows) < 2:
            raise InputError(
                f"batches of one row for {network!r}", "at least 2, for its batch norm", "Use network='mlp'."
            )
        per_epoch = max(1, rows // self.batch_size)
        usual = min(max(math.ceil(_STEPS / per_epoch), _LEAST_EPOCHS), _MOST_EPOCHS)
        usual = max(usual, math.ceil(_LEAST_STEPS / per_epoch))
        epochs = self.epochs or usual
        # averages over more than a twentieth of a training lag behind its weights, and spoil what is seen of it
        decay = self.norm_decay or min(0.99, max(0.5, 1 - 20 / (epochs * per_epoch)))
        return self.model_copy(
            update={
                "network": network,
                "attention": self.conditional if self.attention is None else self.attention,
                "epochs": epochs,
                "norm_decay": decay,
                "second_epochs": self.second_epochs or usual,
            }
        )


def parse_settings(values: Mapping[str, object]) -> Settings:
    """Check settings that come from a file or from keyword arguments.

    Raises
    ------
    InputError
        An unknown name (with the nearest known one), a wrong value, or a contradiction; all of them at once.
    """
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, Settings) from None


def explain(error: ValidationError, model: type[BaseModel]) -> InputError:
    """Turn a validation error into one message for people, with the nearest known name for each unknown one."""
    import difflib

    problems = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, model.model_fields, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"no setting is called {name!r}{hint}")
        else:
            problems.append(f"{name}={item['input']!r}: {item['msg']}" if name else item["msg"])
    return InputError("; ".join(problems), "settings that fit together", "See `vaelab train --help`.")
