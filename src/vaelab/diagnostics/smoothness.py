"""How smooth a decoder is, and what that costs: the measures of oversmoothing.

With μ_φ the encoder's mean, μ_θ the decoder's mean and J(x) = ∂μ_θ/∂z at μ_φ(x), in the network's units:

    expected gap                 Δ²(s²) = E_x ‖μ_θ(μ_φ + ε) − μ_θ(μ_φ + ε')‖²,   ε, ε' ~ N(0, s² I)     eq. 5
    expected local smoothness    ELS = E_x ‖J(x)‖_F²,   and ELS/κ                                        eq. 6, C.7
    as s² → 0                    Δ²(s²) → 2 s² ELS                                                       eq. C.8
    linear approximation         −ELBO ≈ E_x [ (‖x − μ_θ(μ_φ)‖² + Σ_ij σ_φ,j² J_ij²) / 2γ ] + …          eq. B.4

Takida et al. 2022, section 4 and appendices B and C. Its tables 1 and E.8 print ELS/κ: 2 s² κ times what they show is
their gap.

Jacobians are never built: one forward-mode product gives J v for a block of rows. In evaluation mode rows do not mix,
so each gets its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from vaelab.diagnostics.mutual_information import POINTS, MutualInformation, mutual_information
from vaelab.diagnostics.row_means import Mean, Part, over_rows
from vaelab.errors import InputError
from vaelab.latent import Codes
from vaelab.model import VAE, Gaussian
from vaelab.model.distributions import kl
from vaelab.types import Batches

Method = Literal["auto", "exact", "hutchinson"]

GAPS = (1e-2, 1e-3)
"""Variances s² of the paper's tables."""

_EXACT_UP_TO = 16  # dimensions; a product for each costs as much as decoding the rows twice


class Linearised(NamedTuple):
    """−ELBO with the decoder linear around every posterior mean, in parts (eq. B.4), nats per row.

    E_q‖x − μ_θ(z)‖² = ‖x − μ_θ(μ_φ)‖² + Σ_ij σ_φ,j² J_ij² holds exactly for a linear decoder. Under a full covariance
    LLᵀ the second term is ‖J L‖_F². Where γ differs between dimensions each has its own; one that the decoder emits is
    taken at the posterior mean.

    Attributes
    ----------
    error
        ‖x − μ_θ(μ_φ)‖² / 2γ, the error that stays without noise on z.
    penalty
        Σ_ij σ_φ,j² J_ij² / 2γ, what the noise on z adds: a penalty on the decoder's gradient.
    constant
        ½ Σ_i ln 2πγ_i, which the paper leaves out.
    kl
        KL[q(z|x) ‖ p(z)], of which the paper keeps the part in μ_φ.
    """

    error: Mean
    penalty: Mean
    constant: Mean
    kl: Mean

    @property
    def total(self) -> float:
        """The approximate −ELBO, nats per row."""
        return self.error.value + self.penalty.value + self.constant.value + self.kl.value


@dataclass(frozen=True)
class Smoothness:
    """All measures of one model; ``print`` shows them.

    Attributes
    ----------
    gaps
        s² → expected gap, squared units of the network.
    local
        ELS, summed over latent dimensions.
    method
        How it was computed.
    latent_dim
        κ.
    posterior_variance
        σ_z², mean over rows and dimensions; 0 for a deterministic code.
    information
        Bounds on I(x; z); None for a deterministic code, for which it is infinite.
    linearised
        None for a deterministic code, or where the likelihood is no Gaussian density.
    rows
        That gaps and ELS are means over.
    """

    gaps: dict[float, Mean]
    local: Mean
    method: Method
    latent_dim: int
    posterior_variance: float
    information: MutualInformation | None
    linearised: Linearised | None
    rows: int

    @property
    def local_per_dimension(self) -> float:
        """ELS/κ, the paper's K² (eq. C.7)."""
        return self.local.value / self.latent_dim

    def __str__(self) -> str:
        """Return one measure per line."""
        lines = [f"expected gap at s² = {variance:g}: {gap}" for variance, gap in self.gaps.items()]
        lines += [
            f"expected local smoothness: {self.local} ({self.local_per_dimension:.4g} per dimension, {self.method})",
            f"posterior variance: {self.posterior_variance:.3g}",
            f"mutual information of x and z: {self.information or 'infinite, since codes are deterministic'}",
        ]
        if self.linearised is not None:
            error, penalty, constant, divergence = (part.value for part in self.linearised)
            lines.append(
                f"linearised −ELBO: {self.linearised.total:.4g} nats = error {error:.4g} + gradient penalty "
                f"{penalty:.4g} + constant {constant:.4g} + KL {divergence:.4g}"
            )
        return "\n".join(lines)


