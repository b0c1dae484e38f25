"""Models that are broken on purpose, and sound ones: what the thresholds of the verdicts are calibrated on.

Every kind has a known fault, so that a diagnosis of it is right or wrong. All are small and trained on the spot, on
handwritten digits (8 × 8) or on manifolds whose dimension and noise are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vaelab.data import ArrayBatches
from vaelab.diagnostics.diagnosis import Diagnosis
from vaelab.model import VAE, FixedVariance, Gaussian, ProfiledVariance, Variance
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.specs import MLP
from vaelab.training import Compute, FitSettings, fit, forked, stream
from vaelab.verbs.diagnosis import diagnose

SEEDS = (0, 1, 2, 3, 4)

Loss = Literal["sound", "mean", "means"]


class Patient(NamedTuple):
    """A model, rows that it was trained on, unseen rows, and what its loss is said to stand for."""

    model: object
    X: object
    held_out: object
    gamma: float | None = None
    y: object | None = None


@dataclass(frozen=True)
class Kind:
    """A fault, the verdict that names it, and how a model comes by it."""

    name: str
    verdict: str
    make: Callable[[int], Patient]


def diagnosed(kind: Kind, seed: int) -> Diagnosis:
    """Make a patient of this kind and diagnose it."""
    patient = kind.make(seed)
    return diagnose(
        patient.model,
        patient.X,
        patient.y,
        held_out=patient.held_out,
        gamma=patient.gamma,
        rows=2000,
        pictures=False,
        seed=seed,
    )


def confusion(kinds: Sequence[Kind] | None = None, seeds: Sequence[int] = SEEDS) -> dict[str, Counter[str]]:
    """Kind → how often each verdict was the main one, over seeds."""
    return {
        kind.name: Counter(diagnosed(kind, seed).main.name for seed in seeds) for kind in (kinds or (*SOUND, *BROKEN))
    }


def _digits(seed: int) -> tuple[Tensor, Tensor]:
    """1,297 images to train on and 500 others, (n, 1, 8, 8) in [0, 1]."""
    from sklearn.datasets import load_digits

    x = torch.from_numpy(load_digits().images).float()[:, None] / 16
    x = x[torch.randperm(len(x), generator=stream("cpu", seed, "zoo", "digits"))]
    return x[:1297], x[1297:]


def _manifold(
    seed: int, *, dimension: int = 3, columns: int = 12, noise: float | Tensor = 0.05, bend: float = 0.3
) -> tuple[Tensor, Tensor]:
    """1,500 rows and 500 others: a bent sheet under a normal law, with noise of this variance in every column."""
    source = stream("cpu", seed, "zoo", "manifold")
    u = torch.randn(2000, dimension, generator=source)
    flat, bent = torch.randn(2, dimension, columns, generator=source) / dimension**0.5
    x = u @ flat + bend * (u @ bent).square()
    x = x / x.std(0) + torch.as_tensor(noise).sqrt() * torch.randn(2000, columns, generator=source)
    return x[:1500], x[1500:]


def _trained(
    x: Tensor,
    seed: int,
    variance: Variance,
    *,
    latent_dim: int,
    epochs: int = 60,
    hidden: int = 128,
    lr: float = 3e-3,
) -> VAE:
    """Train a VAE of two small networks, and calibrate it."""
    event = tuple(x.shape[1:])
    with forked("cpu", seed, "zoo", "weights"):
        vae = VAE(
            MLPEncoder(event, 2 * latent_dim, hidden=(hidden,)),
            MLPDecoder(latent_dim, event, hidden=(hidden,)),
            latent_dim=latent_dim,
            likelihood=Gaussian(variance),
        )
    batches = ArrayBatches(x)
    fit(vae, batches, FitSettings(epochs=epochs, lr=lr), compute=Compute(accelerator="cpu"), seed=seed)
    vae.calibrate(batches, generator=stream("cpu", seed, "zoo", "calibrate"))
    return vae


def _sheet(seed: int) -> Patient:
    x, unseen = _manifold(seed)
    return Patient(_trained(x, seed, ProfiledVariance(), latent_dim=5), x, unseen)


def _table(seed: int) -> Patient:
    from vaelab.estimators import GaussianVAE

    x, unseen = (part.numpy() for part in _manifold(seed, columns=8, noise=0.1))
    model = GaussianVAE(latent_dim=6, network=MLP(hidden=(128,)), epochs=60, lr=3e-3, random_state=seed)
    return Patient(model.fit(x), x, unseen)


def _conditional(seed: int) -> Patient:
    """Two sheets, of which the condition says which."""
    from vaelab.estimators import ConditionalVAE

    x, unseen = (part.numpy() for part in _manifold(seed))
    sides = [np.arange(len(part)) % 2 for part in (x, unseen)]
    x, unseen = (part + 4 * side[:, None] for part, side in zip((x, unseen), sides, strict=True))
    model = ConditionalVAE(latent_dim=5, network=MLP(hidden=(128,)), epochs=60, lr=3e-3, random_state=seed)
    return Patient(model.fit(x, sides[0]), x, (unseen, sides[1]), y=sides[0])


def _two_stages(seed: int) -> Patient:
    from vaelab.estimators import TwoStageVAE

    x, unseen = _digits(seed)
    model = TwoStageVAE(
        latent_dim=16, network=MLP(hidden=(256,)), densities=("mixture_10",), epochs=150, lr=3e-3, random_state=seed
    )
    return Patient(model.fit(x.numpy()), x, unseen)


class Foreign(nn.Module):
    """A VAE as most people write it, which vaelab has never seen.

    Parameters
    ----------
    columns, latent_dim
        d and κ.
    loss
        ``"sound"``: a learned variance. ``"mean"``: the squared error averaged over columns, as
        `torch.nn.functional.mse_loss` invites to. ``"means"``: the KL averaged as well.
    """

    def __init__(self, columns: int, latent_dim: int, loss: Loss) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(columns, 128), nn.ReLU(), nn.Linear(128, 2 * latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 128), nn.ReLU(), nn.Linear(128, columns))
        self.log_gamma = nn.Parameter(torch.zeros(()), requires_grad=loss == "sound")
        self.kind = loss

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Return rows."""
        return self.decoder(z)  # type: ignore[no-any-return]

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return the loss of a batch."""
        mean, log_variance = self.encode(x)
        error = (x - self.decode(mean + (log_variance / 2).exp() * noise)).square()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        if self.kind != "sound":
            return error.mean() + (kl.sum(1).mean() if self.kind == "mean" else kl.mean())
        return (0.5 * (error / self.log_gamma.exp() + self.log_gamma).sum(1) + kl.sum(1)).mean()


def _foreign(
    seed: int,
    loss: Loss = "sound",
    columns: int = 12,
    *,
    end: nn.Module | None = None,
    rate: float = 3e-3,
    epochs: int = 80,
    gamma: float | None = None,
) -> Patient:
    x, unseen = _manifold(seed, columns=columns)
    with forked("cpu", seed, "zoo", "weights"):
        model = Foreign(x.shape[1], 5, loss)
    if end is not None:
        model.decoder.append(end)
    if gamma is not None:
        model.log_gamma = nn.Parameter(torch.tensor(gamma).log(), requires_grad=False)
    networks = [*model.encoder.parameters(), *model.decoder.parameters()]
    groups: list[dict[str, Any]] = [{"params": networks}, {"params": [model.log_gamma], "lr": 0.03}]
    optimizer = torch.optim.Adam(groups, lr=rate)
    source = stream("cpu", seed, "zoo", "foreign")
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=source).split(100):
            optimizer.zero_grad()
            model.loss(x[rows], torch.randn(len(rows), 5, generator=source)).backward()
            optimizer.step()
        decay.step()
    return Patient(model.eval(), x, unseen, float(model.log_gamma.detach().exp()) if loss == "sound" else 0.5)


def _foreign_early(seed: int) -> Patient:
    """Another program's, hardly begun: ½ Σ e² and the KL, as its author says, of two epochs at a small rate."""
    return _foreign(seed, rate=1e-3, epochs=2, gamma=1.0)


