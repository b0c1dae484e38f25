"""Tables 1 and E.8 of Takida et al. 2022: how the variances decide how smooth a decoder is.

See `vaelab_papers.takida` for the paper. In table 1 the decoder's variance σ_x² is given and σ_z² of
q(z|x) = N(μ_φ(x), σ_z² I) is trained, or is zero; without it, the KL's part that depends on x is ‖μ_φ(x)‖²/2. In table
E.8 σ_z² is given and σ_x² is at its maximum-likelihood value. No layer is normalised and no weight decays, so that
nothing else smooths. All numbers are of the training rows.
"""

from __future__ import annotations

from typing import Final

import torch

from vaelab.data import ArrayBatches, Scaling
from vaelab.diagnostics.mutual_information import POINTS, MutualInformation, mutual_information
from vaelab.diagnostics.smoothness import smoothness
from vaelab.errors import InputError
from vaelab.latent import Codes
from vaelab.model import (
    VAE,
    CodeNorm,
    Deterministic,
    FixedVariance,
    Gaussian,
    Isotropic,
    Posterior,
    ProfiledVariance,
    Variance,
)
from vaelab.model.distributions import draw, kl
from vaelab.nets import ARELBODecoder, ARELBOEncoder
from vaelab.rows import rows_at_once
from vaelab.training import FitSettings, forked, stream
from vaelab.types import Batches
from vaelab_papers.claims import Claim, Ordering, Quantity, Trend
from vaelab_papers.job import Job
from vaelab_papers.sampling import images, training_rows
from vaelab_papers.table import Cell, Scale, ScaleName, Table
from vaelab_papers.takida import PAPER
from vaelab_papers.takida_data import FIXED_CODES, SMOOTHNESS_DETERMINISTIC, SMOOTHNESS_STOCHASTIC

_SIZE: Final = 8  # κ
_START: Final = 0.1  # σ_z², in the middle of where it ends
_X: Final = "log₁₀ σ_x²"
_Z: Final = "log₁₀ σ_z²"


def _job(posterior: Posterior, variance: Variance, scale: Scale, seed: int, cell: Cell) -> Job:
    data = images("mnist", scale)
    x = training_rows(data, scale)
    shape = data.event_shape
    network = {"base_width": scale.width, "kernel": 4}
    with forked("cpu", seed, "takida", cell.name):
        model = VAE(
            ARELBOEncoder(shape, posterior.parameter_count(_SIZE), **network, norm=False),
            ARELBODecoder(_SIZE, shape, **network, norm=False),
            latent_dim=_SIZE,
            posterior=posterior,
            likelihood=Gaussian(variance, link="sigmoid"),
            regularizers=[CodeNorm(0.5)] if posterior.degenerate else None,
        )
    return Job(model, ArrayBatches(x, None, Scaling.fit(data.train.x, data.kind)))


def _fixed_pixels(cell: Cell, scale: Scale, seed: int) -> Job:
    posterior = Isotropic(_START) if cell.axes["encoding"] == "stochastic" else Deterministic()
    return _job(posterior, FixedVariance(10 ** cell.number(_X)), scale, seed, cell)


def _fixed_codes(cell: Cell, scale: Scale, seed: int) -> Job:
    return _job(Isotropic(10 ** cell.number(_Z), learned=False), ProfiledVariance(), scale, seed, cell)


@torch.no_grad()
def measure_smoothness(job: Job) -> dict[str, float]:
    """Measure how smooth a trained decoder is, on the training rows.

    Returns
    -------
    dict
        ``mse`` of draws of z, summed over pixels; ``kl``, nats; ``sigma2``, the posterior's variance; ``mi``, the upper
        bound on the mutual information I(x'; z), nats; the expected gaps ``gap_2`` and ``gap_3`` at 10⁻² and 10⁻³;
        ``els``, per latent dimension as in the paper (eq. C.7). A deterministic code has no KL, and tells everything of
        x: its bound is of what the decoder's noise leaves of it, x' = μ_θ(z) + σ_x ε. ``gamma`` is σ_x².
    """
    model = job.model.eval()
    device = next(model.parameters()).device
    batches, stochastic = job.batches.to(device), not model.posterior.degenerate
    model.calibrate(batches, generator=stream(device, "takida", "calibrate"))
    found = smoothness(model, batches)
    errors = divergences = 0.0
    size, generator = rows_at_once(batches.event_shape), stream(device, "takida", "measure")
    for start in range(0, len(batches), size):
        x, _ = batches.take(torch.arange(start, min(start + size, len(batches)), device=device))
        q = model.encode(x)
        z = draw(q, torch.randn(q.mean.shape, generator=generator, device=device))
        errors += float((model.decode(z) - x).square().sum(dtype=torch.float64))
        divergences += float(kl(q, model.prior(), z).sum(dtype=torch.float64)) if stochastic else 0.0
    numbers = {
        "mse": errors / len(batches),
        "gap_2": found.gaps[1e-2].value,
        "gap_3": found.gaps[1e-3].value,
        "els": found.local_per_dimension,
    }
    variance = model.likelihood.variance
    if variance is not None:
        numbers["gamma"] = float(variance.gamma)
    information = found.information or _of_outputs(model, batches)
    numbers["mi"] = information.upper.value
    if found.information is not None:
        numbers |= {"kl": divergences / len(batches), "sigma2": found.posterior_variance}
    return numbers


