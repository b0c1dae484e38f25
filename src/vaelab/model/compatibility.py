"""What the axes of a VAE refuse of one another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from vaelab.errors import InputError
from vaelab.model.regularizers import Regularizer

if TYPE_CHECKING:
    from vaelab.model.vae import VAE


def check_axes(vae: VAE) -> None:
    """Refuse a VAE whose axes do not fit together.

    Raises
    ------
    InputError
        Names what does not fit what.
    """
    penalties = list(cast("Iterable[Regularizer]", vae.regularizers))
    names = [penalty.name for penalty in penalties]
    if len(set(names)) != len(names):
        raise InputError(f"regularizers named {names}", "one of each name", "Add up their weights instead.")
    _check_shapes(vae)
    if vae.draws < 1 or (vae.draws > 1 and vae.posterior.degenerate):
        raise InputError(f"draws={vae.draws}", "at least 1, and 1 for a deterministic posterior")
    of_density = [penalty for penalty in penalties if penalty.needs_density]
    if vae.bound == "iwae":
        _check_weighted(vae, [penalty.weight for penalty in of_density])
    if vae.posterior.degenerate and of_density:
        remedy = "Pass regularizers=[] for an autoencoder, or a posterior with a variance."
        raise InputError("a deterministic posterior with a KL, which is infinite", "another penalty", remedy)


def _check_shapes(vae: VAE) -> None:
    """Refuse networks and a prior of other sizes; networks that do not say theirs are found out in use."""
    if vae.prior.latent_dim != vae.latent_dim:
        raise InputError(f"a prior over {vae.prior.latent_dim} dimensions", f"latent_dim={vae.latent_dim}")
    wanted = vae.posterior.parameter_count(vae.latent_dim)
    got = getattr(vae.encoder, "out_features", wanted)
    if got != wanted:
        raise InputError(
            f"an encoder with {got} outputs",
            f"{wanted} for {type(vae.posterior).__name__} and latent_dim={vae.latent_dim}",
            f"Build the encoder with out_features={wanted}.",
        )
    width = getattr(vae.decoder, "latent_dim", vae.latent_dim)
    if width != vae.latent_dim:
        raise InputError(f"a decoder that reads {width} numbers", f"latent_dim={vae.latent_dim}")
    event, emitted = getattr(vae.encoder, "event_shape", None), getattr(vae.decoder, "out_shape", None)
    if event is not None and emitted is not None:
        shape = vae.likelihood.parameter_shape(tuple(event))
        if tuple(emitted) != shape:  # a γ that is emitted too would be read from the mean's channels
            raise InputError(
                f"a decoder that emits {tuple(emitted)}",
                f"{shape} for rows {tuple(event)} and {type(vae.likelihood).__name__}",
                f"Build the decoder with out_shape={shape}.",
            )


def _check_weighted(vae: VAE, weights: list[float]) -> None:
    """Refuse what is no importance-weighted bound; these are the weights of its KLs."""
    got, variance = "bound='iwae'", vae.likelihood.variance
    if vae.posterior.degenerate:
        raise InputError(f"{got} for a deterministic posterior", "one with a variance", "Use bound='elbo'.")
    if weights != [1.0]:
        remedy = "Give 'kl' a weight of 1, or use bound='elbo'."
        raise InputError(f"{got} with KL weights {weights}", "a single KL of weight 1, which is part of it", remedy)
    if variance is not None and variance.per_sample:
        raise InputError(f"{got} for a variance that is fitted to each row", "a density", "Use shape 'iso-i'.")
