"""Likelihood bounds of a trained model on test rows, with every latent density in the prior's place."""

from __future__ import annotations

import torch

from vaelab.data import Rows, Split, blocks, content_hash
from vaelab.errors import InputError
from vaelab.metrics.likelihood import Bounds, Dequantised, bits_per_dim
from vaelab.metrics.options import Options
from vaelab.metrics.report import RowMean
from vaelab.metrics.rows import BLOCK
from vaelab.runs import Trained
from vaelab.runs.bounds import bounds_of, scorable
from vaelab.training import stream
from vaelab.types import Batches

_EIGHT_BITS = 1 / 255


def likelihoods(trained: Trained, split: Split, options: Options) -> list[RowMean]:
    """ELBO with its parts and the importance-weighted bound, nats per row of the network's units."""
    batches, reference = _scored(trained, split, options)
    found, caveat = _bounds(trained, batches, options, "bounding the likelihood")
    about = {"protocol": f"iwae-{found.draws}", "reference": reference, "caveat": caveat}
    numbers = []
    for name, bound in found.bound.items():
        parts = {"bound": bound, "elbo": found.elbo(name), "distortion": found.distortion, "kl": found.kl[name]}
        numbers += [RowMean.of(name, measure, values, **about) for measure, values in parts.items()]
    return numbers


def bits(trained: Trained, split: Split, options: Options) -> list[RowMean]:
    """Bits per dimension of dequantised 8-bit images, an upper bound on what a code for their grey levels needs.

    Raises
    ------
    InputError
        Other data: their densities have no unit in common with anyone's.
    """
    scaling = trained.scaling
    if scaling.dtype != "uint8" or scaling.kind != "image" or float(scaling.scale) != 255.0:
        raise InputError(f"metric bits for {scaling.kind} data of {scaling.dtype}", "8-bit images", "Use nll.")
    batches, reference = _scored(trained, split, options)
    noisy = Dequantised(batches, _EIGHT_BITS)
    found, caveat = _bounds(trained, noisy, options, "bounding the likelihood of dequantised pixels")
    size = torch.Size(trained.facts.event_shape).numel()
    about = {"protocol": f"iwae-{found.draws}-dequantised", "reference": reference, "caveat": caveat}
    return [
        RowMean.of(name, "bits", bits_per_dim(scaling.log_volume - bound, size), **about)
        for name, bound in found.bound.items()
    ]


def noise_level(trained: Trained, x: Rows) -> list[str]:
    """State γ beside the step between the values that the data take; below it, a density means little."""
    variance = trained.vae.likelihood.variance
    if variance is None:
        return []
    level = float(variance.gamma.mean()) ** 0.5
    if x.dtype != torch.uint8 or trained.facts.kind != "image":
        return [f"Noise level √γ = {level:.3g} in the network's units, in which these nats are."]
    levels = torch.cat([block.unique() for block in blocks(x)]).unique().double()
    step = float(levels.diff().min()) if len(levels) > 1 else 1.0
    steps = level * float(trained.scaling.scale) / step
    apart = f"{len(levels)} grey levels, at least {step:.0f} of 255 apart"
    text = f"Noise level √γ = {level:.3g} of the pixel range: {steps:.1f} steps of the data ({apart}). "
    if steps < 2:
        return [text + "A density of quantised pixels grows without limit at such a level; use bits instead of nll."]
    return [text + "These nats are of a density on [0, 1], at quantised pixels; bits per dimension are dequantised."]


def _scored(trained: Trained, split: Split, options: Options) -> tuple[Batches, str]:
    """Rows in the network's units, and the hash of their content."""
    n = min(options.likelihood_rows or len(split), len(split))
    # at random, since test sets are often sorted: the first half of MNIST's is the easier one
    index = torch.randperm(len(split), generator=stream("cpu", 0, "rows", "likelihood"))[:n].sort().values
    rows = split.subset(index)
    return trained.batches_with_gaps(rows).to(trained.device), content_hash(rows.x)


def _bounds(trained: Trained, batches: Batches, options: Options, text: str) -> tuple[Bounds, str]:
    """Bound every row, and say what the numbers are not; laws whose density takes hours only where they are named."""
    names = options.densities or scorable(trained, batches)
    found = bounds_of(
        trained,
        batches,
        {name: trained.densities[name] for name in names},
        draws=options.likelihood_draws,
        progress=lambda done, total: options.watch(text, done, total),
    )
    likelihood = trained.vae.likelihood
    rows = torch.arange(len(batches), device=trained.device).split(BLOCK)
    return found, next(filter(None, (likelihood.caveat(batches.take(part)[0]) for part in rows)), "")
