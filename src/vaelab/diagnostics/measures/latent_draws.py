"""Codes of a data set and draws of a latent density beside them, as several measures need them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vaelab.diagnostics.row_means import Part
from vaelab.errors import InputError
from vaelab.latent import Codes, LatentDensity, PriorDensity
from vaelab.model import VAE, FullCovariance
from vaelab.model.contexts import evaluating
from vaelab.rows import rows_at_once
from vaelab.training import stream
from vaelab.types import Batches

FEWEST = 4
"""Rows: two halves of two."""

_FACTORS = 10_000_000  # numbers in the Cholesky factors of a block of full posteriors


def drawn_codes(vae: VAE, batches: Batches, *, rows: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Draw one code z ~ q(z | x) of each of some rows, in random order.

    The order matters: a file may be sorted by class, and halves of it would then differ.

    Parameters
    ----------
    vae, batches
        The model and its rows in the network's units.
    rows
        At most.
    seed
        Of rows, order and noise.

    Returns
    -------
    z, c
        (n, κ), and (n, *condition_shape) or None, on the model's device.

    Raises
    ------
    InputError
        Fewer than 4 rows.
    """
    device = next(vae.parameters()).device
    if min(rows, len(batches)) < FEWEST:
        raise InputError(f"{len(batches)} rows, of which at most {rows} are to be used", f"at least {FEWEST}")
    part = Part.of(batches, rows, seed).to(device)
    generator = stream(device, seed, "codes")
    order = torch.randperm(len(part), generator=generator, device=device)
    block = 1000
    if isinstance(vae.posterior, FullCovariance):
        block = max(1, min(block, _FACTORS // vae.latent_dim**2))
    found = [
        Codes.of(vae, Part(part.batches, own), batch_size=min(block, rows_at_once(batches.event_shape))).pairs(
            generator=generator
        )
        for own in part.rows[order].split(block)
    ]
    conditions = [c for _, c in found if c is not None]
    return torch.cat([z for z, _ in found]), torch.cat(conditions) if conditions else None


@torch.no_grad()
def density_draws(density: LatentDensity, like: Tensor, c: Tensor | None, generator: torch.Generator) -> Tensor:
    """Draw as many codes from a density as there are in `like`, of its type, in evaluation mode."""
    with evaluating(density):
        return density.sample(len(like), c, generator=generator).to(like)


def with_prior(vae: VAE, densities: Mapping[str, LatentDensity]) -> dict[str, LatentDensity]:
    """Put the model's own prior first, as ``"prior"``, unless another is called so."""
    return {"prior": PriorDensity(vae.prior), **densities}
