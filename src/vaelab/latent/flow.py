"""A neural spline flow on codes: standard normals bent into p(z) or p(z | c), with an exact density.

    y = (z − m) / s,   u = f(y; c),   log p(z | c) = log N(u; 0, I) + log abs det ∂f/∂y − Σ log s

f is a chain of autoregressive transforms, each a monotonic rational-quadratic spline on [−5, 5] of one dimension after
another, the identity outside. Couplings would be quicker to invert, but explain curved codes far worse.

Durkan et al. 2019, section 3.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.errors import MissingExtraError
from vaelab.latent.densities import LatentDensity, Normals, condition_or_none, moments_or_unit
from vaelab.nets.autoregressive import Autoregressive
from vaelab.nets.conditioning import ConditionReader, condition_shape_of
from vaelab.nets.network import whole
from vaelab.training import forked
from vaelab.types import Objective, Trainable

_READ = 32  # numbers that a sequence is read into
_BINS = 8  # of a spline, which has 8 widths, 8 heights and 7 slopes
_BLOCK = 4096  # rows transformed at once


@final
class Flow(LatentDensity, Trainable):
    """A normalising flow, trained by `vaelab.training.fit` on `Codes`; make one with `build_flow`.

    Parameters
    ----------
    steps
        Networks that give the numbers of the splines, in the order from y to u.
    reader
        Module of c → (B, features), the context; None gives vectors c themselves.
    loc, scale
        (κ,) m and s.
    condition_shape
        Of one c; () for none.
    """

    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        steps: Iterable[Autoregressive],
        reader: nn.Module | None,
        *,
        loc: Tensor,
        scale: Tensor,
        condition_shape: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.steps, self.reader, self.condition_shape = nn.ModuleList(steps), reader, condition_shape
        self.register_buffer("loc", loc)
        self.register_buffer("scale", scale)

    @property
    def _steps(self) -> list[Autoregressive]:
        return cast("list[Autoregressive]", list(self.steps))

    @property
    def latent_dim(self) -> int:
        """κ."""
        return len(self.loc)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(0,): its objective is not random."""
        return (0,)

    def forward(self, x: Tensor, c: Tensor | None = None, *, noise: Tensor | None = None) -> Objective:
        """Score one minibatch of codes.

        Parameters
        ----------
        x
            (B, κ) codes z.
        c
            (B, *condition_shape), or None for a flow without a condition.
        noise
            Not used.

        Returns
        -------
        Objective
            −log p(z | c) as the distortion, nats.
        """
        return Objective(-self._score(x, self._checked(c, len(x))), {}, {})

    def draw(self, n: int, c: Tensor | None, normals: Normals) -> Tensor:
        """Draw (n, κ); an unexpected c is refused, as networks do."""
        c = self._checked(c, n)
        u = normals.like(n, self.loc)
        parts = []
        for start in range(0, n, _BLOCK):
            rows = slice(start, start + _BLOCK)
            own = None if c is None else c[rows]
            parts.append(self._invert(u[rows], None if own is None else self._context(own)))
        return self.loc + self.scale * torch.cat(parts) if parts else u

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) nats; an unexpected c is refused, as networks do."""
        c = self._checked(c, len(z))
        starts = range(0, max(len(z), 1), _BLOCK)
        rows = [slice(start, start + _BLOCK) for start in starts]
        return torch.cat([self._score(z[part], None if c is None else c[part]) for part in rows])

    def _checked(self, c: Tensor | None, rows: int) -> Tensor | None:
        checked = condition_or_none(c, rows, self.condition_shape)
        return None if checked is None else checked.to(self.loc)

    def _context(self, c: Tensor) -> Tensor:
        return c if self.reader is None else self.reader(c)

    def _spline(self, numbers: Tensor) -> Any:
        """(…, numbers) → as many monotonic splines."""
        return require_zuko().transforms.MonotonicRQSTransform(*numbers.split([_BINS, _BINS, _BINS - 1], -1))

    def _invert(self, u: Tensor, context: Tensor | None) -> Tensor:
        """(n, κ) y for u, a dimension at a time, with the splines of that dimension alone."""
        for step in reversed(self._steps):
            y = torch.zeros_like(u)
            for j in step.order:
                value = self._spline(step.of(j, y, context)).inv(u[:, j])
                y = y.index_copy(1, torch.tensor([j], device=u.device), value[:, None])
            u = y
        return u

    def _bend(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """(n, κ) u for y, and (n,) the log-determinant."""
        log_det = y.new_zeros(len(y))
        for step in self._steps:
            y, slopes = self._spline(step(y, context)).call_and_ladj(y)
            log_det = log_det + slopes.sum(1)
        return y, log_det

    def _score(self, z: Tensor, c: Tensor | None) -> Tensor:
        u, log_det = self._bend((z - self.loc) / self.scale, None if c is None else self._context(c))
        constant = self.scale.log().sum() + 0.5 * self.latent_dim * math.log(2 * math.pi)
        out: Tensor = log_det - 0.5 * u.square().sum(-1) - constant
        return out

    def extra_repr(self) -> str:
        """Show the sizes in ``repr``."""
        return f"latent_dim={self.latent_dim}, condition_shape={self.condition_shape}"


def build_flow(
    latent_dim: int,
    *,
    condition_shape: int | Sequence[int] = (),
    hidden: Sequence[int] = (128, 128),
    transforms: int = 5,
    loc: Tensor | None = None,
    scale: Tensor | None = None,
    seed: int = 0,
) -> Flow:
    """Build an untrained flow; with the same sizes, a `state_dict` makes it any trained one.

    Parameters
    ----------
    latent_dim
        κ.
    condition_shape
        (width,) for vectors, (T, channels) for sequences, () for none.
    hidden
        Widths of the networks that give the splines' parameters.
    transforms
        How many; every other one takes the dimensions in reverse order.
    loc, scale
        (κ,) mean and standard deviation of the codes, as `Codes.moments` gives them; 0 and 1 by default.
    seed
        Of the first weights.

    Raises
    ------
    MissingExtraError
        zuko is not installed.
    InputError
        A size is not a whole number of at least 1, or a scale is not positive.
    """
    size, shape = whole("latent_dim", latent_dim), condition_shape_of(condition_shape)
    loc, scale = moments_or_unit(size, loc, scale)
    require_zuko()
    reads, widths = len(shape) > 1, [whole("hidden width", width) for width in hidden]
    context = _READ if reads else sum(shape)
    with forked("cpu", seed, "flow"):
        steps = [
            Autoregressive(size, 3 * _BINS - 1, widths, context=context, backwards=k % 2 == 1)
            for k in range(whole("transforms", transforms))
        ]
        reader = ConditionReader(shape, _READ) if reads else None
    return Flow(steps, reader, loc=loc, scale=scale, condition_shape=shape)


def require_zuko() -> Any:
    """Import zuko, which is optional, and put back the argument checks of distributions that it switches off."""
    checks = Distribution._validate_args
    try:
        return importlib.import_module("zuko")
    except ModuleNotFoundError as error:
        # a broken installation must not be reported as an absent one
        if error.name != "zuko":
            raise
        raise MissingExtraError("zuko", "flow", "The density 'flow'") from error
    finally:
        Distribution.set_default_validate_args(checks)
