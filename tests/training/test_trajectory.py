"""The loop against an Adam written out in float64, every setting against what it says, and the weights at the end."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from types import SimpleNamespace

import lightning_fabric
import pytest
import torch

from helpers import Rows
from vaelab.errors import InputError
from vaelab.specs import Settings
from vaelab.training import Compute, FitSettings, Hook, checkpoint, devices, fit, mean_objective
from vaelab.training.settings import Schedule
from vaelab.types import Objective, ParameterGroup, Trainable

N, D = 23, 3
SETTINGS = {"epochs": 6, "batch_size": 5, "lr": 0.03}
CPU = Compute(accelerator="cpu", checkpoint_seconds=0.0)
STEPS_PER_EPOCH = N // 5
STEPS = 6 * STEPS_PER_EPOCH
SCALES = (1.0, 4.0, 0.25)


class Line(Trainable):
    """A little regression in float64 that notes what every training step sees."""

    noise_shape = (2,)

    def __init__(self):
        super().__init__()
        start = torch.linspace(0.5, 2.0, 3 * D, dtype=torch.float64).view(3, D)
        self.slope, self.level, self.free = (torch.nn.Parameter(row.clone()) for row in start)
        self.seen, self.losses, self.types = [], [], []

    def forward(self, x, c=None, *, noise=None):
        found = objective(self.slope, self.level, self.free, x, noise)
        if self.training:
            self.types.append((x.dtype, (x @ self.slope).dtype))
            self.seen.append((x.clone(), noise.clone(), [p.detach().clone() for p in self.parameters()]))
            self.losses.append(found.total.detach())
        return found

    def parameter_groups(self):
        decays = (True, True, False)
        each = zip(self.parameters(), SCALES, decays, strict=True)
        return [ParameterGroup([p], scale, decay) for p, scale, decay in each]


def objective(slope, level, free, x, noise):
    distortion = (x @ slope + level.sum() + 0.3 * noise.sum(1) - 1).square()
    penalties = {"one": (free * x).cos().sum(1), "two": (free - level).square().sum().expand(len(x))}
    return Objective(distortion, penalties, {"level": level.detach().sum(), "first": x.detach()[:, 0]})


def rows(n=N, seed=0):
    return Rows(torch.randn(n, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


def one_cycle():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=STEPS, cycle_momentum=False)
    found = []
    for _ in range(STEPS):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        if len(found) < STEPS:
            schedule.step()
    return found


def plateau(history, patience, steps=STEPS_PER_EPOCH):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience)
    found = []
    for record in history:
        found += [optimizer.param_groups[0]["lr"]] * steps
        schedule.step(record["held_out_loss"])
    return found


FACTORS = {
    "constant": lambda history: [1.0] * STEPS,
    "step": lambda history: [0.5 ** (step // (2 * STEPS_PER_EPOCH)) for step in range(STEPS)],
    "cosine": lambda history: [(1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS)],
    "exponential": lambda history: [0.01 ** (step / STEPS) for step in range(STEPS)],
    "one_cycle": lambda history: one_cycle(),
    "plateau": lambda history: plateau(history, 1),
}


def adam(seen, factors, *, lr, beta1, weight_decay=0.0, clip=math.inf):
    """Parameters before every step and after the last; D. Kingma, J. Ba, "Adam", 2015, algorithm 1, with an L2 term."""
    values = [p.clone() for p in seen[0][2]]
    mean, square = ([torch.zeros_like(p) for p in values] for _ in range(2))
    path = [[p.clone() for p in values]]
    for t, ((x, noise, _), factor) in enumerate(zip(seen, factors, strict=True), 1):
        leaves = [p.clone().requires_grad_() for p in values]
        gradients = torch.autograd.grad(objective(*leaves, x, noise).total, leaves)
        norm = float(torch.cat(gradients).norm())
        for i, g in enumerate(gradients):
            decay = weight_decay if i < 2 else 0.0
            g = g * min(1.0, clip / norm) + decay * values[i]
            mean[i] = beta1 * mean[i] + (1 - beta1) * g
            square[i] = 0.999 * square[i] + 0.001 * g**2
            step = mean[i] / (1 - beta1**t) / ((square[i] / (1 - 0.999**t)).sqrt() + 1e-8)
            values[i] = values[i] - lr * factor * SCALES[i] * step
        path.append([p.clone() for p in values])
    return path


@pytest.mark.parametrize("precision", ["32-true", "64-true"])  # without Fabric's wrappers, and with them
@pytest.mark.parametrize("schedule", Schedule.kinds())
def test_every_step_is_adams(schedule, precision):
    settings = FitSettings(
        **{**SETTINGS, "lr": 1.0},
        schedule={"step": "step(2)", "plateau": "plateau(1)"}.get(schedule, schedule),
        beta1=0.6,
        weight_decay=0.3,
        keep_best=False,
    )
    model, compute = Line(), Compute(accelerator="cpu", precision=precision)
    history = fit(model, rows(), settings, compute=compute, held_out=rows(9, seed=1))
    factors = FACTORS[schedule](history)
    assert len(set(factors)) > 1 or schedule == "constant", "the rate never moves, so the test shows nothing"
    wanted = adam(model.seen, factors, lr=1.0, beta1=0.6, weight_decay=0.3)
    for got, want in zip([*(p for _, _, p in model.seen), list(model.parameters())], wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-8)
    rates = [factors[(epoch + 1) * STEPS_PER_EPOCH - 1] for epoch in range(6)]
    assert [record["lr"] for record in history] == pytest.approx(rates, rel=1e-12)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_gradients_are_shortened_to_a_norm_of_all_weights_together(precision):
    model, compute = Line(), Compute(accelerator="cpu", precision=precision)
    fit(model, rows(), FitSettings(**SETTINGS, schedule="constant", weight_decay=0.3, clip=2.0), compute=compute)
    wanted, without = (
        adam(model.seen, [1.0] * STEPS, lr=0.03, beta1=0.9, weight_decay=0.3, clip=clip) for clip in (2.0, math.inf)
    )
    for got, want in zip([*(p for _, _, p in model.seen), list(model.parameters())], wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)  # torch adds 1e-6 to a norm
    assert not torch.allclose(torch.cat(without[-1]), torch.cat(wanted[-1]), rtol=1e-3)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
@pytest.mark.parametrize("count", [2, 5, 9])  # of parts of five rows: uneven, one each, more than there are
def test_steps_in_parts_are_the_steps_of_whole_batches(precision, count):
    compute = Compute(accelerator="cpu", precision=precision)
    whole, cut = Line(), Line()
    history = fit(whole, rows(), FitSettings(**SETTINGS, clip=2.0), compute=compute)
    again = fit(cut, rows(), FitSettings(**SETTINGS, clip=2.0, accumulate=count), compute=compute)
    assert {len(x) for x, _, _ in cut.seen} == ({2, 3} if count == 2 else {1})
    torch.testing.assert_close(list(cut.parameters()), list(whole.parameters()), rtol=1e-12, atol=1e-13)
    for name in ("loss", "distortion", "one", "two", "level"):
        assert [record[name] for record in again] == pytest.approx([record[name] for record in history], rel=1e-12)


def test_epochs_are_means_over_their_steps_and_held_out_rows():
    model, held_out = Line(), rows(9, seed=1)
    history = fit(model, rows(), FitSettings(**SETTINGS, keep_best=False), compute=CPU, held_out=held_out)
    for epoch, record in enumerate(history):
        part = slice(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH)
        assert record["loss"] == pytest.approx(float(torch.stack(model.losses[part]).mean()))
        assert record["level"] == pytest.approx(
            sum(float(p[1].sum()) for _, _, p in model.seen[part]) / STEPS_PER_EPOCH
        )
        assert record["loss"] == pytest.approx(record["distortion"] + record["one"] + record["two"])
    assert history[-1]["held_out_loss"] == mean_objective(model, held_out)["loss"]


def test_evaluation_is_the_mean_over_rows_in_uneven_blocks():
    model, data = Line(), rows(10, seed=2)
    noise_free = [p.detach() for p in model.parameters()]
    found = mean_objective(model, data, batch_size=4)
    assert found["one"] == pytest.approx(
        float(objective(*noise_free, data.x, torch.zeros(10, 2)).penalties["one"].mean())
    )
    assert found == mean_objective(model, data, batch_size=4)
    assert found["distortion"] != mean_objective(model, data, batch_size=4, seed=1)["distortion"]


@dataclass(frozen=True)
class Noisy(Rows):
    """Rows that note the noise they are taken with."""

    noted: tuple[list[torch.Tensor], ...] = ()
    noise_shape = (2,)

    def to(self, device):
        return self

    def take(self, index, noise=None):
        self.noted[0].append(noise.clone())
        return self.x[index], None


def test_rows_come_once_an_epoch_in_an_order_of_its_own_and_no_noise_comes_twice():
    model, noted = Line(), []
    fit(model, Noisy(rows().x, (noted,)), FitSettings(**SETTINGS), compute=CPU)
    orders = []
    for epoch in range(6):
        x = torch.cat([x for x, _, _ in model.seen[epoch * STEPS_PER_EPOCH : (epoch + 1) * STEPS_PER_EPOCH]])
        assert len(x.unique(dim=0)) == STEPS_PER_EPOCH * 5
        orders.append(x)
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(orders, 2))
    assert {tuple(row) for x in orders for row in x.tolist()} == {tuple(row) for row in rows().x.tolist()}
    own, datas = torch.cat([noise for _, noise, _ in model.seen]).float(), torch.cat(noted)
    assert len(torch.cat([own, datas]).unique()) == 2 * own.numel()
    assert own.mean().abs() < 4 / own.numel() ** 0.5
    assert own.var() == pytest.approx(1, abs=4 * (2 / own.numel()) ** 0.5)


class Crossing(Trainable):
    """One number w on its way from −1 to the training rows' 1; of held-out rows at 0 the middle of the way is best."""

    noise_shape = (0,)

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))
        self.path = []

    def forward(self, x, c=None, *, noise=None):
        if not self.training:
            self.path.append(float(self.w.detach()))
        return Objective((x[:, 0] - self.w).square(), {}, {})


