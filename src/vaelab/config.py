"""Flat, frozen settings of a whole two-stage training, and the one place that turns names into objects.

The command line's flags, the estimators' arguments, a run's ``config.yaml`` and the presets are all these fields.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vaelab.errors import InputError
from vaelab.training.settings import Accelerator, FitSettings, Precision, Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from vaelab import nets
    from vaelab.model import VAE, Likelihood, Posterior, Prior, Regularizer, Variance

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

_FLOOR = 1e-6  # of γ, relative to the variance of the data


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


def build_vae(
    settings: Settings,
    event_shape: tuple[int, ...],
    *,
    data_variance: float,
    condition_shape: tuple[int, ...] = (),
    levels: tuple[int, ...] = (),
) -> VAE:
    """Build the first stage.

    Parameters
    ----------
    settings
        Resolved.
    event_shape
        Of the data.
    data_variance
        Mean variance of a dimension, in the network's units: where a learned γ starts, and the floor's scale.
    condition_shape
        Of one condition; () for none.
    levels
        Of each column of a mixed table, as `vaelab.data.Schema.levels`: 0 for numbers, which are all if not given.
    """
    from vaelab.model import VAE
    from vaelab.nets import TableReader, table_width
    from vaelab.training.streams import forked

    mixed = settings.likelihood == "mixed"
    if mixed and not levels:
        levels = (0,) * event_shape[0]
    posterior = _posterior(settings)
    likelihood = _likelihood(settings, data_variance, event_shape, levels)
    with forked("cpu", settings.seed, "first stage"):
        outputs = posterior.parameter_count(settings.latent_dim), likelihood.parameter_shape(event_shape)
        inputs = (table_width(levels),) if mixed else event_shape
        encoder, decoder = _networks(settings, inputs, outputs, condition_shape)
        if mixed:
            encoder = TableReader(encoder, levels)
        return VAE(
            encoder,
            decoder,
            latent_dim=settings.latent_dim,
            posterior=posterior,
            prior=_prior(settings, encoder, condition_shape),
            likelihood=likelihood,
            regularizers=_regularizers(settings, math.prod(event_shape)),
            draws=settings.draws,
        )


def build_second_stage(settings: Settings, *, code_variance: float, condition_shape: tuple[int, ...] = ()) -> VAE:
    """Build the second stage: κ → κ, both networks with a skip, γ' of its own (Dai & Wipf 2019, section 4)."""
    from vaelab.model import VAE, Gaussian
    from vaelab.nets import MLPDecoder, MLPEncoder
    from vaelab.training.streams import forked

    size, hidden = settings.latent_dim, settings.second_hidden
    width = settings.condition_hidden[-1] if condition_shape else 0
    with forked("cpu", settings.seed, "second stage"):
        encoder = MLPEncoder((size,), 2 * size, hidden=hidden, skip=True, condition_dim=width)
        decoder = MLPDecoder(size, (size,), hidden=hidden, skip=True, condition_dim=width)
        return VAE(
            _embedded(encoder, settings, condition_shape),
            _embedded(decoder, settings, condition_shape),
            latent_dim=size,
            likelihood=Gaussian(_code_variance(settings, code_variance)),
        )


def _posterior(settings: Settings) -> Posterior:
    from vaelab.model import Deterministic, Diagonal, FullCovariance, Isotropic

    if settings.posterior == "full":
        return FullCovariance()
    if settings.posterior == "deterministic":
        return Deterministic()
    if settings.posterior == "isotropic":
        return Isotropic(settings.posterior_variance or 1.0, learned=settings.posterior_variance is None)
    # the InfoGAN encoder of the paper's program emits σ through a softplus, the other networks emit log σ
    return Diagonal("softplus" if settings.network == "infogan" else "exp")


def _prior(settings: Settings, encoder: nn.Module, condition_shape: tuple[int, ...]) -> Prior | None:
    """Return a conditional prior, or None for N(0, I)."""
    from vaelab import nets
    from vaelab.model import Conditional

    size = settings.latent_dim
    if settings.prior == "standard":
        return None
    if settings.prior == "shared":
        return Conditional(nets.SharedPrior(cast("nets.LSTMEncoder", encoder), size), size)
    hidden = settings.hidden[:1] if settings.network == "lstm" else settings.condition_hidden
    return Conditional(nets.ConditionReader(condition_shape, 2 * size, hidden=hidden), size)


Outputs = tuple[int, tuple[int, ...]]  # numbers that the encoder emits, and shape of what the decoder does


def _networks(
    settings: Settings, event_shape: tuple[int, ...], outputs: Outputs, condition_shape: tuple[int, ...]
) -> tuple[nn.Module, nn.Module]:
    """Build encoder and decoder, with the condition's way into both."""
    from vaelab import nets

    size = settings.latent_dim
    encoder: nn.Module
    decoder: nn.Module
    if settings.network == "lstm":
        if len(condition_shape) != 2:
            got = f"network='lstm' with a condition of shape {condition_shape}"
            raise InputError(got, "windows of earlier points (T, channels)", "Use SequenceVAE.")
        units = settings.hidden[0]
        encoder = nets.LSTMEncoder(event_shape, outputs[0], condition_shape=condition_shape, units=units)
        decoder = nets.LSTMDecoder(size, outputs[1], condition_shape=condition_shape, units=units)
    else:
        width = settings.condition_hidden[-1] if condition_shape else 0
        encoder, decoder = _plain_networks(settings, event_shape, outputs, width)
        encoder = _embedded(encoder, settings, condition_shape)
        decoder = _embedded(decoder, settings, condition_shape)
    if settings.attention:
        decoder = nets.Gated(decoder, condition_shape)
    return encoder, decoder


