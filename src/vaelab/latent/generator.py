"""A VAE joined with the density its codes are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vaelab.latent.codes import Codes
from vaelab.latent.densities import LatentDensity, check_one_each, clearly_better
from vaelab.latent.rejection import Rejection
from vaelab.model import VAE
from vaelab.model.contexts import evaluating

_BLOCK = 1000  # rows decoded at once


class Generator(nn.Module):
    """z from a latent density, x from the decoder's mean (Dai & Wipf 2019, section 4, step 3)."""

    def __init__(self, vae: VAE, density: LatentDensity) -> None:
        super().__init__()
        self.vae, self.density = vae, density

    @torch.no_grad()
    def sample(
        self,
        n: int,
        c: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        observation_noise: bool = False,
        missing: bool = False,
        temperature: float = 1.0,
        rejection: Rejection | None = None,
    ) -> Tensor:
        """Draw (n, *event), in evaluation mode.

        Parameters
        ----------
        n
            How many.
        c
            (n, *condition_shape), or None for a model without a condition.
        generator
            Source of randomness, on the model's device.
        observation_noise
            Add the decoder's noise of variance γ; without it, the decoder's mean, as in the paper.
        missing
            Draw gaps too, for a likelihood that has them.
        temperature
            Of the law of z, as for `LatentDensity.sample`; the decoder's noise stays as it is.
        rejection
            Draws codes again that are off.

        Raises
        ------
        InputError
            c is missing, not expected, of another width, or not one condition per row; nothing is drawn. Or next to
            nothing is left by the rejection.
        """
        check_one_each(c, n)
        kind = next(self.vae.parameters())
        with evaluating(self.vae, self.density):
            # one row through the decoder, which refuses a wrong condition
            self.vae.decode(kind.new_zeros(min(n, 1), self.vae.latent_dim), None if c is None else c[:1])

            def law(n: int, c: Tensor | None) -> Tensor:
                return self.density.sample(n, c, generator=generator, temperature=temperature).to(kind.dtype)

            z = law(n, c) if rejection is None else rejection.draw(law, n, c)
            rows = []
            for start in range(0, n, _BLOCK):
                part = slice(start, start + _BLOCK)
                own = None if c is None else c[part]
                emitted = self.vae.emit(
                    z[part], own, generator=generator, observation_noise=observation_noise, missing=missing
                )
                rows.append(emitted)
            return torch.cat(rows) if rows else self.vae.decode(z, c)


class Comparison(NamedTuple):
    """How well densities explain the same codes.

    Attributes
    ----------
    scores
        Density → mean log-density in nats per code; a lower bound where the density says so.
    best
        The first density, in the order given, that the one of highest score does not beat by more than twice the
        standard error of their difference.
    """

    scores: dict[str, float]
    best: str


@torch.no_grad()
def row_scores(densities: Mapping[str, LatentDensity], codes: Codes, *, seed: int = 0) -> dict[str, Tensor]:
    """Score densities on one fresh draw of each code, the same for all, under its own condition.

    Returns
    -------
    dict
        Name → (n,) log-densities in nats, float64; lower bounds where the density says so.

    Raises
    ------
    InputError
        A density is conditional and the codes have no condition, or one of another shape.
    """
    z, c = codes.pairs(generator=torch.Generator(codes.loc.device).manual_seed(seed))
    with evaluating(*densities.values()):
        return {name: density.score(z, c).double() for name, density in densities.items()}


def simplest_of_best(scores: Mapping[str, Tensor]) -> str:
    """Name the first that the one of highest mean does not beat by more than two standard errors of the difference.

    Parameters
    ----------
    scores
        Of `row_scores`, from simple to complex.
    """
    top = max(scores.values(), key=lambda row: float(row.mean()))
    return next(name for name, row in scores.items() if row is top or not clearly_better(top, row))


def compare_on_codes(densities: Mapping[str, LatentDensity], codes: Codes, *, seed: int = 0) -> Comparison:
    """Score densities, given from simple to complex, as `row_scores` does, and choose one.

    Raises
    ------
    InputError
        As `row_scores`.
    """
    rows = row_scores(densities, codes, seed=seed)
    return Comparison({name: float(row.mean()) for name, row in rows.items()}, simplest_of_best(rows))
