"""Tables 1, 3, 5, 6, 7 and 8 of Zheng et al. 2022, on synthetic data.

Their "−ELBO" and "KL" are twice the usual numbers in nats; "Recon" is the squared error summed over dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from torch import Tensor, nn

from vaelab.data import ArrayBatches
from vaelab.model import VAE, Conditional, Gaussian, LearnedVariance
from vaelab.nets import MLP, Embedded, Gated, MLPDecoder, MLPEncoder
from vaelab.nets.mlp import Activation
from vaelab.training import FitSettings, forked
from vaelab_papers.claims import Check
from vaelab_papers.job import Job
from vaelab_papers.synthetic import sigmoid_manifold, union_of_manifolds, varying_condition
from vaelab_papers.table import Cell, Scale, ScaleName, Table

_PAPER = "Zheng et al., NeurIPS 2022"
SYNTHETIC = "sigmoid(G u), u of five Gaussians of equal weight"
CONVENTION = (
    "KL and −ELBO are twice their value in nats, as in the paper; the squared error is summed over dimensions. A "
    "dimension is active below the threshold 0.05; where the widest gap between the dimensions gives another count, it "
    "stands beside."
)

# κ, d, r → active dimensions, Recon, KL, γ, −ELBO
_TABLE_1 = (
    (20, 10, 2, 2, 3e-4, 18.31, 1.6e-5, -58.26),
    (20, 10, 4, 4, 2.6e-3, 24.22, 5.7e-5, -29.83),
    (20, 10, 6, 6, 9.2e-3, 24.14, 3e-4, -17.39),
    (20, 10, 8, 7, 1.27e-2, 27.91, 1.4e-3, -10.38),
    (20, 10, 10, 8, 5.99e-2, 16.39, 2.5e-3, -6.40),
    (20, 20, 2, 2, 1.6e-3, 17.98, 5.1e-5, -114.52),
    (20, 20, 4, 4, 1.75e-2, 23.11, 2e-4, -60.90),
    (20, 20, 6, 6, 3.09e-2, 28.96, 6e-4, -43.75),
    (20, 20, 8, 8, 3.42e-2, 33.83, 1.2e-3, -36.82),
    (20, 20, 10, 10, 4.74e-2, 35.81, 1.1e-3, -28.34),
    (20, 30, 2, 2, 2.6e-3, 18.42, 7.2e-5, -176.74),
    (20, 30, 4, 4, 2.73e-2, 24.60, 2e-4, -100.28),
    (20, 30, 6, 6, 4.74e-2, 31.89, 9e-4, -76.46),
    (20, 30, 8, 8, 5.68e-2, 37.28, 1.6e-3, -65.66),
    (20, 30, 10, 10, 1.13e-1, 35.13, 2.5e-3, -47.00),
    (5, 20, 6, 5, 1.299e-1, 22.53, 2.1e-3, -36.97),
    (5, 20, 8, 5, 3.719e-1, 16.62, 8.8e-3, -22.60),
    (5, 20, 10, 5, 3.564e-1, 15.97, 1.1e-2, -16.96),
)


def _one_cycle(epochs: int, batch_size: int) -> FitSettings:
    return FitSettings(epochs=epochs, batch_size=batch_size, lr=5e-3, schedule="one_cycle")


def _scales(paper: Scale, *, hidden: int = 64, epochs: int = 100) -> dict[ScaleName, Scale]:
    """Return the paper's budget, one of minutes on two cores and one of seconds."""
    small, smoke = Scale(100_000, hidden, _one_cycle(epochs, 1000)), Scale(400, 8, _one_cycle(2, 100))
    return {"smoke": smoke, "small": small, "paper": paper}


def _vae(d: int, size: int, hidden: int, *, log_gamma: float = 0.0) -> VAE:
    """One hidden layer each, ReLU."""
    return VAE(
        MLPEncoder((d,), 2 * size, hidden=(hidden,)),
        MLPDecoder(size, (d,), hidden=(hidden,)),
        latent_dim=size,
        likelihood=Gaussian(LearnedVariance(math.exp(log_gamma), lr_scale=1.0)),
    )


def _sigmoid_job(cell: Cell, scale: Scale, seed: int) -> Job:
    d, r, size = (int(cell.number(axis)) for axis in ("d", "r", "κ"))
    with forked("cpu", seed, "zheng", cell.name):
        model = _vae(d, size, scale.width)
    return Job(model, ArrayBatches(sigmoid_manifold(scale.rows, d, r, seed=seed).x))


_SCALES = _scales(Scale(100_000, 16, _one_cycle(50_000, 100_000)))
TABLE_1 = Table(
    name="zheng/table1",
    title="Active dimensions of a VAE on synthetic manifolds",
    source=f"{_PAPER}, Table 1",
    convention=CONVENTION,
    cells=tuple(
        Cell(
            {"κ": size, "d": d, "r": r},
            {"active": active, "recon": recon, "kl": kl, "gamma": gamma, "nelbo": nelbo},
        )
        for size, d, r, active, recon, kl, gamma, nelbo in _TABLE_1
    ),
    scales=_SCALES,
    build=_sigmoid_job,
    synthetic=SYNTHETIC,
    checks=(Check("active", "equal"), Check("nelbo", "at most")),
    together=("r",),
)

