"""The loop: exact resume, exact sharing over processes, errors, schedules."""

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from helpers import TORCHRUN, Rows, curved_manifold, small_vae
from vaelab.errors import InputError, NonFiniteObjectiveError
from vaelab.specs import Halving, Plateau
from vaelab.training import Compute, FitSettings, Hook, JsonLines, fit, mean_objective, read_records
from vaelab.training.schedules import cosine, exponential, factor_of, one_cycle, plateau, step_halving
from vaelab.training.steps import Plan, chunks

QUICK = {"epochs": 3, "batch_size": 16}
CPU = Compute(accelerator="cpu", checkpoint_seconds=0.0)


def rows(n=100):
    return Rows(curved_manifold(n, d=6))


def weights(model):
    return torch.cat([p.detach().flatten().double() for p in model.state_dict().values()])


def test_training_is_a_function_of_settings_and_leaves_global_randomness_alone():
    state = torch.get_rng_state()
    one, two, three = small_vae(), small_vae(), small_vae()
    torch.set_rng_state(state)
    fit(one, rows(), FitSettings(**QUICK), compute=CPU)
    assert torch.equal(state, torch.get_rng_state())
    torch.randn(3)
    fit(two, rows(), FitSettings(**QUICK), compute=CPU)
    assert torch.equal(weights(one), weights(two))
    fit(three, rows(), FitSettings(**QUICK), compute=CPU, seed=1)
    assert not torch.equal(weights(one), weights(three))
    assert not one.training


class StopAt(Hook):
    """Raises after some recorded epochs, like a user who loses patience."""

    def __init__(self, epoch):
        self.stop = epoch

    def epoch(self, record):
        if record["epoch"] == self.stop:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [2, 3])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path, stop):
    settings = FitSettings(**QUICK)
    whole, cut = small_vae(), small_vae()
    history = fit(whole, rows(), settings, held_out=rows(30), compute=CPU)
    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(cut, rows(), settings, held_out=rows(30), compute=CPU, state_file=state, hooks=[StopAt(stop)])
    resumed = small_vae(seed=9)
    again = fit(resumed, rows(), settings, held_out=rows(30), compute=CPU, state_file=state, resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    keys = ("epoch", "loss", "held_out_loss", "gamma")
    assert [[r[k] for k in keys] for r in again] == [[r[k] for k in keys] for r in history]


@pytest.mark.campaign
def test_a_killed_process_resumes_bit_for_bit(tmp_path):
    """SIGKILL in the middle of an epoch; the state on disk is from the middle of an epoch too."""
    script = textwrap.dedent("""
        import sys, torch
        from pathlib import Path
        from helpers import Rows, curved_manifold, small_vae
        from vaelab.training import Compute, FitSettings, fit
        torch.set_num_threads(1)
        settings = FitSettings(epochs=4, batch_size=8)
        model = small_vae(hidden=(64, 64))
        state = Path(sys.argv[1]) if sys.argv[1] else None
        fit(model, Rows(curved_manifold(4000, d=6)), settings,
            compute=Compute(accelerator="cpu", checkpoint_seconds=0.0), state_file=state, resume=True)
        torch.save(model.state_dict(), sys.argv[2])
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def command(state, out):
        return [sys.executable, "-c", script, str(state), str(tmp_path / out)]

    subprocess.run(command("", "whole.pt"), check=True, env=environment)
    state = tmp_path / "state.safetensors"
    process = subprocess.Popen(command(state, "never.pt"), env=environment)
    while not state.exists():
        time.sleep(0.005)
        assert process.poll() is None, "finished before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "never.pt").exists()
    subprocess.run(command(state, "resumed.pt"), check=True, env=environment)
    whole, resumed = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "resumed.pt"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.campaign
@pytest.mark.parametrize(
    "how",
    [
        "variance=ProfiledVariance(); length = {}; hooks = []",
        "variance=FixedVariance(0.5); length = dict(accumulate=2, clip=1.0); hooks = [Ending()]",
    ],
)
def test_two_processes_agree_with_one(tmp_path, how):
    """Each rank takes its share of every batch and of its noise; the profiled γ is that of the whole batch.

    Parts of a process's share add up, gradients are shortened together, and a hook of the first process ends both.
    """
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys, torch
        from helpers import Rows, curved_manifold, small_vae
        from vaelab.model import FixedVariance, ProfiledVariance
        from vaelab.training import Compute, FitSettings, Hook, fit
        torch.set_num_threads(1)
        class Ending(Hook):
            def epoch(self, record):
                return record["epoch"] == 2
        HOW
        model = small_vae(variance=variance).double()
        settings = FitSettings(epochs=3, batch_size=20, **length)
        history = fit(model, Rows(curved_manifold(90, d=6).double()), settings, hooks=hooks,
                      compute=Compute(accelerator="cpu", precision="64-true"))
        assert len(history) == 3 - len(hooks)
        if os.environ.get("RANK", "0") == "0":
            loss = torch.tensor(history[-1]["loss"], dtype=torch.float64)
            torch.save({**model.state_dict(), "loss": loss}, sys.argv[1])
    """).replace("HOW", how)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(script), str(tmp_path / "one.pt")], check=True, env=environment)
    subprocess.run([*TORCHRUN, str(script), str(tmp_path / "two.pt")], check=True, env=environment, capture_output=True)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pt", "two.pt"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-9, atol=1e-11, msg=key)


