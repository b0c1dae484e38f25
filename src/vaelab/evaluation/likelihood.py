"""Likelihood bounds of a trained model on test rows, with every latent density in the prior's place."""

from __future__ import annotations

import torch
from torch import Tensor

from vaelab.data import Rows, as_batches
from vaelab.errors import InputError
from vaelab.evaluation.options import Options
from vaelab.evaluation.rows import BLOCK, part
from vaelab.metrics.likelihood import Bounds, Dequantised, bits_per_dim, importance_weighted_bounds
from vaelab.metrics.report import Nats
from vaelab.model import Gaussian
from vaelab.runs import Trained
from vaelab.types import Batches

_EIGHT_BITS = 1 / 255


def likelihoods(trained: Trained, x: Rows, options: Options) -> list[Nats]:
    """ELBO with its parts and the importance-weighted bound, nats per row of the network's units."""
    found, caveat = _bounds(trained, _scored(trained, x, options), options, "bounding the likelihood")
    numbers = []
    for name, bound in found.bound.items():
        parts = {"bound": bound, "elbo": found.elbo(name), "distortion": found.distortion, "kl": found.kl[name]}
        numbers += [_number(name, measure, values, found.draws, caveat) for measure, values in parts.items()]
    return numbers


def bits(trained: Trained, x: Rows, options: Options) -> list[Nats]:
    """Bits per dimension of dequantised 8-bit images, an upper bound on what a code for their grey levels needs.

    Raises
    ------
    InputError
        Other data: their densities have no unit in common with anyone's.
    """
    scaling = trained.scaling
    if scaling.dtype != "uint8" or scaling.kind != "image" or float(scaling.scale) != 255.0:
        raise InputError(f"metric bits for {scaling.kind} data of {scaling.dtype}", "8-bit images", "Use nll.")
    batches = Dequantised(_scored(trained, x, options), _EIGHT_BITS)
    found, caveat = _bounds(trained, batches, options, "bounding the likelihood of dequantised pixels")
    size = torch.Size(trained.facts.event_shape).numel()
    return [
        _number(name, "bits", bits_per_dim(scaling.log_volume - bound, size), found.draws, caveat)
        for name, bound in found.bound.items()
    ]


def noise_level(trained: Trained, x: Rows) -> list[str]:
    """State γ beside the step between the values that the data can take; below it, a density means little."""
    likelihood = trained.vae.likelihood
    if not isinstance(likelihood, Gaussian):
        return []
    level = float(likelihood.variance.gamma) ** 0.5
    if x.dtype != torch.uint8 or trained.facts.kind != "image":
        return [f"Noise level √γ = {level:.3g} in the network's units, in which these nats are."]
    steps = level * float(trained.scaling.scale)
    text = f"Noise level √γ = {level:.3g} of the pixel range, {steps:.1f} quantisation steps. "
    if steps < 2:
        return [text + "A density of quantised pixels grows without limit at such a level; use bits instead of nll."]
    return [text + "These nats are of a density on [0, 1], at quantised pixels; bits per dimension are dequantised."]


def _scored(trained: Trained, x: Rows, options: Options) -> Batches:
    rows = part(x, torch.arange(min(options.likelihood_rows or len(x), len(x))))
    return as_batches(rows, None, trained.scaling).to(trained.device)


def _bounds(trained: Trained, batches: Batches, options: Options, text: str) -> tuple[Bounds, str]:
    """Bound every row, and say what the numbers are not."""
    found = importance_weighted_bounds(
        trained.vae,
        batches,
        densities={name: trained.densities[name] for name in options.densities or tuple(trained.densities)},
        draws=options.likelihood_draws,
        progress=lambda done, total: options.watch(text, done, total),
    )
    some = batches.take(torch.arange(min(len(batches), BLOCK), device=trained.device))[0]
    return found, trained.vae.likelihood.caveat(some) or ""


def _number(row: str, measure: str, values: Tensor, draws: int, caveat: str) -> Nats:
    half = 1.96 * float(values.std()) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    mean = float(values.mean())
    return Nats(row, measure, mean, mean - half, mean + half, draws, len(values), caveat)