def smoothness(
    vae: VAE,
    batches: Batches,
    *,
    variances: Sequence[float] = GAPS,
    method: Method = "auto",
    rows: int = 1000,
    points: int = POINTS,
    seed: int = 0,
) -> Smoothness:
    """Measure how smooth a decoder is and how much its codes say.

    Parameters
    ----------
    vae
        Measured in evaluation mode, on its own device; left as it is.
    batches
        Rows in the network's units, with their conditions if the model has one.
    variances
        s² of the gaps.
    method
        As for `local_smoothness`.
    rows
        Rows at most for gaps, ELS and the linearised bound.
    points
        Rows at most for the mutual information.
    seed
        Of rows and noise.

    Raises
    ------
    InputError
        No rows, or a number out of range.
    """
    codes = Codes.of(vae, Part.of(batches, points, seed))
    likelihood = vae.likelihood
    bounded = isinstance(likelihood, Gaussian) and not likelihood.variance.per_sample and not vae.posterior.degenerate
    return Smoothness(
        gaps={s2: expected_gap(vae, batches, s2, rows=rows, seed=seed) for s2 in variances},
        local=local_smoothness(vae, batches, method=method, rows=rows, seed=seed),
        method=_resolved(method, vae.latent_dim),
        latent_dim=vae.latent_dim,
        posterior_variance=posterior_variance(codes),
        information=None if vae.posterior.degenerate else mutual_information(codes, points=points, seed=seed),
        linearised=linearised_elbo(vae, batches, method=method, rows=rows, seed=seed) if bounded else None,
        rows=min(rows, len(batches)),
    )


def posterior_variance(codes: Codes) -> float:
    """σ_z²: the posterior's variance, mean over rows and dimensions."""
    return float(codes.scale.double().square().mean())