TABLE_1_16 = replace(
    TABLE_1,
    name="zheng/table1-16",
    title="Active dimensions of a VAE on synthetic manifolds, with the paper's 16 hidden units",
    scales={"smoke": _SCALES["smoke"], "small": replace(_SCALES["small"], hidden=16)},
)


Gate = Literal["none", "condition", "vector"]


def _cvae(
    d: int,
    size: int,
    width: int,
    hidden: int,
    *,
    prior: bool,
    gate: Gate = "none",
    activation: Activation = "relu",
    log_gamma: float = 0.0,
    embedding: tuple[int, int] | None = None,
) -> VAE:
    """One hidden layer each; c passes through a perceptron of its own (hidden units, outputs) in each network."""
    inner, features = embedding or (hidden, hidden)
    encoder = MLPEncoder((d,), 2 * size, hidden=(hidden,), activation=activation, condition_dim=features)
    decoder = MLPDecoder(size, (d,), hidden=(hidden,), activation=activation, condition_dim=features)
    embedded = Embedded(decoder, width, features, hidden=(inner,), activation=activation)
    gated: nn.Module = embedded
    if gate == "condition":
        gated = Gated(embedded, width, hidden=(hidden,), activation=activation)
    elif gate == "vector":
        gated = Gated(embedded)
    return VAE(
        Embedded(encoder, width, features, hidden=(inner,), activation=activation),
        gated,
        latent_dim=size,
        prior=Conditional(MLP(width, 2 * size, (hidden,), activation=activation), size) if prior else None,
        likelihood=Gaussian(LearnedVariance(math.exp(log_gamma), lr_scale=1.0)),
    )


def _standardised(c: Tensor | None) -> Tensor | None:
    """Columns of mean 0 and variance 1: coordinates reach far out, where an exponential of them would overflow."""
    return None if c is None else (c - c.mean(0)) / c.std(0).clamp_min(1e-6)


def _known_coordinates(cell: Cell, scale: Scale, seed: int) -> Job:
    t = int(cell.number("t"))
    data = sigmoid_manifold(scale.rows, 20, 10, t=t, condition="coordinates", seed=seed)
    with forked("cpu", seed, "zheng", cell.name):
        return Job(_cvae(20, 20, t, scale.width, prior=True), ArrayBatches(data.x, _standardised(data.c)))


# t → Recon, KL, γ, −ELBO
_TABLE_3 = (
    (1, 4.61e-2, 33.26, 2.4e-3, -31.41),
    (3, 4.66e-2, 27.78, 2.4e-3, -36.67),
    (5, 4.86e-2, 20.81, 2.6e-3, -42.78),
    (7, 4.29e-2, 13.72, 2.2e-3, -52.39),
    (9, 3.84e-2, 6.07, 2e-3, -62.25),
)

TABLE_3 = Table(
    name="zheng/table3",
    title="Active dimensions where the condition is t of r = 10 coordinates (d = κ = 20)",
    source=f"{_PAPER}, Table 3",
    convention=CONVENTION,
    cells=tuple(
        Cell({"t": t}, {"active": 10 - t, "recon": recon, "kl": kl, "gamma": gamma, "nelbo": nelbo})
        for t, recon, kl, gamma, nelbo in _TABLE_3
    ),
    scales=_SCALES,
    build=_known_coordinates,
    synthetic=SYNTHETIC,
    checks=(Check("active", "equal"), Check("nelbo", "at most")),
    together=(),
)


_ATTENTION: Final = (0, 1, "vector")
"""None; a network of c, as in the authors' program; one trained vector for every c, as in the paper's appendix A.

The paper has numbers without attention and with it: these stand at the first two.
"""


def _attentive(cell: Cell, scale: Scale, size: int, width: int, activation: Activation) -> VAE:
    """Build a CVAE of section 4.4, whose embedding of c is as wide as c.

    A wider one tells the decoder's hidden layer enough to switch dimensions off without attention.
    """
    kind: dict[float | str, Gate] = {0: "none", 1: "condition", "vector": "vector"}
    gate, embedding = kind[cell.axes["attention"]], (scale.width, width)
    return _cvae(20, size, width, scale.width, prior=False, gate=gate, activation=activation, embedding=embedding)


def _by_class(
    name: str, classes: tuple[int, ...], published: Mapping[int, tuple[tuple[int, ...], tuple[float, ...]]]
) -> tuple[Cell, ...]:
    """Lay out counts and −ELBO of every class, with attention and without."""
    cells = []
    for kind in _ATTENTION:
        counts, bounds = published.get(kind, ((), ())) if isinstance(kind, int) else ((), ())
        numbers: dict[str, float] = {f"active {name}={k}": n for k, n in zip(classes, counts, strict=False)}
        numbers |= {f"nelbo {name}={k}": value for k, value in zip(classes, bounds, strict=False)}
        cells.append(Cell({"attention": kind}, numbers))
    return tuple(cells)


