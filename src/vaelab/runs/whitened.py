"""The whitened numbers of a table with gaps, under a mixture of Gaussians: a first stage that is no training's.

The decoder is linear and nearly without noise, so that p(numbers) is the mixture, and p(x_m | x_o) of numbers is exact.
Levels, and which entries are missing, are logistic in the numbers:

    p(x_o) = ∫ Σ_k π_k N(z; m_k, S_k) p(numbers_o | z) Π_j p(level_j | z) dz
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vaelab.data import ArrayBatches, MappedBatches, Scaling, as_batches
from vaelab.latent import LatentDensity, Mixture
from vaelab.latent.incomplete import choose_incomplete, fit_incomplete, given
from vaelab.latent.mixtures import Maximum
from vaelab.model import VAE, Mixed, complete, completed
from vaelab.model.linear import LinearModel, begin_linear, can_begin_linear, whitening_of
from vaelab.rows import blocks
from vaelab.specs import Settings
from vaelab.specs import densities as laws
from vaelab.training import stream

LEAST_TO_WHITEN = 30
"""Rows."""

_MOST_TO_CHOOSE, _MOST_NUMBERS = 2_000, 100  # rows and columns that units are chosen on
_DRAWS, _AT_ONCE = 100, 100  # of z for each row whose evidence is asked for; and rows
_LEAST_SPREAD = 1e-9  # of a component along an axis, so that it has a factor


def law_of_whitened(settings: Settings) -> laws.Gaussian | laws.Mixture | laws.BayesianMixture | None:
    """Return the law that takes the prior's place: the last of those without gradient, if it is of Gaussians."""
    plain = [law for law in laws.ordered(settings.densities) if not law.gradient]
    last = plain[-1] if plain else None
    return last if isinstance(last, laws.Gaussian | laws.Mixture | laws.BayesianMixture) else None


def components_of(law: laws.Density, x: Tensor, levels: Sequence[int], seed: int) -> int:
    """Return how many Gaussians the numbers of (n, d) rows get."""
    if isinstance(law, laws.Gaussian):
        return 1
    size = law.components if isinstance(law, laws.Mixture) else None
    return size or choose_incomplete(numbers_of(x, levels), seed=seed).components


def numbers_of(x: Tensor, levels: Sequence[int]) -> Tensor:
    """Return the columns of numbers, float64 on the CPU."""
    return x.double().cpu()[:, [j for j, count in enumerate(levels) if not count]]


def better_scores(x: Tensor, levels: Sequence[int], ways: Sequence[tuple[bool, ...]], seed: int) -> tuple[bool, ...]:
    """Return in which of several ways columns become normal scores so that numbers are told from the others best.

    Parameters
    ----------
    x, levels
        (n, d) coded rows, and of each column 0 for a number.
    ways
        Of each column, whether; the first is taken where there are too few rows or numbers to tell.
    seed
        Of what they are told by: a mixture of up to three Gaussians.
    """
    x = x[torch.linspace(0, len(x) - 1, min(len(x), _MOST_TO_CHOOSE)).long()]
    where = [j for j, count in enumerate(levels) if not count]
    if len(x) < LEAST_TO_WHITEN or not 2 <= len(where) <= _MOST_NUMBERS:
        return ways[0]
    plain = Scaling.fit(x, "table", levels=levels)
    truth = numbers_of(plain.to_net(x, dtype=torch.float64), levels)
    errors = []
    for way in ways:
        units = Scaling.fit(x, "table", levels=levels, scores=way)

        def back(rows: Tensor, units: Scaling = units) -> Tensor:
            whole = rows.new_zeros(len(rows), len(levels))
            whole[:, where] = rows
            return numbers_of(plain.to_net(units.from_net(whole), dtype=torch.float64), levels)

        rows = numbers_of(units.to_net(x, dtype=torch.float64), levels)
        bent = units.marginals is not None
        errors.append(choose_incomplete(rows, truth, back if bent else None, most=3, seed=seed).error)
    return ways[errors.index(min(errors))]


def can_whiten(vae: VAE) -> bool:
    """Whether the networks can be linear in all numbers of a mixed table, of which there are at least two."""
    law = vae.likelihood
    if not isinstance(law, Mixed) or any(law.ordered) or law.variance is None:
        return False
    return 2 <= law.levels.count(0) <= can_begin_linear(vae, table=True)


def whiten(vae: VAE, x: Tensor, components: int, seed: int, noise: float) -> Mixture:
    """Set the weights so that codes are whitened numbers, and return their law.

    Parameters
    ----------
    vae
        Changed in place; `can_whiten` says whether it can.
    x
        (n, d) rows in the network's units, NaN where an entry is missing.
    components, seed
        As for `fit_incomplete`.
    noise
        γ.
    """
    law = vae.likelihood
    assert isinstance(law, Mixed)
    numbers = numbers_of(x, law.levels)
    found = fit_incomplete(numbers, components, seed=seed)
    centred = found.means - found.weights @ found.means
    spread = torch.einsum("k,kde->de", found.weights, found.covariances + centred[:, :, None] * centred[:, None, :])
    model = whitening_of(found.weights @ found.means, spread, noise)
    back = torch.linalg.pinv(model.loadings)
    conditional = given(numbers, found)
    expected = (conditional.log_prob.softmax(1)[..., None] * conditional.expected).sum(1)
    begin_linear(vae, model, _beyond(law, (expected - model.mean) @ back.T, x.double().cpu()))
    return _law_of_codes(found, model, back, vae)


