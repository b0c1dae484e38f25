"""Training steps: vaelab's loop, a bare loop of the same mathematics, pythae's trainer on the same networks."""

from __future__ import annotations

import importlib.util
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaelab import nets
from vaelab.data import ArrayBatches, Scaling
from vaelab.latent import Codes
from vaelab.model import VAE, Diagonal, Gaussian
from vaelab.training import Compute, FitSettings, fit
from vaelab.types import Batches


@dataclass(frozen=True)
class Case:
    """Data and networks; `steps` are timed, after `warm_up`."""

    name: str
    batches: Callable[[], Batches]
    rows: Tensor  # as a bare loop would hold them
    spread: Tensor | None  # standard deviations, where rows are drawn afresh (codes)
    networks: Callable[[], tuple[nn.Module, nn.Module]]
    latent_dim: int
    softplus: bool
    sigmoid: bool
    steps: int
    warm_up: int
    batch: int = 100


def mlp() -> Case:
    """Rows of 64 numbers, 64-64-8-64-64."""
    x = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))

    def networks() -> tuple[nn.Module, nn.Module]:
        return nets.MLPEncoder((64,), 16, hidden=(64,)), nets.MLPDecoder(8, (64,), hidden=(64,))

    return Case("MLP, 64 columns", lambda: ArrayBatches(x), x, None, networks, 8, False, False, 2000, 200)


def infogan() -> Case:
    """Images of 28×28 bytes, κ = 64."""
    x = torch.randint(256, (4000, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def networks() -> tuple[nn.Module, nn.Module]:
        return nets.InfoGANEncoder((1, 28, 28), 128), nets.InfoGANDecoder(64, (1, 28, 28))

    scaling = Scaling.fit(x, "image")
    return Case("InfoGAN, 28×28", lambda: ArrayBatches(x, scaling=scaling), x, None, networks, 64, True, True, 40, 5)


def codes() -> Case:
    """Stage two on 60,000 codes, κ = 64."""
    loc = torch.randn(60_000, 64, generator=torch.Generator().manual_seed(0))
    scale = torch.full_like(loc, 0.1)
    wide = (1024, 1024, 1024)

    def networks() -> tuple[nn.Module, nn.Module]:
        encoder = nets.MLPEncoder((64,), 128, hidden=wide, skip=True)
        return encoder, nets.MLPDecoder(64, (64,), hidden=wide, skip=True)

    return Case(
        "second stage, 60,000 codes", lambda: Codes(loc, scale), loc, scale, networks, 64, False, False, 200, 20
    )


def ours(case: Case, steps: int) -> float:
    """Seconds per step of `vaelab.training.fit`."""
    torch.manual_seed(0)
    encoder, decoder = case.networks()
    likelihood = Gaussian(link="sigmoid" if case.sigmoid else "identity")
    posterior = Diagonal("softplus" if case.softplus else "exp")
    vae = VAE(encoder, decoder, latent_dim=case.latent_dim, posterior=posterior, likelihood=likelihood)
    batches = _Shortened(case.batches(), steps * case.batch)
    epochs = max(1, steps * case.batch // len(batches))
    settings = FitSettings(epochs=epochs, batch_size=case.batch, schedule="constant")
    start = time.perf_counter()
    fit(vae, batches, settings, compute=Compute(accelerator="cpu"))
    return (time.perf_counter() - start) / (epochs * (len(batches) // case.batch))


class _Shortened:
    """The first rows of some batches, so that an epoch is as long as what is timed."""

    def __init__(self, batches: Batches, most: int) -> None:
        self.batches, self.n = batches, min(most, len(batches))
        self.event_shape, self.noise_shape = batches.event_shape, batches.noise_shape

    def __len__(self) -> int:
        return self.n

    def to(self, device: torch.device | str) -> _Shortened:
        return self

    def take(self, index: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.batches.take(index, noise)


def bare(case: Case, steps: int) -> float:
    """Seconds per step of a loop as a careful person would write it: indexed tensor, fused Adam, no extras."""
    torch.manual_seed(0)
    encoder, decoder = case.networks()
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3, fused=True)
    n = min(steps * case.batch, len(case.rows))
    d = case.rows[0].numel()
    start = time.perf_counter()
    done = 0
    while done < steps:
        order = torch.randperm(n)
        for first in range(0, n - case.batch + 1, case.batch):
            rows = order[first : first + case.batch]
            x = case.rows[rows]
            if x.dtype == torch.uint8:
                x = x.float() / 255
            if case.spread is not None:
                x = x + case.spread[rows] * torch.randn_like(x)
            mean, raw = encoder(x).chunk(2, -1)
            scale = nn.functional.softplus(raw) + 1e-6 if case.softplus else raw.exp()
            out = decoder(mean + scale * torch.randn_like(mean))
            squared = (x - (out.sigmoid() if case.sigmoid else out)).square().flatten(1).sum(1)
            distortion = d / 2 * (1 + math.log(2 * math.pi / d) + squared.mean().log())  # γ profiled out
            kl = 0.5 * (mean.square() + scale.square() - 2 * scale.log() - 1).sum(1)
            loss = distortion + kl.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    return (time.perf_counter() - start) / done


def pythae_is_here() -> bool:
    """Whether the peer can be imported."""
    return importlib.util.find_spec("pythae") is not None


def pythae(case: Case, steps: int) -> float:
    """Seconds per step of pythae's trainer: the whole of ``train``, as its users call it."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE  # noqa: N811
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    torch.manual_seed(0)
    inner_encoder, inner_decoder = case.networks()

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = inner_encoder

        def forward(self, x: Tensor) -> ModelOutput:
            mean, raw = self.net(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=raw)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = inner_decoder

        def forward(self, z: Tensor) -> ModelOutput:
            out = self.net(z)
            return ModelOutput(reconstruction=out.sigmoid() if case.sigmoid else out)

    shape = tuple(case.rows.shape[1:])
    config = VAEConfig(input_dim=shape, latent_dim=case.latent_dim, reconstruction_loss="mse")
    model = PythaeVAE(model_config=config, encoder=Encoder(), decoder=Decoder())
    n = min(steps * case.batch, len(case.rows))
    x = case.rows[:n]
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainer(
            model=model,
            train_dataset=BaseDataset(x, torch.ones(n)),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                num_epochs=max(1, steps * case.batch // n),
                per_device_train_batch_size=case.batch,
                learning_rate=1e-3,
                optimizer_cls="Adam",
                no_cuda=True,
            ),
        )
        start = time.perf_counter()
        trainer.train()
        return (time.perf_counter() - start) / (max(1, steps * case.batch // n) * (n // case.batch))
