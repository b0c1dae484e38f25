"""What is missing from a row, given what is there: weighted draws of z, and what follows from them.

    p(x_m | x_o) = ∫ p(x_m | z) p(z | x_o) dz ≈ Σ_k w_k p(x_m | z_k),   w_k ∝ p(x_o | z_k) p(z_k) / g(z_k),   z_k ~ g

for likelihoods whose entries are independent given z (Mattei & Frellsen 2019, section 2.3). An encoder that has seen no
gaps says little of p(z | x_o), so g is a mixture:

- the prior, which bounds the weights (Hesterberg 1995);
- q(z | x) of the encoder; one that cannot read gaps is given the decoder's means in their place (Rezende et al.
  2014, appendix F);
- Gaussians around modes of p(z | x_o), climbed to from the best draws of these two (Raftery & Bao 2010,
  section 3). Where the decoder is linear and the noise Gaussian, they are p(z | x_o) itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from vaelab.model.distributions import draw, within
from vaelab.model.vae import VAE

_OF_PRIOR, _OF_ENCODER = 10, 5  # one draw of so many
_BRANCHES = 2  # climbs from draws of the prior
_STEPS, _LENGTHS, _ENOUGH = 8, (1.0, 0.4, 0.1), 0.01  # of the climb: at most, shares of a step, nats that end it
_REFINED = 3  # times that gaps are filled before a mode is looked for
_WIDER = 1.1  # deviations of the Gaussians, since posteriors have longer tails
_WIDEST = 10.0  # deviation of q, in units of the prior's
_MOVE = {torch.float64: 1e-5, torch.float32: 1e-3}  # of z, for derivatives


class Completion(NamedTuple):
    """Weighted draws of z for rows with gaps.

    Attributes
    ----------
    parameters
        (K, B, …) the decoder's output for each draw.
    weights
        (K, B), which add up to 1 for each row.
    """

    parameters: Tensor
    weights: Tensor

    @property
    def effective(self) -> Tensor:
        """(B,) 1/Σ w²: how many draws of equal weight say as much."""
        return 1 / self.weights.square().sum(0)


class _Rows:
    """Rows with gaps, and the density of z that they leave."""

    def __init__(self, vae: VAE, x: Tensor, c: Tensor | None) -> None:
        self.vae, self.x, self.c = vae, x, c
        self.prior = vae.prior(c)

    def decode(self, z: Tensor) -> Tensor:
        """(K, B, κ) → (K, B, …)."""
        c = None if self.c is None else self.c.expand(len(z), *self.c.shape).flatten(0, 1)
        return self.vae.decoder(z.flatten(0, 1), c).to(self.x.dtype).unflatten(0, z.shape[:2])  # type: ignore[no-any-return]

    def log_joint(self, z: Tensor) -> Tensor:
        """(K, B) log p(x_o | z) + log p(z), nats."""
        log_prior: Tensor = self.prior.log_prob(z)
        return log_prior - self.vae.likelihood.nll_of_observed(self.decode(z), self.x)

    def encoded(self) -> Distribution:
        """q(z | x), with the decoder's means in gaps that the encoder cannot read."""
        vae, x = self.vae, self.x
        q = vae.encode(x, self.c)
        if not bool(q.mean.isfinite().all()):
            filled = vae.decode(self.prior.mean.to(x).expand(len(x), -1), self.c)
            for step in range(_REFINED + 1):
                filled = torch.where(x.isnan(), filled if not step else vae.reconstruct(filled, self.c), x)
            q = vae.encode(filled, self.c)
        return within(q, self.prior, _WIDEST)

    def scores(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(S, B, κ) gradient of `log_joint`, and (S, B, κ, κ) information on z; derivatives by differences."""
        size = z.shape[-1]
        step = _MOVE.get(z.dtype, 1e-3) * self.prior.stddev.to(z)
        directions = torch.eye(size, dtype=z.dtype, device=z.device).view(size, 1, 1, size)
        together = torch.cat([z[None], z + step * directions])
        parameters = self.decode(together.flatten(0, 1)).flatten(0, 1)
        found = self.vae.likelihood.moments(parameters)
        assert found is not None  # or no mode is looked for
        expected, information = (part.unflatten(0, together.shape[:3]) for part in found)
        slope = (expected[1:] - expected[0]) / step.expand(len(self.x), size).T.reshape(size, 1, -1, 1)
        there = self.vae.likelihood.statistics(self.x)
        seen = ~there.isnan()
        own = information[0] * seen
        error = torch.where(seen, there - expected[0], 0.0)
        precision = 1 / self.prior.variance.to(z)
        gradient = torch.einsum("ksbf,sbf->sbk", slope, own * error) - (z - self.prior.mean.to(z)) * precision
        information = torch.einsum("ksbf,lsbf->sbkl", slope * own, slope)
        information = torch.where(information.isfinite().all((-2, -1), keepdim=True), information, 0.0)
        return gradient, information + torch.diag_embed(precision.expand(len(self.x), size))

    def modes(self, z: Tensor) -> MultivariateNormal:
        """Climb from (S, B, κ) by Fisher scoring; return the Gaussians there, batch shape (S, B)."""
        best = self.log_joint(z)
        climbing = torch.ones_like(best, dtype=torch.bool)  # each on its own, so that rows are what they are alone
        lengths = torch.tensor(_LENGTHS, dtype=z.dtype, device=z.device).view(-1, 1, 1, 1)
        for _ in range(_STEPS):
            gradient, information = self.scores(z)
            move = torch.linalg.solve_ex(information, gradient.unsqueeze(-1))[0].squeeze(-1)
            tried = z + lengths * move
            found = self.log_joint(tried.flatten(0, 1)).unflatten(0, tried.shape[:2])
            top, which = found.nan_to_num(nan=-torch.inf).max(0)
            better = climbing & (top > best)
            climbing = climbing & (top - best > _ENOUGH)
            z = torch.where(better[..., None], tried.gather(0, which[None, ..., None].expand(1, *z.shape))[0], z)
            best = torch.where(better, top, best)
            if not bool(climbing.any()):
                break
        information = self.scores(z)[1]
        return MultivariateNormal(z, precision_matrix=information / _WIDER**2, validate_args=False)


@torch.no_grad()
def complete(
    vae: VAE,
    x: Tensor,
    c: Tensor | None = None,
    *,
    noise: Tensor,
    law: Callable[[Tensor], Tensor] | None = None,
) -> Completion:
    """Draw z and weigh it by what is there of each row.

    Parameters
    ----------
    vae
        In evaluation mode. Of a deterministic posterior the one z has all the weight.
    x, c
        As for `VAE.forward`; NaN where an entry is missing.
    noise
        (K, B or 1, κ) standard normals.
    law
        (n, κ) → (n,) log-density that takes the prior's place in the weights, nats.

    Raises
    ------
    InputError
        Entries are missing, and the likelihood has no place for that.
    """
    rows, k = _Rows(vae, x, c), len(noise)
    q = rows.encoded()
    if vae.posterior.degenerate:
        parameters = rows.decode(q.mean[None])
        vae.likelihood.nll_of_observed(parameters, x)  # refuses gaps
        return Completion(parameters, x.new_ones(1, len(x)))
    p = rows.prior.expand(q.batch_shape)
    parts: list[tuple[Distribution, int]] = [(p, k // _OF_PRIOR), (q, k // _OF_ENCODER)]
    if vae.likelihood.moments(rows.decode(q.mean[None])[0]) is None:
        parts = [(q, k)]
    else:
        first = sum(count for _, count in parts)
        z = _drawn(parts, noise[:first].to(x), q.mean)
        starts = q.mean[None]
        if first:
            log_w = (rows.log_joint(z) - _mixture(parts, z)).nan_to_num(nan=-torch.inf)
            starts = torch.cat([starts, _chosen(z, log_w.softmax(0), 1)])
        if (own := parts[0][1]) > 1:  # branches that the encoder does not know
            starts = torch.cat([starts, _chosen(z[:own], _flattened(log_w[:own]).softmax(0), _BRANCHES)])
        found = rows.modes(starts)
        counts = [(k - first + i) // len(starts) for i in range(len(starts))][::-1]
        parts += [
            (MultivariateNormal(found.loc[i], scale_tril=found.scale_tril[i], validate_args=False), count)
            for i, count in enumerate(counts)
        ]
    z = _drawn(parts, noise.to(x), q.mean)
    parameters = rows.decode(z)
    log_p = p.log_prob(z) if law is None else law(z.flatten(0, 1)).view(z.shape[:2]).to(x.dtype)
    log_w = log_p - vae.likelihood.nll_of_observed(parameters, x) - _mixture(parts, z)
    return Completion(parameters, log_w.nan_to_num(nan=-torch.inf).softmax(0))


def _drawn(parts: list[tuple[Distribution, int]], noise: Tensor, like: Tensor) -> Tensor:
    """(K, B, κ) so many draws of each distribution."""
    each = noise.split([count for _, count in parts])
    drawn = [draw(law, own) for (law, _), own in zip(parts, each, strict=True)]
    return torch.cat([z.expand(len(z), *like.shape) for z in drawn])


def _mixture(parts: list[tuple[Distribution, int]], z: Tensor) -> Tensor:
    """(K, B) log-density of all of them together, nats."""
    total = sum(count for _, count in parts)
    each = [law.log_prob(z) + torch.tensor(count / total).log().item() for law, count in parts if count]
    return torch.stack(each).logsumexp(0)


def _flattened(log_w: Tensor) -> Tensor:
    """Log-weights of which several count: as far from their mean as they are in units of their deviation."""
    log_w = log_w.clamp(min=torch.finfo(log_w.dtype).min / 1e10)
    return (log_w - log_w.mean(0)) / log_w.std(0).clamp(min=1.0)


def _chosen(z: Tensor, weights: Tensor, count: int) -> Tensor:
    """(count, B, κ) of z, at equal distances along the weights."""
    ends = (torch.arange(count, device=z.device).to(weights) + 0.5).view(-1, 1, 1) / count
    index = (weights.cumsum(0) < ends).sum(1).clamp(max=len(z) - 1)
    return z.gather(0, index.unsqueeze(-1).expand(count, *z.shape[1:]))


@torch.no_grad()
def impute(
    vae: VAE,
    x: Tensor,
    c: Tensor | None = None,
    *,
    noise: Tensor,
    law: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Fill in what is missing: E[x_missing | x_observed], with the arguments of `complete`.

    Of each draw the decoder's means and probabilities are averaged, not samples.

    Returns
    -------
    Tensor
        (B, …) x with its gaps filled: numbers by their mean, categories by the most likely level.

    Raises
    ------
    InputError
        As `complete`.
    """
    if not bool(x.isnan().any()):
        return x.clone()
    return vae.likelihood.impute(x, *complete(vae, x, c, noise=noise, law=law))


def completed(
    vae: VAE, x: Tensor, completion: Completion, draws: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """(draws, B, …) x with gaps drawn from p(x_m | x_o): z by its weights, and x_m ~ p(x | z) with its noise."""
    index = completion.weights.T.multinomial(draws, replacement=True, generator=generator).T
    chosen = completion.parameters[index, torch.arange(len(x), device=x.device)]
    drawn = vae.likelihood.sample(chosen.flatten(0, 1), generator=generator).unflatten(0, chosen.shape[:2])
    return torch.where(x.isnan(), drawn.to(x), x)


def quantiles(values: Tensor, weights: Tensor, q: Tensor) -> Tensor:
    """Return weighted quantiles: the smallest value up to which the weights add up to q.

    Parameters
    ----------
    values
        (K, B, …).
    weights
        (K, B), which add up to 1 for each row.
    q
        (m,) in (0, 1).

    Returns
    -------
    Tensor
        (m, B, …).
    """
    ordered, order = values.sort(0)
    each = weights.view(*weights.shape, *(1,) * (values.ndim - 2)).expand_as(values).gather(0, order)
    cumulative = each.cumsum(0)
    index = torch.stack([(cumulative < level).sum(0) for level in q.tolist()])
    return ordered.gather(0, index.clamp(max=len(values) - 1))