def _of_outputs(model: VAE, batches: Batches) -> MutualInformation:
    """Bound the information between a code without noise and the decoder's output with its noise."""
    variance = model.likelihood.variance
    if variance is None:
        raise InputError("a likelihood without variance", "a Gaussian")
    device = next(model.parameters()).device
    x, _ = batches.take(torch.arange(min(len(batches), POINTS), device=device))
    outputs = torch.cat([model.reconstruct(part).flatten(1) for part in x.split(rows_at_once(batches.event_shape))])
    return mutual_information(Codes(outputs, torch.full_like(outputs, float(variance.gamma) ** 0.5)))


def _fit(epochs: int) -> FitSettings:
    return FitSettings(epochs=epochs, batch_size=64, lr=1e-3, schedule="constant")


_SCALES: dict[ScaleName, Scale] = {
    "smoke": Scale(100, 1, _fit(1), stand_in=True),
    "small": Scale(20_000, 16, _fit(18)),
    "paper": Scale(60_000, 64, _fit(200)),
}
_CONVENTION: Final = (
    "MSE is summed over pixels; ELS is per latent dimension, as the paper prints it; KL and MI are in nats, MI being "
    "the bound that leaves a row's own posterior out, and without noise on the code a row's own output with the "
    "decoder's noise. Claims are judged by the rank correlation with the variances, "
    "which should be at least 0.9."
)


def _trend(cells: tuple[str, ...], measure: str, *, rises: bool, claim: str) -> Trend:
    """`cells` in the order of a growing variance."""
    quantities = tuple(Quantity(cell, measure) for cell in cells)
    word = "rises" if rises else "falls"
    return Trend(f"{claim}: {measure} {word}", quantities if rises else quantities[::-1], at_least=0.9)


def _along(table: dict[str, bool], cells: tuple[Cell, ...], axis: str, claim: str) -> tuple[Claim, ...]:
    names = tuple(cell.name for cell in sorted(cells, key=lambda cell: cell.number(axis)))
    return tuple(_trend(names, measure, rises=rises, claim=claim) for measure, rises in table.items())


def _stochastic(value: float) -> Cell:
    names = ("mse", "kl", "sigma2", "mi", "gap_2", "gap_3", "els")
    return Cell({"encoding": "stochastic", _X: value}, dict(zip(names, SMOOTHNESS_STOCHASTIC[value], strict=True)))


def _deterministic(value: float) -> Cell:
    names = ("mse", "mi", "gap_2", "gap_3", "els")
    return Cell(
        {"encoding": "deterministic", _X: value}, dict(zip(names, SMOOTHNESS_DETERMINISTIC[value], strict=True))
    )


def _codes(value: float) -> Cell:
    names = ("mse", "kl", "mi", "gap_2", "gap_3", "els")
    return Cell({_Z: value}, dict(zip(names, FIXED_CODES[value], strict=True)))


_NOISY = tuple(_stochastic(value) for value in SMOOTHNESS_STOCHASTIC)
_PLAIN = tuple(_deterministic(value) for value in SMOOTHNESS_DETERMINISTIC)
_GIVEN = tuple(_codes(value) for value in FIXED_CODES)

TABLE_1 = Table(
    name="takida/table1",
    title="How smooth the decoder is under a given decoder variance, with noise on the code and without (MNIST, κ = 8)",
    source=f"{PAPER}, Table 1",
    convention=_CONVENTION,
    cells=(*_NOISY, *_PLAIN),
    scales=_SCALES,
    build=_fixed_pixels,
    data=("mnist",),
    measure=measure_smoothness,
    orderings=(
        Ordering(
            "σ_x² = 1: the decoder is smoother with noise on the code than without",
            Quantity(_NOISY[0].name, "els"),
            Quantity(_PLAIN[0].name, "els"),
            by=0,
        ),
    ),
    claims=(
        *_along(
            {"mse": True, "sigma2": True, "kl": False, "mi": False, "gap_2": False, "gap_3": False, "els": False},
            _NOISY,
            _X,
            "with noise on the code, as σ_x² grows",
        ),
        *_along(
            {"mse": True, "mi": False, "gap_2": True, "gap_3": True, "els": True}, _PLAIN, _X, "without, as σ_x² grows"
        ),
    ),
)

TABLE_E8 = Table(
    name="takida/tableE8",
    title="How smooth the decoder is under a given variance of the code (MNIST, κ = 8)",
    source=f"{PAPER}, Table E.8",
    convention=_CONVENTION,
    cells=_GIVEN,
    scales=_SCALES,
    build=_fixed_codes,
    data=("mnist",),
    measure=measure_smoothness,
    claims=_along(
        {"mse": True, "mi": False, "gap_2": False, "gap_3": False, "els": False}, _GIVEN, _Z, "as σ_z² grows"
    ),
    shown=("gamma",),
)
