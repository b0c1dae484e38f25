"""A conditional prior moved into encoder and decoder: the same model with p(z) = N(0, I).

Zheng et al. 2022, Remark 1.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.model.posteriors import Standardized
from vaelab.model.priors import Conditional, Standard
from vaelab.model.vae import VAE


@final
class _Encoder(nn.Module):
    """The encoder's numbers, then the prior's mean and standard deviation."""

    def __init__(self, encoder: nn.Module, prior: Conditional) -> None:
        super().__init__()
        self.encoder, self.prior = encoder, prior

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        p = self.prior(c)
        return torch.cat([self.encoder(x, c), p.loc, p.scale], dim=-1)


@final
class _Decoder(nn.Module):
    """decoder(z' σ_p(c) + μ_p(c), c)."""

    def __init__(self, decoder: nn.Module, prior: Conditional) -> None:
        super().__init__()
        self.decoder, self.prior, self.latent_dim = decoder, prior, prior.latent_dim

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        p = self.prior(c)
        out: Tensor = self.decoder(torch.addcmul(p.loc, p.scale, z), c)
        return out


def absorb_prior(vae: VAE) -> VAE:
    """Return the equivalent model with a standard prior, on the same weights.

    For every x, c and noise it has the same distortion and KL, and for every draw the same sample.

    Raises
    ------
    InputError
        The prior is not conditional.
    """
    prior = vae.prior
    if not isinstance(prior, Conditional):
        raise InputError(
            f"a prior of type {type(prior).__name__}", "a conditional prior", "There is nothing to absorb."
        )
    absorbed = vae.replace(
        encoder=_Encoder(vae.encoder, prior),
        decoder=_Decoder(vae.decoder, prior),
        posterior=Standardized(vae.posterior, vae.latent_dim),
        prior=Standard(vae.latent_dim).to(next(vae.parameters())),
    )
    own = set(absorbed.modules()) - set(vae.modules())
    for module in own:  # not `train`, which would change the mode of parts that the two share
        module.training = vae.training
    return absorbed
