"""A Gaussian mixture for every class: p(z | c) where c is one-hot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self, cast, final

import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.latent.codes import Codes
from vaelab.latent.densities import LatentDensity, Normals, check_condition
from vaelab.latent.mixtures import RIDGE, Covariance, Mixture, choose, draws, vector_conditions

_ENOUGH = 20  # codes of a class for a fit of its own; twice κ if that is more
_PER_COMPONENT = 10  # codes of a class


@final
class ClassMixture(LatentDensity):
    """A mixture for every class; c is one-hot.

    Parameters
    ----------
    parts
        The mixtures, in the order of the classes.
    """

    def __init__(self, parts: Iterable[Mixture]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def _parts(self) -> list[Mixture]:
        return cast("list[Mixture]", list(self.parts))

    @property
    def condition_shape(self) -> tuple[int, ...]:
        """(classes,)."""
        return (len(self.parts),)

    @classmethod
    def fit(cls, codes: Codes, *, components: int, covariance: Covariance = "full", seed: int = 0) -> Self:
        """Fit every class to one fresh draw per row.

        A class has at most one component for ten of its codes. One with fewer codes than 20 or 2κ has one component:
        its own mean, and the covariance around their means of all classes together. One without codes has a mixture of
        all codes.

        Raises
        ------
        InputError
            Fewer than two codes, or conditions that are not one-hot.
        """
        if len(codes) < 2:
            raise InputError(f"{len(codes)} codes", "at least 2")
        c = vector_conditions(codes)
        labels, width = _labels(c), c.shape[1]
        enough = max(_ENOUGH, 2 * codes.event_shape[0])
        common: Tensor | None = None
        parts = []
        for label in range(width):
            rows = (labels == label).nonzero()[:, 0]
            if len(rows) >= enough:
                k = max(1, min(components, len(rows) // _PER_COMPONENT))
                part = Mixture.fit(codes.subset(rows), components=k, covariance=covariance, seed=seed)
            elif len(rows):
                common = _common_factor(codes, labels, covariance, seed) if common is None else common
                mean = codes.loc[rows].mean(0, keepdim=True)
                part = Mixture(mean.new_ones(1), mean, common[None].clone(), covariance=covariance)
            else:
                k = max(1, min(components, len(codes) // _PER_COMPONENT))
                part = Mixture.fit(codes, components=k, covariance=covariance, seed=seed)
            parts.append(part)
        return cls(parts)

    @classmethod
    def select(
        cls, codes: Codes, *, components: int | None = None, covariance: Covariance | None = None, seed: int = 0
    ) -> Self:
        """Choose k and the covariance structure, the same for all classes: see `vaelab.latent.mixtures.choose`."""

        def of(part: Codes, k: int, structure: Covariance) -> Self:
            return cls.fit(part, components=k, covariance=structure, seed=seed)

        return choose(of, codes, components=components, covariance=covariance, seed=seed)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """Rebuild from `state_dict`."""
        owned: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            _, label, name = key.split(".")
            owned.setdefault(int(label), {})[name] = value
        return cls(Mixture.from_state(owned[label]) for label in sorted(owned))

    def draw(self, n: int, c: Tensor | None, normals: Normals) -> Tensor:
        """Draw (n, κ) for c (n, classes)."""
        labels = _labels(check_condition(c, n, self.condition_shape))
        parts = self._parts()
        out = parts[0].means.new_empty(n, parts[0].means.shape[1])
        for label in labels.unique().tolist():
            chosen = labels == label
            out[chosen] = parts[label].draw(int(chosen.sum()), None, normals)
        return out

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) nats, for c (n, classes)."""
        labels = _labels(check_condition(c, len(z), self.condition_shape))
        parts = self._parts()
        out = z.new_empty(len(z))
        for label in labels.unique().tolist():
            chosen = labels == label
            out[chosen] = parts[label].log_prob(z[chosen]).to(out.dtype)
        return out


def _hot(c: Tensor) -> Tensor:
    return ((c == 0) | (c == 1)).all(1) & (c.sum(1) == 1)


def _labels(c: Tensor) -> Tensor:
    """(n,) classes of one-hot rows."""
    hot = _hot(c)
    if not bool(hot.all()):
        row = int((~hot).nonzero()[0, 0])
        values = ", ".join(f"{value:g}" for value in c[row, :8].tolist())
        raise InputError(
            f"row {row} of c, which is none of the {c.shape[1]} classes ({values}{', …' if c.shape[1] > 8 else ''})",
            "one-hot rows: one 1 among zeros",
            "Sample classes that were trained on.",
        )
    return c.argmax(1)


def _common_factor(codes: Codes, labels: Tensor, covariance: Covariance, seed: int) -> Tensor:
    """(κ, κ) Cholesky factor of the covariance around the classes' means, or of all codes where those are too many."""
    z = draws(codes, None, seed)[0].double()
    size = z.shape[1]
    present, which = labels.unique(return_inverse=True)
    sums = z.new_zeros(len(present), size).index_add_(0, which, z)
    around = z - (sums / which.bincount()[:, None])[which]
    freedom = len(z) - len(present)
    if freedom < 2 * size:
        around, freedom = z - z.mean(0), len(z) - 1
    spread = around.T @ around / freedom
    if covariance == "diag":
        spread = spread.diagonal().diag()
    factor: Tensor = torch.linalg.cholesky(spread + RIDGE * torch.eye(size).to(spread))
    return factor.to(codes.loc)