def expected_gap(
    vae: VAE, batches: Batches, variance: float, *, rows: int = 1000, draws: int = 4, seed: int = 0
) -> Mean:
    """E ‖μ_θ(μ_φ + ε) − μ_θ(μ_φ + ε')‖² with ε, ε' ~ N(0, s² I) (Takida et al. 2022, eq. 5).

    Parameters
    ----------
    vae, batches, rows, seed
        As for `smoothness`.
    variance
        s², of each of the two perturbations.
    draws
        Pairs of perturbations per row.

    Returns
    -------
    Mean
        Squared units of the network, summed over the row, and its standard error over rows.

    Raises
    ------
    InputError
        A variance that is not positive, no draws, or no rows.
    """
    if not variance > 0 or draws < 1:
        raise InputError(f"variance={variance}, draws={draws}", "a positive variance and at least one draw")

    def gap(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        z = vae.encode(x, c).mean
        total = z.new_zeros(len(z), dtype=torch.float64)
        for first, second in math.sqrt(variance) * noise.unflatten(0, (draws, 2)):
            total += _squared(vae.decode(z + first, c) - vae.decode(z + second, c))
        return total / draws

    return Mean.of(over_rows(vae, batches, gap, rows=rows, normals=2 * draws, seed=seed))


def local_smoothness(
    vae: VAE, batches: Batches, *, method: Method = "auto", rows: int = 1000, probes: int = 16, seed: int = 0
) -> Mean:
    """ELS = E ‖∂μ_θ/∂z‖_F² at the posterior mean (Takida et al. 2022, eq. 6); divided by κ it is the K² of eq. C.7.

    Parameters
    ----------
    vae, batches, rows, seed
        As for `smoothness`.
    method
        ``"exact"``: one product per latent dimension. ``"hutchinson"``: `probes` products with random signs v, for
        which E‖Jv‖² = ‖J‖_F² (Hutchinson 1990). ``"auto"``: exact up to 16 dimensions.
    probes
        Per row.

    Returns
    -------
    Mean
        Squared units of the network per unit of z squared; the error is over rows, and of probes where they are drawn.

    Raises
    ------
    InputError
        An unknown method, no probes, or no rows.
    """
    probes = _probes(method, vae.latent_dim, probes)

    def norms(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        z = vae.encode(x, c).mean
        return _products(vae, z, c, _directions(noise, z))

    return Mean.of(over_rows(vae, batches, norms, rows=rows, normals=probes, seed=seed))


def linearised_elbo(
    vae: VAE, batches: Batches, *, method: Method = "auto", rows: int = 1000, probes: int = 16, seed: int = 0
) -> Linearised:
    """Approximate −ELBO by a decoder that is linear around every posterior mean (Takida et al. 2022, eq. B.4).

    Parameters
    ----------
    vae, batches, rows, seed
        As for `smoothness`.
    method, probes
        As for `local_smoothness`.

    Raises
    ------
    InputError
        A deterministic posterior, or a likelihood that is no Gaussian density: of another kind, or with a variance that
        is fitted to the row.
    """
    likelihood = vae.likelihood
    if vae.posterior.degenerate:
        raise InputError("the ELBO of a deterministic posterior", "a posterior with a variance")
    if not isinstance(likelihood, Gaussian) or likelihood.variance.per_sample:
        got = f"a likelihood of type {type(likelihood).__name__}"
        raise InputError(got, "a Gaussian one whose variance is not fitted to the row")
    probes = _probes(method, vae.latent_dim, probes)

    def terms(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        q, p = vae.encode(x, c), vae.prior(c)
        parameters = vae.decoder(q.mean, c).to(x.dtype)
        gamma = likelihood.variance_of(parameters, x)
        weight = (2 * gamma).rsqrt()
        error = _squared((x - likelihood.mean(parameters)) * weight)
        spread = (_spread(q, v) for v in _directions(noise, q.mean))
        penalty = _products(vae, q.mean, c, spread, weight)
        constant = 0.5 * x[0].numel() * (2 * math.pi * gamma.double()).log().flatten(1).mean(1)
        return torch.stack([error, penalty, constant.expand(len(x)), kl(q, p, q.mean).double().expand(len(x))], 1)

    found = over_rows(vae, batches, terms, rows=rows, normals=probes, seed=seed)
    return Linearised(*(Mean.of(column) for column in found.T))


def _products(
    vae: VAE, z: Tensor, c: Tensor | None, directions: Iterator[Tensor], weight: Tensor | None = None
) -> Tensor:
    """(B,) Σ_v ‖w J v‖² over directions v (B, κ) that differ from row to row or not, float64."""
    total = z.new_zeros(len(z), dtype=torch.float64)
    for v in directions:
        pushed = torch.func.jvp(lambda at: vae.decode(at, c), (z,), (v.contiguous(),))[1]
        total += _squared(pushed if weight is None else pushed * weight)
    return total


def _directions(noise: Tensor, z: Tensor) -> Iterator[Tensor]:
    """Directions v, (B, κ) each, with E Σ vvᵀ = I: the axes if there is no noise, else random signs over √probes."""
    if len(noise):
        return ((one.sign() / math.sqrt(len(noise))).to(z.dtype) for one in noise)
    return (unit.expand_as(z) for unit in torch.eye(z.shape[1]).to(z))


def _spread(q: Distribution, v: Tensor) -> Tensor:
    """(B, κ) the factor of the posterior's covariance times v."""
    if isinstance(q, MultivariateNormal):
        product: Tensor = q.scale_tril @ v[..., None]
        return product[..., 0]
    return q.stddev * v


def _squared(values: Tensor) -> Tensor:
    """(B,) squared norms, float64."""
    return values.double().square().flatten(1).sum(1)


def _probes(method: Method, latent_dim: int, probes: int) -> int:
    """Random directions per row; none for the axes."""
    if probes < 1:
        raise InputError(f"probes={probes}", "at least 1")
    return 0 if _resolved(method, latent_dim) == "exact" else probes


def _resolved(method: Method, latent_dim: int) -> Method:
    if method not in ("auto", "exact", "hutchinson"):
        raise InputError(f"method {method!r}", "auto, exact or hutchinson")
    if method == "auto":
        return "exact" if latent_dim <= _EXACT_UP_TO else "hutchinson"
    return method