def _law_of_codes(found: Maximum, model: LinearModel, back: Tensor, vae: VAE) -> Mixture:
    """Turn a mixture of rows into one of codes; axes that are idle have their prior."""
    q, size = model.loadings.shape[1], vae.latent_dim
    means = found.means.new_zeros(len(found.means), size)
    means[:, :q] = (found.means - model.mean) @ back.T
    covariances = torch.eye(size, dtype=means.dtype).repeat(len(means), 1, 1)
    own = back @ (found.covariances - model.noise.diag()) @ back.T
    own = own + (model.loadings.square().sum(0) == 0).to(own).diag()
    values, axes = torch.linalg.eigh((own + own.mT) / 2)
    covariances[:, :q, :q] = axes @ torch.diag_embed(values.clamp(min=_LEAST_SPREAD)) @ axes.mT
    like = next(vae.parameters())
    placed = [part.to(like) for part in (found.weights, means, torch.linalg.cholesky(covariances))]
    return Mixture(placed[0], placed[1], placed[2])


def _beyond(law: Mixed, z: Tensor, x: Tensor) -> Tensor:
    """(m, q + 1) slopes and biases of logits of levels and gaps, in the decoder's order."""
    columns = sorted((j for j, count in enumerate(law.levels) if count), key=lambda j: law.levels[j])
    rows = [_logistic(z, x[:, j], law.levels[j]) for j in columns]
    if law.gaps is not None:
        rows += [_logistic(z, x[:, j].isnan().to(x), 2).diff(dim=0) for j in law.gaps.first]
    return torch.cat([z.new_zeros(0, z.shape[1] + 1), *rows])


def _logistic(z: Tensor, y: Tensor, levels: int) -> Tensor:
    """(levels, q + 1) slopes and biases of a ridge logistic regression on (n, q) codes; y is (n,), NaN left out."""
    from sklearn.linear_model import LogisticRegression

    there = ~y.isnan()
    out = z.new_zeros(levels, z.shape[1] + 1)
    label = y[there].long()
    counts = torch.bincount(label, minlength=levels).double() + 0.5
    out[:, -1] = (counts / counts.sum()).log()
    met = np.unique(label.numpy())
    if len(met) < 2:
        return out
    found = LogisticRegression(max_iter=1000).fit(z[there].numpy(), label.numpy())
    slopes = torch.from_numpy(np.column_stack([found.coef_, found.intercept_]))
    slopes = torch.stack([-slopes[0] / 2, slopes[0] / 2]) if len(met) == 2 else slopes
    least = slopes[:, -1].min()
    out[torch.from_numpy(met)] = slopes
    unmet = counts < 1
    out[unmet, -1] = least + (counts[unmet] / counts[counts >= 1].min()).log()
    return out


@torch.no_grad()
def evidence(vae: VAE, x: Tensor, seed: int, law: Mixture | None = None) -> Tensor:
    """(n,) log p(x_o) of (n, d) rows in the network's units, by draws of z, nats; float64 on the CPU."""
    exact = copy.deepcopy(vae).double().eval()
    device = next(vae.parameters()).device
    noise = torch.randn(_DRAWS, 1, vae.latent_dim, generator=stream(device, seed, "evidence"), device=device)
    parts = None if law is None else law.parts
    found = [complete(exact, own.to(device).double(), noise=noise, law=parts).evidence for own in x.split(_AT_ONCE)]
    return torch.cat(found).cpu()


@torch.no_grad()
def filled(
    vae: VAE, batches: ArrayBatches | MappedBatches, laws: Mapping[str, LatentDensity], seed: int
) -> ArrayBatches | MappedBatches:
    """Return rows whose gaps are draws given what is there, under the one law; as they are where there are none."""
    law = next(iter(laws.values()))
    if not isinstance(law, Mixture):
        return batches
    exact, device = copy.deepcopy(vae).double().eval(), next(vae.parameters()).device
    noise = torch.randn(_DRAWS, 1, vae.latent_dim, generator=stream(device, seed, "filled"), device=device)
    parts: list[Tensor] = []
    for _, x, _, generator in blocks(
        batches.to(device), device, size=_AT_ONCE, draws=lambda start: stream(device, seed, "filled", start)
    ):
        if not bool(x.isnan().any()):
            parts.append(x)
            continue
        own = x.double()
        found = complete(exact, own, noise=noise, law=law.parts)
        parts.append(completed(exact, own, found, 1, generator=generator)[0].float())
    return as_batches(torch.cat(parts))
