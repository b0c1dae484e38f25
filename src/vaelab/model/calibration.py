"""A profiled γ from data, at the end of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaelab.errors import NonFiniteObjectiveError
from vaelab.model.contexts import evaluating
from vaelab.model.distributions import draw
from vaelab.rows import blocks
from vaelab.types import Batches

if TYPE_CHECKING:
    from vaelab.model.vae import VAE

_SEEN = 20  # unseen entries of a dimension that weigh as much as all training rows, to tell it from others
_EASY = 50  # unseen entries that weigh as much, where they are rebuilt better than those
_TINY = 1e-30  # squared error


@torch.no_grad()
def calibrate(
    vae: VAE, batches: Batches, unseen: Batches | None, batch_size: int | None, generator: torch.Generator
) -> None:
    """Set a profiled γ; see `VAE.calibrate`."""
    variance = vae.likelihood.variance
    if variance is None or not vae.likelihood.calibrates:
        return
    total, count = _squared_errors(vae, batches, batch_size, generator)
    if not variance.diagonal:  # every observed entry counts the same, however many its column has
        total, count = total.sum(), count.sum()
    seen = total / count.clamp(min=1)
    if unseen is None:
        variance.calibrate(seen)
        return
    apart, number = _squared_errors(vae, unseen, batch_size, generator)
    if not variance.diagonal:
        apart, number = apart.sum(), number.sum()
    seen, found = seen.clamp(min=_TINY).log(), (apart / number.clamp(min=1)).clamp(min=_TINY).log()
    # few rows may be easy ones by chance; many that are easier than those trained on say that these have outliers
    number = number.double()
    found = torch.where(found < seen, seen + (found - seen) * number / (number + _EASY), found)
    level = (found - seen)[number > 0].mean().nan_to_num()
    share = number / (number + _SEEN) if variance.diagonal else 0.0
    variance.calibrate(torch.lerp(seen + level, found, share).exp())


def _squared_errors(
    vae: VAE, batches: Batches, batch_size: int | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return sums over rows of squared errors, and how many entries they are of."""
    device = next(vae.parameters()).device
    total, count = torch.zeros((), device=device), torch.zeros((), device=device)
    finite = torch.ones((), dtype=torch.bool, device=device)
    with evaluating(vae):
        for _, x, c, _ in blocks(batches, device, size=batch_size, draws=lambda _: generator):
            parameters, weights = _decoded(vae, x, c, generator)
            finite = finite & parameters.isfinite().all()
            squared = vae.likelihood.squared_error(parameters[0], x).double()
            if weights is not None:
                each = torch.stack([vae.likelihood.squared_error(own, x).double() for own in parameters])
                squared = (weights.view(*weights.shape, *(1,) * (each.ndim - 2)) * each).sum(0)
            total = total + squared.nansum(0)
            count = count + (~squared.isnan()).sum(0)
    if not bool(finite):
        raise NonFiniteObjectiveError("The decoder's output is not finite, so that no variance can be set from it.")
    return total, count


def _decoded(vae: VAE, x: Tensor, c: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Return (K, B, …) the decoder's output, and the (K, B) weights of the draws; of a plain bound one draw and None.

    An importance-weighted bound is at its maximum where γ is the mean of errors that have its weights.
    """
    q = vae.encode(x, c)
    if vae.bound == "elbo":
        z = draw(q, torch.randn(q.mean.shape, generator=generator, device=x.device, dtype=x.dtype))
        return vae.decoder(z, c).to(x.dtype)[None], None
    noise = torch.randn((vae.draws, *q.mean.shape), generator=generator, device=x.device, dtype=x.dtype)
    zs = [draw(q, own) for own in noise]
    parameters, z = torch.stack([vae.decoder(z, c).to(x.dtype) for z in zs]), torch.stack(zs)
    log_w = vae.prior(c).log_prob(z) - q.log_prob(z) - vae.likelihood.nll_of_draws(parameters, x)
    return parameters, log_w.double().softmax(0)
