"""Measures of a trained VAE: pure functions of tensors, each with its source."""

from __future__ import annotations

import torch
from torch import Tensor

from vaelab.model import VAE


@torch.no_grad()
def reconstruction_error(vae: VAE, x: Tensor, c: Tensor | None = None) -> Tensor:
    """(n,) mean squared error per dimension of the decoder mean at the posterior mean.

    Of a mixed table, per observed number; 0 for a row without any.
    """
    parameters = vae.decoder(vae.encode(x, c).mean, c).to(x.dtype)
    return vae.likelihood.squared_error(parameters, x).flatten(1).nanmean(1).nan_to_num()
