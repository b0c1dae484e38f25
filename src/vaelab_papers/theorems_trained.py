"""Theorems about optima that a training has to find: small perceptrons on curved manifolds of known dimension."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaelab.data import ArrayBatches
from vaelab.model import VAE, FixedVariance, Gaussian
from vaelab.model.distributions import count_active, variance_ratio
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.training import FitSettings, fit, forked, stream
from vaelab_papers.synthetic import sigmoid_manifold
from vaelab_papers.theorem import BLUE, ORANGE, Shown, Theorem

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_D, _R, _KAPPA = 6, 2, 4
_ROWS, _UNSEEN = 4000, 1000
_GAMMAS: Final = (3e-3, 1e-2, 3e-2, 0.1, 0.3)
_BEGIN: Final = 3e-2


class Optimum(NamedTuple):
    """What a training at a fixed γ reached, on unseen rows.

    Attributes
    ----------
    cost
        −ELBO, nats.
    at_mean, of_draws
        E ‖x − μ_x(z)‖² with z the posterior's mean, and with z drawn from it.
    active
        Dimensions whose variance is below .05 of the prior's.
    """

    cost: float
    at_mean: float
    of_draws: float
    active: int


def _surface() -> Tensor:
    """Rows on a surface of dimension 2 in 6, standardised."""
    x = sigmoid_manifold(_ROWS + _UNSEEN, _D, _R, seed=0).x
    return (x - x.mean(0)) / x.std(0)


def _coordinates(r: int, d: int) -> tuple[Tensor, Tensor]:
    """U ~ N(0, I), (n, r), and x = A u + 0.3 sin(B u), (n, d), with AᵀA = 3 I: all of u weigh the same."""
    generator = stream("cpu", 0, "coordinates")
    u = torch.randn(_ROWS + _UNSEEN, r, generator=generator)
    straight = torch.linalg.qr(torch.randn(d, r, generator=generator)).Q * 3**0.5
    return u, u @ straight.T + 0.3 * (u @ torch.randn(r, d, generator=generator)).sin()


def _vae(d: int, size: int, t: int, gamma: float) -> VAE:
    with forked("cpu", 0, "theorems"):
        encoder = MLPEncoder((d,), 2 * size, hidden=(64, 64), condition_dim=t)
        decoder = MLPDecoder(size, (d,), hidden=(64, 64), condition_dim=t)
    return VAE(encoder, decoder, latent_dim=size, likelihood=Gaussian(FixedVariance(gamma)))


def _train(vae: VAE, x: Tensor, c: Tensor | None, epochs: int) -> None:
    rows = ArrayBatches(x[:_ROWS], None if c is None else c[:_ROWS])
    fit(vae, rows, FitSettings(epochs=epochs, batch_size=200, lr=3e-3, schedule="cosine"))


@torch.no_grad()
def _measured(vae: VAE, x: Tensor, c: Tensor | None = None) -> Optimum:
    x, c = x[_ROWS:], None if c is None else c[_ROWS:]
    noise = torch.randn(16, len(x), vae.latent_dim, generator=stream("cpu", 0, "theorems"))
    distortion, kl = vae.elbo(x, c, noise=noise)
    q = vae.encode(x, c)
    drawn = torch.stack([(x - vae.decode(q.mean + q.stddev * each, c)).square().sum(1) for each in noise])
    at_mean = (x - vae.decode(q.mean, c)).square().sum(1)
    active = count_active(variance_ratio(q, vae.prior(c)).mean(0))
    return Optimum(float((distortion + kl).mean()), float(at_mean.mean()), float(drawn.mean()), active)


@cache
def _by_variance() -> dict[float, Optimum]:
    """Train at a γ that is easily trained at, and go on from there to the smaller and to the larger ones."""
    x = _surface()
    begun, reached = _vae(_D, _KAPPA, 0, _BEGIN), {}
    _train(begun, x, None, 100)
    for way in ([gamma for gamma in _GAMMAS[::-1] if gamma <= _BEGIN], [gamma for gamma in _GAMMAS if gamma > _BEGIN]):
        vae = copy.deepcopy(begun)
        for gamma in way:
            vae = vae.replace(likelihood=Gaussian(FixedVariance(gamma)))
            _train(vae, x, None, 60)
            reached[gamma] = _measured(vae, x)
    return {gamma: reached[gamma] for gamma in _GAMMAS}


def _over_variance(
    title: str, names: tuple[str, ...], of: Callable[[Optimum], tuple[float, ...]]
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        values = np.array([of(_by_variance()[gamma]) for gamma in _GAMMAS])
        for name, column, color in zip(names, values.T, (BLUE, ORANGE), strict=False):
            axes.plot(_GAMMAS, column, "o-", color=color, label=name)
        axes.set(xscale="log", xlabel="γ", title=title)
        axes.invert_xaxis()
        axes.legend(frameon=False)

    return draw


def smaller_is_better() -> Shown:
    """Compare the costs reached at fixed γ."""
    reached = _by_variance()
    costs = [reached[gamma].cost for gamma in _GAMMAS]
    draw = _over_variance("The optimum falls with γ", ("−ELBO, nats",), lambda one: (one.cost,))
    holds = all(low < high for low, high in pairwise(costs))
    return Shown(["γ", "−ELBO"], list(zip(_GAMMAS, costs, strict=True)), holds, "every smaller γ costs less", draw)


def rebuilds_from_any_draw() -> Shown:
    """Compare errors of draws z ~ q(z | x) with those at its mean, per γ."""
    reached = _by_variance()
    rows = [
        [gamma, reached[gamma].at_mean, reached[gamma].of_draws, reached[gamma].of_draws / gamma] for gamma in _GAMMAS
    ]
    draw = _over_variance(
        "Any draw rebuilds x as γ → 0", ("at the mean", "of draws"), lambda one: (one.at_mean, one.of_draws)
    )
    ratios = [row[3] for row in rows[:3]]
    holds = rows[0][2] < 0.05 and max(ratios) / min(ratios) < 2
    head = ["γ", "‖x − μ(mean)‖²", "‖x − μ(draw)‖²", "over γ"]
    criterion = "the error of draws falls in proportion to γ (within a factor of 2 below 0.03), to below 0.05 of d = 6"
    return Shown(head, rows, holds, criterion, draw)


def finds_the_dimension() -> Shown:
    """Take the slope of the cost in log γ, and count active dimensions."""
    reached = _by_variance()
    rows = [[gamma, reached[gamma].cost, float(reached[gamma].active)] for gamma in _GAMMAS]
    slope = float((rows[1][1] - rows[0][1]) / np.log(_GAMMAS[1] / _GAMMAS[0]))

    def draw(axes: Axes) -> None:
        gammas = np.array(_GAMMAS)
        axes.plot(gammas, [row[1] for row in rows], "o", color=BLUE, label="−ELBO, nats")
        line = rows[0][1] + (_D - _R) / 2 * np.log(gammas / gammas[0])
        axes.plot(gammas, line, color=ORANGE, lw=1, label="slope (d − r)/2 = 2")
        for gamma, cost, active in rows:
            axes.annotate(f"{active:.0f} active", (gamma, cost), (4, -12), textcoords="offset points", fontsize=8)
        axes.set(xscale="log", xlabel="γ", title="A surface of dimension 2 in 6, with a code of 4")
        axes.invert_xaxis()
        axes.legend(frameon=False)

    holds = abs(slope - (_D - _R) / 2) < 0.25 and rows[0][2] == _R
    criterion = (
        f"slope {slope:.2f} nats per unit of log γ, (d − r)/2 = 2 within 0.25; {rows[0][2]:.0f} of 4 active, r = 2"
    )
    return Shown(["γ", "−ELBO", "active"], rows, holds, criterion, draw)


def conditions_take_dimensions() -> Shown:
    """Train with and without a condition that fixes t of r = 4 coordinates."""
    u, x = _coordinates(4, 10)
    rows = []
    for t in (0, 1, 2, 3):
        c = u[:, :t] if t else None
        vae = _vae(10, 6, t, 0.05)
        _train(vae, x, c, 100)
        reached = _measured(vae, x, c)
        rows.append([float(t), float(reached.active), reached.cost])

    def draw(axes: Axes) -> None:
        axes.plot([row[0] for row in rows], [4 - row[0] for row in rows], color=ORANGE, lw=1, label="r − t")
        axes.plot([row[0] for row in rows], [row[1] for row in rows], "o", color=BLUE, label="active dimensions")
        axes.set(xlabel="coordinates that the condition knows, t", title="What c knows, the code need not say (r = 4)")
        axes.set(xticks=[0, 1, 2, 3], yticks=[0, 1, 2, 3, 4])
        axes.legend(frameon=False)

    holds = all(active == 4 - t for t, active, _ in rows)
    return Shown(["t", "active", "−ELBO"], rows, holds, "r − t = 4 − t dimensions are active", draw)


TRAINED: Final = (
    Theorem(
        "dai-wipf/theorem3",
        "A smaller decoder variance always has the better optimum, so that a learned one goes to 0",
        "Dai & Wipf 2019, Theorem 3",
        "A VAE trained at fixed γ on a curved surface of dimension 2 in 6; nats on unseen rows.",
        smaller_is_better,
    ),
    Theorem(
        "dai-wipf/theorem4",
        "At the optimum any draw from the posterior rebuilds x, not its mean alone",
        "Dai & Wipf 2019, Theorem 4; Zheng et al. 2022, Theorem 1 (iii)",
        "The same trainings; squared errors summed over 6 columns of variance 1, on unseen rows.",
        rebuilds_from_any_draw,
    ),
    Theorem(
        "zheng/theorem1",
        "The cost falls by (d − r)/2 nats per unit of log γ, and exactly r latent dimensions are active",
        "Zheng et al. 2022, Theorem 1",
        "The same trainings. The paper's cost is twice ours, so that its slope is d − r.",
        finds_the_dimension,
    ),
    Theorem(
        "zheng/theorem2",
        "A condition that determines t of the r coordinates leaves r − t dimensions active",
        "Zheng et al. 2022, Theorem 2",
        "A VAE trained at γ = 0.05 on a curved manifold of dimension 4 in 10; κ = 6, and c is the first t coordinates.",
        conditions_take_dimensions,
    ),
)
