"""Autoencoders of diffusers: those whose ``encode`` returns a ``latent_dist`` or plain latents.

Codes are the latents as diffusion models see them, (z − shift) · factor with the model's own ``scaling_factor`` and
``shift_factor``, or per channel (z − mean) · factor/std where it has ``latents_mean`` and ``latents_std``: the scale on
which a prior N(0, I) makes sense (Rombach et al. 2022, section D.1). They were trained with perceptual and adversarial
losses and a tiny weight of the KL, so that no γ is known. Their images are in [−1, 1].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vaelab.diagnostics.adapters.reading import PosteriorReading, read_mean, read_posterior
from vaelab.diagnostics.adapters.wrapping import Wrapped
from vaelab.errors import InputError


def of_diffusers(model: object) -> Wrapped | None:
    """Read an autoencoder of diffusers; None for anything else.

    Raises
    ------
    InputError
        A model of diffusers that does not encode and decode.
    """
    names = [kind.__name__ for kind in type(model).__mro__ if kind.__module__.partition(".")[0] == "diffusers"]
    if not names or not isinstance(model, nn.Module):
        return None
    if not callable(getattr(model, "encode", None)) or not callable(getattr(model, "decode", None)):
        raise InputError(f"a diffusers {names[0]}", "one of its autoencoders", "Of a pipeline pass pipeline.vae.")
    shift, factor = _scaling(model)
    return Wrapped(
        _Encode(model, shift, factor),
        _Decode(model, shift, factor),
        variance="log_std",
        name=f"a diffusers {names[0]}",
        takes=(-1.0, 1.0),
    )


def _scaling(model: Any) -> tuple[Tensor, Tensor]:
    """(C,) or (1,) shift and factor of codes (z − shift) · factor."""
    config = model.config
    factor = torch.tensor([float(config.get("scaling_factor") or 1.0)])
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and std is not None:
        return torch.tensor(mean).flatten(), factor / torch.tensor(std).flatten()
    return torch.tensor([float(config.get("shift_factor") or 0.0)]), factor


class _Scaled(nn.Module):
    """A model with the scale of its codes, along their axis of channels."""

    shift: Tensor
    factor: Tensor

    def __init__(self, model: nn.Module, shift: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.model: Any = model
        device = next(model.parameters()).device
        self.register_buffer("shift", shift.to(device), persistent=False)
        self.register_buffer("factor", factor.to(device), persistent=False)

    def _along(self, values: Tensor, codes: Tensor) -> Tensor:
        return values.to(codes).view(1, -1, *[1] * (codes.ndim - 2))


class _Encode(_Scaled):
    """(B, C, H, W) images to scaled means, and logarithms of standard deviations where there are any."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found: PosteriorReading = read_posterior(self.model.encode(x), "log_variance")
        factor = self._along(self.factor, found.mean)
        mean = (found.mean - self._along(self.shift, found.mean)) * factor
        return (mean,) if found.log_std is None else (mean, found.log_std + factor.log())


class _Decode(_Scaled):
    """Scaled codes to images."""

    def forward(self, z: Tensor) -> Tensor:
        latents = z / self._along(self.factor, z) + self._along(self.shift, z)
        return read_mean(self.model.decode(latents))
