"""Metrics: the Fréchet distance beside `sqrtm`'s route, feature extraction's memory, the bound beside bare decoding."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings

import numpy as np
import torch
from torch import Tensor

from vaelab import nets
from vaelab.data import ArrayBatches
from vaelab.metrics import Moments, frechet_distance, importance_weighted_bounds
from vaelab.model import VAE, Diagonal, FixedVariance, Gaussian

_EXTRACT = """
def read(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
import sys
import torch
from vaelab.metrics import extract
from vaelab.metrics.features import streamed
rows, block = int(sys.argv[1]), 1000
def blocks(rows):
    for first in range(0, rows, block):
        yield torch.rand(block, 3, 16, 16)
extractor = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 512), torch.nn.ReLU())
streamed(extract(extractor, blocks(5 * block)))
before = read("VmHWM")
streamed(extract(extractor, blocks(rows)))
print((read("VmHWM") - before) / 1024)
"""


def features(n: int = 10_000, d: int = 2048, *, decay: float = 0.0) -> tuple[Tensor, Tensor]:
    """Two sets of correlated features of full rank; standard deviations fall with the column's number to the -decay."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.arange(1, d + 1) ** -decay
    mixing = torch.randn(d, d, generator=generator) / d**0.5
    x = torch.randn(n, d, generator=generator) @ mixing + 0.3 * torch.randn(n, d, generator=generator)
    y = torch.randn(n, d, generator=generator) @ mixing.T + 0.3 * torch.randn(n, d, generator=generator)
    return x * scale, (y + 0.1) * scale


def frechet_ours(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Seconds and value, from rows."""
    start = time.perf_counter()
    value = frechet_distance(Moments.of(x), Moments.of(y))
    return time.perf_counter() - start, value


def frechet_by_sqrtm(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Seconds and value by the steps of the pytorch-fid program: np.cov twice, then `scipy.linalg.sqrtm`."""
    from scipy.linalg import sqrtm

    start = time.perf_counter()
    a, b = x.numpy().astype(np.float64), y.numpy().astype(np.float64)
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(0) - b.mean(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = sqrtm(first @ second).real
    value = float(shift @ shift + np.trace(first) + np.trace(second) - 2 * np.trace(root))
    return time.perf_counter() - start, value


def extraction_memory(rows: int = 100_000) -> float:
    """MB that the peak grows by from 5,000 images to so many, while their moments are extracted."""
    done = subprocess.run([sys.executable, "-c", _EXTRACT, str(rows)], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def infogan(latent_dim: int = 64) -> VAE:
    """Build an untrained VAE for 28×28 images with InfoGAN networks, in evaluation mode."""
    shape = (1, 28, 28)
    return VAE(
        nets.InfoGANEncoder(shape, 2 * latent_dim),
        nets.InfoGANDecoder(latent_dim, shape),
        latent_dim=latent_dim,
        posterior=Diagonal("softplus"),
        likelihood=Gaussian(FixedVariance(0.003), link="sigmoid"),
    ).eval()


def bound_and_decoder(vae: VAE, rows: int, draws: int, parts: int = 5) -> tuple[float, float]:
    """Seconds of the importance-weighted bound, and of as many bare decoder calls, in turns."""
    images = torch.rand(rows, 1, 28, 28)
    ours = bare = 0.0
    for part in images.chunk(parts):
        start = time.perf_counter()
        importance_weighted_bounds(vae, ArrayBatches(part), draws=draws)
        ours += time.perf_counter() - start
        start = time.perf_counter()
        _decode(vae, len(part) * draws)
        bare += time.perf_counter() - start
    return ours, bare


@torch.no_grad()
def _decode(vae: VAE, codes: int, block: int = 1000) -> None:
    z = torch.randn(block, vae.latent_dim)
    for _ in range(codes // block):
        vae.decoder(z)
