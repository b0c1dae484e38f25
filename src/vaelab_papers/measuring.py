"""What is measured on a trained model, in the convention of the paper."""

from __future__ import annotations

import torch

from vaelab.diagnostics.dimension import count_dimensions
from vaelab.model import variance_ratios_of
from vaelab.rows import rows_at_once
from vaelab.training import mean_objective
from vaelab_papers.job import Job


@torch.no_grad()
def measure(job: Job) -> dict[str, float]:
    """Measure a trained model on its own data.

    Returns
    -------
    dict
        ``nelbo`` and ``kl`` in nats, doubled; ``recon``, the squared error summed over dimensions; ``gamma``;
        ``active`` dimensions, by the threshold 0.05, and ``by_gap``, by the gap between the clusters; ``nelbo`` and
        both counts again for every class.
    """
    model, batches = job.model.cpu(), job.batches  # trained on whichever device there was
    terms = mean_objective(model, batches)
    ratios = variance_ratios_of(model, batches)
    dimension = count_dimensions(ratios, resamples=0)
    classes: dict[str, float] = {}
    every = torch.arange(len(batches))
    if job.labels is not None:
        for i, name in enumerate(job.classes):
            rows = every[job.labels == i]
            own = count_dimensions(ratios[rows], resamples=0)
            classes |= {f"active {name}": own.count, f"by_gap {name}": own.by_gap}
            classes[f"nelbo {name}"] = 2 * mean_objective(model, batches.subset(rows))["loss"]
    error = 0.0
    size = rows_at_once(batches.event_shape)
    for start in range(0, len(batches), size):
        x, c = batches.take(torch.arange(start, min(start + size, len(batches))))
        error += float((model.reconstruct(x, c) - x).square().sum(dtype=torch.float64))
    return {
        "active": dimension.count,
        "by_gap": dimension.by_gap,
        "recon": error / len(batches),
        "kl": 2 * terms["kl"],
        "gamma": terms["gamma"],
        "nelbo": 2 * terms["loss"],
        **classes,
    }