def _foreign_short(seed: int) -> Patient:
    """The same of 4 to 8 epochs: what is left of the error looks like the variance that was declared."""
    return _foreign(seed, rate=3e-3 if seed == 1 else 1e-3, epochs=4 + seed, gamma=1.0)


def _confined(seed: int) -> Patient:
    """A decoder made for pixels, on standardised columns."""
    return _foreign(seed, end=nn.Sigmoid() if seed % 2 else nn.Tanh())


def _collapsed(seed: int) -> Patient:
    x, unseen = _digits(seed)
    return Patient(_trained(x, seed, FixedVariance(1.0), latent_dim=16, epochs=40), x, unseen)


def _oversmoothed(seed: int) -> Patient:
    x, unseen = _digits(seed)
    return Patient(_trained(x, seed, FixedVariance(0.15), latent_dim=16, epochs=100), x, unseen)


def _in_holes(seed: int) -> Patient:
    """A good model of separate classes, sampled from the prior: between them there is nothing."""
    x, unseen = _digits(seed)
    return Patient(_trained(x, seed, ProfiledVariance(), latent_dim=16, epochs=150, hidden=256), x, unseen)


def _two_epochs(seed: int) -> Patient:
    """Barely begun, from Python: the rows are in the right units, and the model knows."""
    from vaelab.estimators import GaussianVAE

    x, unseen = (part.numpy() for part in _digits(seed))
    return Patient(GaussianVAE(latent_dim=16, epochs=2, random_state=seed).fit(x), x, unseen)


