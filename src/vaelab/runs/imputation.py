"""What a trained model says of missing entries, in the data's own units: means, draws, quantiles, probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vaelab.data import Conditions
from vaelab.data.ranges import within
from vaelab.data.rare import decided
from vaelab.errors import InputError, VaelabWarning
from vaelab.model import VAE, Completion, Components, Gaussian, Mixed, complete, completed, quantiles
from vaelab.model.from_noise import emission_of
from vaelab.runs.trained import FARTHEST, Trained
from vaelab.training import stream

_AT_ONCE = 1_000_000  # numbers that the decoder says of all draws of a block of rows
_MOST_ROWS = 250
_NOISY = 4  # values for each draw of z, for what depends on the noise
_FEW, _SHARE = 5.0, 0.05  # draws that are too few to carry the weight, and share of rows where they are that is said


class _Block(NamedTuple):
    """Some rows with gaps, in the network's units, and draws of z for them."""

    rows: Tensor
    vae: VAE
    x: Tensor
    completion: Completion
    generator: torch.Generator

    @property
    def filled(self) -> Tensor:
        """(B, …) rows with means in their gaps."""
        return self.vae.likelihood.impute(self.x, self.completion.parameters, self.completion.weights)


@dataclass(frozen=True)
class Imputation:
    """What is missing from rows, by p(x_missing | x_observed).

    Attributes
    ----------
    trained
        The model. Where the code is the whitened columns, the law that it was chosen with takes the prior's place.
    x, c
        (n, …) rows in the data's units, floating, NaN where an entry is missing; conditions as for `Trained`.
    k
        Draws of z per row.
    seed
        Of the draws. Those of z, and of the noise of Gaussians and tables, are the same for every row, so that means
        and quantiles depend on the row alone.
    """

    trained: Trained
    x: Tensor
    c: Conditions | None = None
    k: int = 200
    seed: int = 0

    def mean(self) -> Tensor:
        """(n, …) x with its gaps filled by means in the data's units, categories by their most likely level.

        Of rare levels, which count as one, it is the most frequent, with its share of their probability. Of a column
        of normal scores it is the mean of what its scores stand for, which is in range, and off its grid.
        """
        found, schema = self._filled(self._means, 1, means=True)[0], self.trained.schema
        return found if schema is None else torch.where(self.x.isnan(), decided(schema.columns, found), found)

    def draws(self, count: int) -> Tensor:
        """(count, n, …) x with its gaps filled by draws, with the noise of p(x | z).

        Raises
        ------
        InputError
            The posterior is deterministic.
        """
        self._check_spread("draws")
        return self._filled(
            lambda block: completed(block.vae, block.x, block.completion, count, generator=block.generator), count
        )

    def quantiles(self, q: Tensor) -> Tensor:
        """(m, n, …) x with its gaps filled by m quantiles; categories without an order, which have none, stay NaN.

        Raises
        ------
        InputError
            The posterior is deterministic.
        """
        self._check_spread("quantiles")

        def of(block: _Block) -> Tensor:
            found = quantiles(*self._values(block), q)
            return torch.where(block.x.isnan(), found.index_fill(-1, plain, torch.nan), block.x)

        schema = self.trained.schema
        names = [] if schema is None else [j for j, column in enumerate(schema.columns) if column.kind == "category"]
        plain = torch.tensor(names, dtype=torch.int64, device=self.trained.device)
        return self._filled(of, len(q), tied=False)  # a quantile of a sum is no sum of quantiles

    def probabilities(self) -> dict[int, Tensor]:
        """Place of each category → (n, levels) probabilities, float64; of an entry that is there, 1 for its level.

        Raises
        ------
        InputError
            The model is of no table with categories.
        """
        law = self.trained.vae.likelihood
        levels = law.levels if isinstance(law, Mixed) else ()
        if not any(levels):
            remedy = "Train with likelihood='mixed' on a table with text or categories."
            raise InputError("probabilities of a model without categories", "a mixed table with some", remedy)
        out = {}
        for place, count in enumerate(levels):
            if count:
                own = self.x[:, place, None].cpu()
                out[place] = (own == torch.arange(count)).double()
        for block in self._blocks():
            parameters, weights, _ = block.completion
            for place, p in block.vae.likelihood.shares(parameters.flatten(0, 1)).items():  # type: ignore[operator]
                mean = (weights[..., None] * p.unflatten(0, weights.shape)).sum(0).double().cpu()
                gone = block.x[:, place].isnan().cpu()
                out[place][block.rows[gone]] = mean[gone]
        return out

    def _check_spread(self, what: str) -> None:
        if self.trained.vae.posterior.degenerate:
            remedy = "Train a GaussianVAE or a TwoStageVAE."
            raise InputError(f"{what} of a deterministic posterior, which says nothing of spread", "a VAE", remedy)

    def _values(self, block: _Block) -> tuple[Tensor, Tensor]:
        """(K', B, …) draws of whole rows in the network's units, of the same noise for each row; (K', B) weights."""
        law, device = block.vae.likelihood, self.trained.device
        parameters = block.completion.parameters.repeat(_NOISY, *(1,) * (block.completion.parameters.ndim - 1))
        flat, weights = parameters.flatten(0, 1), block.completion.weights.repeat(_NOISY, 1) / _NOISY
        if isinstance(law, Gaussian | Mixed):
            emission = emission_of(law, tuple(block.x.shape[1:]))
            generator = stream(device, self.seed, "impute", "noise")
            noise = torch.randn(len(parameters), 1, emission.normals, generator=generator, device=device)
            drawn = emission.of(flat, noise.to(block.x).expand(-1, len(block.x), -1).flatten(0, 1))
        else:
            drawn = law.sample(flat, generator=block.generator)
        return drawn.unflatten(0, parameters.shape[:2]), weights

    def _means(self, block: _Block) -> Tensor:
        """(1, B, …) means in the data's units."""
        scaling = self.trained.scaling
        out = scaling.from_net(block.filled)
        if scaling.marginals is not None:
            values, weights = self._values(block)
            means = (weights[..., None] * scaling.from_net(values)).sum(0)
            scores = torch.tensor([column is not None for column in scaling.marginals.columns], device=out.device)
            out = torch.where(scores, means, out)
        return out[None]

    def _filled(self, of: Callable[[_Block], Tensor], count: int, *, means: bool = False, tied: bool = True) -> Tensor:
        """(count, n, …) x with what `of` a block returns in its gaps, (count, B, …), or what follows from others.

        Means come in the data's units, all else in the network's.
        """
        out = self.x.repeat(count, *(1,) * self.x.ndim)
        for block in self._blocks():
            found = of(block)
            part = self.x[block.rows]
            values = (found if means else self.trained.scaling.from_net(found)).to(part)
            values = values if self.trained.schema is None else within(self.trained.schema.columns, values)
            out[:, block.rows] = torch.where(part.isnan(), values, part)
        if tied and self.trained.schema is not None:
            for table in out:
                table.copy_(torch.where(self.x.isnan(), self.trained.schema.tied(table, gridded=not means), table))
        return out

    def _blocks(self) -> Iterator[_Block]:
        """Yield the rows with gaps, some at a time; at the end, say where few draws carry the weight."""
        gaps = self.x.isnan().flatten(1).any(1).nonzero().flatten().cpu()
        if not len(gaps):
            return
        trained, size = self.trained, self.trained.vae.latent_dim
        vae, dtype = trained.exact()
        noise = torch.randn(
            self.k, 1, size, generator=stream(trained.device, self.seed, "impute"), device=trained.device
        )
        law, effective = trained.components() or trained.law(), []
        widest = torch.Size(trained.widest).numel()
        climbs = len(law.weights) if isinstance(law, Components) else 3
        at_once = min(_MOST_ROWS, max(1, _AT_ONCE // (widest * max(self.k, climbs * (size + 1)))))
        for rows in gaps.split(at_once):
            c = None if self.c is None else self.c.index_select(0, rows.to(self.c.device)).to(trained.device, dtype)
            x = trained.scaling.to_net(self.x[rows], dtype=dtype).to(trained.device)
            x = x.clamp(-FARTHEST, FARTHEST) if dtype == torch.float64 else x
            found = complete(vae, x, c, noise=noise, law=law)
            effective.append(found.effective)
            yield _Block(rows, vae, x, found, stream(trained.device, self.seed, "gaps", int(rows[0])))
        if not vae.posterior.degenerate:
            self._warn(torch.cat(effective))

    def _warn(self, effective: Tensor) -> None:
        few = int((effective < min(_FEW, self.k / 2)).sum())
        if few > _SHARE * len(effective):
            warnings.warn(
                f"In {few:,} of {len(effective):,} rows with gaps fewer than {_FEW:g} of {self.k} draws of z carry the "
                "weight: what is filled in there is a guess, and spread is too narrow. Raise k.",
                VaelabWarning,
                stacklevel=6,
            )