def test_processes_end_with_the_same_model_where_there_is_batch_norm(tmp_path):
    """Batch norm's averages are of a process's own share; all take over the first one's, also for the best weights."""
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys, torch
        from helpers import Rows
        from vaelab.model import VAE
        from vaelab.nets import InfoGANDecoder, InfoGANEncoder
        from vaelab.training import Compute, FitSettings, fit
        torch.set_num_threads(1)
        torch.manual_seed(0)
        vae = VAE(InfoGANEncoder((1, 8, 8), 4), InfoGANDecoder(2, (1, 8, 8)), latent_dim=2)
        x = Rows(torch.rand(48, 1, 8, 8))
        fit(vae, x, FitSettings(epochs=3, batch_size=16), compute=Compute(accelerator="cpu"), held_out=x)
        torch.save(vae.state_dict(), f"{sys.argv[1]}/{os.environ['RANK']}.pt")
    """)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([*TORCHRUN, str(script), str(tmp_path)], check=True, env=environment, capture_output=True)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("0.pt", "1.pt"))
    assert any("running_mean" in key for key in one)
    for key, value in one.items():
        assert torch.equal(two[key], value), key


def test_gamma_falls_and_history_has_all_terms():
    model = small_vae(hidden=(32,))
    history = fit(model, rows(400), FitSettings(epochs=30, batch_size=50, lr=5e-3), held_out=rows(50))
    assert {"loss", "distortion", "kl", "gamma", "active_dimensions", "held_out_loss", "seconds"} <= history[-1].keys()
    assert history[-1]["loss"] == pytest.approx(history[-1]["distortion"] + history[-1]["kl"])
    assert history[-1]["gamma"] < 0.5 * history[0]["gamma"]


def test_many_epochs_are_recorded_in_bounded_number():
    history = fit(small_vae(), rows(20), FitSettings(epochs=450, batch_size=20))
    assert 100 <= len(history) <= 200
    assert history[-1]["epoch"] == 450


class NanAt(torch.nn.Module):
    """An encoder that breaks after some calls."""

    def __init__(self, net, calls):
        super().__init__()
        self.net, self.calls, self.seen = net, calls, 0

    def forward(self, x, c=None):
        self.seen += 1
        return self.net(x) * (float("nan") if self.seen > self.calls else 1.0)


def test_non_finite_objective_stops_with_step_term_and_gamma(tmp_path):
    model = small_vae()
    model.encoder = NanAt(model.encoder, 9)
    state = tmp_path / "state.safetensors"
    settings = FitSettings(epochs=5, batch_size=16)
    with pytest.raises(NonFiniteObjectiveError, match=r"step 10: distortion and kl is nan, gamma [\d.]+ before"):
        fit(model, rows(), settings, compute=Compute(checkpoint_seconds=0.0, accelerator="cpu"), state_file=state)
    good = small_vae()
    good.encoder = NanAt(good.encoder, 99)
    fit(
        good,
        rows(),
        settings,
        compute=Compute(checkpoint_seconds=0.0, accelerator="cpu"),
        state_file=state,
        resume=True,
    )
    assert torch.isfinite(weights(good)).all()


def test_state_of_another_training_is_refused(tmp_path):
    state = tmp_path / "state.safetensors"
    fit(small_vae(), rows(), FitSettings(**QUICK), compute=CPU, state_file=state)
    with pytest.raises(InputError, match=r"lr=0.001 \(now 0.01\)"):
        fit(small_vae(), rows(), FitSettings(**QUICK, lr=0.01), compute=CPU, state_file=state, resume=True)


def test_keep_best_returns_the_best():
    x = curved_manifold(80, d=6)  # over ten seeds of rows and weights it ends at least 10 nats worse than it was
    model, few, other = small_vae(hidden=(64,)), Rows(x[:20]), Rows(x[20:])
    settings = FitSettings(epochs=300, batch_size=20, lr=1e-2)
    history = fit(model, few, settings, compute=Compute(accelerator="cpu"), held_out=other)
    losses = [record["held_out_loss"] for record in history]
    assert min(losses) < losses[-1] - 1, "this data set does not over-fit, so the test shows nothing"
    assert mean_objective(model, other)["loss"] == pytest.approx(min(losses))
    last = small_vae(hidden=(64,))
    fit(last, few, settings.set_params(keep_best=False), held_out=other, compute=CPU)
    assert mean_objective(last, other)["loss"] == pytest.approx(losses[-1])


@pytest.mark.parametrize("done", [0, 4, 8, 10, 14, 28, 30])
def test_chunks_go_on_exactly_where_a_training_stopped(done):
    plan = Plan(rows=105, batch_size=10, epochs=3, chunk_steps=4)
    every = [(c.epoch, c.first + i) for c in chunks(plan, 0) for i in range(c.steps)]
    left = [(c.epoch, c.first + i) for c in chunks(plan, done) for i in range(c.steps)]
    assert len(every) == 30
    assert left == every[done:]


def test_batches_larger_than_the_data_shrink():
    plan = Plan.of(rows(7), FitSettings(batch_size=100), processes=2)
    assert (plan.batch_size, plan.steps_per_epoch) == (6, 1)
    with pytest.raises(InputError, match="one row per process"):
        Plan.of(rows(1), FitSettings(), processes=2)


def test_plateau_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    losses = (1 + torch.randn(60, generator=generator).cumsum(0).abs()).tolist()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3)
    for count, loss in enumerate(losses, 1):
        theirs.step(loss)
        assert plateau(losses[:count], patience=3) == optimizer.param_groups[0]["lr"]
    assert plateau(losses, patience=3) < 0.01
    assert plateau([-1.0, -2.0, -3.0, -4.0], patience=1) == 1  # nats may be negative


def test_plateau_slows_a_training_that_is_stuck_and_needs_held_out_rows():
    settings = FitSettings(epochs=8, batch_size=10, schedule=Plateau(1), lr=0.02)
    x = 2 + torch.randn(20, 6)
    history = fit(small_vae(), Rows(x), settings, compute=CPU, held_out=Rows(-x))  # every step leads away from these
    losses = [record["held_out_loss"] for record in history]
    rates = [record["lr"] for record in history]
    assert rates == [0.02 * plateau(losses[:epoch], patience=1) for epoch in range(8)]
    assert rates[-1] == 0.02 / 8
    with pytest.raises(InputError, match="plateau"):
        fit(small_vae(), Rows(torch.randn(20, 6)), settings, compute=Compute(accelerator="cpu"))


def test_exponential_falls_by_equal_shares():
    values = [exponential(step, total=10) for step in range(11)]
    assert values[0] == 1
    assert values[-1] == pytest.approx(0.01)
    assert [b / a for a, b in itertools.pairwise(values)] == pytest.approx([0.01**0.1] * 10)


def test_schedules():
    assert [step_halving(s, every=3) for s in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert (cosine(0, total=10), cosine(10, total=10)) == (1.0, 0.0)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=50, cycle_momentum=False)
    for step in range(50):
        assert one_cycle(step, total=50) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        if step < 49:
            reference.step()
    halving = factor_of(FitSettings(schedule=Halving(2), epochs=6), steps_per_epoch=5)
    assert [halving(s) for s in (0, 9, 10, 20)] == [1, 1, 0.5, 0.25]


def test_contradictory_settings_are_refused():
    with pytest.raises(ValueError, match="every"):
        FitSettings(schedule="step")
    with pytest.raises(ValueError, match="schedule=None"):
        FitSettings(schedule=None)
    with pytest.raises(ValueError, match="did you mean 'epochs'"):
        FitSettings(epoch=3)


def test_metrics_file_survives_a_resume_and_a_torn_line(tmp_path):
    path, state = tmp_path / "metrics.jsonl", tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(
            small_vae(), rows(), FitSettings(**QUICK), compute=CPU, hooks=[JsonLines(path), StopAt(2)], state_file=state
        )
    with path.open("a") as file:
        file.write('{"stage": "training", "epo')
    fit(small_vae(), rows(), FitSettings(**QUICK), compute=CPU, hooks=[JsonLines(path)], state_file=state, resume=True)
    assert [record["epoch"] for record in read_records(path)] == [1, 2, 3]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_mixed_precision_steps_train():
    history = fit(small_vae(), rows(), FitSettings(**QUICK), compute=Compute(accelerator="cpu", precision="bf16-mixed"))
    plain = fit(small_vae(), rows(), FitSettings(**QUICK), compute=CPU)
    assert history[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=0.05)


def test_compiled_steps_are_the_same_steps():
    """With a compiler that only captures the graph: no C++ toolchain is needed."""
    import torch._dynamo

    torch._dynamo.reset()
    plain, compiled = small_vae(), small_vae()
    fit(plain, rows(), FitSettings(**QUICK), compute=CPU)
    original = torch.compile
    torch.compile = lambda model: original(model, backend="eager")
    try:
        fit(compiled, rows(), FitSettings(**QUICK), compute=Compute(accelerator="cpu", compile=True))
    finally:
        torch.compile = original
    torch.testing.assert_close(weights(plain), weights(compiled), rtol=1e-6, atol=1e-8)


def test_weight_decay_leaves_the_variance_alone():
    """Decay would pull log √γ to 0, that is γ to 1."""
    from vaelab.model import LearnedVariance

    with_decay = small_vae(variance=LearnedVariance(1e-4))
    groups = with_decay.parameter_groups()
    assert [group.decays for group in groups] == [True, False]
    fit(with_decay, rows(), FitSettings(**QUICK, weight_decay=0.1), compute=CPU)


def test_no_module_hides_a_public_name():
    """A module imported by its own name becomes an attribute of its package, in place of a function so called."""
    import pkgutil

    import vaelab
    import vaelab.training

    for package in (vaelab, vaelab.training):
        modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
        assert not modules & set(package.__all__)


def test_a_training_does_not_end_worse_than_it_began():
    """Steps far too large for weights that are good already."""
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    vae = small_vae(4, 2)
    fit(vae, Rows(x), FitSettings(epochs=60, batch_size=50, lr=3e-3), compute=CPU, held_out=Rows(x[:50]))
    good = {name: value.clone() for name, value in vae.state_dict().items() if "variance" not in name}
    wild = FitSettings(epochs=1, batch_size=50, lr=0.5, schedule="constant")
    fit(vae, Rows(x), wild, compute=CPU, held_out=Rows(x[:50]))
    assert all(bool((vae.state_dict()[name] == value).all()) for name, value in good.items())
