"""Learning-rate schedules: pure functions of the progress through training, as multiples of the peak rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from vaelab.training.hooks import Record
from vaelab.training.settings import Cosine, Exponential, FitSettings, Halving, OneCycle

Factor = Callable[[int], float]


def constant(_step: int) -> float:
    """Return 1 at every step."""
    return 1.0


def step_halving(step: int, *, every: int) -> float:
    """Halve after every `every` steps (Dai & Wipf 2019, training settings)."""
    return 0.5 ** (step // every)


def cosine(step: int, *, total: int) -> float:
    """Fall from 1 to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))


def one_cycle(step: int, *, total: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1e-4 / 25) -> float:
    """Rise from `start` to 1 over the share `rise` of the steps, then fall to `end`; both along half a cosine.

    The shape of Smith & Topin 2018 with the constants of ``torch.optim.lr_scheduler.OneCycleLR``.
    """
    peak = rise * total - 1
    if step <= peak:
        low, share = start, step / max(peak, 1)
        return low + (1 - low) * 0.5 * (1 - math.cos(math.pi * share))
    share = min((step - peak) / max(total - 1 - peak, 1), 1.0)
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * share))


def exponential(step: int, *, total: int, end: float = 0.01) -> float:
    """Fall from 1 to `end`, by the same share at every step (Tolstikhin et al. 2018, their program)."""
    return float(end ** min(step / total, 1.0))


def plateau(losses: Sequence[float], *, patience: int) -> float:
    """Halve whenever the loss has not fallen for more than `patience` epochs in a row, counted anew after each halving.

    Parameters
    ----------
    losses
        Of held-out rows, one per recorded epoch so far. A fall of less than a ten-thousandth is none.
    patience
        Epochs.
    """
    factor, best, waited = 1.0, math.inf, 0
    for loss in losses:
        fell = loss < best - 1e-4 * abs(best) if math.isfinite(best) else True
        best, waited = (loss, 0) if fell else (best, waited + 1)
        if waited > patience:
            factor, waited = factor / 2, 0
    return factor


def waited(records: Sequence[Record]) -> int:
    """Return the epochs since the held-out objective was lowest, as its records say."""
    best = min(records, key=lambda record: float(record["held_out_loss"]))
    return int(records[-1]["epoch"]) - int(best["epoch"])


def factor_of(settings: FitSettings, steps_per_epoch: int) -> Factor:
    """Return the schedule in the settings as a function of the step (0, 1, …); of `plateau`, a constant."""
    total, schedule = settings.length * steps_per_epoch, settings.schedule
    if isinstance(schedule, Halving):
        return partial(step_halving, every=schedule.every * steps_per_epoch)
    over = {Exponential: exponential, Cosine: cosine, OneCycle: one_cycle}.get(type(schedule))
    return constant if over is None else partial(over, total=total)
