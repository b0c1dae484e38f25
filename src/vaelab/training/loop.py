"""The one training loop, on Lightning Fabric. It knows `Objective`, not VAEs.

A step is a pure function of its number: the order of the rows and all noise come from streams keyed by seed, epoch and
chunk. So a training that is killed and resumed takes the same steps as one that is not, and several processes take the
same steps as one (each on its share of every batch).

Nothing in a step waits for the device. Terms are kept as tensors and read a few times per second, when they are also
checked for being finite.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.training import checkpoint
from vaelab.training.average import Average
from vaelab.training.checkpoint import TrainState
from vaelab.training.devices import make_fabric
from vaelab.training.evaluation import mean_objective
from vaelab.training.hooks import Hook, Record, Start
from vaelab.training.interrupts import Interrupted, awaited, pending
from vaelab.training.ledger import Ledger
from vaelab.training.schedules import factor_of, plateau, waited
from vaelab.training.settings import Compute, FitSettings, Plateau
from vaelab.training.steps import Chunk, Feeder, Plan, chunks
from vaelab.training.streams import forked, stream
from vaelab.training.updates import Part, Updates, parts_of
from vaelab.types import Batches, Step, Trainable

_RANDOM = re.compile("dropout|rrelu|fractional", re.IGNORECASE)  # layers of torch that draw


def fit(
    model: Trainable,
    train: Batches,
    settings: FitSettings,
    *,
    compute: Compute | None = None,
    seed: int = 0,
    held_out: Batches | None = None,
    hooks: Sequence[Hook] = (),
    stage: str = "training",
    state_file: Path | None = None,
    resume: bool = False,
) -> list[Record]:
    """Train a model in place.

    Parameters
    ----------
    model
        Anything that returns an `Objective`; ends on the device it was trained on, in evaluation mode. Of a model that
        comes in training mode, parts in evaluation mode (a frozen batch norm) stay so while it is trained.
    train
        Training rows.
    settings
        How long and how fast.
    compute
        On what; the defaults of `Compute` if None.
    seed
        Of the order of the rows and of all noise.
    held_out
        Rows for the held-out objective, evaluated with fixed noise at every recorded epoch.
    hooks
        Onlookers, called in the first process only. One whose `epoch` returns True ends the training after this epoch:
        the model is then as at any end, with the best weights or the average if these are asked for.
    stage
        A name for records and messages.
    state_file
        Where to keep the training state, at most every ``compute.checkpoint_seconds``.
    resume
        Go on from `state_file` if it exists.

    Returns
    -------
    list of dict
        One record per recorded epoch: means over its steps in nats per sample, γ, active dimensions, seconds.

    Raises
    ------
    InputError
        Contradictory arguments, or a state file of another training.
    NonFiniteObjectiveError
        A term became NaN or infinite; says which, at which step, and γ. The last good state stays on disk.
    """
    if settings.watches and held_out is None:
        raise InputError(f"{settings.watches} without held-out rows", "held-out rows", "Pass held_out.")
    settings, compute = settings.resolve(len(train)), compute or Compute()
    return _Training(model, train, settings, compute, seed, held_out, hooks, stage, state_file).run(resume=resume)


class _Training:
    """The state of one call of `fit`."""

    def __init__(
        self,
        model: Trainable,
        train: Batches,
        settings: FitSettings,
        compute: Compute,
        seed: int,
        held_out: Batches | None,
        hooks: Sequence[Hook],
        stage: str,
        state_file: Path | None,
    ) -> None:
        self.model, self.settings, self.compute, self.seed = model, settings, compute, seed
        self.stage, self.state_file = stage, state_file
        self.fabric = make_fabric(compute)
        if self.fabric.world_size > 1 and model.steps_before():
            raise InputError("several processes for a model with a critic", "one process")
        self.plan = Plan.of(train, settings, self.fabric.world_size)
        self.feeder = Feeder(train, self.plan, self.fabric, model.noise_shape, seed, settings.augment)
        self.held_out = None if held_out is None else held_out.to(self.fabric.device)
        self.hooks = list(hooks) if self.fabric.is_global_zero else []
        self.factor = factor_of(settings, self.plan.steps_per_epoch)
        self.state = TrainState()
        self.average: Average | None = None
        self.ledger = Ledger(self.fabric, model, stage)
        self._saved_at = self._flushed_at = time.monotonic()
        self._epoch_began = time.monotonic()

    @property
    def key(self) -> dict[str, Any]:
        """What must agree for a saved state to be this training's."""
        ours = self.settings.model_dump(mode="json")
        numbers = {"precision": self.compute.precision, "seed": self.seed}
        return {"stage": self.stage, "rows": self.plan.rows, "processes": self.fabric.world_size, **numbers, **ours}

    @property
    def _draws_itself(self) -> bool:
        """Whether the networks may draw from the global generators, as dropout does, or networks of other packages."""
        ours = ("vaelab.", "vaelab_papers.", "torch.nn.")
        kinds = {type(part) for part in self.model.modules()}
        return any(not kind.__module__.startswith(ours) or _RANDOM.search(kind.__name__) for kind in kinds)

    def run(self, *, resume: bool) -> list[Record]:
        self.model.to(self.fabric.device)
        groups = [
            {
                "params": list(group.parameters),
                "lr": self.settings.lr,
                "lr_scale": group.lr_scale,
                "weight_decay": self.settings.weight_decay if group.decays else 0.0,
            }
            for group in self.model.parameter_groups()
        ]
        fused = all(p.is_floating_point() for p in self.model.parameters())
        adam = torch.optim.Adam(groups, lr=self.settings.lr, betas=(self.settings.beta1, 0.999), fused=fused)
        if resume and self.state_file is not None and self.state_file.is_file():
            self.state, scaler = checkpoint.load_state(self.state_file, self.key, self.model, adam)
            if self.state.step > self.plan.steps:
                raise InputError(f"{self.state_file} at step {self.state.step}", f"at most {self.plan.steps}")
            self.fabric.strategy.precision.load_state_dict(scaler)
        self._plateau = self._slowed()
        updates = Updates(self.fabric, self.compute, self.model, adam, self.settings)
        if self.settings.ema is not None:  # of the weights as Fabric has converted them
            self.average = Average(self.model, self.settings.ema, self.plan.steps_per_epoch)
            self.average.load_state_dict(self.state.average)
            self.state.average = self.average.state_dict()
        first = Start(self.stage, self.plan.epochs, self.plan.steps_per_epoch, self.state.step, self.state.history)
        with ExitStack() as ending:
            for hook in self.hooks:
                ending.callback(hook.end)  # of all that were begun, also where another one fails
                hook.start(first)
            with awaited():
                self._steps(updates, adam)
        self._agree()
        if self.average is not None:
            self.average.swap()
        if self.state.best_weights:
            self.model.load_state_dict(self.state.best_weights)
        self.model.eval()
        return self.state.history

    def _own_draws(self, *key: int | str) -> AbstractContextManager[None]:
        """Seed the global generators for networks that draw themselves; other threads wait a chunk, not a training."""
        if not self._draws_itself:
            return nullcontext()
        time.sleep(1e-4)  # or the next chunk would have the lock before a thread that waits for it wakes
        return forked(self.fabric.device, self.seed, *key)

    def _steps(self, updates: Updates, adam: torch.optim.Optimizer) -> None:
        if not self.state.step:
            with self._own_draws():
                self._judge("start")  # so that a training never ends worse than it began
        if not self.model.training:  # in training mode already, it may hold parts that are frozen in evaluation mode
            self.model.train()
        before = self.model.steps_before()
        apart = {id(p) for step in before for p in step.parameters}
        rest = [p for p in self.model.parameters() if p.requires_grad and id(p) not in apart] if apart else None
        state, fabric, ledger = self.state, self.fabric, self.ledger
        for chunk in () if state.stopped else chunks(self.plan, state.step):
            with self._own_draws("network", chunk.epoch, chunk.first, fabric.global_rank):  # functions of the step too
                for x, c, noise in self.feeder.steps(chunk):
                    factor = self.factor(state.step) * self._plateau * self.settings.lr
                    for group in adam.param_groups:
                        group["lr"] = factor * group["lr_scale"]
                    self.model.begin_step(state.step / self.plan.steps)
                    parts = parts_of(x, c, noise, self.settings.accumulate)
                    read = {step.name: self._alternate(step, parts, updates) for step in before}
                    objective = updates.main(parts, rest)
                    if read:
                        objective = objective._replace(readings=objective.readings | read)
                    state.step += 1
                    if self.average is not None:
                        self.average.step(state.step)
                    ledger.add(state.step, objective)
                self._after(chunk, adam)
            if state.stopped:
                break

    def _alternate(self, step: Step, parts: Sequence[Part], updates: Updates) -> Tensor:
        """Take a step that comes before the main one; return its loss."""
        losses: list[Tensor] = []

        def passes() -> Iterator[Tensor]:
            for part in parts:
                with self.fabric.autocast():
                    loss = step.loss(part.x, part.c, part.noise).mean() * part.share
                losses.append(loss.detach())
                yield loss

        updates.descend(passes(), step.parameters)
        return torch.stack(losses).sum()

    def _after(self, chunk: Chunk, adam: torch.optim.Optimizer) -> None:
        """Read the terms, record an epoch that has ended, save; between chunks only."""
        now = time.monotonic()
        ended = self.state.step % self.plan.steps_per_epoch == 0
        record_due = ended and self.plan.recorded(chunk.epoch)
        # the clocks of several processes differ, so these read after every chunk, together
        if record_due or self.fabric.world_size > 1 or now - self._flushed_at > 0.25:
            latest = self.ledger.flush()
            self._flushed_at = now
            for hook in self.hooks:
                hook.update(self.state.step, latest)
        if record_due:
            self._record(chunk.epoch, adam)
        last, stopped = self.state.stopped or self.state.step == self.plan.steps, self._told_to_stop()
        if stopped and not last:
            self._save(adam)
            raise Interrupted(stopped)
        if last or now - self._saved_at >= self.compute.checkpoint_seconds:
            self._save(adam)

    def _told_to_stop(self) -> int:
        """Return the signal that waits, in this process or another one: they need not hear of it at the same step."""
        number = pending() or 0
        if self.fabric.world_size == 1:
            return number
        highest = self.fabric.all_reduce(torch.tensor(number, device=self.fabric.device), reduce_op="max")
        assert isinstance(highest, Tensor)
        return int(highest)

    def _record(self, epoch: int, adam: torch.optim.Optimizer) -> None:
        record: Record = {"stage": self.stage, "epoch": epoch + 1, "step": self.state.step}
        record["lr"] = float(adam.param_groups[0]["lr"])
        record |= self.ledger.close_epoch()
        record |= {f"held_out_{name}": value for name, value in self._judge(epoch).items()}
        record["seconds"] = round(time.monotonic() - self._epoch_began, 3)
        self._epoch_began = time.monotonic()
        self.state.history.append(record)
        self._plateau = self._slowed()
        asked = [hook.epoch(record) for hook in self.hooks]  # all hear of it
        stop = any(answer is True for answer in asked) or self._exhausted()
        self.state.stopped = self.fabric.broadcast(stop) if self.fabric.world_size > 1 else stop

    def _exhausted(self) -> bool:
        """Whether held-out rows have not improved for as long as settings wait."""
        patience = self.settings.patience
        return patience is not None and waited(self.state.history) >= patience

    def _judge(self, when: int | str) -> dict[str, float]:
        """Score held-out rows, if there are any, and keep the weights if they are the best so far."""
        if self.held_out is None:
            return {}
        self._agree()
        with nullcontext() if self.average is None else self.average.lent():
            draws = stream(self.fabric.device, self.seed, self.stage, "settle", when)
            self.model.settle(self.held_out, generator=draws)
            numbers = self.fabric.broadcast(mean_objective(self.model, self.held_out, seed=self.seed))
            if self.settings.keep_best and numbers["loss"] < self.state.best_loss:
                self.state.best_loss = numbers["loss"]
                self.state.best_weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        return numbers

    def _slowed(self) -> float:
        """Return what the held-out objective's course so far makes of the learning rate; 1 for other schedules."""
        schedule = self.settings.schedule
        if not isinstance(schedule, Plateau):
            return 1.0
        losses = [float(record["held_out_loss"]) for record in self.state.history]
        return plateau(losses, patience=schedule.patience)

    def _agree(self) -> None:
        """Give every process the first one's buffers: batch norm's averages are of each process's own share."""
        if self.fabric.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _save(self, adam: torch.optim.Optimizer) -> None:
        if self.state_file is None or not self.fabric.is_global_zero:
            return
        self.ledger.flush()  # refuses terms that are not finite, so that only good states are written
        scaler = self.fabric.strategy.precision.state_dict()
        checkpoint.save_state(self.state_file, self.key, self.state, self.model, adam, scaler)
        self._saved_at = time.monotonic()
