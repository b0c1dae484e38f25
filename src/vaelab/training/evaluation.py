"""The objective on rows that were not trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from vaelab.model.contexts import evaluating
from vaelab.rows import blocks
from vaelab.training.ledger import as_record, mean_reading, terms_of
from vaelab.training.streams import stream
from vaelab.types import Batches, Objective, Trainable


@torch.no_grad()
def mean_objective(
    model: Trainable, batches: Batches, *, seed: int = 0, batch_size: int | None = None
) -> dict[str, float]:
    """Return the mean objective in evaluation mode, with the same noise at every call.

    Parameters
    ----------
    model
        On the device of `batches`.
    batches
        Rows to score.
    seed
        Seed of the noise: of the data's own draws and of z.
    batch_size
        Rows at a time; the result does not depend on it, apart from which noise a row meets.

    Returns
    -------
    dict
        ``loss`` and its terms in nats per sample, γ, active dimensions.
    """
    device = next(model.parameters()).device
    sums: dict[str, Tensor] = {}
    readings: dict[str, Tensor] = {}

    def draws(start: int) -> torch.Generator:
        return stream(device, seed, "evaluate", start)

    with evaluating(model):
        for _, x, c, generator in blocks(batches, device, size=batch_size, draws=draws):
            noise = torch.randn(len(x), *model.noise_shape, generator=generator, device=device)
            objective: Objective = model(x, c, noise=noise.to(x.dtype))
            for name, term in terms_of(objective).items():
                sums[name] = sums.get(name, torch.zeros_like(term[0], dtype=torch.float64)) + term.double().sum()
            for name, value in objective.readings.items():
                total = mean_reading(value).double() * len(x)
                readings[name] = readings[name] + total if name in readings else total
    terms = {name: float(total) / len(batches) for name, total in sums.items()}
    record = as_record(model, terms, {name: (total / len(batches)).cpu() for name, total in readings.items()})
    return {name: float(value) for name, value in record.items()}
