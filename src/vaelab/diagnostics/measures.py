"""Measures of a trained VAE: pure functions of tensors, each with its source."""

from __future__ import annotations

import torch
from torch import Tensor

from vaelab.latent import Codes
from vaelab.model import VAE, count_active


def variance_ratios(codes: Codes) -> Tensor:
    """(κ,) λ_j, the posterior variance along each dimension, mean over the data, relative to N(0, I).

    Near 0: active. Near 1: the posterior is the prior and the dimension is idle (Dai & Wipf 2019, Figure 11).
    """
    return codes.scale.square().mean(0, dtype=torch.float64)


def active_dimensions(codes: Codes) -> int:
    """Count the dimensions with λ_j < 0.05 (Zheng et al., NeurIPS 2022, Definition 3)."""
    return count_active(variance_ratios(codes))


@torch.no_grad()
def reconstruction_error(vae: VAE, x: Tensor, c: Tensor | None = None) -> Tensor:
    """(n,) mean squared error per dimension of the decoder mean at the posterior mean."""
    return (vae.reconstruct(x, c) - x).square().flatten(1).mean(1)
