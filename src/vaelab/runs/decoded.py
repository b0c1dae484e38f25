"""Decoded draws of latent densities beside rows that no density has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaelab.data import ArrayBatches, MappedBatches
from vaelab.latent import Codes, LatentDensity
from vaelab.model.contexts import evaluating
from vaelab.rows import rows_at_once, spans
from vaelab.runs.sample_distances import SampleDistance, distances_of, features_of, taken
from vaelab.specs.densities import PRIOR
from vaelab.training import stream

if TYPE_CHECKING:
    from vaelab.runs.trained import Trained

FLOOR, LIMIT = "real rows", "decoded codes"
"""Names of other real rows, and of decoded codes of other real rows."""

_MOST_HELD_OUT = 5_000  # rows that draws are compared with


class DecodedDraws:
    """Features of unseen rows, and of decoded draws from densities.

    Parameters
    ----------
    trained
        The model.
    kept, unseen
        Rows that features of images are fitted to, and rows that draws are compared with, in the network's units.
    samples
        Draws of each density, under the unseen rows' conditions.
    seed
        Of rows and draws.

    Raises
    ------
    InputError
        Fewer than two unseen rows have no gaps.
    """

    def __init__(
        self,
        trained: Trained,
        kept: ArrayBatches | MappedBatches,
        unseen: ArrayBatches | MappedBatches,
        samples: int,
        seed: int,
    ) -> None:
        self.trained, self.samples, self.seed = trained, samples, seed
        self.features = features_of(trained, kept)
        real, c = taken(unseen, _MOST_HELD_OUT, stream("cpu", seed, "enhance", "held out"))
        self.real, self._c = self.features(real), None if c is None else c[torch.arange(samples) % len(real)]
        self.sets: dict[str, Tensor] = {}

    def add_real(self, kept: ArrayBatches | MappedBatches) -> None:
        """Add other real rows, and decoded codes of such rows."""
        generator = stream(self.trained.device, self.seed, "enhance", LIMIT)
        z, own = Codes.of(self.trained.vae, kept).pairs(self.samples, generator=generator)
        self.sets[LIMIT] = _decoded(self.trained, z, own, self.features, generator)
        rows, _ = taken(kept, self.samples, stream("cpu", self.seed, "enhance", FLOOR))
        self.sets[FLOOR] = self.features(rows)

    def add(self, name: str, density: LatentDensity) -> None:
        """Draw from a density, and decode."""
        generator = stream(self.trained.device, self.seed, "enhance", name)
        given = None if self._c is None else self._c.to(self.trained.device)
        with evaluating(density):
            z = density.sample(self.samples, given, generator=generator)
        self.sets[name] = _decoded(self.trained, z, given, self.features, generator)

    def as_near_as_codes(self, name: str, density: LatentDensity) -> bool:
        """Whether its draws are surely nearly as near to unseen rows as decoded codes are, if the prior's are not.

        That is, they lose at most a tenth of what the prior's lose, by two standard errors.
        """
        for each, law in ((PRIOR, self.trained.densities[PRIOR]), (name, density)):
            if each not in self.sets:
                self.add(each, law)
        three = {each: self.sets[each] for each in (LIMIT, PRIOR, name)}
        found = distances_of(three, self.real, base=LIMIT, trees=False, seed=self.seed)
        own, prior = found[name], found[PRIOR]
        return -own.gain + 2 * own.gain_error < max(-0.1 * prior.gain, 0.0)

    def nearer_than(self, chosen: str, densities: Mapping[str, LatentDensity]) -> str:
        """Name the density that is nearest to the unseen rows of those clearly nearer than one; that one if none is."""
        for name in densities.keys() - self.sets.keys():
            self.add(name, densities[name])
        sets = {name: self.sets[name] for name in densities}
        found = distances_of(sets, self.real, base=chosen, trees=False, seed=self.seed)
        clear = [name for name in densities if found[name].clearly_nearer(len(densities) - 1)]
        return min(clear, key=lambda name: found[name].energy, default=chosen)

    def distances(self, densities: Mapping[str, LatentDensity]) -> dict[str, SampleDistance]:
        """Of all sets from the unseen rows."""
        for name in densities.keys() - self.sets.keys():
            self.add(name, densities[name])
        order = [*densities, LIMIT, FLOOR]
        return distances_of({name: self.sets[name] for name in order}, self.real, seed=self.seed)


@torch.no_grad()
def _decoded(
    trained: Trained,
    z: Tensor,
    c: Tensor | None,
    features: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Features of what `Trained.sample` would make of z, on the CPU."""
    vae = trained.vae
    kind, parts = next(vae.parameters()), []
    for part in spans(len(z), rows_at_once(trained.facts.event_shape)):
        own = None if c is None else c[part]
        rows = vae.emit(z[part].to(kind), own, generator=generator, observation_noise=trained.draws_noise)
        parts.append(features(rows.cpu()))
    return torch.cat(parts)