class Stop(Hook):
    def epoch(self, record):
        if record["epoch"] == 30:
            raise KeyboardInterrupt


def at(value, n=4):
    return Rows(torch.full((n, 1), float(value), dtype=torch.float64))


CROSSING = {"epochs": 40, "batch_size": 4, "lr": 0.1}


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("keep_best", [False, True])
def test_the_weights_kept_are_those_of_the_best_held_out_epoch_also_after_a_resume(tmp_path, keep_best, cut):
    settings = FitSettings(**CROSSING, keep_best=keep_best)
    whole, model, state = Crossing(), Crossing(), tmp_path / "state.safetensors"
    fit(whole, at(1), settings, compute=CPU, held_out=at(0))
    assert 0 < [abs(w) for w in whole.path].index(min(map(abs, whole.path))) < 29
    if cut:
        with pytest.raises(KeyboardInterrupt):
            fit(Crossing(), at(1), settings, compute=CPU, held_out=at(0), state_file=state, hooks=[Stop()])
    fit(model, at(1), settings, compute=CPU, held_out=at(0), state_file=state, resume=True)
    assert model.w.item() == (min(whole.path, key=abs) if keep_best else whole.path[-1])
    if not keep_best:
        assert model.w.item() > 0.5


def middle(path):
    """Epoch, from 1, at whose end w was nearest to the middle of its way."""
    return min(range(1, len(path)), key=lambda epoch: abs(path[epoch]))