def _whitened(seed: int) -> Patient:
    """A circle and its first harmonic: curved, and without any correlation between the columns."""
    from vaelab.estimators import TwoStageVAE

    source = stream("cpu", seed, "zoo", "circle")
    angle = 2 * torch.pi * torch.rand(2000, generator=source)
    x = torch.stack([angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()], 1)
    x = x + 0.1 * torch.randn(x.shape, generator=source)
    options = {"densities": ("mixture_10",), "epochs": 100, "lr": 3e-3, "random_state": seed}
    model = TwoStageVAE(latent_dim=4, network=MLP(hidden=(128, 128)), **options)
    return Patient(model.fit(x[:1500].numpy()), x[:1500].numpy(), x[1500:].numpy())


def _regularised(seed: int) -> Patient:
    """A deterministic autoencoder with a law on its codes."""
    from vaelab.estimators import RegularizedAutoencoder

    x, unseen = (part.numpy() for part in _manifold(seed))
    model = RegularizedAutoencoder(latent_dim=3, network=MLP(hidden=(128,)), epochs=80, lr=3e-3, random_state=seed)
    return Patient(model.fit(x), x, unseen)


def _cramped(seed: int) -> Patient:
    x, unseen = _manifold(seed, dimension=8, columns=24)
    return Patient(_trained(x, seed, ProfiledVariance(), latent_dim=2), x, unseen)


def _roomy(seed: int) -> Patient:
    x, unseen = _manifold(seed)
    return Patient(_trained(x, seed, ProfiledVariance(), latent_dim=64), x, unseen)


def _mismatched(seed: int) -> Patient:
    x, unseen = _digits(seed)
    return Patient(_trained(x, seed, FixedVariance(1e-4), latent_dim=8, epochs=120), x, unseen)


def _early(seed: int) -> Patient:
    x, unseen = _digits(seed)
    return Patient(_trained(x, seed, ProfiledVariance(), latent_dim=16, epochs=10, lr=1e-3), x, unseen)


