"""Names turned into objects: the networks and axes that settings ask for.

What it builds from is imported inside its functions, so that reading settings does not load it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast

from vaelab.config.settings import Settings
from vaelab.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from vaelab import nets
    from vaelab.model import VAE, Likelihood, Posterior, Prior, Regularizer, Variance

_FLOOR = 1e-6  # of γ, relative to the variance of the data


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
