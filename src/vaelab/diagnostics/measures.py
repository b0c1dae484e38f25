"""Measures of a trained VAE: pure functions of tensors, each with its source."""

from __future__ import annotations

import torch
from torch import Tensor

from vaelab.model import VAE


@torch.no_grad()
def reconstruction_error(vae: VAE, x: Tensor, c: Tensor | None = None) -> Tensor:
    """(n,) mean squared error per dimension of the decoder mean at the posterior mean."""
    return (vae.reconstruct(x, c) - x).square().flatten(1).mean(1)
