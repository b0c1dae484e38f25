"""What a training leaves: networks, latent densities, units, and the facts about the data; in memory or in a folder."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vaelab.config import Settings
from vaelab.data import Scaling
from vaelab.errors import InputError
from vaelab.latent import Generator, LatentDensity
from vaelab.model import VAE
from vaelab.training import stream
from vaelab.types import rows_at_once


class Facts(BaseModel):
    """What is known of the data and of how the densities compare; saved with the run.

    Attributes
    ----------
    kind, event_shape, columns, classes
        Of the data.
    rows
        Training rows, held-out ones left out.
    fingerprint
        Of the training data, so that a resume on other data is refused.
    data_variance, code_variance
        Mean variance of a dimension, of the data in the network's units and of the codes.
    variance_ratios
        Posterior variance of every latent dimension, mean over the training rows.
    code_scores
        Density → mean log-density of held-out codes in nats per code (a lower bound for the second stage).
    best_density
        The simplest density that no other clearly beats; see `vaelab.latent.compare`.
    scored_on_training
        Whether there were no held-out rows, and the scores are those of fresh draws of training codes.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["image", "table"]
    event_shape: tuple[int, ...]
    rows: int
    fingerprint: str = ""
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    data_variance: float
    code_variance: float = 1.0
    variance_ratios: tuple[float, ...] = ()
    code_scores: dict[str, float] = {}
    best_density: str = "prior"
    scored_on_training: bool = False


@dataclass
class Trained:
    """A trained VAE with its latent densities; takes and returns tensors in the data's own units.

    Attributes
    ----------
    settings
        Resolved settings.
    facts
        About the data and the densities.
    scaling
        Between the data's units and the network's.
    vae
        Stage one, calibrated, in evaluation mode.
    densities
        Name → density on codes; always has ``"prior"``.
    """

    settings: Settings
    facts: Facts
    scaling: Scaling
    vae: VAE
    densities: dict[str, LatentDensity] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.vae.parameters()).device

    def blocks(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
        """Yield blocks of rows in the network's units, on the device."""
        for part in x.split(rows_at_once(self.facts.event_shape)):
            yield self.scaling.to_net(part, dtype=dtype).to(self.device)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """(n, κ) posterior means."""
        return torch.cat([self.vae.encode(block).mean for block in self.blocks(x)])

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """(n, *event) decoder means, floating point, in the data's units."""
        z = z.to(self.device, torch.float32)
        return torch.cat(
            [self.scaling.from_net(self.vae.decode(part)) for part in z.split(rows_at_once(self.facts.event_shape))]
        )

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """(n, *event) decoder means at the posterior means, in the data's units."""
        return torch.cat([self.scaling.from_net(self.vae.reconstruct(block)) for block in self.blocks(x)])

    @torch.no_grad()
    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """(n,) ELBO in nats, a lower bound on log p(x) in the data's units, whatever the weight of the KL in training.

        Parameters
        ----------
        x
            (n, *event).
        noise
            (draws, κ) standard normals, the same for every row, so that a row's score depends on that row alone.
        """
        shared = noise[:, None].to(self.device)
        vae, dtype = self.vae, torch.float32
        if self.facts.kind == "table":  # in float32 the last bits of a score depend on the rows beside it
            vae, dtype = copy.deepcopy(self.vae).double(), torch.float64
        parts = [vae.elbo(block, noise=shared) for block in self.blocks(x, dtype)]
        nats = torch.cat([(distortion + kl).cpu().double() for distortion, kl in parts])
        return -nats - self.scaling.log_volume

    def generator(self, density: str = "auto") -> Generator:
        """Return the generator for a density; ``"auto"`` is the one with the best score on held-out codes."""
        name = self.facts.best_density if density == "auto" else density
        if name not in self.densities:
            known = ", ".join(["auto", *self.densities])
            raise InputError(f"density {name!r}", f"one of {known}", "Name it in `densities` when training.")
        return Generator(self.vae, self.densities[name])

    def sample(self, n: int, *, density: str = "auto", seed: int = 0) -> Tensor:
        """(n, *event) new data in the data's units, floating point."""
        drawn = self.generator(density).sample(n, generator=stream(self.device, seed, "sample"))
        return self.scaling.from_net(drawn)
