"""Cost of a training step by objective: shapes of the variance on the networks of their paper, penalties on InfoGAN."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from vaelab import nets
from vaelab.data import ArrayBatches, Scaling
from vaelab.model import (
    MMD,
    VAE,
    Deterministic,
    FixedVariance,
    Gaussian,
    JacobianPenalty,
    ProfiledVariance,
    Regularizer,
    Variance,
)
from vaelab.training import Compute, FitSettings, fit

_SHAPE = (1, 28, 28)
_LATENT = 16


@dataclass(frozen=True)
class Suite:
    """Models to be compared with the first of them."""

    title: str
    batch: int
    models: Mapping[str, Callable[[], VAE]]
    targets: Mapping[str, str]


def shapes() -> Suite:
    """Networks of Takida et al. on MNIST, with each shape of the variance."""
    floor = 1e-6
    variances: dict[str, Callable[[], Variance]] = {
        "fixed": FixedVariance,
        "Iso-I": lambda: ProfiledVariance(floor=floor),
        "Diag-I": lambda: ProfiledVariance(diagonal=True, floor=floor),
        "Iso-D": lambda: ProfiledVariance(per_sample=True, floor=floor),
        "Diag-D": lambda: ProfiledVariance(diagonal=True, per_sample=True, floor=floor),
    }

    def build(make: Callable[[], Variance]) -> VAE:
        torch.manual_seed(0)
        encoder, decoder = nets.ARELBOEncoder(_SHAPE, 2 * _LATENT), nets.ARELBODecoder(_LATENT, _SHAPE)
        return VAE(encoder, decoder, latent_dim=_LATENT, likelihood=Gaussian(make(), link="sigmoid"))

    models = {name: partial(build, make) for name, make in variances.items()}
    return Suite("networks of Takida et al., batch 64", 64, models, dict.fromkeys(variances, "≤ 1.05"))


def penalties() -> Suite:
    """InfoGAN networks as an autoencoder, with each penalty."""
    made: dict[str, Callable[[], list[Regularizer]]] = {
        "none": list,
        "MMD": lambda: [MMD(10.0)],
        "Jacobian": lambda: [JacobianPenalty(1e-3, dimensions=784)],
        "Jacobian, program's form": lambda: [JacobianPenalty(1e-3, dimensions=784, form="program")],
    }

    def build(make: Callable[[], list[Regularizer]]) -> VAE:
        torch.manual_seed(0)
        return VAE(
            nets.InfoGANEncoder(_SHAPE, _LATENT),
            nets.InfoGANDecoder(_LATENT, _SHAPE),
            latent_dim=_LATENT,
            posterior=Deterministic(),
            likelihood=Gaussian(FixedVariance(0.5), link="sigmoid"),
            regularizers=make(),
        )

    models = {name: partial(build, make) for name, make in made.items()}
    return Suite("InfoGAN autoencoder, batch 100", 100, models, {"MMD": "≤ 1.03"})


def seconds(vae: VAE, steps: int, batch: int) -> float:
    """Seconds per step of `vaelab.training.fit`."""
    x = torch.randint(256, (steps * batch, *_SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batches = ArrayBatches(x, scaling=Scaling.fit(x, "image"))
    settings = FitSettings(epochs=1, batch_size=batch, schedule="constant")
    start = time.perf_counter()
    fit(vae, batches, settings, compute=Compute(accelerator="cpu"))
    return (time.perf_counter() - start) / steps


def rounds_of(suite: Suite, rounds: int) -> dict[str, list[float]]:
    """Interleave short trainings, after a warm-up of each: name → seconds per step, one per round."""
    names = list(suite.models)
    for build in suite.models.values():
        seconds(build(), 3, suite.batch)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)  # nobody is always first
        for name in names[shift:] + names[:shift]:
            found[name].append(seconds(suite.models[name](), 10, suite.batch))
    return found
