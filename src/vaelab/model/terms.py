"""What a VAE says of every row of a block: the terms that measures over rows average."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.model.contexts import evaluating
from vaelab.model.distributions import draw, kl, variance_ratio
from vaelab.rows import blocks
from vaelab.types import Batches

if TYPE_CHECKING:
    from vaelab.model.vae import VAE


class Importance(NamedTuple):
    """Draws from the posterior with their densities; log p(x | z) + log p(z) − log q(z | x) is a log-weight.

    Attributes
    ----------
    z
        (draws, B, κ) from q(z | x).
    log_likelihood
        (draws, B) log p(x | z), nats.
    log_q
        (draws, B) log q(z | x), nats.
    """

    z: Tensor
    log_likelihood: Tensor
    log_q: Tensor


class RowTerms(NamedTuple):
    """Terms of one draw of z per row, float64.

    Attributes
    ----------
    squared_error
        (B,) of the decoder mean, summed over the event.
    distortion
        (B,) −log p(x | z), nats.
    kl
        (B,) KL[q(z | x) ‖ p(z)], nats; 0 for a deterministic posterior, which has none.
    """

    squared_error: Tensor
    distortion: Tensor
    kl: Tensor


def row_terms(vae: VAE, x: Tensor, c: Tensor | None, noise: Tensor) -> RowTerms:
    """Score rows at z ~ q(z | x), made from (B, κ) standard normals."""
    q = vae.encode(x, c)
    z = draw(q, noise.to(x.dtype))
    parameters = vae.decoder(z, c).to(x.dtype)
    error = vae.likelihood.squared_error(parameters, x).double().flatten(1).sum(1)
    distortion = vae.likelihood.nll(parameters, x).double()
    divergence = torch.zeros_like(error) if vae.posterior.degenerate else kl(q, vae.prior(c), z).double()
    return RowTerms(error, distortion, divergence.expand(len(x)))


@torch.no_grad()
def reconstruction_error(vae: VAE, x: Tensor, c: Tensor | None = None, *, read: Tensor | None = None) -> Tensor:
    """(n,) mean squared error per dimension of the decoder mean at the posterior mean.

    Of a mixed table, per observed number; 0 for a row without any. `read` is what is encoded, where it is not x.
    """
    parameters = vae.decoder(vae.encode(x if read is None else read, c).mean, c).to(x.dtype)
    return vae.likelihood.squared_error(parameters, x).flatten(1).nanmean(1).nan_to_num()


@torch.no_grad()
def variance_ratios_of(vae: VAE, batches: Batches, *, conditions: list[Tensor] | None = None) -> Tensor:
    """(n, κ) variance ratios of every row, float64 on the CPU, in evaluation mode.

    Parameters
    ----------
    vae, batches
        The model and its rows in the network's units.
    conditions
        Takes those of the rows, a tensor per block on the CPU, if they have any.

    Raises
    ------
    InputError
        No rows.
    """
    device = next(vae.parameters()).device
    # filled in place: many small results between freed batches would keep the allocator from giving memory back
    ratios = torch.empty(len(batches), vae.latent_dim, dtype=torch.float64)
    with evaluating(vae):
        for rows, x, c, _ in blocks(batches.to(device), device):
            ratios[rows] = variance_ratio(vae.encode(x, c), vae.prior(c)).expand(len(x), -1).double().cpu()
            if conditions is not None and c is not None:
                conditions.append(c.cpu())
    if not len(ratios):
        raise InputError("no rows", "at least one row to count on")
    return ratios
