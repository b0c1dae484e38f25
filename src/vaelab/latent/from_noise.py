"""Draws of a law on codes as a map of standard normals: what a graph without a source of randomness can compute.

Where a choice is to be made, as among the parts of a mixture, Φ of one of the normals is the uniform number that makes
it. The law of what comes out is that of `LatentDensity.sample`; the draws of one seed are others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple, cast

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.latent.densities import LatentDensity, PriorDensity, SecondStage, check_condition
from vaelab.latent.flow_matching import FlowMatching
from vaelab.latent.joint import JointMixture
from vaelab.latent.mixtures import Mixture
from vaelab.latent.per_class import ClassMixture
from vaelab.model import draw
from vaelab.model.distributions import chosen
from vaelab.model.from_noise import emission_of


class FromNoise(NamedTuple):
    """How codes are drawn.

    Attributes
    ----------
    normals
        Standard normals that a draw is made of.
    of
        (n, normals) of them, and conditions as for `LatentDensity.sample`, → (n, κ).
    """

    normals: int
    of: Callable[[Tensor, Tensor | None], Tensor]


@singledispatch
def draws_of(density: LatentDensity) -> FromNoise:
    """Return how a law's codes are drawn; a law of your own is registered here.

    Raises
    ------
    InputError
        Its draws are no such map, or none that a graph of moderate size computes, as those of a flow.
    """
    got = f"{type(density).__name__}, whose draws are no plain map of normals"
    remedy = "Name another density: 'prior', 'gaussian', 'mixture', 'second_stage' or 'flow_matching'."
    raise InputError(got, "a law with one", remedy)


@draws_of.register
def _(density: PriorDensity) -> FromNoise:
    return FromNoise(density.prior.latent_dim, lambda noise, c: draw(density.prior(c), noise))


@draws_of.register
def _(density: SecondStage) -> FromNoise:
    vae, size = density.vae, density.vae.latent_dim
    emission = emission_of(vae.likelihood, (size,))

    def of(noise: Tensor, c: Tensor | None) -> Tensor:
        u = draw(vae.prior(c), noise[:, :size])
        return emission.of(vae.decoder(u, c), noise[:, size:])

    return FromNoise(size + emission.normals, of)


@draws_of.register
def _(density: FlowMatching) -> FromNoise:
    return FromNoise(density.latent_dim, lambda noise, c: density.loc + density.scale * density.carry_block(noise, c))


@draws_of.register
def _(density: Mixture) -> FromNoise:
    def of(noise: Tensor, c: Tensor | None) -> Tensor:
        which = chosen(density.weights, noise[:, -1:])
        return density.means[which] + _spread(density.scale_trils[which], noise)

    return FromNoise(density.means.shape[1] + 1, of)


@draws_of.register
def _(density: ClassMixture) -> FromNoise:
    parts = [draws_of(cast("Mixture", part)) for part in density.parts]

    def of(noise: Tensor, c: Tensor | None) -> Tensor:
        c = check_condition(c, noise.shape[0], density.condition_shape)
        every = torch.stack([part.of(noise, None) for part in parts], 1)  # of every class, and then its own
        return (every * c[..., None]).sum(1)

    return FromNoise(parts[0].normals, of)


@draws_of.register
def _(density: JointMixture) -> FromNoise:
    whitening = torch.linalg.inv(density.c_scale_trils)  # a graph has no solver of triangular equations
    constant = density.weights.log() + whitening.diagonal(dim1=1, dim2=2).log().sum(1)

    def of(noise: Tensor, c: Tensor | None) -> Tensor:
        c = check_condition(c, noise.shape[0], density.condition_shape)
        shift = c[:, None] - density.c_means
        white = (whitening @ shift[..., None])[..., 0]
        which = chosen((constant - 0.5 * white.square().sum(2)).softmax(1), noise[:, -1:])
        moved = (density.gains[which] @ (c - density.c_means[which])[..., None])[..., 0]
        return density.z_means[which] + moved + _spread(density.scale_trils[which], noise)

    return FromNoise(density.z_means.shape[1] + 1, of)


def _spread(factors: Tensor, noise: Tensor) -> Tensor:
    """(n, κ) L ε with each row's own factor; the last of the normals is not of ε."""
    return (factors @ noise[:, :-1, None])[..., 0]
