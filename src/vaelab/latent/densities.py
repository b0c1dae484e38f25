"""Densities on latent codes: what z is drawn from when new data are generated.

The prior is what a VAE was trained towards; the others are fitted on the aggregated posterior q(z), where the decoder
has learned to decode. Each is a module whose state is tensors alone, so that it is saved without pickles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vaelab.errors import InputError
from vaelab.latent.codes import Codes
from vaelab.model import VAE, Prior
from vaelab.training import stream
from vaelab.types import Objective

Covariance = Literal["full", "diag"]
_BLOCK = 4096  # rows scored at once
_LEAST_TO_CHOOSE = 20  # codes; with fewer, nothing can be told apart


class LatentDensity(nn.Module, ABC):
    """p(z) or p(z | c) on codes of κ dimensions.

    Attributes
    ----------
    name
        How results call it.
    exact
        Whether `log_prob` is the log-density itself; if not, it is a lower bound on it.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = True

    @abstractmethod
    def sample(self, n: int, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, κ)."""

    @abstractmethod
    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) log-density of (n, κ) codes in nats, or a lower bound on it (see `exact`)."""

    def log_weight(self, z: Tensor, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """(n,) log of an unbiased estimate of the density, nats: `log_prob` itself where that is exact."""
        return self.log_prob(z, c)


@final
class PriorDensity(LatentDensity):
    """The VAE's own prior; nothing is fitted."""

    name = "prior"

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def sample(self, n: int, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, κ)."""
        p = self.prior(c)
        noise = torch.randn(n, p.event_shape[0], generator=generator, device=p.mean.device, dtype=p.mean.dtype)
        return p.mean + p.stddev * noise  # type: ignore[no-any-return]

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) nats."""
        return self.prior(c).log_prob(z)  # type: ignore[no-any-return]


@final
class Mixture(LatentDensity):
    """A mixture of k Gaussians, fitted by scikit-learn's EM; k = 1 is the single Gaussian.

    Parameters
    ----------
    weights
        (k,) summing to one.
    means
        (k, κ).
    scale_trils
        (k, κ, κ) lower Cholesky factors of the covariances.
    covariance
        Which structure was fitted.
    """

    name = "mixture"
    weights: Tensor
    means: Tensor
    scale_trils: Tensor

    def __init__(self, weights: Tensor, means: Tensor, scale_trils: Tensor, *, covariance: Covariance = "full") -> None:
        super().__init__()
        self.covariance = covariance
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)
        self.register_buffer("scale_trils", scale_trils)

    @property
    def components(self) -> int:
        """K."""
        return len(self.weights)

    @classmethod
    def fit(cls, codes: Codes, *, components: int, covariance: Covariance = "full", seed: int = 0) -> Self:
        """Fit on one fresh draw per row (at most 50,000 rows).

        Raises
        ------
        InputError
            Fewer rows than components.
        """
        from sklearn.mixture import GaussianMixture

        z = _draws(codes, 50_000, seed).double().cpu()
        if len(z) < max(components, 2):
            raise InputError(f"{len(z)} codes", f"at least {max(components, 2)} for {components} components")
        # float64 and a ridge well above rounding, since idle dimensions make some covariances nearly alike
        model = GaussianMixture(
            components,
            covariance_type=covariance,
            max_iter=200,
            reg_covar=1e-5,
            random_state=seed,
            init_params="k-means++",
        ).fit(z.numpy())
        covariances = torch.as_tensor(model.covariances_)
        full = torch.diag_embed(covariances) if covariance == "diag" else covariances
        parts = torch.as_tensor(model.weights_), torch.as_tensor(model.means_), torch.linalg.cholesky(full)
        placed = [part.to(codes.loc) for part in parts]
        return cls(placed[0], placed[1], placed[2], covariance=covariance)

    @classmethod
    def select(
        cls, codes: Codes, *, components: int | None = None, covariance: Covariance | None = None, seed: int = 0
    ) -> Self:
        """Choose k and the covariance structure, where not given, by the likelihood of codes held out of the fit.

        Candidates are fitted on at most 10,000 codes, the winner on all. A larger mixture must be better than the
        best smaller one by more than twice the standard error of their difference, or the search stops.
        """
        if components is not None and covariance is not None:
            return cls.fit(codes, components=components, covariance=covariance, seed=seed)
        if len(codes) < _LEAST_TO_CHOOSE:
            return cls.fit(codes, components=components or 1, covariance=covariance or "diag", seed=seed)
        order = torch.randperm(len(codes), generator=stream("cpu", seed, "select")).to(codes.loc.device)[:12_500]
        cut = max(1, len(order) // 5)
        held_out, rest = _rows(codes, order[:cut]), _rows(codes, order[cut:])
        z = _draws(held_out, None, seed + 1)
        counts = [k for k in (1, 2, 5, 10, 20, 50, 100) if k * 10 <= len(rest)] or [1]
        best: tuple[Tensor, int, Covariance] | None = None
        for structure in [covariance] if covariance else _structures():
            for k in [components] if components else counts:
                scores = cls.fit(rest, components=k, covariance=structure, seed=seed).log_prob(z).double()
                if best is not None and not clearly_better(scores, best[0]):
                    if structure == best[2]:
                        break
                    continue
                best = scores, k, structure
        assert best is not None
        return cls.fit(codes, components=best[1], covariance=best[2], seed=seed)

    def _law(self) -> MixtureSameFamily:
        parts = MultivariateNormal(self.means, scale_tril=self.scale_trils, validate_args=False)
        return MixtureSameFamily(Categorical(self.weights, validate_args=False), parts, validate_args=False)

    def sample(self, n: int, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, κ)."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, device=self.means.device).to(self.means)
        out = torch.empty_like(noise)
        for k in range(self.components):  # one factor at a time, instead of n copies of κ × κ
            chosen = which == k
            out[chosen] = self.means[k] + noise[chosen] @ self.scale_trils[k].T
        return out

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) nats."""
        law, block = self._law(), max(1, _BLOCK * 10 // self.components)
        return torch.cat([law.log_prob(part) for part in z.split(block)])

    def extra_repr(self) -> str:
        """Show what was fitted in ``repr``."""
        return f"components={self.components}, covariance={self.covariance!r}"


@final
class SecondStage(LatentDensity):
    """Another VAE whose data are codes: u ~ N(0, I), then z ~ N(μ'(u), γ'I) **with** its noise.

    Dai & Wipf 2019, section 4.

    Parameters
    ----------
    vae
        A VAE trained on `Codes` by the same `fit` as any other.
    """

    name = "second_stage"
    exact = False

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def sample(self, n: int, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, κ)."""
        return self.vae.sample(n, c, generator=generator, observation_noise=True)

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) the second VAE's ELBO with one draw of u per code, nats; the draws are the same at every call."""
        generator = stream(z.device, "second stage", len(z))
        noise = torch.randn(len(z), *self.vae.noise_shape, generator=generator, device=z.device).to(z.dtype)
        objective: Objective = self.vae(z, c, noise=noise)
        return -objective.per_sample

    def log_weight(self, z: Tensor, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """(n,) log [p(z | u) p(u) / q(u | z)] at one u ~ q(u | z), whose exponential has mean p(z)."""
        noise = torch.randn(1, len(z), *self.vae.noise_shape, generator=generator, device=z.device)
        found = self.vae.importance(z, c, noise=noise)
        ratio: Tensor = found.log_likelihood + self.vae.prior(c).log_prob(found.z) - found.log_q
        return ratio[0]


def _draws(codes: Codes, most: int | None, seed: int) -> Tensor:
    """One fresh z for every row, or for `most` rows chosen at random."""
    if most is not None and len(codes) > most:
        chosen = torch.randperm(len(codes), generator=stream("cpu", seed, "rows"))[:most].to(codes.loc.device)
        codes = _rows(codes, chosen)
    return codes.sample(generator=stream(codes.loc.device, seed, "draws"))


def clearly_better(scores: Tensor, than: Tensor) -> bool:
    """Whether mean log-densities of the same codes differ by more than twice the standard error of the difference."""
    difference = scores - than
    return bool(difference.mean() > 2 * difference.std() / len(difference) ** 0.5)


def _rows(codes: Codes, index: Tensor) -> Codes:
    return Codes(codes.loc[index], codes.scale[index], None if codes.c is None else codes.c[index])


def _structures() -> tuple[Covariance, ...]:
    return ("full", "diag")