@pytest.mark.parametrize("patience", [1, 4])
def test_a_training_waits_for_a_better_epoch_and_ends_with_the_best(tmp_path, patience):
    settings, state = FitSettings(**CROSSING, patience=patience), tmp_path / "state.safetensors"
    whole, model, resumed, average = Crossing(), Crossing(), Crossing(), Crossing()
    fit(whole, at(1), FitSettings(**CROSSING), compute=CPU, held_out=at(0))
    best = middle(whole.path)
    history = fit(model, at(1), settings, compute=CPU, held_out=at(0), state_file=state)
    assert len(history) == best + patience < 40
    assert model.w.item() == whole.path[best]
    again = fit(resumed, at(1), settings, compute=CPU, held_out=at(0), state_file=state, resume=True)
    assert again == history, "a training that was ended goes on"
    assert resumed.w.item() == model.w.item()
    kept = fit(average, at(1), settings.set_params(keep_best=False), compute=CPU, held_out=at(0))
    assert average.w.item() == whole.path[len(kept)]


def test_waiting_needs_held_out_rows():
    with pytest.raises(InputError, match="patience=3"):
        fit(Crossing(), at(1), FitSettings(**CROSSING, patience=3), compute=CPU)


@pytest.mark.parametrize("schedule", ["plateau", "step", "cosine"])
def test_a_resumed_training_has_the_rates_of_a_whole_one(tmp_path, schedule):
    settings = FitSettings(**CROSSING, schedule="step(3)" if schedule == "step" else schedule, keep_best=False)
    whole, cut, state = Crossing(), Crossing(), tmp_path / "state.safetensors"
    history = fit(whole, at(1), settings, compute=CPU, held_out=at(0))
    with pytest.raises(KeyboardInterrupt):
        fit(Crossing(), at(1), settings, compute=CPU, held_out=at(0), state_file=state, hooks=[Stop()])
    again = fit(cut, at(1), settings, compute=CPU, held_out=at(0), state_file=state, resume=True)
    assert history[-1]["lr"] < 0.5 * history[0]["lr"]
    assert [record["lr"] for record in again] == [record["lr"] for record in history]
    assert cut.w.item() == whole.w.item()
    if schedule == "plateau":  # of five epochs, where nothing is said
        assert [record["lr"] for record in history] == [0.1 * factor for factor in plateau(history, 5, steps=1)]