def _embedded(network: nn.Module, settings: Settings, condition_shape: tuple[int, ...]) -> nn.Module:
    from vaelab.nets import Embedded

    if not condition_shape:
        return network
    hidden = settings.condition_hidden
    return Embedded(network, condition_shape, hidden[-1], hidden=hidden)


def _plain_networks(
    settings: Settings, event_shape: tuple[int, ...], outputs: Outputs, condition_dim: int
) -> tuple[nn.Module, nn.Module]:
    from vaelab import nets

    size = settings.latent_dim
    if settings.network == "mlp":
        return (
            nets.MLPEncoder(event_shape, outputs[0], hidden=settings.hidden, condition_dim=condition_dim),
            nets.MLPDecoder(size, outputs[1], hidden=settings.hidden[::-1], condition_dim=condition_dim),
        )
    families: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
        "infogan": (nets.InfoGANEncoder, nets.InfoGANDecoder),
        "resnet": (nets.ResNetEncoder, nets.ResNetDecoder),
        "residual": (nets.ResidualEncoder, nets.ResidualDecoder),
        "wae": (nets.WAEEncoder, nets.WAEDecoder),
        "rae": (nets.RAEEncoder, nets.RAEDecoder),
        "arelbo": (nets.ARELBOEncoder, nets.ARELBODecoder),
    }
    encode, decode = families[settings.network]
    options: dict[str, Any] = {"condition_dim": condition_dim, "norm_decay": settings.norm_decay or 0.99}
    if settings.base_width is not None and settings.network != "infogan":
        options["base_width"] = settings.base_width
    if settings.network == "rae":  # the program's kernels are larger for CelebA
        options |= {"spectral": settings.spectral, "kernel": 5 if min(event_shape[1:]) >= 64 else 4}
    return encode(event_shape, outputs[0], **options), decode(size, outputs[1], **options)


def _likelihood(
    settings: Settings, data_variance: float, event_shape: tuple[int, ...], levels: tuple[int, ...]
) -> Likelihood:
    from vaelab import model

    if settings.likelihood == "mixed":
        return model.Mixed(levels, _variance(settings, data_variance, (levels.count(0),)))

    if settings.likelihood == "bernoulli":
        return model.Bernoulli()
    if settings.likelihood == "continuous_bernoulli":
        return model.ContinuousBernoulli()
    if settings.likelihood == "logistic_mixture":
        return model.DiscretizedLogisticMixture(settings.logistic_components)
    link: Literal["sigmoid", "identity"] = "sigmoid" if len(event_shape) == 3 else "identity"
    return model.Gaussian(_variance(settings, data_variance, event_shape), link=link)


def _variance(settings: Settings, data_variance: float, event_shape: tuple[int, ...]) -> Variance:
    from vaelab.model import DecodedVariance, FixedVariance, LearnedVariance, ProfiledVariance

    # the logarithm of single errors rewards a few exact pixels more than it punishes wrong ones: with little floor
    # it likes blank images best
    single = settings.variance == "profiled" and settings.variance_shape == "diag-d"
    least = settings.gamma_floor or (1e-2 if single else _FLOOR)
    floor = least * data_variance
    diagonal, per_row = settings.variance_shape.startswith("diag"), settings.variance_shape.endswith("-d")
    if settings.variance == "fixed":
        return FixedVariance(1.0 if settings.gamma is None else settings.gamma)
    if settings.variance == "profiled":
        return ProfiledVariance(diagonal=diagonal, per_sample=per_row, floor=floor)
    initial = data_variance if settings.gamma is None else settings.gamma
    if per_row:
        return DecodedVariance(initial, diagonal=diagonal, floor=floor)
    own = event_shape if diagonal else None
    return LearnedVariance(initial, event_shape=own, lr_scale=settings.gamma_lr_scale, floor=floor)


def _code_variance(settings: Settings, code_variance: float) -> Variance:
    """Build γ' of stage two; a γ given for the data says nothing about codes."""
    from vaelab.model import LearnedVariance

    floor = (settings.gamma_floor or _FLOOR) * code_variance
    if settings.variance == "learned":  # as in the paper: from the codes' scale
        return LearnedVariance(code_variance, lr_scale=settings.gamma_lr_scale, floor=floor)
    # With d = r = κ nothing pulls γ' down, and near the variance of the codes ignoring u is a local optimum, in which a
    # profiled γ' often stays. Starting below it and rising slowly leaves that optimum out.
    return LearnedVariance(0.1 * code_variance, lr_scale=3.0, floor=floor)


def _regularizers(settings: Settings, dimensions: int) -> list[Regularizer]:
    from vaelab import model
    from vaelab.nets import MLP

    found: list[Regularizer] = [] if settings.posterior == "deterministic" else [model.KL(settings.kl_weight)]
    if settings.mmd_weight:
        found.append(model.MMD(settings.mmd_weight))
    if settings.adversarial_weight:
        critic = MLP(settings.latent_dim, 1, settings.critic_hidden)
        found.append(
            model.Adversarial(
                settings.adversarial_weight,
                critic,
                log_prior=settings.critic_log_prior,
                lr_scale=settings.critic_lr_scale,
            )
        )
    if settings.code_norm_weight:
        found.append(model.CodeNorm(settings.code_norm_weight))
    if settings.weight_norm_weight:
        found.append(model.WeightNorm(settings.weight_norm_weight, dense=settings.weight_norm_dense))
    if settings.jacobian_weight:
        form = settings.jacobian_form
        found.append(model.JacobianPenalty(settings.jacobian_weight, dimensions=dimensions, form=form))
    return found
