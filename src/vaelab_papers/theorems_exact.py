"""Theorems whose two sides are computed without a training: by quadrature over one latent dimension, or in closed form.

z has one dimension, q and p(x | z) are Gaussian, and everything is in float64. A decoder that turns N(0, 1) into a law
with distribution function F is μ(z) = F⁻¹(G(z)), G that of the normal: the construction in the proof of Theorem 1 of
Dai & Wipf 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from vaelab_papers.theorem import BLUE, GREY, ORANGE, Shown, Theorem

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

_GAMMAS: Final = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
_LATENT: Final = np.linspace(-6, 6, 6001)


def _normal(x: Array, mean: Array | float = 0.0, variance: Array | float = 1.0) -> Array:
    return np.exp(-0.5 * (x - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)


def _weights() -> Array:
    """Probabilities of the grid of z under N(0, 1)."""
    weights = _normal(_LATENT)
    return np.asarray(weights / weights.sum())


def _two_bumps(x: Array) -> Array:
    """Density of a law that is no Gaussian: a third of it around −1.5, two thirds around 1."""
    return _normal(x, -1.5, 0.16) / 3 + 2 * _normal(x, 1.0, 0.36) / 3


def _quantiles(grid: Array, density: Array) -> Array:
    """F⁻¹(G(z)) on the grid of z, for a density on a grid of x."""
    from scipy.stats import norm

    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(grid))])
    return np.asarray(np.interp(norm.cdf(_LATENT), cumulative / cumulative[-1], grid))


def _marginal(x: Array, decoded: Array, gamma: float) -> Array:
    """p(x) = ∫ N(x; μ(z), γ) N(z; 0, 1) dz at each x."""
    blocks = np.array_split(x, max(1, len(x) // 200))
    return np.concatenate([_normal(block[:, None], decoded, gamma) @ _weights() for block in blocks])


def recovers_a_density() -> Shown:
    """Carry N(0, 1) to a law with two bumps and let γ shrink."""
    x = np.linspace(-4, 4, 1601)
    step, truth = x[1] - x[0], _two_bumps(x)
    decoded = _quantiles(x, truth)
    slope = np.gradient(decoded, _LATENT)
    densities = {gamma: _marginal(x, decoded, gamma) for gamma in _GAMMAS}
    rows = []
    for gamma, density in densities.items():
        apart = float((truth * np.log(truth / density)).sum() * step)
        rows.append([gamma, apart, _posterior_gap(x[::8], truth[::8], decoded, slope, gamma)])
    last = rows[-1]

    def draw(axes: Axes) -> None:
        axes.plot(x, truth, color="black", lw=3, alpha=0.25, label="the data")
        for gamma, color in ((1.0, GREY), (1e-1, ORANGE), (1e-3, BLUE)):
            axes.plot(x, densities[gamma], color=color, label=f"γ = {gamma:g}")
        axes.set(xlabel="x", ylabel="density", title="Gaussian decoder, Gaussian code, any density", ylim=(0, 0.62))
        axes.legend(frameon=False, ncols=2)

    falling = all(after[1] < before[1] and after[2] < before[2] for before, after in pairwise(rows[1:]))
    criterion = "both divergences fall from γ = 0.1 on, and at the smallest are below 1e-5 and 1e-3 nats"
    holds = falling and last[1] < 1e-5 and last[2] < 1e-3
    return Shown(["γ", "KL(data ‖ model)", "KL(q ‖ posterior)"], rows, holds, criterion, draw)


def _posterior_gap(x: Array, truth: Array, decoded: Array, slope: Array, gamma: float) -> float:
    """Mean over x of KL from q(z | x) = N(μ⁻¹(x), γ / (γ + μ'²)) to the posterior, nats."""
    centres = np.interp(x, decoded, _LATENT)
    variances = gamma / (gamma + np.interp(centres, _LATENT, slope) ** 2)
    step, total = _LATENT[1] - _LATENT[0], 0.0
    for value, share, centre, variance in zip(x, truth / truth.sum(), centres, variances, strict=True):
        q = _normal(_LATENT, centre, variance) * step
        q /= q.sum()
        joint = -0.5 * (value - decoded) ** 2 / gamma - 0.5 * _LATENT**2
        posterior = joint - joint.max() - np.log(np.exp(joint - joint.max()).sum())
        inside = q > 0
        total += share * float((q[inside] * (np.log(q[inside]) - posterior[inside])).sum())
    return total


def has_many_optima() -> Shown:
    """Put two laws on one curve in the plane, the data's and another, and let γ shrink."""
    u = np.linspace(-4, 4, 1601)
    truth = _two_bumps(u)
    laws = {"right": _quantiles(u, truth), "wrong": _quantiles(u, _normal(u))}
    share = truth[::8] / truth[::8].sum()
    data = np.stack([u[::8], np.sin(u[::8])], 1)
    rows, costs = [], {}
    for gamma in _GAMMAS[1:]:
        row = [gamma]
        for law, decoded in laws.items():
            curve = np.stack([decoded, np.sin(decoded)], 1)
            squares = ((data[:, None] - curve) ** 2).sum(2)
            logs = -0.5 * squares / gamma - np.log(2 * np.pi * gamma) + np.log(_weights())
            top = logs.max(1, keepdims=True)
            log_density = top[:, 0] + np.log(np.exp(logs - top).sum(1))
            row.append(-float(share @ log_density))
            costs[law, gamma] = row[-1]
        left = float(truth[u < 0].sum() / truth.sum())
        row += [_mass_left(laws[law], gamma) - left for law in laws]
        rows.append(row)

    def draw(axes: Axes) -> None:
        for law, color in (("right", BLUE), ("wrong", ORANGE)):
            axes.plot(_GAMMAS[1:], [costs[law, gamma] for gamma in _GAMMAS[1:]], "o-", color=color, label=f"{law} law")
        axes.set(xscale="log", xlabel="γ", ylabel="−log p(x), nats", title="Both laws on the curve drive the cost down")
        axes.invert_xaxis()
        axes.legend(frameon=False)

    slopes = [(costs[law, _GAMMAS[-2]] - costs[law, _GAMMAS[-1]]) / np.log(_GAMMAS[-2] / _GAMMAS[-1]) for law in laws]
    holds = all(abs(slope - 0.5) < 0.02 for slope in slopes) and abs(rows[-1][3]) < 5e-3 < 0.05 < abs(rows[-1][4])
    criterion = "both costs fall by (d − r)/2 = 0.5 nats per unit of log γ, within 0.02; one has the data's masses only"
    head = ["γ", "−log p, right law", "−log p, wrong law", "mass left, right − data", "mass left, wrong − data"]
    return Shown(head, rows, holds, criterion, draw)


def _mass_left(decoded: Array, gamma: float) -> float:
    """P(x_1 < 0) under the model."""
    from scipy.stats import norm

    return float(_weights() @ norm.cdf(-decoded / np.sqrt(gamma)))


def tells_no_more_than_its_kl() -> Shown:
    """Draw affine encoders z ~ N(a x, s²) of x ~ N(0, 1), and compare I(x; x') with E KL(q ‖ p), x' = b z."""
    rng = np.random.default_rng(0)
    gains, noises = 3 * rng.random(500) ** 2, np.exp(-3 * rng.random(500) ** 2)
    told, kl = _told(gains, noises), _kl(gains, noises)
    # towards the prior: what a decoder that ignores z leaves of the encoder
    steps = np.array([1.0, 0.3, 0.1, 0.03, 0.01, 0.0])
    path = steps, _told(steps, np.sqrt(1 - steps**2 / 2)), _kl(steps, np.sqrt(1 - steps**2 / 2))
    rows = [list(map(float, row)) for row in zip(*path, strict=True)]

    def draw(axes: Axes) -> None:
        axes.plot([0, 3], [0, 3], color=GREY, lw=1, label="I = KL")
        axes.plot(kl, told, ".", color=BLUE, ms=3, label="an encoder")
        axes.plot(path[2], path[1], "o-", color=ORANGE, label="one on its way to the prior")
        axes.set(xlabel="E KL(q(z|x) ‖ p(z)), nats", ylabel="I(x; x′), nats", title="No KL, no information")
        axes.set(xlim=(0, 3), ylim=(0, 3))
        axes.legend(frameon=False, loc="upper left", fontsize=8)

    holds = bool((told <= kl + 1e-12).all()) and rows[-1][1] == 0 and rows[-1][2] == 0
    criterion = "I(x; x′) ≤ E KL for 500 encoders, and both end at 0"
    return Shown(["a", "I(x; x′)", "E KL"], rows, holds, criterion, draw)


def _told(gain: Array, noise: Array) -> Array:
    """I(x; x') in nats, from the correlation of x and b z; the same for any b but 0."""
    correlation = gain / np.sqrt(gain**2 + noise**2)
    return np.asarray(-0.5 * np.log1p(-(correlation**2)))


def _kl(gain: Array, noise: Array) -> Array:
    """E_x KL(N(a x, s²) ‖ N(0, 1)), nats."""
    return np.asarray(0.5 * (gain**2 + noise**2 - 1) - np.log(noise))


def smooths_with_its_variance() -> Shown:
    """Minimise the objective over one σ_z² and an affine decoder at fixed σ_x², as σ_x² goes to 0 and beyond the data.

    With x ~ N(0, v), encoder a x, decoder b z, noise σ_z² and s = σ_x²:
    J = (v (1 − ab)² + b² σ_z²) / 2s + ½ log 2πs + ½ (a² v + σ_z² − 1 − log σ_z²). At the optimum b² = (v − s)₊ and
    σ_z² = s / v where s < v, else 1 (Tipping & Bishop 1999).
    """
    from scipy.optimize import minimize

    v, rows = 1.0, []
    for s in (1e-4, 1e-3, 1e-2, 1e-1, 0.3, 0.6, 0.9, 1.5):

        def cost(parameters: Array, s: float = s) -> float:
            a, b, log_noise = parameters
            noise = np.exp(log_noise)
            distortion = (v * (1 - a * b) ** 2 + b**2 * noise) / (2 * s) + 0.5 * np.log(2 * np.pi * s)
            return float(distortion + 0.5 * (a**2 * v + noise - 1 - log_noise))

        best = min((minimize(cost, start, tol=1e-12) for start in _STARTS), key=lambda found: float(found.fun))
        rows.append([s, float(np.exp(best.x[2])), min(s / v, 1.0), abs(float(best.x[1])), max(v - s, 0.0) ** 0.5])

    def draw(axes: Axes) -> None:
        s = [row[0] for row in rows]
        axes.plot(s, [row[1] for row in rows], "o-", color=ORANGE, label="σ_z², found")
        axes.plot(s, [row[3] for row in rows], "o-", color=BLUE, label="slope of the decoder, found")
        axes.set(xscale="log", xlabel="σ_x²", title="A large σ_x² makes σ_z² large and the decoder flat")
        axes.legend(frameon=False)

    holds = all(abs(row[1] - row[2]) < 0.01 and abs(row[3] - row[4]) < 0.01 for row in rows)
    head = ["σ_x²", "σ_z², found", "σ_z², exact", "slope, found", "slope, exact"]
    return Shown(head, rows, holds, "σ_z² → 0 with σ_x², and found and exact differ by less than 0.01", draw)


_STARTS: Final = ((0.5, 0.5, -1.0), (1.0, 1.0, -5.0), (0.01, 0.01, 0.0))


def shared_weights_are_bounded() -> Shown:
    """Minimise the cost per point of a sequence whose prior is the encoder one point before, and of one with its own.

    Points are a random walk with innovations N(0, 1) on the first axis of the plane. The code is N(a x, s²), ρ = s²/a²,
    and the decoder, which knows the points before, is the best there is: its error is ρ / (1 + ρ). The KL to the law of
    the code one point before is 1/2ρ, that to a prior of its own ½ log(1 + 1/ρ). So the least costs are, for γ ≤ 1,

        γ^{−1/2} − ½ + log 2πγ    shared        ½ + ½ log γ + log 2π    own
    """
    from scipy.optimize import minimize_scalar

    def least(gamma: float, kl: Callable[[float], float]) -> float:
        def cost(log_ratio: float) -> float:
            ratio = float(np.exp(log_ratio))
            return ratio / (1 + ratio) / (2 * gamma) + kl(ratio) + float(np.log(2 * np.pi * gamma))

        return float(minimize_scalar(cost, bounds=(-20, 20), method="bounded", options={"xatol": 1e-10}).fun)

    rows = []
    for gamma in np.geomspace(0.5, 1e-6, 13):
        shared = least(gamma, lambda ratio: 1 / (2 * ratio))
        own = least(gamma, lambda ratio: float(0.5 * np.log1p(1 / ratio)))
        exact = gamma**-0.5 - 0.5 + np.log(2 * np.pi * gamma), 0.5 + 0.5 * np.log(gamma) + np.log(2 * np.pi)
        rows.append([float(gamma), shared, float(exact[0]), own, float(exact[1])])

    def draw(axes: Axes) -> None:
        gammas = [row[0] for row in rows]
        axes.plot(gammas, [row[1] for row in rows], "o-", color=ORANGE, label="prior shares the encoder's weights")
        axes.plot(gammas, [row[3] for row in rows], "o-", color=BLUE, label="prior of its own")
        axes.set(xscale="log", xlabel="γ", ylabel="least cost per point, nats", ylim=(-6, 12))
        axes.set_title("Only a prior of its own lets γ go to 0")
        axes.invert_xaxis()
        axes.legend(frameon=False, loc="center right")

    holds = all(abs(row[1] / row[2] - 1) < 1e-4 and abs(row[3] - row[4]) < 1e-4 for row in rows)
    holds = holds and min(row[1] for row in rows) > 0 > rows[-1][3]
    criterion = "found and exact agree to 1e-4; the shared cost has a least value above 0, the other falls below any"
    return Shown(["γ", "shared, found", "exact", "own, found", "exact "], rows, holds, criterion, draw)


EXACT: Final = (
    Theorem(
        "dai-wipf/theorem1",
        "Where the data fill the space, a Gaussian decoder and encoder can have the data's density and the posterior",
        "Dai & Wipf 2019, Theorem 1",
        "μ(z) = F⁻¹(G(z)) carries N(0, 1) to a law with two bumps; p(x) by quadrature, in nats.",
        recovers_a_density,
    ),
    Theorem(
        "dai-wipf/theorem2",
        "On a manifold the cost falls without bound, also where the law on the manifold is wrong",
        "Dai & Wipf 2019, Theorem 2 and section 2.2",
        "A curve in the plane (r = 1, d = 2) under the data's law and another: this is why a second stage is fitted.",
        has_many_optima,
    ),
    Theorem(
        "zheng/theorem3",
        "A sequential model whose prior shares the encoder's weights cannot drive the cost down",
        "Zheng et al. 2022, Theorem 3",
        "A random walk on an axis of the plane: the least cost over all codes, found and in closed form.",
        shared_weights_are_bounded,
    ),
    Theorem(
        "takida/theorem1",
        "A KL of 0 leaves nothing that reconstructions could tell of the data",
        "Takida et al. 2022, Theorem 1",
        "Affine encoders of Gaussian data, in closed form; the table follows one to the prior.",
        tells_no_more_than_its_kl,
    ),
    Theorem(
        "takida/theorem2",
        "The variance of the code follows that of the decoder to 0; where the latter is large the decoder is flat",
        "Takida et al. 2022, Theorem 2 and section 4.1",
        "The objective of an affine model minimised by a general program, beside its exact optimum.",
        smooths_with_its_variance,
    ),
)
