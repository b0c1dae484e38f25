"""The one VAE: six axes meet here and nowhere else.

    p(z)   = prior(c)                         z ∈ R^κ      (latent_dim)
    q(z|x) = posterior(encoder(x, c))
    p(x|z) = likelihood(decoder(z, c))        x ∈ R^d      (event_shape)

    −ELBO  = E_q[−log p(x|z)] + Σ penalties   nats per sample, summed over d and κ, `draws` of z per x per step

With a KL of weight 1, a diagonal posterior and N(μ_x(z), γI) this is the "κ-simple VAE" of

    B. Dai, D. Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019, Definition 1 and eq. 4.

Symbols: x data, c condition, z latent, q posterior, p prior, γ (gamma) decoder variance, λ_j posterior variance along
dimension j relative to the prior's; a dimension is *active* where the data's mean λ_j is below 0.05 (Zheng et al.,
NeurIPS 2022, Definition 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import accumulate, pairwise
from typing import TypedDict, Unpack, cast, final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.errors import InputError, NonFiniteObjectiveError
from vaelab.model.contexts import evaluating, full_precision, still
from vaelab.model.distributions import count_active, draw, kl, variance_ratio, within
from vaelab.model.likelihoods import Gaussian, Likelihood
from vaelab.model.posteriors import Diagonal, Posterior
from vaelab.model.priors import Prior, Standard
from vaelab.model.regularizers import KL, Draw, Regularizer
from vaelab.model.terms import Importance
from vaelab.rows import blocks
from vaelab.types import Batches, Objective, ParameterGroup, Step, Trainable

_DECOMPOSED = 64  # rows of a training batch
_SEEN = 20  # unseen entries of a dimension that weigh as much as all training rows, to tell it from others
_EASY = 50  # unseen entries that weigh as much, where they are rebuilt better than those
_TINY = 1e-30  # squared error
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
    ) -> None:
        super().__init__()
        self.latent_dim, self.draws = latent_dim, draws
        self.encoder, self.decoder = encoder, decoder
        self.posterior = Diagonal() if posterior is None else posterior
        self.prior = Standard(latent_dim) if prior is None else prior
        self.likelihood = Gaussian() if likelihood is None else likelihood
        self.regularizers = nn.ModuleList([KL()] if regularizers is None else list(regularizers))
        self._check()

    def _check(self) -> None:
        names = [r.name for r in self._regularizers()]
        if len(set(names)) != len(names):
            raise InputError(f"regularizers named {names}", "one of each name", "Add up their weights instead.")
        if self.prior.latent_dim != self.latent_dim:
            raise InputError(f"a prior over {self.prior.latent_dim} dimensions", f"latent_dim={self.latent_dim}")
        wanted = self.posterior.parameter_count(self.latent_dim)
        got = getattr(self.encoder, "out_features", wanted)
        if got != wanted:
            raise InputError(
                f"an encoder with {got} outputs",
                f"{wanted} for {type(self.posterior).__name__} and latent_dim={self.latent_dim}",
                f"Build the encoder with out_features={wanted}.",
            )
        width = getattr(self.decoder, "latent_dim", self.latent_dim)
        if width != self.latent_dim:
            raise InputError(f"a decoder that reads {width} numbers", f"latent_dim={self.latent_dim}")
        event, emitted = getattr(self.encoder, "event_shape", None), getattr(self.decoder, "out_shape", None)
        if event is not None and emitted is not None:
            shape = self.likelihood.parameter_shape(tuple(event))
            if tuple(emitted) != shape:  # a γ that is emitted too would be read from the mean's channels
                raise InputError(
                    f"a decoder that emits {tuple(emitted)}",
                    f"{shape} for rows {tuple(event)} and {type(self.likelihood).__name__}",
                    f"Build the decoder with out_shape={shape}.",
                )
        if self.draws < 1 or (self.draws > 1 and self.posterior.degenerate):
            raise InputError(f"draws={self.draws}", "at least 1, and 1 for a deterministic posterior")
        if self.posterior.degenerate and any(r.needs_density for r in self._regularizers()):
            remedy = "Pass regularizers=[] for an autoencoder, or a posterior with a variance."
            raise InputError("a deterministic posterior with a KL, which is infinite", "another penalty", remedy)

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
        """Count the standard normals per row: for z, then for each regulariser."""
        return [self.draws * self.latent_dim, *(r.noise_count(self.latent_dim) for r in self._regularizers())]

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
        q, p = self.encode(x, c), self.prior(c)
        if noise is None:
            noise = torch.randn(len(x), *self.noise_shape, dtype=x.dtype, device=x.device)
        own, rest = noise, None
        if noise.shape[1] != self.latent_dim:  # several draws, or penalties that need noise
            own, *rest = noise.split(self._noise_counts(), dim=1)
        z, parameters, distortion = self._drawn(x, c, q, own)
        passed = Draw(x, c, q, p, z, parameters, self.decoder, self.likelihood)
        with full_precision(x):
            penalties = {
                r.name: r(passed if rest is None else passed._replace(noise=rest[i]))
                for i, r in enumerate(self._regularizers())
            }
            penalties |= self.likelihood.beside(parameters, x)  # unbiased, if of the first draw alone
        readings = self.likelihood.readings()
        if not self.posterior.degenerate:
            with torch.no_grad():
                readings["variance_ratio"] = variance_ratio(q, p, _DECOMPOSED if self.training else None)
        return Objective(distortion, penalties, readings)

    def _drawn(self, x: Tensor, c: Tensor | None, q: Distribution, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return z and the decoder's output, of the first draw if there are several, and the (B,) distortion."""
        if self.draws == 1:
            z = draw(q, noise)
            parameters = self.decoder(z, c).to(x.dtype)
            with full_precision(x):
                return z, parameters, self.likelihood.nll(parameters, x)
        zs = [draw(q, part) for part in noise.chunk(self.draws, dim=1)]
        parameters = self._decoded(zs, c, x)
        with full_precision(x):
            return zs[0], parameters[0], self.likelihood.nll_of_draws(parameters, x).mean(0)

    def _decoded(self, zs: list[Tensor], c: Tensor | None, x: Tensor) -> Tensor:
        """(K, B, *parameter_shape) decoder's output for K draws, in one pass, in the precision of x."""
        own = None if c is None else c.expand(len(zs), *c.shape).flatten(0, 1)
        together: Tensor = self.decoder(torch.cat(zs), own).to(x.dtype).unflatten(0, (len(zs), x.shape[0]))
        return together

    def begin_step(self, share: float) -> None:
        """Tell the likelihood's variance, which may start from a given value."""
        if self.likelihood.variance is not None:
            self.likelihood.variance.begin_step(share)

    def steps_before(self) -> list[Step]:
        """Those of the regularisers, on the codes of the batch as they are before the networks move."""
        own = zip(self._regularizers(), pairwise(accumulate(self._noise_counts())), strict=True)
        steps = [r.step_before(partial(self._still_codes, slice(*ends))) for r, ends in own]
        return [step for step in steps if step is not None]

    def _still_codes(
        self, place: slice, x: Tensor, c: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, Distribution, Tensor]:
        with torch.no_grad(), still(self.encoder):
            z = draw(self.encode(x, c), noise[:, : self.latent_dim])
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

    @torch.no_grad()
    def impute(self, x: Tensor, c: Tensor | None = None, *, noise: Tensor) -> Tensor:
        """Fill in what is missing: E[x_missing | x_observed], by self-normalised importance weights over draws of z.

        P. Mattei, J. Frellsen, "MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets", ICML 2019. Of
        each draw the decoder's means and probabilities are averaged, not samples. The estimate is
        consistent in the number of draws, and as good as the model.

        Parameters
        ----------
        x, c
            As for `forward`; NaN where an entry is missing.
        noise
            (draws, B or 1, κ) standard normals.

        Returns
        -------
        Tensor
            (B, d) x with its gaps filled: numbers by their mean, categories by the most likely level.

        Raises
        ------
        InputError
            Entries are missing and the likelihood has no place for that.
        """
        if not bool(x.isnan().any()):
            return x.clone()
        q, p = self.encode(x, c), self.prior(c)
        if self.posterior.degenerate:  # one z, which has all the weight
            return self.likelihood.impute(x, self.decoder(q.mean, c).to(x.dtype)[None], x.new_ones(1, len(x)))
        zs = [draw(q, row.to(x.dtype)) for row in noise]
        z, parameters = torch.stack(zs), self._decoded(zs, c, x)
        log_p = p.log_prob(z) - self.likelihood.nll_of_draws(parameters, x)
        return self.likelihood.impute(x, parameters, (log_p - q.log_prob(z)).softmax(0))

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

    @torch.no_grad()
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
        variance = self.likelihood.variance
        if variance is None or not self.likelihood.calibrates:
            return
        total, count = self._squared_errors(batches, batch_size, generator)
        if not variance.diagonal:  # every observed entry counts the same, however many its column has
            total, count = total.sum(), count.sum()
        seen = total / count.clamp(min=1)
        if unseen is None:
            variance.calibrate(seen)
            return
        apart, number = self._squared_errors(unseen, batch_size, generator)
        if not variance.diagonal:
            apart, number = apart.sum(), number.sum()
        seen, found = seen.clamp(min=_TINY).log(), (apart / number.clamp(min=1)).clamp(min=_TINY).log()
        # few rows may be easy ones by chance; many that are easier than those trained on say that these have outliers
        number = number.double()
        found = torch.where(found < seen, seen + (found - seen) * number / (number + _EASY), found)
        level = (found - seen)[number > 0].mean().nan_to_num()
        share = number / (number + _SEEN) if variance.diagonal else 0.0
        variance.calibrate(torch.lerp(seen + level, found, share).exp())

    def _squared_errors(
        self, batches: Batches, batch_size: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return sums over rows of squared errors, and how many entries they are of."""
        device = next(self.parameters()).device
        total, count = torch.zeros((), device=device), torch.zeros((), device=device)
        finite = torch.ones((), dtype=torch.bool, device=device)
        with evaluating(self):
            for _, x, c, _ in blocks(batches, device, size=batch_size, draws=lambda _: generator):
                q = self.encode(x, c)
                z = draw(q, torch.randn(q.mean.shape, generator=generator, device=device, dtype=x.dtype))
                parameters = self.decoder(z, c).to(x.dtype)
                finite = finite & parameters.isfinite().all()
                squared = self.likelihood.squared_error(parameters, x).double()
                total = total + squared.nansum(0)
                count = count + (~squared.isnan()).sum(0)
        if not bool(finite):
            raise NonFiniteObjectiveError("The decoder's output is not finite, so that no variance can be set from it.")
        return total, count