def trained(monkeypatch, tmp_path, **changes):
    """What one training leaves to be read; every device is the CPU, whatever is asked for."""
    saves, compiled, asked = [], [], []
    save, fabric = checkpoint.save_state, lightning_fabric.Fabric
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_state", lambda *given: (saves.append(1), save(*given)))
        patch.setattr(torch, "compile", lambda module: (compiled.append(1), module)[1])
        patch.setattr(devices, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True)))
        patch.setattr(
            lightning_fabric,
            "Fabric",
            lambda *, accelerator, **k: (asked.append(accelerator), fabric(accelerator="cpu", **k))[1],
        )
        patch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        model, data, held_out = Line().float(), Rows(rows().x.float()), Rows(rows(9, seed=1).x.float())
        given = {"accelerator": "cpu", "checkpoint_seconds": 1e9, **SETTINGS, "keep_best": False, **changes}
        seed = given.pop("seed", 0)
        compute = Compute(**{name: given.pop(name) for name in Compute.model_fields if name in given})
        state = tmp_path / f"{sum(map(ord, str(changes)))}.safetensors"
        settings = FitSettings(**given)
        history = fit(model, data, settings, compute=compute, seed=seed, held_out=held_out, state_file=state)
    rates, losses = ([record[name] for record in history] for name in ("lr", "held_out_loss"))
    ends_best = mean_objective(model, held_out)["loss"] == min(losses) < losses[-1]
    return SimpleNamespace(
        model=model, history=history, rates=rates, ends_best=ends_best, saves=len(saves), compiled=compiled, asked=asked
    )