def _checks(name: str, classes: tuple[int, ...]) -> tuple[Check, ...]:
    counts = (Check(f"active {name}={k}", "equal") for k in classes)
    return (*counts, *(Check(f"nelbo {name}={k}", "at most") for k in classes))


_RS: Final = (1, 2, 3, 4, 5)


def _union(cell: Cell, scale: Scale, seed: int) -> Job:
    data = union_of_manifolds(scale.rows, 20, seed=seed)
    with forked("cpu", seed, "zheng", cell.name):
        model = _attentive(cell, scale, 40, 5, "prelu")
    return Job(model, ArrayBatches(data.x, _standardised(data.c)), data.labels, tuple(f"r={r}" for r in _RS))


TABLE_5 = Table(
    name="zheng/table5",
    title="Active dimensions on a union of manifolds of dimension 1 … 5 (d = 20, κ = 40)",
    source=f"{_PAPER}, Table 5",
    convention=CONVENTION,
    cells=_by_class(
        "r",
        _RS,
        {
            0: ((4,) * 5, (-102.25, -62.42, -60.13, -28.06, -7.58)),
            1: (_RS, (-114.22, -99.81, -74.28, -50.36, -59.25)),
        },
    ),
    scales=_scales(Scale(100_000, 32, _one_cycle(50_000, 100_000)), hidden=32),
    build=_union,
    synthetic=SYNTHETIC,
    checks=_checks("r", _RS),
    together=(),
)

_TS: Final = (2, 4, 6, 8, 10)


def _varying(cell: Cell, scale: Scale, seed: int) -> Job:
    data = varying_condition(scale.rows, 20, 12, _TS, seed=seed)
    with forked("cpu", seed, "zheng", cell.name):
        model = _attentive(cell, scale, 20, max(_TS), "relu")
    return Job(model, ArrayBatches(data.x, _standardised(data.c)), data.labels, tuple(f"t={t}" for t in _TS))


TABLE_6 = Table(
    name="zheng/table6",
    title="Active dimensions where the condition is 2 … 10 of r = 12 coordinates (d = κ = 20)",
    source=f"{_PAPER}, Table 6",
    convention=CONVENTION,
    cells=_by_class(
        "t",
        _TS,
        {
            0: ((10,) * 5, (-9.69, -33.71, -27.10, -50.70, -61.77)),
            1: (tuple(12 - t for t in _TS), (-41.49, -20.52, -73.26, -80.64, -55.14)),
        },
    ),
    scales=_scales(Scale(100_000, 64, _one_cycle(50_000, 100_000).model_copy(update={"lr": 1e-3})), epochs=200),
    build=_varying,
    synthetic=SYNTHETIC,
    checks=_checks("t", _TS),
    together=(),
)

_STARTS = (-20, -10, 0, 10, 20)
_KINDS = ("VAE", "CVAE", "CVAE with a conditional prior")


def _started(cell: Cell, scale: Scale, seed: int) -> Job:
    data = sigmoid_manifold(scale.rows, 20, 10, t=5, condition="linear", seed=seed)
    kind, log_gamma = _KINDS.index(str(cell.axes["model"])), cell.number("log γ")
    with forked("cpu", seed, "zheng", cell.name):
        if not kind:
            return Job(_vae(20, 20, scale.width, log_gamma=log_gamma), ArrayBatches(data.x))
        model = _cvae(20, 20, 5, scale.width, prior=kind == 2, log_gamma=log_gamma)
    return Job(model, ArrayBatches(data.x, _standardised(data.c)))


# model → active dimensions and −ELBO, by the first log γ
_TABLE_7 = dict(
    zip(
        _KINDS,
        (
            ((10, 9, 8, 3, 1), (-28.39, -28.57, -27.56, -13.89, -1.7)),
            ((5, 5, 5, 5, 5), (-41.20, -44.53, -44.38, -43.72, -45.22)),
            ((5, 5, 5, 5, 4), (-40.72, -45.25, -45.2, -43.66, -37.85)),
        ),
        strict=True,
    )
)

TABLE_7 = Table(
    name="zheng/table7",
    title="Active dimensions by the first log γ (d = κ = 20, r = 10; where there is a condition, t = 5)",
    source=f"{_PAPER}, Table 7",
    convention=CONVENTION,
    cells=tuple(
        Cell({"model": model, "log γ": start}, {"active": active, "nelbo": nelbo})
        for model, (counts, bounds) in _TABLE_7.items()
        for start, active, nelbo in zip(_STARTS, counts, bounds, strict=True)
    ),
    # from log γ = −20 Adam takes over 20,000 steps to forget its first gradients, which are of the size of 1/γ
    scales=_scales(Scale(100_000, 16, _one_cycle(50_000, 100_000)), epochs=250),
    build=_started,
    synthetic=SYNTHETIC,
    checks=(Check("active", "equal"), Check("nelbo", "at most")),
    together=("log γ",),
)