def _memorised(seed: int) -> Patient:
    x, unseen = _digits(seed)
    model = _trained(x[:150], seed, ProfiledVariance(floor=1e-5), latent_dim=16, epochs=1000, hidden=512, lr=1e-3)
    return Patient(model, x[:150], unseen)


def _averaged(seed: int) -> Patient:
    return _foreign(seed, "means" if seed % 2 else "mean", columns=30)


def _averaged_unsaid(seed: int) -> Patient:
    return _foreign(seed, "means", columns=30)._replace(gamma=None)


def _other_units(seed: int) -> Patient:
    """Pixel values 0 … 255 for a network that learned 0 … 1, or a table with one column in other units."""
    if seed % 2 == 0:
        x, unseen = _digits(seed)
        return Patient(_trained(x, seed, ProfiledVariance(), latent_dim=16, epochs=40), 255 * x, 255 * unseen)
    x, unseen = _manifold(seed)
    scale = torch.ones(x.shape[1])
    scale[0] = 20.0
    return Patient(_trained(x * scale, seed, ProfiledVariance(), latent_dim=5, lr=1e-3), x * scale, unseen * scale)


def _with_variance(seed: int, factor: float) -> Patient:
    patient = _sheet(seed)
    vae = patient.model
    assert isinstance(vae, VAE)
    variance = vae.likelihood.variance
    assert variance is not None
    vae.likelihood = Gaussian(FixedVariance(float(variance.gamma) * factor))
    return patient


def _noisier(seed: int) -> Patient:
    return _with_variance(seed, 20.0)


def _less_noisy(seed: int) -> Patient:
    return _with_variance(seed, 0.05)


def _uneven(seed: int) -> Patient:
    # as many dimensions as the sheet has: with more of them, each noisy column would get one
    x, unseen = _manifold(seed, columns=48, noise=torch.tensor([0.01, 1.0]).repeat_interleave(24), bend=0.0)
    return Patient(_trained(x, seed, ProfiledVariance(), latent_dim=3), x, unseen)


SOUND = (
    Kind("sound: bent sheet", "healthy", _sheet),
    Kind("sound: two stages, digits", "healthy", _two_stages),
    Kind("sound: another program's", "healthy", _foreign),
    Kind("sound: table, own units", "healthy", _table),
    Kind("sound: conditional", "healthy", _conditional),
    Kind("sound: circle, whitened", "healthy", _whitened),
    Kind("sound: regularised", "healthy", _regularised),
)
"""Models without a fault."""

BROKEN = (
    Kind("collapsed: γ = 1", "posterior-collapse", _collapsed),
    Kind("oversmoothed: γ too large", "oversmoothing", _oversmoothed),
    Kind("κ too small", "latent-dim-too-small", _cramped),
    Kind("κ far too large", "superfluous-dimensions", _roomy),
    Kind("mismatched prior: γ tiny", "prior-mismatch", _mismatched),
    Kind("stopped early", "not-converged", _early),
    Kind("stopped after two epochs", "not-converged", _two_epochs),
    Kind("stopped early, another program's", "not-converged", _foreign_early),
    Kind("stopped a little early, another program's", "not-converged", _foreign_short),
    Kind("sampled between classes", "samples-unlike-rows", _in_holes),
    Kind("over-fitted", "over-fit", _memorised),
    Kind("mean-reduced loss", "loss-mis-scaled", _averaged),
    Kind("mean-reduced loss, γ unknown", "loss-mis-scaled", _averaged_unsaid),
    Kind("sigmoid or tanh on a table", "decoder-confined", _confined),
    Kind("mis-scaled data", "data-mis-scaled", _other_units),
    Kind("γ set too large", "variance-too-large", _noisier),
    Kind("γ set too small", "variance-too-small", _less_noisy),
    Kind("uneven noise", "variance-misshaped", _uneven),
)
"""Models with one fault each."""
