"""What a training leaves: networks, latent densities, units, and the facts about the data; in memory or in a folder."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vaelab.data import (
    ArrayBatches,
    Conditioning,
    Conditions,
    Dataset,
    MappedBatches,
    Scaling,
    Schema,
    Split,
    as_batches,
)
from vaelab.data.rare import heaviest
from vaelab.errors import InputError, VaelabWarning
from vaelab.latent import Generator, LatentDensity, Mixture
from vaelab.model import (
    ACTIVE_BELOW,
    UNUSED,
    VAE,
    Components,
    Mixed,
    complete,
    count_active,
    impute,
    no_encoder,
)
from vaelab.rows import check_drawn, rows_at_once, spans
from vaelab.runs.bounds import bounds_of
from vaelab.runs.containers import in_container
from vaelab.runs.drawing import DRAWS, Draws, drawn_blocks, drawn_rows
from vaelab.runs.facts import Facts
from vaelab.runs.whitened import filled
from vaelab.specs import Settings
from vaelab.specs.densities import ordered
from vaelab.training import stream

if TYPE_CHECKING:
    from vaelab.runs.export import Format, Signature
    from vaelab.runs.graphs import Graph

_NOISY = 0.15  # γ relative to the variance of the data, above which the threshold of active dimensions means nothing
_CARRIES = math.exp(-0.2)  # ratio of variances at which a dimension carries a tenth of a nat
_FEW_DRAWS = 16  # of z per row, for which blocks are as large as for one
FARTHEST = 1e100
"""Deviations from the mean beyond which rows of a table are alike: what networks make of it has a square."""


@dataclass
class Trained:
    """A trained VAE with its latent densities; takes and returns tensors in the data's own units.

    Attributes
    ----------
    settings
        Resolved settings.
    facts
        About the data and the densities.
    scaling
        Between the data's units and the network's.
    vae
        Stage one, calibrated, in evaluation mode.
    densities
        Name → density on codes; always has ``"prior"``.
    conditioning
        Between the user's conditions and the network's; None for a model without.
    schema
        What the columns of a mixed table hold; None for other data. Its rows are coded: numbers of levels in place of
        categories, NaN where an entry is missing.
    calibration
        (m,) scores of rows that were set aside for a detector, nats, float64, ascending; None for other models.
    """

    settings: Settings
    facts: Facts
    scaling: Scaling
    vae: VAE
    densities: dict[str, LatentDensity] = field(default_factory=dict)
    conditioning: Conditioning | None = None
    schema: Schema | None = None
    calibration: Tensor | None = None

    def __post_init__(self) -> None:
        if self.schema is not None and isinstance(self.vae.likelihood, Mixed):
            self.vae.likelihood.heaviest = heaviest(self.schema.columns)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.vae.parameters()).device

    @property
    def encodes(self) -> bool:
        """Whether there is an encoder, which a GAN has not."""
        return self.settings.adversary is None

    @property
    def active_below(self) -> float:
        """Ratio of posterior to prior variance below which a dimension is active.

        0.05, which presupposes noise that is small against what a dimension carries. Where γ is more than 15 % of the
        variance of the data a dimension is active that carries a tenth of a nat: −log(ratio) / 2 ≥ 0.1.
        """
        variance = self.vae.likelihood.variance
        if variance is None or float(variance.gamma.mean()) <= _NOISY * self.facts.data_variance:
            return ACTIVE_BELOW
        return _CARRIES

    @property
    def unused(self) -> str:
        """That training found nothing, in sentences, where few rows of a table leave no comparison to say it."""
        facts = self.facts
        compared = facts.gaussian_gain is not None or facts.kind != "table" or self.conditioning is not None
        if compared or self.vae.posterior.degenerate or min(facts.variance_ratios, default=0.0) <= UNUSED:
            return ""
        return (
            "Training found nothing: the code is unused. Too few rows are held out to compare it with a Gaussian. "
            "Dimensions and samples are not to be trusted. Give it more rows or epochs, or a larger held_out."
        )

    @property
    def whitened(self) -> str:
        """What a count of dimensions means where stage one is no training's, in a sentence; else empty."""
        if not self.facts.lossless:
            return ""
        return (
            "The code is the whitened columns: with the law of its codes that explains unseen rows better than what "
            "training found. All of them are active, whatever the dimension of the data, for which see "
            "estimate_dimension, or `vaelab dimension` of the data."
        )

    @property
    def active_dimensions(self) -> int:
        """How many dimensions are active on the training rows; see `active_below`."""
        return count_active(torch.tensor(self.facts.variance_ratios), self.active_below)

    @property
    def draws_noise(self) -> bool:
        """Whether rows are drawn with the decoder's noise unless it is said otherwise: those of tables."""
        return self.facts.kind == "table" and not self.vae.posterior.degenerate

    @property
    def law_of_rows(self) -> str | None:
        """Name of the law that a lossless code was chosen with, which scores rows; None where the prior does."""
        if not self.facts.lossless:
            return None
        *_, name = (law.name for law in ordered(self.settings.densities) if not law.gradient)
        return name

    def conditions(self, y: object, rows: int | None = None, *, spread: bool = False) -> Tensor | None:
        """Map conditions in the user's form to (n, *shape), as `Conditioning.to_net` does; None for a model without.

        Raises
        ------
        InputError
            y is missing or does not fit, or the model takes none.
        """
        if self.conditioning is not None:
            return self.conditioning.to_net(y, rows, spread=spread)
        if y is not None:
            remedy = "Leave y out, or train with condition='standard'."
            raise InputError("conditions, for a model that takes none", "no y", remedy)
        return None

    def conditioned(self, data: Dataset) -> Dataset:
        """Return the data with the conditions that the model takes, or without any where it takes none."""
        return data.unconditioned() if self.conditioning is None else data.conditioned(self.conditioning)

    def batches_of(self, split: Split) -> ArrayBatches | MappedBatches:
        """Return a split, of data that `conditioned` returned, as batches that the encoder can read.

        Gaps are filled by draws given what is there, where it reads none: those of whitened columns.
        """
        batches = self.batches_with_gaps(split)
        if self.schema is None or self.components() is None or self.law_of_rows is None:
            return batches
        law = {self.law_of_rows: self.densities[self.law_of_rows]}
        return filled(self.vae, batches, law, self.settings.seed).to("cpu")

    def batches_with_gaps(self, split: Split) -> ArrayBatches | MappedBatches:
        """Return such a split as it is, for scores of what is there; NaN where an entry is missing."""
        return as_batches(split.x, split.c, self.scaling)

    def blocks(
        self, x: Tensor, c: Conditions | None = None, dtype: torch.dtype = torch.float32, draws: int = 1
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield blocks of rows and conditions in the network's units, on the device; small ones for many draws each."""
        for rows in self._spans(x, draws):
            own = self.taken(c, rows)
            yield self.scaling.to_net(x[rows], dtype=dtype).to(self.device), None if own is None else own.to(dtype)

    def _spans(self, rows: Tensor, draws: int = 1) -> Iterator[slice]:
        """Divide rows, or codes, into blocks."""
        return spans(len(rows), max(1, rows_at_once(self.widest) * _FEW_DRAWS // max(draws, _FEW_DRAWS)))

    @property
    def widest(self) -> tuple[int, ...]:
        """Shape of a row, or of what the decoder says of one of a table, where that is more: a number per level."""
        event = self.facts.event_shape
        return event if len(event) > 1 else max(event, self.vae.likelihood.parameter_shape(event), key=math.prod)

    def taken(self, c: Conditions | None, rows: slice) -> Tensor | None:
        """Take some conditions to the device."""
        if c is None:
            return None
        return c.index_select(0, torch.arange(rows.start, rows.stop, device=c.device)).to(self.device)

    @torch.no_grad()
    def encode(self, x: Tensor, c: Conditions | None = None) -> Tensor:
        """(n, κ) posterior means; c is in the network's units, as from `conditions`, here and below."""
        return torch.cat([vae.encode(own, given).mean.float() for vae, own, given in self.whole_blocks(x, c)])

    def whole_blocks(self, x: Tensor, c: Conditions | None = None) -> Iterator[tuple[VAE, Tensor, Tensor | None]]:
        """Yield the model of `exact` with each of `blocks`, whose gaps are filled where its encoder reads none."""
        vae, dtype = self.exact()
        for own, conditions in self.blocks(x, c, dtype):
            yield vae, self._whole(vae, own, conditions), conditions

    def _whole(self, vae: VAE, x: Tensor, c: Tensor | None) -> Tensor:
        """Fill gaps of a block by means, which an encoder that whitens columns cannot read."""
        parts = self.components()
        if parts is None or not bool(x.isnan().any()):
            return x
        return impute(vae, x, c, noise=self.score_noise(_FEW_DRAWS)[:, None].to(x), law=parts)

    def _kl(self, vae: VAE, x: Tensor, c: Tensor | None, noise: Tensor, distortion: Tensor, kl: Tensor) -> Tensor:
        """Return the KL, in rows with gaps of whitened columns what log p(x_o) leaves: no q is diagonal there."""
        parts, gone = self.components(), x.isnan().flatten(1).any(1)
        if parts is None or not bool(gone.any()):
            return kl
        found = complete(vae, x[gone], None if c is None else c[gone], noise=noise.to(x), law=parts)
        return kl.masked_scatter(gone, -found.evidence - distortion[gone])

    def exact(self) -> tuple[VAE, torch.dtype]:
        """Return the model, of a table in float64: in float32 the last bits of a row depend on the rows beside it."""
        if self.facts.kind != "table":
            return self.vae, torch.float32
        return copy.deepcopy(self.vae).double(), torch.float64

    @torch.no_grad()
    def decode(self, z: Tensor, c: Conditions | None = None) -> Tensor:
        """(n, *event) decoder means, floating point, in the data's units; of categories the most likely level."""
        parts = [
            self.vae.decode(z[rows].to(self.device, torch.float32), self.taken(c, rows)) for rows in self._spans(z)
        ]
        return self.scaling.from_net(torch.cat(parts))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Conditions | None = None) -> Tensor:
        """(n, *event) decoder means at the posterior means, in the data's units, without gaps; see `decode`."""
        exact = self.vae if self.components() is None else self.exact()[0]
        kind = next(exact.parameters()).dtype
        parts = []
        for own, conditions in self.blocks(x, c):
            whole = self._whole(exact, own.to(kind), conditions).to(own)
            parts.append(self.scaling.from_net(self.vae.reconstruct(whole, conditions)))
        return torch.cat(parts)

    @torch.no_grad()
    def bound(self, x: Tensor, noise: Tensor, c: Conditions | None = None) -> Tensor:
        """(n,) ELBO, nats: a lower bound on log p(x | c) in the data's units, whatever the KL's weight in training.

        Of a mixed table it is of what was observed in each row: a density of numbers times a probability of levels.
        Where the code is the whitened columns (`whitened`), the law that it was chosen with takes the prior's place:
        under N(0, I) the rows would have one Gaussian's density.

        Parameters
        ----------
        x, c
            (n, *event) and (n, *shape) or None.
        noise
            (draws, κ) standard normals, the same for every row, so that a row's score depends on that row alone.
        """
        parts, caveat, law = [], None, self.law()
        for vae, own, conditions, shared in self._scored(x, noise, c):
            caveat = caveat or vae.likelihood.caveat(own)
            distortion, kl = vae.elbo(own, conditions, noise=shared, law=law)
            parts.append((distortion, self._kl(vae, own, conditions, shared, distortion, kl)))
        if caveat:
            warnings.warn(f"These are no log-densities: {caveat}.", VaelabWarning, stacklevel=3)
        nats = torch.cat([(distortion + kl).cpu().double() for distortion, kl in parts])
        return -nats - self.scaling.log_volume_of(x)

    @torch.no_grad()
    def costs(self, x: Tensor, noise: Tensor, c: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """Divide minus the `bound` of each row: (n, *event) nats of every entry, in the data's units, and (n,) KL.

        Raises
        ------
        InputError
            The likelihood has no terms per entry.
        """
        scored, law = self._scored(x, noise, c), self.law()
        parts = []
        for vae, own, conditions, shared in scored:
            costs, kl = vae.costs(own, conditions, noise=shared, law=law)
            parts.append((costs, self._kl(vae, own, conditions, shared, costs.flatten(1).sum(1), kl)))
        entries, divergence = (torch.cat(each).cpu().double() for each in zip(*parts, strict=True))
        return entries + self.scaling.log_volumes_of(x), divergence

    def _scored(
        self, x: Tensor, noise: Tensor, c: Conditions | None
    ) -> Iterator[tuple[VAE, Tensor, Tensor | None, Tensor]]:
        """Yield the model, blocks of rows and conditions in its units and precision, and the noise that all share."""
        if not self.encodes:
            raise no_encoder("scores of rows")
        vae, dtype = self.exact()
        check_drawn(len(noise), self.widest, "score_draws")
        for own, conditions in self.blocks(x, c, dtype, len(noise)):
            if dtype == torch.float64:  # of a table, whose numbers have no limits
                own = own.clamp(-FARTHEST, FARTHEST)
            yield vae, own, conditions, noise[:, None].to(self.device)

    def law(self) -> Callable[[Tensor], Tensor] | None:
        """Return the log-density of `law_of_rows`."""
        name = self.law_of_rows
        if name is None:
            return None
        exact = copy.deepcopy(self.densities[name]).double()
        return lambda z: exact.log_prob(z.double())

    def components(self) -> Components | None:
        """Return the Gaussians of `law_of_rows`, where it is a mixture of them."""
        law = None if self.law_of_rows is None else self.densities[self.law_of_rows]
        return law.parts if isinstance(law, Mixture) else None

    def score_noise(self, draws: int) -> Tensor:
        """(draws, κ) standard normals that rows are scored with."""
        return torch.randn(draws, self.settings.size, generator=stream("cpu", self.settings.seed, "score"))

    @torch.no_grad()
    def log_likelihood(
        self, x: Tensor, c: Conditions | None = None, *, k: int = 100, density: str = "prior", seed: int = 0
    ) -> Tensor:
        """(n,) importance-weighted lower bound on log p(x | c) in the data's units, nats, float64 on the CPU.

        Parameters
        ----------
        x, c
            As for `bound`.
        k
            Draws of z per row.
        density
            In the prior's place.
        seed
            Of the draws.

        Raises
        ------
        InputError
            No such density, or one that cannot score rows with gaps where the code is the whitened columns.
        """
        if not self.encodes:
            raise no_encoder("densities of rows")
        law = self.generator(density).density
        batches = as_batches(x, c, self.scaling).to(self.device)
        name = self.facts.best_density if density == "auto" else density
        found = bounds_of(self, batches, {name: law}, draws=k, seed=seed)
        return found.bound[name] - self.scaling.log_volume_of(x)

    def generator(self, density: str = "auto") -> Generator:
        """Return the generator for a density; ``"auto"`` is the one with the best score on held-out codes."""
        name = self.facts.best_density if isinstance(density, str) and density == "auto" else density
        if not isinstance(name, str) or name not in self.densities:
            known = ", ".join(["auto", *self.densities])
            raise InputError(f"density {name!r}", f"one of {known}", "Name it in `densities` when training.")
        return Generator(self.vae, self.densities[name])

    def sample(self, n: int, c: Conditions | None = None, how: Draws = DRAWS) -> Tensor:
        """(n, *event) new data in the data's units, floating point.

        Parameters
        ----------
        n, c
            How many, and their conditions.
        how
            They are drawn.

        Raises
        ------
        InputError
            No such density, conditions that do not fit, gaps of a model that has learned none, columns given or
            balanced for images or a conditional model, too few rows that match or are on the manifold, or more rows
            than there is memory for; `draws` needs less.
        """
        return drawn_rows(self, n, c, how)

    def draws(
        self, n: int, conditions: Callable[[slice], Tensor | None] = lambda rows: None, how: Draws = DRAWS
    ) -> Iterator[Tensor]:
        """Yield what `sample` returns, a block of rows after the other; it is drawn when it is asked for.

        A block has about a million numbers and at least a thousand rows, whatever memory there is. It depends on the
        seed and its place alone, so that more rows begin with the same full blocks. Rows with columns given or balanced
        are one block.

        Parameters
        ----------
        n
            How many rows in all.
        conditions
            Of some consecutive rows, in the network's units; None for a model without.
        how
            They are drawn.

        Raises
        ------
        InputError
            As `sample`, but for memory.
        """
        return drawn_blocks(self, n, conditions, how)

    def export(
        self,
        path: str | Path,
        what: Graph = "sample",
        *,
        format: Format | None = None,
        density: str = "auto",
        score_draws: int = 16,
    ) -> Signature:
        """Write one function of the model as ONNX or a program of torch; see `vaelab.runs.export.export`."""
        from vaelab.runs.export import export

        return export(self, path, what, format=format, density=density, score_draws=score_draws)

    def returned(self, values: Tensor, *, like: Any = None, decided: bool = False) -> Any:
        """Turn rows into the container and dtypes that the data came in; identifiers are those of `like`, or new.

        Rare levels are drawn, or the most frequent of them where rows are `decided`, which are no draws.
        """
        return in_container(self, values, like, decided=decided)
