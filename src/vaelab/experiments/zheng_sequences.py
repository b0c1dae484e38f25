"""Table 8 of Zheng et al. (NeurIPS 2022): a prior that shares the encoder's weights, on sequences.

See `vaelab.experiments.zheng` for the paper and its conventions. With shared weights the loss stays above a constant
(Theorem 3); with weights of its own the prior learns to leave to z what the past does not tell.
"""

from __future__ import annotations

from typing import Final

import torch

from vaelab.data import ArrayBatches
from vaelab.data.synthetic import arma_sequences
from vaelab.experiments.table import Cell, Check, Job, Ordering, Quantity, Scale, Table
from vaelab.model import VAE, Conditional, Gaussian, LearnedVariance
from vaelab.nets import LSTMDecoder, LSTMEncoder, LSTMPrior, SharedPrior
from vaelab.training import FitSettings, forked

_SIZE: Final = 20  # κ and d


def _fit(epochs: int, batch_size: int) -> FitSettings:
    return FitSettings(epochs=epochs, batch_size=batch_size, lr=1e-2, schedule="one_cycle", accelerator="auto")


def _shared_or_not(cell: Cell, scale: Scale, seed: int) -> Job:
    data = arma_sequences(scale.rows, r=10, d=_SIZE, seed=seed)
    c = torch.cat([data.c, data.c.new_ones(*data.c.shape[:2], 1)], dim=2)  # every step of every window is present
    window = tuple(c.shape[1:])
    with forked("cpu", seed, "zheng", cell.name):
        encoder = LSTMEncoder((_SIZE,), 2 * _SIZE, condition_shape=window, units=scale.hidden)
        shared = cell.axes["weights"] == "shared"
        network = SharedPrior(encoder, _SIZE) if shared else LSTMPrior(window, _SIZE, units=scale.hidden)
        model = VAE(
            encoder,
            LSTMDecoder(_SIZE, (_SIZE,), condition_shape=window, units=scale.hidden),
            latent_dim=_SIZE,
            prior=Conditional(network, _SIZE),
            likelihood=Gaussian(LearnedVariance(1.0, lr_scale=1.0)),
        )
    return Job(model, ArrayBatches(data.x, c))


TABLE_8 = Table(
    name="zheng/table8",
    title="The prior of a sequential CVAE with the encoder's weights and with its own (d = κ = 20, r = 10)",
    source="Zheng et al., NeurIPS 2022, Table 8",
    cells=(
        Cell({"weights": "shared"}, {"recon": 0.374, "kl": 18.1, "gamma": 0.012, "nelbo": -2.49}),
        Cell({"weights": "separate"}, {"recon": 1.8e-5, "kl": 176, "gamma": 7.3e-7, "nelbo": -45.0}),
    ),
    scales={
        "smoke": Scale(200, 4, _fit(1, 100)),
        "small": Scale(20_000, 32, _fit(1000, 2000)),
        "paper": Scale(20_000, 32, _fit(10_000, 2000)),
    },
    build=_shared_or_not,
    checks=(Check("nelbo", "at most"),),
    orderings=(
        Ordering(
            "weights of its own lower −ELBO by at least 10 nats (20 as it is written here, doubled)",
            Quantity("weights=separate", "nelbo"),
            Quantity("weights=shared", "nelbo"),
            by=20,
        ),
    ),
)
