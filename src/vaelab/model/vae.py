"""The one VAE: six axes meet here and nowhere else.

    p(z)   = prior(c)                         z ∈ R^κ      (latent_dim)
    q(z|x) = posterior(encoder(x, c))
    p(x|z) = likelihood(decoder(z, c))        x ∈ R^d      (event_shape)

    −ELBO  = E_q[−log p(x|z)] + Σ penalties   nats per sample, summed over d and κ, `draws` of z per x per step

With a KL of weight 1, a diagonal posterior and N(μ_x(z), γI) this is the "κ-simple VAE" of Dai & Wipf
2019, Definition 1 and eq. 4.

Symbols: x data, c condition, z latent, q posterior, p prior, γ (gamma) decoder variance, λ_j posterior variance along
dimension j relative to the prior's; a dimension is *active* where the data's mean λ_j is below 0.05 (Zheng et al.
2022, Definition 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import accumulate, pairwise
from typing import Literal, TypedDict, Unpack, cast, final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.errors import InputError
from vaelab.model.bounds import importance_weighted
from vaelab.model.calibration import calibrate
from vaelab.model.compatibility import check_axes
from vaelab.model.contexts import full_precision, still
from vaelab.model.distributions import count_active, draw, kl, variance_ratio, within
from vaelab.model.hiding import Hiding
from vaelab.model.likelihoods import Gaussian, Likelihood
from vaelab.model.posteriors import Diagonal, Posterior
from vaelab.model.priors import Prior, Standard
from vaelab.model.regularizers import KL, Draw, Regularizer
from vaelab.model.terms import Importance
from vaelab.types import Batches, Objective, ParameterGroup, Step, Trainable

_DECOMPOSED = 64  # rows of a training batch
_WIDEST = 10.0  # deviation of q, in units of the prior's, that rows are scored with


class Axes(TypedDict, total=False):
    """What `VAE` is made of; see there."""

    encoder: nn.Module
    decoder: nn.Module
    latent_dim: int
    posterior: Posterior
    prior: Prior
    likelihood: Likelihood
    regularizers: Iterable[Regularizer]
    draws: int
    bound: Literal["elbo", "iwae"]
    hiding: Hiding | None


@final
class VAE(Trainable):
    """A variational autoencoder as a composition of values.

    Parameters
    ----------
    encoder
        Module of (x, c=None) → (B, posterior.parameter_count(latent_dim)).
    decoder
        Module of (z, c=None) → (B, *likelihood.parameter_shape(event_shape)).
    latent_dim
        κ.
    posterior, prior, likelihood, regularizers
        The other axes; diagonal, N(0, I), Gaussian with profiled variance, and KL by default.
    draws
        Of z per row and step. The distortion is their mean, and a profiled variance that of all of them.
    bound
        ``"elbo"``, or ``"iwae"`` for the importance-weighted bound of that many draws, which takes the place of
        distortion and KL: see `vaelab.model.bounds`. Other penalties are of the first draw.
    hiding
        What training hides of a row from the encoder; nothing if None.

    Examples
    --------
    >>> import torch
    >>> from vaelab.nets import MLPDecoder, MLPEncoder
    >>> vae = VAE(MLPEncoder((5,), 4, hidden=(16,)), MLPDecoder(2, (5,), hidden=(16,)), latent_dim=2)
    >>> objective = vae(torch.randn(7, 5))
    >>> objective.distortion.shape, sorted(objective.penalties)
    (torch.Size([7]), ['kl'])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        latent_dim: int,
        posterior: Posterior | None = None,
        prior: Prior | None = None,
        likelihood: Likelihood | None = None,
        regularizers: Iterable[Regularizer] | None = None,
        draws: int = 1,
        bound: Literal["elbo", "iwae"] = "elbo",
        hiding: Hiding | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim, self.draws, self.bound, self.hiding = latent_dim, draws, bound, hiding
        self.encoder, self.decoder = encoder, decoder
        self.posterior = Diagonal() if posterior is None else posterior
        self.prior = Standard(latent_dim) if prior is None else prior
        self.likelihood = Gaussian() if likelihood is None else likelihood
        self.regularizers = nn.ModuleList([KL()] if regularizers is None else list(regularizers))
        check_axes(self)

    def replace(self, **axes: Unpack[Axes]) -> VAE:
        """Return the VAE with some axes swapped, checked anew; the others are shared with this one, not copied."""
        together = cast("Axes", {name: getattr(self, name) for name in Axes.__annotations__})
        together.update(axes)
        return VAE(**together)

    def _regularizers(self) -> Iterable[Regularizer]:
        return cast("Iterable[Regularizer]", self.regularizers)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """One standard normal per draw and latent dimension, then those of the regularisers."""
        return (sum(self._noise_counts()),)

    def _noise_counts(self) -> list[int]:
        """Count the standard normals per row: for z, for each regulariser, and for what is hidden."""
        counts = [self.draws * self.latent_dim, *(r.noise_count(self.latent_dim) for r in self._regularizers())]
        return counts if self.hiding is None else [*counts, self.hiding.noise_count]

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Return q(z | x): batch shape (B,), event shape (κ,)."""
        return self.posterior(self.encoder(x, c).to(x.dtype))  # type: ignore[no-any-return]

    def decode(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the decoder mean, (B, *event)."""
        return self.likelihood.mean(self.decoder(z, c))

    def reconstruct(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Return the decoder mean at the posterior mean, (B, *event)."""
        return self.decode(self.encode(x, c).mean, c)

    def forward(self, x: Tensor, c: Tensor | None = None, *, noise: Tensor | None = None) -> Objective:
        """Score one minibatch.

        Parameters
        ----------
        x
            (B, *event) data in the network's units.
        c
            (B, width) condition, or None.
        noise
            (B, *noise_shape) standard normals, the first κ of them for z; drawn from torch's global generator if None.

        Returns
        -------
        Objective
            Per-sample distortion and penalties, nats.
        """
        if noise is None:
            noise = torch.randn(len(x), *self.noise_shape, dtype=x.dtype, device=x.device)
        own, rest = noise, None
        if noise.shape[1] != self.latent_dim:  # several draws, penalties that need noise, or entries to hide
            own, *rest = noise.split(self._noise_counts(), dim=1)
        seen = scored = x
        if self.hiding is not None and rest is not None:
            seen, scored = self.hiding(x, rest.pop())
        q, p = self.encode(seen, c), self.prior(c)
        zs, parameters = self._drawn(scored, c, q, own)
        passed = Draw(x, c, q, p, zs[0], parameters[0], self.decoder, self.likelihood)
        with full_precision(x):
            if self.bound == "iwae":
                log_ratio = torch.stack([q.log_prob(z) - p.log_prob(z) for z in zs])
                distortion, parts = importance_weighted(self.likelihood, parameters, scored, x, log_ratio)
            else:
                distortion = self._distortion(parameters, scored)
                parts = self.likelihood.beside(parameters[0], x)  # unbiased, if of the first draw alone
            penalties = {
                r.name: r(passed if rest is None else passed._replace(noise=rest[i]))
                for i, r in enumerate(self._regularizers())
                if r.name not in parts
            }
            penalties |= parts
        readings = self.likelihood.readings()
        if not self.posterior.degenerate:
            with torch.no_grad():
                readings["variance_ratio"] = variance_ratio(q, p, _DECOMPOSED if self.training else None)
        return Objective(distortion, penalties, readings)

    def _drawn(self, x: Tensor, c: Tensor | None, q: Distribution, noise: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return K draws of z, and the decoder's output of each, (K, B, …)."""
        if self.draws == 1:
            z = draw(q, noise)
            return [z], self.decoder(z, c).to(x.dtype)[None]
        zs = [draw(q, part) for part in noise.chunk(self.draws, dim=1)]
        return zs, self._decoded(zs, c, x)

    def _distortion(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(B,) −log p(x | z), nats, the mean over draws."""
        if len(parameters) == 1:
            return self.likelihood.nll(parameters[0], x)
        return self.likelihood.nll_of_draws(parameters, x).mean(0)

    def _decoded(self, zs: list[Tensor], c: Tensor | None, x: Tensor) -> Tensor:
        """(K, B, *parameter_shape) decoder's output for K draws, in one pass, in the precision of x."""
        own = None if c is None else c.expand(len(zs), *c.shape).flatten(0, 1)
        together: Tensor = self.decoder(torch.cat(zs), own).to(x.dtype).unflatten(0, (len(zs), x.shape[0]))
        return together

    def begin_step(self, share: float) -> None:
        """Tell the likelihood's variance and the regularisers, whose weights may move."""
        if self.likelihood.variance is not None:
            self.likelihood.variance.begin_step(share)
        for each in self._regularizers():
            each.begin_step(share)

    def steps_before(self) -> list[Step]:
        """Those of the regularisers, on the codes of the batch as they are before the networks move."""
        own = zip(self._regularizers(), pairwise(accumulate(self._noise_counts())), strict=False)  # hiding's comes last
        steps = [r.step_before(partial(self._still_codes, slice(*ends))) for r, ends in own]
        return [step for step in steps if step is not None]

    def _still_codes(
        self, place: slice, x: Tensor, c: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, Distribution, Tensor]:
        with torch.no_grad(), still(self.encoder):
            seen = x if self.hiding is None else self.hiding(x, noise[:, -self.hiding.noise_count :])[0]
            z = draw(self.encode(seen, c), noise[:, : self.latent_dim])
        return z, self.prior(c), noise[:, place]

    def elbo(
        self,
        x: Tensor,
        c: Tensor | None = None,
        *,
        noise: Tensor,
        law: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the two parts of the negative ELBO, whatever the regularisers: no weight, no other penalty.

        Parameters
        ----------
        x, c
            As for `forward`.
        noise
            (draws, B or 1, κ) standard normals.
        law
            (B, κ) → (B,) log-density that takes the prior's place, nats.

        Returns
        -------
        distortion, kl : Tensor
            (B,) nats each, means over the draws. Minus their sum is a lower bound on log p(x | c), as it is for any q:
            far from the data, where an encoder's deviations grow beyond bounds, q has ten times those of the prior.
        """
        parameters, divergence = self._decoded_draws(x, c, noise, law)
        return self.likelihood.nll_of_draws(parameters, x).mean(0), divergence

    def costs(
        self,
        x: Tensor,
        c: Tensor | None = None,
        *,
        noise: Tensor,
        law: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return what `elbo` does, with the distortion entry by entry: (B, *event) and (B,) nats.

        Raises
        ------
        InputError
            The posterior is deterministic, or the likelihood is none of entries that are independent given z.
        """
        parameters, divergence = self._decoded_draws(x, c, noise, law)
        return self.likelihood.costs(parameters, x).mean(0), divergence

    def _decoded_draws(
        self, x: Tensor, c: Tensor | None, noise: Tensor, law: Callable[[Tensor], Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Return the decoder's output for each draw, (draws, B, …), and the (B,) KL."""
        if self.posterior.degenerate:
            raise InputError("the ELBO of a deterministic posterior", "a posterior with a variance", "Compare errors.")
        p = self.prior(c)
        q = within(self.encode(x, c), p, _WIDEST)
        zs = [draw(q, row.to(x.dtype)) for row in noise]
        # decoded one after another, which keeps activations small; scored together, as a variance per row wants it
        parameters = torch.stack([self.decoder(z, c).to(x.dtype) for z in zs])
        divergences = [kl(q, p, z) if law is None else q.log_prob(z) - law(z) for z in zs]
        return parameters, torch.stack(divergences).mean(0)

    def importance(self, x: Tensor, c: Tensor | None = None, *, noise: Tensor) -> Importance:
        """Draw z ~ q(z | x) and score each: what an importance-weighted bound is made of.

        Parameters
        ----------
        x, c
            As for `forward`.
        noise
            (draws, B or 1, κ) standard normals.
        """
        if self.posterior.degenerate:
            raise InputError("importance weights of a deterministic posterior", "one with a variance")
        q = self.encode(x, c)
        zs = [draw(q, row.to(x.dtype)) for row in noise]
        z = torch.stack(zs)
        return Importance(z, -self.likelihood.nll_of_draws(self._decoded(zs, c, x), x), q.log_prob(z))

    def sample(
        self,
        n: int,
        c: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        observation_noise: bool = False,
        missing: bool = False,
    ) -> Tensor:
        """Draw (n, *event) with z from the prior.

        Parameters
        ----------
        n
            How many.
        c
            (n, width) condition, or None.
        generator
            Source of randomness, on the model's device.
        observation_noise
            Draw x ~ p(x | z) instead of returning its mean.
        missing
            Draw gaps too, for a likelihood that has them.
        """
        p = self.prior(c)
        noise = torch.randn(n, self.latent_dim, generator=generator, dtype=p.mean.dtype, device=p.mean.device)
        z = draw(p, noise)
        return self.emit(z, c, generator=generator, observation_noise=observation_noise, missing=missing)

    def emit(
        self,
        z: Tensor,
        c: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        observation_noise: bool = False,
        missing: bool = False,
    ) -> Tensor:
        """Return (B, *event): the decoder mean of z, or x ~ p(x | z) with its noise; with gaps if asked for."""
        parameters, law = self.decoder(z, c), self.likelihood
        x = law.sample(parameters, generator=generator) if observation_noise else law.mean(parameters)
        return law.open(x, parameters, generator=generator) if missing else x

    def parameter_groups(self) -> list[ParameterGroup]:
        """Networks at the schedule's learning rate, parameters of likelihood and regularisers at their own."""
        own = [*self.likelihood.parameter_groups(), *(g for r in self._regularizers() for g in r.parameter_groups())]
        taken = {id(p) for group in own for p in group.parameters}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in taken]
        return [ParameterGroup(rest), *own]

    def summary(self, readings: Mapping[str, Tensor]) -> dict[str, float]:
        """γ and the number of active dimensions, from readings averaged over samples."""
        numbers = super().summary({name: value for name, value in readings.items() if name != "variance_ratio"})
        if "variance_ratio" in readings:  # a deterministic posterior has none
            numbers["active_dimensions"] = count_active(readings["variance_ratio"])
        return numbers

    def settle(self, held_out: Batches, *, generator: torch.Generator) -> None:
        """Set a profiled γ from held-out rows."""
        self.calibrate(held_out, generator=generator)

    def calibrate(
        self,
        batches: Batches,
        *,
        unseen: Batches | None = None,
        batch_size: int | None = None,
        generator: torch.Generator,
    ) -> None:
        """Set a profiled γ from data, with fresh z (Takida et al. 2022, section 4, where these are the training data).

        Training rows are rebuilt better than others, which a γ that is too small for them costs their error over it.
        So where there are rows that were not trained on, γ is their mean squared error, or nearer to that of the
        training rows if it is smaller by the chance of few; of a γ per dimension the few rows say the level, and the
        training rows help to say how dimensions differ.

        Other likelihoods and variances are left as they are. Entries that are missing (NaN) are left out.
        """
        calibrate(self, batches, unseen, batch_size, generator)
