"""Table 8 of Zheng et al. 2022: a prior that shares the encoder's weights, on sequences.

See `vaelab_papers.zheng` for the paper and its conventions. Theorem 3 is about a loss over every point l of the
sequence (eq. 3): with shared weights q(z_l | x_≤l) is p(z_{l+1} | x_≤l), so one of them has the wrong variance and the
loss stays above a constant. The authors' program scores the last point alone, where an encoder can tell from the number
of points whether it is asked for q or p; both losses stand here, per point. The paper's numbers stand at the loss that
it states.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from vaelab.data import ArrayBatches
from vaelab.model import VAE, Conditional, Gaussian, LearnedVariance
from vaelab.nets import ConditionReader, LSTMDecoder, LSTMEncoder, SharedPrior
from vaelab.training import FitSettings, forked
from vaelab_papers.arma import arma_sequences
from vaelab_papers.claims import Ordering, Quantity
from vaelab_papers.job import Job
from vaelab_papers.table import Cell, Scale, Table
from vaelab_papers.zheng import CONVENTION

_SIZE: Final = 20  # κ and d
_WINDOW: Final = 6  # points, of which the first may be the only one


def _fit(epochs: int, batch_size: int) -> FitSettings:
    return FitSettings(epochs=epochs, batch_size=batch_size, lr=1e-2, schedule="one_cycle")


def _windows(scale: Scale, seed: int, *, every: bool) -> tuple[Tensor, Tensor]:
    """About `scale.rows` points (n, k), the last or all of their windows, and those before them (n, T, k + 1)."""
    rows = scale.rows // _WINDOW if every else scale.rows
    sequences = arma_sequences(rows + _WINDOW - 1, r=10, d=_SIZE, window=_WINDOW, seed=seed).sequences
    present = torch.cat([sequences, sequences.new_ones(*sequences.shape[:2], 1)], dim=2)
    empty = torch.zeros_like(present)
    points, before = [], []
    for i in range(0 if every else _WINDOW - 1, _WINDOW):
        points.append(sequences[:, i])
        before.append(torch.cat([empty[:, i + 1 :], present[:, :i]], dim=1))
    return torch.cat(points), torch.cat(before)


def _shared_or_not(cell: Cell, scale: Scale, seed: int) -> Job:
    x, c = _windows(scale, seed, every=cell.axes["loss"] == "every point")
    window = tuple(c.shape[1:])
    with forked("cpu", seed, "zheng", cell.name):
        encoder = LSTMEncoder((_SIZE,), 2 * _SIZE, condition_shape=window, units=scale.width)
        shared = cell.axes["weights"] == "shared"
        network = SharedPrior(encoder, _SIZE) if shared else ConditionReader(window, 2 * _SIZE, hidden=(scale.width,))
        model = VAE(
            encoder,
            LSTMDecoder(_SIZE, (_SIZE,), condition_shape=window, units=scale.width),
            latent_dim=_SIZE,
            prior=Conditional(network, _SIZE),
            likelihood=Gaussian(LearnedVariance(1.0, lr_scale=1.0)),
        )
    return Job(model, ArrayBatches(x, c))


_LOSSES = ("last point", "every point")
_TABLE_8 = {
    "shared": {"recon": 0.374, "kl": 18.1, "gamma": 0.012, "nelbo": -2.49},
    "separate": {"recon": 1.8e-5, "kl": 176, "gamma": 7.3e-7, "nelbo": -45.0},
}

TABLE_8 = Table(
    name="zheng/table8",
    title="The prior of a sequential CVAE with the encoder's weights and with its own (d = κ = 20, r = 10)",
    source="Zheng et al., NeurIPS 2022, Table 8",
    convention=CONVENTION,
    cells=tuple(
        Cell({"loss": loss, "weights": weights}, published if loss == "every point" else {})
        for loss in _LOSSES
        for weights, published in _TABLE_8.items()
    ),
    scales={
        "smoke": Scale(200, 4, _fit(1, 100)),
        "small": Scale(20_000, 32, _fit(80, 200)),
        "paper": Scale(20_000, 32, _fit(10_000, 2000)),
    },
    build=_shared_or_not,
    synthetic="windows of ARMA processes",
    orderings=tuple(
        Ordering(
            f"over {points}, weights of its own lower −ELBO by at least 10 nats (20 as it is written here, doubled)",
            Quantity(f"loss={points}, weights=separate", "nelbo"),
            Quantity(f"loss={points}, weights=shared", "nelbo"),
            by=20,
        )
        for points in _LOSSES
    ),
    shown=("active",),
)
