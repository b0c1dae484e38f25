"""Bounds on log p(x) of every row, by the encoder's draws or, where it cannot read a row, around the modes of z.

An encoder that whitens columns reads no gaps. For a law of z that is a mixture of Gaussians, p(z | x_o) has a mode for
each of them, and draws around these leave next to nothing between bound and log p(x_o); see `vaelab.model.complete`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.latent import LatentDensity, Mixture, PriorDensity
from vaelab.metrics.likelihood import Bounds, importance_weighted_bounds
from vaelab.model import VAE, Components, Standard, complete
from vaelab.rows import blocks
from vaelab.training import stream
from vaelab.types import Batches

if TYPE_CHECKING:
    from vaelab.runs.trained import Trained

_AT_ONCE = 20_000  # draws of z


def gaussians_of(law: LatentDensity) -> Components | None:
    """Return the Gaussians that a density of z is a mixture of; None for one of another kind."""
    if isinstance(law, Mixture):
        return law.parts
    if not isinstance(law, PriorDensity) or not isinstance(law.prior, Standard):
        return None
    one = torch.eye(law.prior.latent_dim, dtype=torch.float64)
    return Components(one.new_ones(1), one.new_zeros(1, len(one)), one[None])


def scorable(trained: Trained, batches: Batches) -> tuple[str, ...]:
    """Name the densities under which these rows can be scored in little time."""
    laws = {name: law for name, law in trained.densities.items() if not law.slow}
    if trained.components() is None or not len(_with_gaps(batches)):
        return tuple(laws)
    return tuple(name for name, law in laws.items() if gaussians_of(law) is not None)


def of_gaps(vae: VAE, x: Tensor, noise: Tensor, law: Components) -> tuple[Tensor, Tensor]:
    """(n,) −E[log p(x_o | z) | x_o] and log p(x_o), nats, of (n, d) rows in the network's units.

    Parameters
    ----------
    vae
        In the precision of x, in evaluation mode.
    x
        NaN where an entry is missing.
    noise
        (k, 1, κ) standard normals.
    law
        In the prior's place.
    """
    found = complete(vae, x, noise=noise.to(x), law=law)
    distortion = (found.weights * vae.likelihood.nll_of_observed(found.parameters, x)).sum(0)
    return distortion, found.evidence


@torch.no_grad()
def bounds_of(
    trained: Trained,
    batches: Batches,
    densities: Mapping[str, LatentDensity],
    *,
    draws: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Bounds:
    """Bound log p(x) of rows in the network's units, with `importance_weighted_bounds` where the encoder reads them.

    Of the other rows the ELBO is the bound, since no encoder is used, and the distortion is that under the first law.

    Raises
    ------
    InputError
        There are gaps that the encoder cannot read, and a density is no mixture of Gaussians; or as there.
    """
    gone = torch.empty(0, dtype=torch.long) if trained.components() is None else _with_gaps(batches)
    laws = {name: _gaussians(name, law) for name, law in densities.items()} if len(gone) else {}
    found = importance_weighted_bounds(
        trained.vae, batches, densities=densities, draws=draws, seed=seed, progress=progress
    )
    if not laws:
        return found
    vae, kind = trained.exact()
    batches = batches.to("cpu")
    noise = torch.randn(draws, 1, vae.latent_dim, generator=stream("cpu", seed, "importance", "gaps"))
    for rows in gone.split(max(1, _AT_ONCE // draws)):
        x = batches.take(rows)[0].to(trained.device, kind)
        terms = {name: [each.cpu().double() for each in of_gaps(vae, x, noise, law)] for name, law in laws.items()}
        found.distortion[rows] = next(iter(terms.values()))[0]
        for name, (_, evidence) in terms.items():
            found.bound[name][rows] = evidence
            found.kl[name][rows] = -evidence - found.distortion[rows]
    return found


def _with_gaps(batches: Batches) -> Tensor:
    """Places of the rows with gaps."""
    device = torch.device("cpu")
    parts = [x.isnan().flatten(1).any(1) for _, x, _, _ in blocks(batches.to(device), device)]
    return torch.cat(parts).nonzero().flatten()


def _gaussians(name: str, law: LatentDensity) -> Components:
    found = gaussians_of(law)
    if found is None:
        got = f"density={name!r} for rows with gaps, of a model whose code is the whitened columns"
        remedy = "Take density='prior' or the mixture that rows are scored with, or fill the gaps first with `impute`."
        raise InputError(got, "a mixture of Gaussians", remedy)
    return found
