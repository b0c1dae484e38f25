"""The networks and axes that settings ask for.

What it builds from is imported inside its functions, so that reading settings does not load it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from vaelab.arguments import check_memory
from vaelab.errors import InputError
from vaelab.specs.densities import SecondStage
from vaelab.specs.likelihoods import DataFacts
from vaelab.specs.networks import LSTM, Own, Shapes
from vaelab.specs.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from vaelab import nets
    from vaelab.model import VAE, Prior


def build_vae(
    settings: Settings,
    event_shape: tuple[int, ...],
    *,
    data_variance: float,
    condition_shape: tuple[int, ...] = (),
    levels: tuple[int, ...] = (),
    ordered: tuple[bool, ...] = (),
    gaps: tuple[int, ...] = (),
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
    ordered
        Whether the levels of each have an order.
    gaps
        Pattern of each column's gaps, as from `vaelab.model.gap_patterns`; nothing is missing if not given.
    """
    from vaelab.model import VAE
    from vaelab.model.contexts import own_state
    from vaelab.nets import TableReader, table_width
    from vaelab.training.streams import forked

    mixed = settings.likelihood.takes == "columns"
    if mixed and not levels:
        levels = (0,) * event_shape[0]
    tied = settings.condition is not None and settings.condition.kind == "tied"
    posterior = settings.posterior.build("exp" if tied else settings.network.scale)  # as the prior's
    likelihood = settings.likelihood.build(DataFacts(event_shape, data_variance, levels, ordered=ordered, gaps=gaps))
    shapes = Shapes(
        event_shape=(table_width(levels),) if mixed else event_shape,
        latent_dim=settings.size,
        encoder_outputs=posterior.parameter_count(settings.size),
        decoder_shape=likelihood.parameter_shape(event_shape),
        condition_dim=_embedding(settings, condition_shape) if settings.network.embeds else 0,
        condition_shape=condition_shape,
    )
    _check_size(settings, shapes)
    with own_state(), forked("cpu", settings.seed, "first stage"):
        encoder, decoder = _networks(settings, shapes)
        if mixed:
            encoder = TableReader(encoder, levels)
        return VAE(
            encoder,
            decoder,
            latent_dim=settings.size,
            posterior=posterior,
            prior=_prior(settings, encoder, condition_shape),
            likelihood=likelihood,
            regularizers=[each.build(settings.size, math.prod(event_shape)) for each in settings.penalties],
            draws=settings.posterior.drawn,
            bound=settings.posterior.bounded,
            hiding=settings.likelihood.hiding(math.prod(event_shape)),
        )


def _check_size(settings: Settings, shapes: Shapes) -> None:
    """Refuse networks whose weights, gradients and moments do not fit into memory, before they are made."""
    import torch

    if isinstance(settings.network, Own):  # called once, whatever it does
        return
    remedy = "Use fewer latent dimensions or narrower layers."
    try:
        with torch.device("meta"):
            made = [each for each in _networks(settings, shapes) if isinstance(each, torch.nn.Module)]
    except (RuntimeError, OverflowError, TypeError) as error:
        if "overflow" not in str(error).lower():
            return  # networks that cannot be made without numbers
        raise InputError("networks of more weights than can be counted", "what fits into memory", remedy) from error
    weights = sum(weight.numel() for network in made for weight in network.parameters())
    check_memory(f"a network of {weights:,} weights", 16.0 * weights, remedy)


def build_second_stage(
    settings: Settings,
    second: SecondStage | None = None,
    *,
    code_variance: float,
    condition_shape: tuple[int, ...] = (),
) -> VAE:
    """Build the second stage: κ → κ, both networks with a skip, γ' of its own (Dai & Wipf 2019, section 4)."""
    from vaelab.model import VAE, Gaussian
    from vaelab.model.contexts import own_state
    from vaelab.nets import MLPDecoder, MLPEncoder
    from vaelab.training.streams import forked

    second = second or cast("SecondStage", settings.density("second_stage"))
    size, width = settings.size, _embedding(settings, condition_shape)
    with own_state(), forked("cpu", settings.seed, "second stage"):
        encoder = MLPEncoder((size,), 2 * size, hidden=second.widths, skip=True, condition_dim=width)
        decoder = MLPDecoder(size, (size,), hidden=second.widths, skip=True, condition_dim=width)
        return VAE(
            _embedded(encoder, settings, condition_shape),
            _embedded(decoder, settings, condition_shape),
            latent_dim=size,
            likelihood=Gaussian(settings.likelihood.of_codes(code_variance)),
        )


def _embedding(settings: Settings, condition_shape: tuple[int, ...]) -> int:
    """Width of an embedded condition."""
    return settings.condition.hidden[-1] if condition_shape and settings.condition is not None else 0


def _networks(settings: Settings, shapes: Shapes) -> tuple[nn.Module, nn.Module]:
    """Build encoder and decoder, with the condition's way into both."""
    from vaelab import nets

    if settings.adversary is not None:
        from vaelab.model import NoEncoder

        return NoEncoder(), settings.adversary.generator(settings.network, shapes)
    encoder, decoder = settings.network.build(shapes)
    if settings.network.embeds:
        encoder = _embedded(encoder, settings, shapes.condition_shape)
        decoder = _embedded(decoder, settings, shapes.condition_shape)
    if settings.condition is not None and settings.condition.kind == "tied":
        size, hidden = shapes.encoder_outputs, settings.condition.hidden
        encoder = nets.ConditionEncoder(nets.ConditionReader(shapes.condition_shape, size, hidden=hidden), size)
    if settings.condition is not None and settings.condition.attention:
        decoder = nets.Gated(decoder, () if settings.condition.attention == "vector" else shapes.condition_shape)
    return encoder, decoder


def _embedded(network: nn.Module, settings: Settings, condition_shape: tuple[int, ...]) -> nn.Module:
    from vaelab.nets import Embedded

    if not condition_shape or settings.condition is None:
        return network
    hidden = settings.condition.hidden
    return Embedded(network, condition_shape, hidden[-1], hidden=hidden)


def _prior(settings: Settings, encoder: nn.Module, condition_shape: tuple[int, ...]) -> Prior | None:
    """Return a conditional prior, a GAN's, or None for N(0, I)."""
    from vaelab import nets
    from vaelab.model import Conditional, Uniform

    size, condition = settings.size, settings.condition
    if settings.adversary is not None:
        return Uniform(size)
    if condition is None or condition.kind == "standard":
        return None
    if condition.kind == "shared":
        return Conditional(nets.SharedPrior(cast("nets.LSTMEncoder", encoder), size), size)
    if isinstance(encoder, nets.ConditionEncoder):
        return Conditional(encoder.reader, size)
    hidden = (settings.network.units,) if isinstance(settings.network, LSTM) else condition.hidden
    return Conditional(nets.ConditionReader(condition_shape, 2 * size, hidden=hidden), size)
