"""What several test modules build: rows as batches, small VAEs, a manifold of known dimension."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.model import VAE, Gaussian, ProfiledVariance, Variance
from vaelab.nets import MLPDecoder, MLPEncoder

# two processes of a script, whatever this machine calls itself
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--local-addr=127.0.0.1",
    "--nproc-per-node=2",
]


@dataclass(frozen=True)
class Rows:
    """The smallest thing that satisfies `vaelab.types.Batches`."""

    x: Tensor
    noise_shape = (0,)

    @property
    def event_shape(self):
        return tuple(self.x.shape[1:])

    def __len__(self):
        return len(self.x)

    def to(self, device):
        return Rows(self.x.to(device))

    def take(self, index, noise=None):
        return self.x[index], None


def small_vae(d: int = 6, latent_dim: int = 3, *, variance: Variance | None = None, hidden=(16,), seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE(
        MLPEncoder((d,), 2 * latent_dim, hidden=hidden),
        MLPDecoder(latent_dim, (d,), hidden=hidden),
        latent_dim=latent_dim,
        likelihood=Gaussian(ProfiledVariance() if variance is None else variance),
    )


def curved_manifold(n: int, *, r: int = 2, d: int = 10, noise: float = 0.0, seed: int = 0) -> Tensor:
    """(n, d) points on an r-dimensional sheet, x = sigmoid(G u) scaled to unit variance, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(r, d, generator=generator)
    x = (torch.randn(n, r, generator=generator) @ mixing).sigmoid()
    x = (x - x.mean(0)) / x.std(0)
    return x + noise * torch.randn(n, d, generator=generator)


def sealed(path) -> None:
    """Write the checksum of a config that a test has changed on purpose, as someone would who means harm."""
    import yaml

    from vaelab.runs.folder import CHECKSUM, _checksum

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content.pop(CHECKSUM, None)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    path.write_text(f"{text}{CHECKSUM}: {_checksum(content)}\n", encoding="utf-8")
