"""A trained VAE without its idle dimensions, and the proof that little is lost.

An idle dimension has the prior as its posterior, so it tells the decoder nothing of x, and at the optimum the decoder
does not read it (Dai & Wipf 2019, section 3). Without it encoder, prior and decoder are the same functions of what is
left. What it did to the decoder is then that of its prior mean, 0.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.arguments import check_number
from vaelab.diagnostics.dimension import Dimension, Dimensions, dimensions_of
from vaelab.errors import InputError, VaelabWarning
from vaelab.model import VAE, Conditional, Diagonal, Isotropic, Prior, Standard, draw
from vaelab.model.contexts import evaluating
from vaelab.nets.recurrent import SharedPrior
from vaelab.nets.slicing import keep_latents, keep_outputs
from vaelab.rows import blocks
from vaelab.training import stream
from vaelab.types import Batches


@dataclass(frozen=True)
class Pruned:
    """A smaller VAE, and how far it is from the one that it was made of.

    Attributes
    ----------
    vae
        Of latent_dim ``len(kept)``, an ordinary model with copies of the weights, in evaluation mode.
    kept
        Dimensions of the larger model, in ascending order.
    reconstruction_change
        Root mean squared change of the decoder mean at the posterior mean, over rows and their numbers, in units of
        √γ: at 0.1 the squared error grows by about 1 % of γ.
    sample_change
        The same of samples from the prior, under the conditions of the data, with the same noise for what was kept.
    tolerance
        On both changes.
    """

    vae: VAE
    kept: tuple[int, ...]
    reconstruction_change: float
    sample_change: float
    tolerance: float

    @property
    def parity(self) -> bool:
        """Whether both changes are within the tolerance."""
        return max(self.reconstruction_change, self.sample_change) <= self.tolerance

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"{len(self.kept)} dimensions kept; reconstructions change by {self.reconstruction_change:.2g} and samples "
            f"by {self.sample_change:.2g} of the noise level √γ (tolerance {self.tolerance:g})"
        )


def prune(
    vae: VAE,
    batches: Batches,
    *,
    dimension: Dimension | Dimensions | None = None,
    keep: Sequence[int] | Tensor | None = None,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Pruned:
    """Drop the idle dimensions of a model, and measure what that changes.

    Parameters
    ----------
    vae
        Trained, made of networks of `vaelab.nets`, with a diagonal posterior; it is left as it is.
    batches
        Rows in the network's units, with their conditions if the model has any: to count on, and to compare on.
    dimension
        What was counted; None counts here. A dimension stays if it is active in all rows together or in any group.
    keep
        The dimensions to keep, whatever their ratios: numbers, or a mask of latent_dim booleans.
    tolerance
        Largest change that passes without a warning, in units of √γ.
    seed
        Of noise and bootstrap.

    Returns
    -------
    Pruned
        The smaller model and the changes.

    Raises
    ------
    InputError
        No dimension is left, `keep` names one that there is not, or the model cannot be sliced.

    Warns
    -----
    VaelabWarning
        A change is larger than the tolerance.
    """
    if tolerance != math.inf:
        check_number("tolerance", tolerance, "a positive number, in units of √γ")
    if not isinstance(vae.posterior, Diagonal | Isotropic):
        raise InputError(
            f"a posterior of type {type(vae.posterior).__name__}, whose axes are not the latent dimensions",
            "a diagonal one",
            "Train again with latent_dim set to the count.",
        )
    if vae.steps_before():
        raise InputError("a model with a critic, which reads every dimension", "another model", "Train a smaller one.")
    if keep is None:
        found = dimensions_of(vae, batches, seed=seed) if dimension is None else dimension
        keep = _active(found, vae.latent_dim)
        if not keep:
            raise InputError("no active dimension", "at least one", "Train for longer, or name some as keep=[…].")
    kept = _numbers(keep, vae.latent_dim)
    if not kept or kept[0] < 0 or kept[-1] >= vae.latent_dim:
        raise InputError(
            f"dimensions {kept} to keep", f"at least one of 0 … {vae.latent_dim - 1}", "Name them as keep=[…]."
        )
    small = _sliced(vae, torch.tensor(kept)).eval()
    changes = _changes(vae, small, torch.tensor(kept), batches, seed)
    pruned = Pruned(small, tuple(kept), *changes, tolerance)
    if not pruned.parity:
        remedy = "The dropped dimensions carry something: keep more, or train for longer."
        warnings.warn(f"{pruned}. {remedy}", VaelabWarning, stacklevel=2)
    return pruned


def _numbers(keep: Sequence[int] | Tensor, latent_dim: int) -> list[int]:
    """Numbers of dimensions, each once, in ascending order."""
    try:
        given = torch.as_tensor(keep)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"keep={keep!r} ({error})", "whole numbers, or a mask of booleans") from error
    if given.dtype == torch.bool and given.shape == (latent_dim,):
        given = given.nonzero().flatten()
    if given.ndim != 1 or given.dtype == torch.bool or (len(given) and given.dtype.is_floating_point):
        got = f"keep of shape {tuple(given.shape)} and dtype {given.dtype}"
        raise InputError(got, f"whole numbers, or a mask of {latent_dim} booleans")
    numbers = sorted({int(j) for j in given})
    if len(numbers) < len(given):
        raise InputError(f"keep={given.tolist()}, which names a dimension twice", "each at most once")
    return numbers


def _active(found: Dimension | Dimensions, latent_dim: int) -> list[int]:
    """Dimensions that are active over all rows, or in a group."""
    counts = [found] if isinstance(found, Dimension) else [found.all, *found.groups.values()]
    if any(one.latent_dim != latent_dim for one in counts):
        raise InputError(f"a count over {counts[0].latent_dim} dimensions", f"one over {latent_dim}")
    active = torch.stack([one.active for one in counts]).any(0)
    return [int(j) for j in active.nonzero().flatten()]


def _sliced(vae: VAE, kept: Tensor) -> VAE:
    """Copy the model with some of its latent dimensions."""
    vae = copy.deepcopy(vae)
    size, device = vae.latent_dim, next(vae.parameters()).device
    kept = kept.to(device)
    both = torch.cat([kept, kept + size])  # means, then scales
    keep_outputs(vae.encoder, both if isinstance(vae.posterior, Diagonal) else kept)
    keep_latents(vae.decoder, kept)
    return vae.replace(latent_dim=len(kept), prior=_sliced_prior(vae.prior, both).to(device))


def _sliced_prior(prior: Prior, both: Tensor) -> Prior:
    """Return the prior over what is left; its network is changed in place."""
    if isinstance(prior, Standard):
        return Standard(len(both) // 2).to(prior.zeros.dtype)
    if not isinstance(prior, Conditional):
        raise InputError(f"a prior of type {type(prior).__name__}", "a standard or a conditional one")
    if isinstance(prior.network, SharedPrior):
        prior.network.latent_dim = len(both) // 2  # its network is the encoder, which has been sliced
    else:
        keep_outputs(prior.network, both)
    return Conditional(prior.network, len(both) // 2)


@torch.no_grad()
def _changes(vae: VAE, small: VAE, kept: Tensor, batches: Batches, seed: int) -> tuple[float, float]:
    """Root mean squared changes of reconstructions and of samples, over √γ."""
    device = next(vae.parameters()).device
    batches, kept = batches.to(device), kept.to(device)
    generator = stream(device, seed, "prune")
    sums, spread, numbers = [0.0, 0.0], 0.0, 0
    with evaluating(vae):
        for _, x, c, _ in blocks(batches, device):
            whole, part = vae.reconstruct(x, c), small.reconstruct(x, c)
            noise = torch.randn(len(x), vae.latent_dim, generator=generator, device=device, dtype=x.dtype)
            drawn = vae.decode(draw(vae.prior(c), noise), c)
            redrawn = small.decode(draw(small.prior(c), noise[:, kept]), c)
            for i, (before, after) in enumerate(((whole, part), (drawn, redrawn))):
                sums[i] += float((after - before).square().sum(dtype=torch.float64))
            spread += float((whole * (1 - whole)).sum(dtype=torch.float64))
            numbers += x.numel()
    # the variance of a pixel that is 0 or 1, where there is no γ
    variance = vae.likelihood.variance
    level = spread / numbers if variance is None else float(variance.gamma.mean())
    changes = [(total / numbers / level) ** 0.5 for total in sums]
    return changes[0], changes[1]
