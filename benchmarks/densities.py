"""Which law of codes wins where: nats behind a law that is known, and seconds, by dimensions and number of codes.

The law is curved: a standard normal y with every second number bent, z₂ₖ = y₂ₖ₋₁² − 1 + y₂ₖ / 2, in two copies that lie
apart, rotated. ``python -m benchmarks.densities --dimensions 2 8 --rows 500 5000``.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from torch import Tensor

from vaelab.latent import Codes, Site, law_of
from vaelab.specs import Settings
from vaelab.specs.densities import Density
from vaelab.training import Compute, fit

LAWS = ("gaussian", "mixture", "flow", "flow_matching", "second_stage")


class Curved:
    """The law, in d dimensions."""

    def __init__(self, d: int) -> None:
        self.d = d
        generator = torch.Generator().manual_seed(d)
        self.rotation = torch.linalg.qr(torch.randn(d, d, generator=generator))[0]

    def sample(self, n: int, seed: int) -> Tensor:
        """Draw (n, d)."""
        generator = torch.Generator().manual_seed(seed)
        y = torch.randn(n, self.d, generator=generator)
        z = y.clone()
        z[:, 1::2] = y[:, : 2 * (self.d // 2) : 2] ** 2 - 1 + 0.5 * y[:, 1::2]
        z[:, 0] += 6 * torch.randint(2, (n,), generator=generator)
        z[:, 1] = torch.where(z[:, 0] > 3, (z[:, 0] - 6) ** 2 - 1 + 0.5 * y[:, 1], z[:, 1])
        return z @ self.rotation.T

    def entropy(self) -> float:
        """Nats, up to the overlap of the copies at six standard deviations, a thousandth."""
        return 0.5 * self.d * math.log(2 * math.pi * math.e) + (self.d // 2) * math.log(0.5) + math.log(2)


def measure(d: int, n: int, name: str, *, epochs: int | None = None) -> tuple[float, float, float]:
    """Return nats per unseen code behind the law itself, and CPU seconds to fit and to draw 10,000."""
    law = Curved(d)
    z, unseen = law.sample(n, 0), law.sample(2000, 1)
    codes = Codes(z, torch.full_like(z, 1e-3))
    spec = Density.of(name)
    spec = (spec if epochs is None or not spec.gradient else spec.set_params(training__epochs=epochs)).resolve(n)
    cut = max(1, n // 10)
    kept, apart = codes.subset(torch.arange(cut, n)), codes.subset(torch.arange(cut))

    def train(model, length, stage):  # type: ignore[no-untyped-def]
        fit(model, kept, length, compute=Compute(accelerator="cpu"), held_out=apart)
        return model

    begun = time.process_time()
    variance = float(codes.moments()[1].square().mean())
    density = law_of(spec).fit(spec, kept if spec.gradient else codes, Site(Settings(latent_dim=d), variance), train)
    fitted = time.process_time()
    density.eval()
    with torch.no_grad():
        density.sample(10_000, generator=torch.Generator().manual_seed(0))
        drawn = time.process_time()
        behind = -law.entropy() - float(density.score(unseen).double().mean())
    return behind, fitted - begun, drawn - fitted


def main() -> None:
    """Print one line per cell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.densities", description=__doc__)
    parser.add_argument("--dimensions", nargs="+", type=int, default=[2, 8, 16, 64])
    parser.add_argument("--rows", nargs="+", type=int, default=[500, 5_000, 50_000])
    parser.add_argument("--laws", nargs="+", default=LAWS)
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    print(f"{'κ':>3} {'codes':>7}  {'law':<14} {'nats behind':>11} {'fit, s':>8} {'draw 10,000, s':>14}")
    for d in arguments.dimensions:
        for n in arguments.rows:
            for name in arguments.laws:
                behind, fitted, drawn = measure(d, n, name, epochs=arguments.epochs)
                print(f"{d:>3} {n:>7,}  {name:<14} {behind:>11.3f} {fitted:>8.1f} {drawn:>14.2f}", flush=True)


if __name__ == "__main__":
    main()
