"""Densities on latent codes: what z is drawn from when new data are generated.

The prior is what a VAE was trained towards; the others are fitted on the aggregated posterior q(z), where the decoder
has learned to decode. Each is a module whose state is tensors alone, so that it is saved without pickles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.model import VAE, Prior, draw
from vaelab.training import stream
from vaelab.types import Objective


class Normals(NamedTuple):
    """Standard normals that draws are made of.

    Attributes
    ----------
    generator
        Source of randomness, on the density's device.
    temperature
        Factor of every normal.
    """

    generator: torch.Generator | None = None
    temperature: float = 1.0

    def like(self, n: int, mean: Tensor) -> Tensor:
        """(n, κ) for a mean (…, κ), of its device and precision."""
        noise = torch.randn(n, mean.shape[-1], generator=self.generator, device=mean.device)
        return self.temperature * noise.to(mean.dtype)


class LatentDensity(nn.Module, ABC):
    """p(z) or p(z | c) on codes of κ dimensions.

    Attributes
    ----------
    exact
        Whether `log_prob` is the log-density itself; if not, it is a lower bound on it.
    slow
        Whether that takes many evaluations of a network.
    """

    exact: ClassVar[bool] = True
    slow: ClassVar[bool] = False

    def sample(
        self,
        n: int,
        c: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw (n, κ).

        Parameters
        ----------
        n
            How many.
        c
            (n, *condition_shape); densities that do not depend on it do not look at it.
        generator
            Source of randomness, on the density's device.
        temperature
            T, which multiplies the standard normals that draws are made of; 1 draws from the law. Covariances of the
            prior, a Gaussian and each component of a mixture become T²Σ, with means and weights as they are. Of stage
            two both noises are scaled, that of u and that of z given u; of the flows the noise that is carried to z.

        Raises
        ------
        InputError
            c is missing where it is needed, or is not one condition of the right shape for every row.
        """
        check_one_each(c, n)
        return self.draw(n, c, Normals(generator, temperature))

    @abstractmethod
    def draw(self, n: int, c: Tensor | None, normals: Normals) -> Tensor:
        """Do what `sample` does, with randomness from `normals` alone."""

    @abstractmethod
    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) log-density of (n, κ) codes in nats, or a lower bound on it (see `exact`); c as for `sample`."""

    def score(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) what laws are ranked by, nats: `log_prob`, or an unbiased estimate of it where that costs much more."""
        return self.log_prob(z, c)

    def log_weight(self, z: Tensor, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """(n,) log of an unbiased estimate of the density, nats: `log_prob` itself where that is exact."""
        return self.log_prob(z, c)


@final
class PriorDensity(LatentDensity):
    """The VAE's own prior; nothing is fitted."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def draw(self, n: int, c: Tensor | None, normals: Normals) -> Tensor:
        """Draw (n, κ)."""
        p = self.prior(c)
        return draw(p, normals.like(n, p.mean))

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) nats."""
        check_one_each(c, len(z))
        return self.prior(c).log_prob(z)  # type: ignore[no-any-return]


@final
class SecondStage(LatentDensity):
    """Another VAE whose data are codes: u ~ N(0, I), then z ~ N(μ'(u), γ'I) **with** its noise.

    Dai & Wipf 2019, section 4.

    Parameters
    ----------
    vae
        A VAE trained on `Codes` by the same `fit` as any other.
    """

    exact = False

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def draw(self, n: int, c: Tensor | None, normals: Normals) -> Tensor:
        """Draw (n, κ)."""
        generator, temperature = normals
        if temperature == 1:
            return self.vae.sample(n, c, generator=generator, observation_noise=True)
        u = PriorDensity(self.vae.prior).draw(n, c, normals)
        parameters, law = self.vae.decoder(u, c), self.vae.likelihood
        mean = law.mean(parameters)
        return mean + temperature * (law.sample(parameters, generator=generator) - mean)

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) the second VAE's ELBO with one draw of u per code, nats; the draws are the same at every call."""
        check_one_each(c, len(z))
        generator = stream(z.device, "second stage", len(z))
        noise = torch.randn(len(z), *self.vae.noise_shape, generator=generator, device=z.device).to(z.dtype)
        objective: Objective = self.vae(z, c, noise=noise)
        return -objective.per_sample

    def log_weight(self, z: Tensor, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """(n,) log [p(z | u) p(u) / q(u | z)] at one u ~ q(u | z), whose exponential has mean p(z)."""
        check_one_each(c, len(z))
        noise = torch.randn(1, len(z), *self.vae.noise_shape, generator=generator, device=z.device)
        found = self.vae.importance(z, c, noise=noise)
        ratio: Tensor = found.log_likelihood + self.vae.prior(c).log_prob(found.z) - found.log_q
        return ratio[0]


def check_one_each(c: Tensor | None, rows: int) -> None:
    """Refuse conditions that are not one per row; a single one would spread over all rows unseen."""
    if c is not None and (c.ndim < 2 or len(c) != rows):
        raise InputError(
            f"conditions of shape {tuple(c.shape)} for {rows} rows", f"({rows}, …)", "Repeat one with c.expand(n, -1)."
        )


def check_condition(c: Tensor | None, rows: int, condition_shape: tuple[int, ...]) -> Tensor:
    """Return c if it is a condition of this shape for every row; sequences may be of another length.

    Raises
    ------
    InputError
        It is missing or of another shape.
    """
    wanted = f"c of shape ({rows}, {', '.join(map(str, condition_shape))})"
    if c is None:
        raise InputError("a conditional density without a condition", wanted, "Pass c.")
    if c.ndim != len(condition_shape) + 1 or c.shape[0] != rows or c.shape[-1] != condition_shape[-1]:
        raise InputError(f"c of shape {tuple(c.shape)}", wanted)
    return c


def condition_or_none(c: Tensor | None, rows: int, condition_shape: tuple[int, ...]) -> Tensor | None:
    """Return what `check_condition` does, or None for a law without conditions.

    Raises
    ------
    InputError
        As `check_condition`, or there is a condition and the law has none.
    """
    if condition_shape:
        return check_condition(c, rows, condition_shape)
    if c is not None:
        remedy = f"Leave c out, or build the law with condition_shape={tuple(c.shape[1:])}."
        raise InputError(f"c of shape {tuple(c.shape)}", "no condition", remedy)
    return None


def moments_or_unit(size: int, loc: Tensor | None, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return (κ,) mean and standard deviation of codes, 0 and 1 where they are not given.

    Raises
    ------
    InputError
        They are of another size, or a scale is not positive.
    """
    loc = torch.zeros(size) if loc is None else loc
    scale = torch.ones(size) if scale is None else scale
    if loc.shape != (size,) or scale.shape != (size,) or not bool((scale > 0).all()):
        got = f"loc of shape {tuple(loc.shape)} and scale {scale.tolist()}"
        raise InputError(got, f"({size},) both, and a positive scale", "Use Codes.moments().")
    return loc, scale


def clearly_better(scores: Tensor, than: Tensor) -> bool:
    """Whether mean log-densities of the same codes differ by more than twice the standard error of the difference."""
    difference = scores - than
    return bool(difference.mean() > 2 * difference.std() / len(difference) ** 0.5)
