"""How many samples the decoder makes that lie off the manifold of its reconstructions, and holes between codes.

The decoder's means at codes z ~ q(z) of one half of the rows stand for the manifold. How far the other half's are from
their nearest neighbour there says what distance is usual; what lies beyond the 95 % quantile is off it. So 5 % is what
a density equal to q(z) gives. Dai & Wipf 2019, section 4: a prior that differs from q(z) draws z where the decoder was
never trained.

Distances are Euclidean between decoder means: along at most 50 principal axes, and in the distance from their plane.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from vaelab.diagnostics.measures.latent_draws import density_draws, drawn_codes, with_prior
from vaelab.diagnostics.measures.principal import ENOUGH, Frame
from vaelab.errors import InputError
from vaelab.latent import LatentDensity
from vaelab.metrics import interpolation
from vaelab.model import VAE
from vaelab.model.contexts import evaluating
from vaelab.rows import rows_at_once
from vaelab.training import stream
from vaelab.types import Batches

FLOOR = 0.05
"""Share of draws from q(z) itself that count as off."""

_FEATURES = 50  # principal axes
_NUMBERS = 20_000_000  # of the outputs that these are fitted to
_PAIRS, _FEWEST_PAIRS, _WALKED = 250, 50, 2_000_000  # pairs, at least, and numbers in one step of more
_STEPS = 9  # along a path, both ends included
_PANEL = 1024  # rows of distances at a time
_ROUNDING = 1e-6  # of distances, relative to the norm of an output

_Path = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class OffManifold:
    """Shares of decoded codes that lie off the manifold of reconstructions.

    Attributes
    ----------
    rows
        Codes: half of them stand for the manifold, half say which distance is usual.
    draws
        Of each density.
    threshold
        Distance beyond which an output is off, in the network's units.
    rates
        Name of a density → share of its draws that are off; ``"prior"`` is always there.
    floor
        What codes themselves give.
    holes, holes_spherical
        Share of outputs half way between two codes that are off, on straight lines and on great circles.
    profile, profile_spherical
        (steps,) distances along these paths, the median over pairs, relative to the usual one; about 1 at both ends.
    """

    rows: int
    draws: int
    threshold: float
    rates: dict[str, float]
    floor: float
    holes: float
    holes_spherical: float
    profile: Tensor
    profile_spherical: Tensor


@torch.no_grad()
def off_manifold(
    vae: VAE, batches: Batches, densities: Mapping[str, LatentDensity], *, rows: int = 2000, seed: int = 0
) -> OffManifold:
    """Decode draws of densities, and paths between codes, and count what is off the manifold.

    Parameters
    ----------
    vae
        Measured in evaluation mode; left as it is.
    batches
        Rows in the network's units, with their conditions if the model has one.
    densities
        Name → density on the model's device. They are drawn from under the conditions of the rows; a path has the
        condition of its start all along.
    rows
        Rows at most.
    seed
        Of rows, draws and pairs.

    Raises
    ------
    InputError
        Fewer than 4 rows, or outputs that are not finite.
    """
    with evaluating(vae):
        z, c = drawn_codes(vae, batches, rows=rows, seed=seed)
        half = len(z) // 2
        held, conditions = z[half:], None if c is None else c[half:]
        known = Manifold(vae, z, c)
        near, threshold = known.near, known.threshold
        rates = {}
        for name, density in with_prior(vae, densities).items():
            drawn = density_draws(density, held, conditions, stream(z.device, seed, "draws", name))
            rates[name] = float(known.off(drawn, conditions).double().mean())
        count = min(_PAIRS, max(_FEWEST_PAIRS, _WALKED // math.prod(batches.event_shape)))
        pairs = interpolation.pairs(len(held), count, stream("cpu", seed, "pairs")).to(z.device)
        scale = max(float(known.usual.median()), near.rounding)
        straight, great = (
            _along(near, path, held, conditions, pairs) for path in (interpolation.linear, interpolation.spherical)
        )
    return OffManifold(
        rows=len(z),
        draws=len(held),
        threshold=threshold,
        rates=rates,
        floor=FLOOR,
        holes=_share(straight[_STEPS // 2], threshold),
        holes_spherical=_share(great[_STEPS // 2], threshold),
        profile=(straight.median(1).values / scale).cpu(),
        profile_spherical=(great.median(1).values / scale).cpu(),
    )


@final
class Manifold:
    """The manifold of reconstructions: those of some codes, and how far the others' are from it.

    Parameters
    ----------
    vae
        In evaluation mode.
    z, c
        (n, κ) codes in random order, of which the first half stands for the manifold, and their conditions or None.

    Attributes
    ----------
    near
        Distances from the first half.
    usual
        (n − n // 2,) those of the second.
    threshold
        Distance beyond which an output is off: 95 % of these are within.

    Raises
    ------
    InputError
        Outputs are not finite.
    """

    @torch.no_grad()
    def __init__(self, vae: VAE, z: Tensor, c: Tensor | None) -> None:
        half = len(z) // 2
        self.near = Neighbourhood(vae, z[:half], None if c is None else c[:half])
        self.usual = self.near.distances(z[half:], None if c is None else c[half:])
        self.threshold = max(float(self.usual.quantile(1 - FLOOR)), self.near.rounding)

    @classmethod
    def of(cls, vae: VAE, batches: Batches, *, rows: int = 2000, seed: int = 0) -> Manifold:
        """Take the codes of some rows, as `off_manifold` does.

        Raises
        ------
        InputError
            Fewer than 4 rows, or outputs that are not finite.
        """
        with evaluating(vae):
            return cls(vae, *drawn_codes(vae, batches, rows=rows, seed=seed))

    @torch.no_grad()
    def off(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) whether what the decoder makes of codes is off the manifold."""
        return self.near.distances(z, c) > self.threshold


@final
class Neighbourhood:
    """Decoder means of reference codes, and distances of other codes' to the nearest of them."""

    def __init__(self, vae: VAE, z: Tensor, c: Tensor | None) -> None:
        self._vae = vae
        outputs = self._decoded(z[:1], None if c is None else c[:1])
        self._at_once = rows_at_once(tuple(outputs.shape[1:]))
        fitted = min(len(z), ENOUGH, max(2, _NUMBERS // outputs.shape[1]))
        parts = [self._decoded(*block) for block in self._blocks(z[:fitted], None if c is None else c[:fitted])]
        outputs = torch.cat(parts).double()
        if not bool(outputs.isfinite().all()):
            raise InputError("outputs of the decoder that are not finite", "numbers", "Train again with a smaller lr.")
        self._frame = Frame.of(outputs, _FEATURES)
        self.rounding = _ROUNDING * float(outputs.square().sum(1).mean().sqrt()) + torch.finfo(torch.float64).tiny
        self._reference = self._features(z, c)

    def distances(self, z: Tensor, c: Tensor | None) -> Tensor:
        """(n,) distances, float64."""
        parts = self._features(z, c).split(_PANEL)
        exact = "donot_use_mm_for_euclid_dist"
        return torch.cat([torch.cdist(part, self._reference, compute_mode=exact).amin(1) for part in parts])

    def _features(self, z: Tensor, c: Tensor | None) -> Tensor:
        return torch.cat([self._frame.with_remainder(self._decoded(*block)) for block in self._blocks(z, c)])

    def _blocks(self, z: Tensor, c: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        own = z.split(self._at_once)
        return list(zip(own, [None] * len(own) if c is None else c.split(self._at_once), strict=True))

    def _decoded(self, z: Tensor, c: Tensor | None) -> Tensor:
        return self._vae.decode(z, c).flatten(1)


def _along(near: Neighbourhood, path: _Path, z: Tensor, c: Tensor | None, pairs: Tensor) -> Tensor:
    """Return (steps, pairs) distances along paths between codes."""
    start, end = z[pairs[:, 0]], z[pairs[:, 1]]
    own = None if c is None else c[pairs[:, 0]]
    return torch.stack([near.distances(path(start, end, step / (_STEPS - 1)), own) for step in range(_STEPS)])


def _share(distances: Tensor, threshold: float) -> float:
    return float((distances > threshold).double().mean())
