"""Flow matching on codes: a velocity field that carries standard normals along straight lines to p(z) or p(z | c).

    y = (z − m) / s,   y_t = (1 − t) u + t y,   u ~ N(0, I),   minimise E ‖v(y_t, t, c) − (y − u)‖²

A draw follows dy/dt = v from u at t = 0 to t = 1; so does the log-density, backwards:

    log p(z | c) = log N(u; 0, I) − ∫ tr ∂v/∂y dt − Σ log s

Lipman et al. 2023 (straight lines: section 4.1, example II); Tong et al. 2024 (couplings: section 3.2); Esser et al.
2024, section 3.1 (logit-normal times); Ho & Salimans 2022 (guidance without a classifier); Chen et al. 2018, theorem 1
(log-density); Grathwohl et al. 2019 (its trace by the estimate of Hutchinson 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.latent.densities import LatentDensity, Normals, condition_or_none, moments_or_unit
from vaelab.nets.conditioning import condition_shape_of
from vaelab.nets.network import whole
from vaelab.nets.velocity import Velocity
from vaelab.training import forked, stream
from vaelab.types import Objective, Trainable

Coupling = Literal["independent", "optimal_transport"]

EXACT_UP_TO = 64
"""Dimensions of which `FlowMatching.log_prob` computes the trace exactly."""

_BLOCK = 4096  # rows transformed at once
_FORGOTTEN = 0.1  # share of the conditions that training leaves out, for guidance
_SCORE_STEPS = 24  # of the solver, backwards: an error of .002 nats in a direction of variance 1e-3, .06 at 1e-6


class State(NamedTuple):
    """Where a solver stands: codes (B, κ), and (B,) or (probes, B) the integral of the trace so far."""

    y: Tensor
    trace: Tensor


class Estimate(NamedTuple):
    """(n,) numbers, and their standard errors."""

    value: Tensor
    error: Tensor


@final
class FlowMatching(LatentDensity, Trainable):
    """A law given by a velocity field, trained by `vaelab.training.fit` on `Codes`; `build_flow_matching` makes one.

    Parameters
    ----------
    velocity
        The network.
    loc, scale
        (κ,) m and s.
    condition_shape
        Of one c; () for none.
    coupling
        Which u belongs to which y of a batch: any, or the one by the assignment of least squared distance, with which
        the lines cross less (of conditional laws the assignment is blind to c, so it is refused).
    steps
        Of the midpoint rule that draws; each evaluates v twice.
    guidance
        w: draws follow v(y, c) + w (v(y, c) − v(y, no condition)), which is nearer to what is typical of c. 0 draws
        from the law that was trained, of which `log_prob` is the density at any w.
    """

    slow = True
    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        velocity: Velocity,
        *,
        loc: Tensor,
        scale: Tensor,
        condition_shape: tuple[int, ...] = (),
        coupling: Coupling = "independent",
        steps: int = 25,
        guidance: float = 0.0,
    ) -> None:
        super().__init__()
        self.velocity, self.condition_shape, self.coupling = velocity, condition_shape, coupling
        self.steps, self.guidance = whole("steps", steps), guidance
        self.register_buffer("loc", loc)
        self.register_buffer("scale", scale)

    @property
    def latent_dim(self) -> int:
        """κ."""
        return len(self.loc)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(κ + 1,): u, and a normal whose logistic is t; one more for the conditions that are left out."""
        return (self.latent_dim + 1 + bool(self.condition_shape),)

    def forward(self, x: Tensor, c: Tensor | None = None, *, noise: Tensor | None = None) -> Objective:
        """Score one minibatch of codes.

        Parameters
        ----------
        x
            (B, κ) codes z.
        c
            (B, *condition_shape), or None for a law without a condition.
        noise
            (B, *noise_shape) standard normals.

        Returns
        -------
        Objective
            Squared errors of the velocity as the distortion; these are no nats.
        """
        if noise is None:
            raise InputError("no noise", f"standard normals of shape (B, {self.noise_shape[0]})")
        c = self._checked(c, len(x))
        y, u, t = (x - self.loc) / self.scale, noise[:, : self.latent_dim], noise[:, [self.latent_dim]].sigmoid()
        if self.coupling == "optimal_transport":
            u = u[_nearest(y, u)]
        forgotten = None if c is None else torch.special.ndtr(noise[:, -1]) < _FORGOTTEN
        found = self.velocity(torch.lerp(u, y, t), t, self.velocity.read(c, len(x), forgotten))
        return Objective((found - (y - u)).square().sum(1), {}, {})

    def sample(
        self,
        n: int,
        c: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Draw (n, κ), with `steps` and `guidance` in place of its own; see `LatentDensity.sample`."""
        c, u = self._checked(c, n), Normals(generator, temperature).like(n, self.loc)
        return self.loc + self.scale * self.carry(u, c, steps=steps, guidance=guidance)

    def draw(self, n: int, c: Tensor | None, normals: Normals) -> Tensor:
        """Draw (n, κ); an unexpected c is refused, as networks do."""
        return self.sample(n, c, generator=normals.generator, temperature=normals.temperature)

    @torch.no_grad()
    def carry(
        self,
        y: Tensor,
        c: Tensor | None = None,
        *,
        back: bool = False,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Carry normals (n, κ) to standardised codes, or codes `back` to normals."""
        parts = []
        for start in range(0, len(y), _BLOCK):
            rows = slice(start, start + _BLOCK)
            own = None if c is None else c[rows]
            parts.append(self.carry_block(y[rows], own, back=back, steps=steps, guidance=guidance))
        return torch.cat(parts) if parts else y

    def carry_block(
        self,
        y: Tensor,
        c: Tensor | None = None,
        *,
        back: bool = False,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Do what `carry` does, with all rows at once and a gradient."""
        steps = self.steps if steps is None else whole("steps", steps)
        weight = self.guidance if guidance is None else guidance
        read = self.velocity.read(c, y.shape[0])
        none = self.velocity.read(None, y.shape[0]) if weight else None

        def rate(state: State, t: Tensor) -> State:
            v = self.velocity(state.y, t, read)
            if none is not None:
                v = v + weight * (v - self.velocity(state.y, t, none))
            return State(v, state.trace)

        return _solve(rate, y, steps, back=back).y

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) nats; an unexpected c is refused, as networks do.

        The trace is exact up to 64 dimensions, at the cost of κ evaluations of the velocity; beyond, this is the value
        of `estimate`. Both are up to the solver's error.
        """
        if self.latent_dim <= EXACT_UP_TO:
            return self._log_density(z, c, probes=None)[0]
        return self.estimate(z, c).value

    def estimate(self, z: Tensor, c: Tensor | None = None, *, probes: int = 4) -> Estimate:
        """(n,) log-densities in nats, by Hutchinson's unbiased estimate of the trace, and their standard errors.

        Parameters
        ----------
        z, c
            As for `log_prob`.
        probes
            Vectors of random signs for each code, at least 2; their scatter gives the error.
        """
        each = self._log_density(z, c, probes=whole("probes", probes, least=2))
        return Estimate(each.mean(0), each.std(0) / len(each) ** 0.5)

    def score(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """(n,) nats, with Hutchinson's unbiased estimate of the trace: one random sign per dimension, at any κ."""
        return self._log_density(z, c, probes=1)[0]

    def log_weight(self, z: Tensor, c: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """(n,) nats, with the exact trace at any κ: the exponential of an estimate is too large on average."""
        return self._log_density(z, c, probes=None)[0]

    @torch.no_grad()
    def _log_density(self, z: Tensor, c: Tensor | None, *, probes: int | None) -> Tensor:
        """(probes, n) nats, of each random probe; (1, n) with the exact trace where there are none."""
        c = self._checked(c, len(z))
        y, out = (z - self.loc) / self.scale, z.new_empty(probes or 1, len(z))
        block = max(1, _BLOCK // (probes or self.latent_dim))
        for start in range(0, len(z), block):
            rows = slice(start, start + block)
            own = y[rows]
            read = self.velocity.read(None if c is None else c[rows], len(own))
            vectors = torch.eye(self.latent_dim).to(own)[:, None].expand(-1, len(own), -1)
            if probes is not None:
                generator = stream(z.device, "signs", start)
                signs = torch.randint(2, (probes, *own.shape), generator=generator, device=z.device)
                vectors = signs.to(own).mul(2).sub(1)

            def rate(state: State, t: Tensor, read: Tensor | None = read, vectors: Tensor = vectors) -> State:
                def field(y: Tensor) -> Tensor:
                    found: Tensor = self.velocity(y, t, read)
                    return found

                v = field(state.y)
                moved = torch.func.vmap(lambda probe: torch.func.jvp(field, (state.y,), (probe,))[1])(vectors)
                along = (moved * vectors).sum(2)
                return State(v, along.sum(0, keepdim=True) if probes is None else along)

            u, trace = _solve(rate, own, _SCORE_STEPS, back=True)
            out[:, rows] = -0.5 * u.square().sum(1) + trace
        constant = self.scale.log().sum() + 0.5 * self.latent_dim * math.log(2 * math.pi)
        out -= constant
        return out

    def _checked(self, c: Tensor | None, rows: int) -> Tensor | None:
        checked = condition_or_none(c, rows, self.condition_shape)
        return None if checked is None else checked.to(self.loc)

    def extra_repr(self) -> str:
        """Show the sizes in ``repr``."""
        return f"latent_dim={self.latent_dim}, condition_shape={self.condition_shape}, coupling={self.coupling}"


def build_flow_matching(
    latent_dim: int,
    *,
    condition_shape: int | Sequence[int] = (),
    width: int = 512,
    blocks: int = 3,
    coupling: Coupling = "independent",
    steps: int = 25,
    guidance: float = 0.0,
    loc: Tensor | None = None,
    scale: Tensor | None = None,
    seed: int = 0,
) -> FlowMatching:
    """Build an untrained law; with the same sizes, a `state_dict` makes it any trained one.

    Parameters
    ----------
    latent_dim
        κ.
    condition_shape
        (width,) for vectors, (T, channels) for sequences, () for none.
    width, blocks
        Of the network's residual blocks.
    coupling, steps, guidance
        As for `FlowMatching`.
    loc, scale
        (κ,) mean and standard deviation of the codes, as `Codes.moments` gives them; 0 and 1 by default.
    seed
        Of the first weights.

    Raises
    ------
    InputError
        A size is not a whole number of at least 1, a scale is not positive, or the assignment is asked for under
        conditions.
    """
    size, shape = whole("latent_dim", latent_dim), condition_shape_of(condition_shape)
    check_coupling(coupling, shape)
    loc, scale = moments_or_unit(size, loc, scale)
    with forked("cpu", seed, "flow matching"):
        velocity = Velocity(size, width=width, blocks=blocks, condition_shape=shape)
    return FlowMatching(
        velocity, loc=loc, scale=scale, condition_shape=shape, coupling=coupling, steps=steps, guidance=guidance
    )


def check_coupling(coupling: Coupling, condition_shape: tuple[int, ...]) -> None:
    """Refuse an assignment under conditions: it would pair normals with codes of some conditions more than others.

    Raises
    ------
    InputError
        It is asked for.
    """
    if coupling == "optimal_transport" and condition_shape:
        raise InputError("coupling='optimal_transport' under conditions", "coupling='independent'")


def _nearest(y: Tensor, u: Tensor) -> Tensor:
    """(B,) rows of u in the order of y, by the assignment of least squared distance in all."""
    from scipy.optimize import linear_sum_assignment  # over a tenth of a second to import

    _, order = linear_sum_assignment(torch.cdist(y, u).square().cpu().numpy())
    return torch.as_tensor(order, device=u.device)


def _solve(rate: Callable[[State, Tensor], State], y: Tensor, steps: int, *, back: bool) -> State:
    """Follow a field by the midpoint rule from t = 0 to 1, or back; `trace` is its integral along the way.

    Steps become shorter towards t = 1, t = 1 − (1 − k / n)²: where codes are thin, the field is steep there. With even
    steps, a direction of variance 1e-4 was drawn with .4 of that, and its density was half a nat too high.
    """
    times = [1 - (1 - k / steps) ** 2 for k in range(steps + 1)]
    state = State(y, y.new_zeros(y.shape[0]))
    for begin, end in pairwise(times[::-1] if back else times):
        step, t = end - begin, y.new_full((1, 1), begin)
        first = rate(state, t)
        half = rate(State(state.y + 0.5 * step * first.y, first.trace), t + 0.5 * step)
        state = State(state.y + step * half.y, state.trace + step * half.trace)
    return state