def first_steps(run):
    (_, _, before), (_, _, after) = run.model.seen[:2]
    return [pytest.approx(float((b - a).abs().mean()), rel=1e-3) for b, a in zip(before, after, strict=True)]


def shrinks(run):
    (_, _, before), (_, _, after) = run.model.seen[:2]
    return [bool((a < b).all()) for b, a in zip(before, after, strict=True)]


F32 = torch.float32
LOOSE = {"lr": 0.8, "schedule": "constant"}
# field → another value, what else is set both times, a reading, and what it is before and after; None: all differs
SAYS = {
    "epochs": (9, {}, lambda run: (len(run.history), len(run.model.seen)), (6, 24), (9, 36)),
    "batch_size": (7, {}, lambda run: {len(x) for x, _, _ in run.model.seen}, {5}, {7}),
    "lr": (0.06, {}, first_steps, [0.03, 0.12, 0.0075], [0.06, 0.24, 0.015]),
    "schedule": ("constant", {}, lambda run: len(set(run.rates)), 6, 1),
    "beta1": (0.0, {}, lambda run: tuple(p.tolist() for p in run.model.seen[2][2]), None, None),
    "weight_decay": (1e6, {}, lambda run: shrinks(run)[:2], None, [True, True]),
    "ema": (0.9, {}, lambda run: tuple(p.tolist() for p in run.model.parameters()), None, None),
    "augment": (
        lambda x: x + 100,
        {},
        lambda run: all(bool((x > 50).all()) for x, _, _ in run.model.seen),
        False,
        True,
    ),
    "keep_best": (True, LOOSE, lambda run: run.ends_best, False, True),
    "patience": (1, LOOSE, lambda run: len(run.history), 6, 5),
    "clip": (0.1, {}, lambda run: tuple(p.tolist() for p in run.model.parameters()), None, None),
    "accumulate": (2, {}, lambda run: [len(x) for x, _, _ in run.model.seen[:4]], [5, 5, 5, 5], [3, 2, 3, 2]),
    "precision": ("bf16-mixed", {}, lambda run: set(run.model.types), {(F32, F32)}, {(F32, torch.bfloat16)}),
    "compile": (True, {}, lambda run: run.compiled, [], [1]),
    "accelerator": ("auto", {}, lambda run: run.asked, ["cpu"], ["cuda"]),
    "checkpoint_seconds": (0.0, {}, lambda run: run.saves, 1, 6),
    "seed": (1, {}, lambda run: tuple(part.tolist() for part in run.model.seen[0][:2]), None, None),
}


@pytest.mark.parametrize("name", [*FitSettings.model_fields, *Compute.model_fields, "seed"])
def test_every_setting_changes_what_it_says(monkeypatch, tmp_path, name):
    changed, others, reading, before, after = SAYS[name]
    found = reading(trained(monkeypatch, tmp_path, **others))
    then = reading(trained(monkeypatch, tmp_path, **{**others, name: changed}))
    assert found != then
    if before is None and after is None:
        assert all(one != other for one, other in zip(found, then, strict=True))
    assert before is None or found == before
    assert after is None or then == after


@pytest.mark.parametrize(("batch", "parts", "rows"), [(16, 16, "1 row "), (16, 9, "1 row "), (1, 1, "1 row ")])
def test_parts_too_small_for_batch_norm_are_refused(batch, parts, rows):
    settings = Settings(network="infogan", training=FitSettings(batch_size=batch, accumulate=parts))
    with pytest.raises(InputError, match=f"batches of {rows}for 'infogan'.*batch_size"):
        settings.resolve(100, (1, 8, 8))
    settings.set_params(training=FitSettings(batch_size=2 * parts, accumulate=parts)).resolve(100, (1, 8, 8))
    settings.set_params(network="mlp").resolve(100, (1, 8, 8))
