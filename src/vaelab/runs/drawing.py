"""How new rows are drawn: one record for estimators, runs and the shell, and the draws that it asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vaelab.arguments import check_number
from vaelab.data import Conditions, Split
from vaelab.data.ranges import within
from vaelab.diagnostics.measures import Manifold
from vaelab.errors import InputError
from vaelab.latent import Rejection
from vaelab.rows import check_drawn, spans
from vaelab.runs.given import draw_wanted
from vaelab.training import stream

if TYPE_CHECKING:
    from vaelab.runs.trained import Trained

_DRAWN, _LEAST_DRAWN = 2**20, 1000  # numbers, and rows at least, that are drawn from one stream


@dataclass(frozen=True)
class Draws:
    """How to draw new rows.

    Attributes
    ----------
    density
        Of z; ``"auto"`` is the one that was found best.
    observation_noise
        Draw x from p(x | z), or take the decoder's means. None draws for tables, whose noise is part of them (a mean
        never shows a rare level), and takes means for images, and where the posterior is a point.
    missing
        Leave entries of a mixed table out as the training rows did: given the row's z, and each other's gaps.
    given
        Of a table: column, by name or place → a value, a pair (low, high), or a list of values; all rows match.
    balance
        Of a table: column, by name or place, whose levels have equal shares; None leaves them as they are.
    temperature
        Of the law of z, see `LatentDensity.sample`: below 1 rows are more typical and less various than the data.
    rejection
        Draws z again where its row is off the manifold, and counts; `rejection_of` makes one. None keeps all.
    seed
        Of the draws.
    """

    density: str = "auto"
    observation_noise: bool | None = None
    missing: bool = False
    given: Mapping[Any, Any] | None = None
    balance: str | int | None = None
    temperature: float = 1.0
    rejection: Rejection | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, "a finite number above 0")

    @property
    def chosen(self) -> bool:
        """Whether rows are drawn until enough of them match."""
        return self.given is not None or self.balance is not None


DRAWS = Draws()
"""As rows are drawn by default."""


def rejection_of(trained: Trained, split: Split) -> Rejection:
    """Return what rejects codes whose decoded means are unlike any reconstruction of rows, as `off_manifold` counts.

    Parameters
    ----------
    trained
        The model.
    split
        Of data that `Trained.conditioned` returned. Of draws from the law of its codes about 5 % are rejected.

    Raises
    ------
    InputError
        Fewer than 4 rows.
    """
    return Rejection(Manifold.of(trained.vae, trained.batches_of(split), seed=trained.settings.seed).off)


def drawn_rows(trained: Trained, n: int, c: Conditions | None, how: Draws) -> Tensor:
    """(n, *event) new rows in the data's units; see `Trained.sample`."""
    if how.chosen:
        return _wanted_rows(trained, n, c, how)
    check_drawn(n, trained.facts.event_shape)
    return torch.cat(list(drawn_blocks(trained, n, lambda rows: trained.taken(c, rows), how)))


def drawn_blocks(
    trained: Trained, n: int, conditions: Callable[[slice], Tensor | None], how: Draws
) -> Iterator[Tensor]:
    """Yield new rows a block after the other; see `Trained.draws`."""
    if how.chosen:  # of levels that are rare, few rows are kept: not a block after the other
        yield _wanted_rows(trained, n, conditions(slice(0, n)), how)
        return
    if how.missing and trained.facts.gaps is None:
        remedy = "Train it with likelihood='mixed'; models that were trained before gaps were learned, once more."
        raise InputError("gaps from a model that has learned none", "a model of a mixed table", remedy)
    noise = how.observation_noise
    if noise and not trained.encodes:
        raise InputError("observation_noise for a GAN, whose rows are G(z) itself", "none", "Leave it out.")
    if noise is None:
        noise = trained.draws_noise
    generator = trained.generator(how.density)
    size = max(_LEAST_DRAWN, _DRAWN // math.prod(trained.facts.event_shape))
    for rows in spans(n, size) if n else [slice(0, 0)]:
        own = conditions(rows)
        drawn = generator.sample(
            rows.stop - rows.start,
            None if own is None else own.to(trained.device),
            generator=stream(trained.device, how.seed, "sample", *([rows.start] if rows.start else [])),
            observation_noise=noise,
            missing=how.missing,
            temperature=how.temperature,
            rejection=how.rejection,
        )
        found = trained.scaling.from_net(drawn)
        schema = trained.schema
        yield found if schema is None else schema.tied(within(schema.columns, found))


def _wanted_rows(trained: Trained, n: int, c: Conditions | None, how: Draws) -> Tensor:
    if trained.facts.kind != "table" or c is not None:
        raise InputError("given or balanced columns for images or a conditional model", "a table without conditions")

    def draw(rows: int, block: int = 0) -> Tensor:
        return drawn_rows(trained, rows, None, replace(how, given=None, balance=None, seed=how.seed + block))

    return draw_wanted(trained, n, how.given or {}, how.balance, draw, seed=how.seed)
