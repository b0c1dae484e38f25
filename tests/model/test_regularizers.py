"""Penalties against direct computations, and the steps of a critic against two optimisers by hand."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab.errors import InputError
from vaelab.model import (
    KL,
    MMD,
    VAE,
    Adversarial,
    CodeNorm,
    Controlled,
    Deterministic,
    Draw,
    FixedVariance,
    Gaussian,
    JacobianPenalty,
    Rising,
    Standard,
    WeightNorm,
    draw,
)
from vaelab.model.regularizers import WAE_SCALES, mmd
from vaelab.nets import MLP, MLPDecoder, MLPEncoder
from vaelab.training import Compute, FitSettings, fit, mean_objective


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def autoencoder(*regularizers, d=4, latent_dim=2, link="sigmoid", seed=0):
    torch.manual_seed(seed)
    return VAE(
        MLPEncoder((d,), latent_dim, hidden=(8,)),
        MLPDecoder(latent_dim, (d,), hidden=(8,)),
        latent_dim=latent_dim,
        posterior=Deterministic(),
        likelihood=Gaussian(FixedVariance(0.5), link=link),
        regularizers=regularizers,
    ).double()


def test_an_autoencoder_is_the_squared_error_up_to_a_constant():
    model, x = autoencoder(), torch.rand(5, 4)
    constant = 2 * torch.tensor(torch.pi).log()
    torch.testing.assert_close(model(x).per_sample, (x - model.reconstruct(x)).square().sum(1) + constant)
    assert "variance_ratio" not in model(x).readings
    assert model.summary(model(x).readings) == {"gamma": 0.5}


def kernel(a, b, scales):
    """k(a, b) by the definition."""
    squared = float(((a - b) ** 2).sum())
    return sum(2 * len(a) * s / (2 * len(a) * s + squared) for s in scales)


def test_mmd_is_the_direct_double_loop():
    a, b = torch.randn(7, 3), 2 * torch.randn(7, 3) + 1
    n, scales = 7, (0.3, 1.0, 5.0)
    within = sum(kernel(p[i], p[j], scales) for p in (a, b) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(a[i], b[j], scales) for i in range(n) for j in range(n))
    expected = within / (n * n - n) - 2 * across / n**2
    assert float(mmd(a, b, torch.tensor(scales))) == pytest.approx(expected, rel=1e-12)


def test_mmd_is_unbiased_where_both_laws_agree():
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor(WAE_SCALES)
    found = []
    for _ in range(3000):
        both = torch.randn(2, 6, 2, generator=generator)
        found.append(mmd(both[0], both[1], scales))
    values = torch.stack(found)
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean())) < 3 * error
    assert 0.2 < float((values < 0).double().mean()) < 0.8
    # with the diagonal it would be far from zero
    assert error < 0.02


def test_mmd_penalty_compares_codes_with_draws_of_the_prior():
    model = autoencoder(MMD(10.0))
    assert model.noise_shape == (4,)
    x, noise = torch.rand(6, 4), torch.randn(6, 4)
    expected = 10 * mmd(model.encode(x).mean, noise[:, 2:], torch.tensor(WAE_SCALES))
    torch.testing.assert_close(model(x, noise=noise).penalties["mmd"], expected.expand(6))


def test_norms_are_sums_of_squares():
    model = autoencoder(CodeNorm(0.3), WeightNorm(0.7))
    x = torch.rand(5, 4)
    found = model(x).penalties
    torch.testing.assert_close(found["code_norm"], 0.3 * model.encode(x).mean.square().sum(1))
    kernels = [m.weight for m in model.decoder.modules() if isinstance(m, nn.Linear)]
    assert len(kernels) == 2
    total = 0.7 * sum(w.square().sum() for w in kernels)
    torch.testing.assert_close(found["weight_norm"], total.expand(5))


def test_weight_norm_of_convolutions_leaves_dense_layers_out():
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Unflatten(1, (2, 2, 2)), nn.ConvTranspose2d(2, 1, 2))
    given = Draw(None, None, None, None, torch.zeros(3, 2), None, decoder, Gaussian())
    torch.testing.assert_close(WeightNorm(2.0, dense=False)(given)[0], 2 * decoder[2].weight.square().sum())


def probes(d):
    """All sign vectors: their mean is Hutchinson's expectation without error."""
    return [torch.tensor(signs, dtype=torch.float64) for signs in itertools.product([-1.0, 1.0], repeat=d)]


def frobenius(model, z):
    """‖∂μ/∂z‖_F² of one code, by the whole Jacobian."""
    return torch.func.jacrev(lambda one: model.decode(one[None])[0])(z).square().sum()


@pytest.mark.parametrize("training", [True, False])
def test_jacobian_penalty_is_the_squared_norm_in_the_mean_over_probes(training):
    model = autoencoder(JacobianPenalty(0.5, dimensions=4)).train(training)
    x = torch.rand(3, 4)
    with torch.set_grad_enabled(training):
        noises = [torch.cat([torch.zeros(3, 2), v.expand(3, 4)], 1) for v in probes(4)]
        mean = torch.stack([model(x, noise=noise).penalties["jacobian"] for noise in noises]).mean(0)
    expected = torch.stack([0.5 * frobenius(model, z) for z in model.encode(x).mean])
    torch.testing.assert_close(mean, expected)
    if training:  # its gradient too, in all weights
        parameters = [p for p in model.parameters() if p.requires_grad]
        got = torch.autograd.grad(mean.sum(), parameters, allow_unused=True)
        wanted = torch.autograd.grad(expected.sum(), parameters, allow_unused=True)
        pairs = [(g, w) for g, w in zip(got, wanted, strict=True) if w is not None]
        assert len(pairs) >= 6
        for g, w in pairs:
            torch.testing.assert_close(g, w)


def test_the_programs_form_is_the_gradient_of_the_squared_norm_of_the_output():
    model = autoencoder(JacobianPenalty(0.5, dimensions=4, form="program"))
    assert model.noise_shape == (2,)
    x = torch.rand(3, 4)
    one = torch.func.grad(lambda z: model.decode(z[None])[0].square().sum())
    expected = torch.stack([0.5 * one(z).square().sum() for z in model.encode(x).mean])
    torch.testing.assert_close(model(x).penalties["jacobian"], expected)


def test_penalties_are_evaluated_on_rows_held_out():
    model = autoencoder(JacobianPenalty(1.0, dimensions=4), MMD(1.0), CodeNorm(1.0))
    found = mean_objective(model, Rows(torch.rand(9, 4)), batch_size=4)
    assert set(found) >= {"jacobian", "mmd", "code_norm", "distortion"}
    assert found["loss"] == pytest.approx(sum(found[n] for n in ("jacobian", "mmd", "code_norm", "distortion")))


@pytest.mark.parametrize("log_prior", [True, False])
def test_losses_of_encoder_and_critic(log_prior):
    critic = nn.Linear(2, 1)
    penalty = Adversarial(3.0, critic, log_prior=log_prior)
    p = Standard(2).double()()
    z, noise = torch.randn(5, 2, requires_grad=True), torch.randn(5, 2)
    known = p.log_prob if log_prior else lambda z: 0.0

    def probability(z):
        return (critic(z)[:, 0] + known(z)).sigmoid()

    given = Draw(None, None, None, p, z, None, nn.Identity(), Gaussian(), None)
    torch.testing.assert_close(penalty(given), -3 * probability(z).log())
    loss = penalty.critic_loss(z, p, noise)
    torch.testing.assert_close(loss, -3 * (probability(noise).log() + (1 - probability(z)).log()))
    loss.sum().backward()
    assert z.grad is None
    assert critic.weight.grad is not None


def test_critic_and_encoder_steps_alternate():
    """Tolstikhin et al., algorithm 1: the critic moves first, on codes of the encoder as it is; then the others."""
    torch.manual_seed(0)
    model = autoencoder(Adversarial(2.0, MLP(2, 1, (6,)).double(), lr_scale=0.5))
    by_hand = copy.deepcopy(model)
    x = torch.rand(8, 4)
    settings = FitSettings(epochs=3, batch_size=8, lr=0.05, schedule="constant")
    seen = []

    class Spy(Rows):
        """Remembers the order of the rows."""

        def to(self, device):
            return self

        def take(self, index, noise=None):
            seen.append(self.x[index])
            return super().take(index, noise)

    noises = []
    forward = VAE.forward

    def listen(self, x, c=None, *, noise=None):
        noises.append(noise)
        return forward(self, x, c, noise=noise)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VAE, "forward", listen)
        history = fit(model, Spy(x), settings, compute=Compute(precision="64-true", accelerator="cpu"))
    assert len(noises) == len(seen) == 3
    assert history[-1]["critic"] > 0

    critic = by_hand.regularizers[0].critic
    others = [p for n, p in by_hand.named_parameters() if "critic" not in n]
    first = torch.optim.Adam(critic.parameters(), lr=0.025)
    second = torch.optim.Adam(others, lr=0.05)
    for rows, noise in zip(seen, noises, strict=True):
        p = by_hand.prior(None)
        loss = by_hand.regularizers[0].critic_loss(by_hand.encode(rows).mean.detach(), p, noise[:, 2:])
        first.zero_grad()
        loss.mean().backward()
        first.step()
        second.zero_grad()
        by_hand(rows, noise=noise).total.backward()
        second.step()
    for (name, got), wanted in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, msg=lambda text, name=name: f"{name}: {text}")


def test_a_resumed_training_with_a_critic_takes_the_same_steps(tmp_path):
    def made():
        torch.manual_seed(3)
        return autoencoder(Adversarial(2.0, MLP(2, 1, (6,)).double()), seed=3)

    rows, whole = Rows(torch.rand(40, 4)), made()
    settings = FitSettings(epochs=4, batch_size=10)
    fit(
        whole,
        rows,
        settings,
        compute=Compute(precision="64-true", accelerator="cpu", checkpoint_seconds=0),
        state_file=tmp_path / "whole.safetensors",
    )

    class Stop(Exception):  # noqa: N818
        """What kills it."""

    class Half:
        """Kills the training after two epochs."""

        def start(self, start): ...
        def update(self, step, record): ...
        def note(self, text): ...
        def end(self): ...
        def epoch(self, record):
            if record["epoch"] == 3:
                raise Stop

    part, state = made(), tmp_path / "part.safetensors"
    with pytest.raises(Stop):
        fit(
            part,
            rows,
            settings,
            compute=Compute(precision="64-true", accelerator="cpu", checkpoint_seconds=0),
            hooks=[Half()],
            state_file=state,
        )
    again = made()
    fit(
        again,
        rows,
        settings,
        compute=Compute(precision="64-true", accelerator="cpu", checkpoint_seconds=0),
        state_file=state,
        resume=True,
    )
    for got, wanted in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(got, wanted)


def test_kl_and_noisy_penalties_share_a_pass():
    plain = small_vae(6, 3).double()
    mixed = VAE(plain.encoder, plain.decoder, latent_dim=3, regularizers=[KL(0.5), MMD(2.0), CodeNorm(0.1)])
    x, noise = torch.randn(5, 6), torch.randn(5, 6)
    objective = mixed(x, noise=noise)
    z = draw(mixed.encode(x), noise[:, :3])
    torch.testing.assert_close(objective.penalties["code_norm"], 0.1 * z.square().sum(1))
    torch.testing.assert_close(objective.penalties["kl"], 0.5 * plain(x, noise=noise[:, :3]).penalties["kl"])
    torch.testing.assert_close(objective.penalties["mmd"][0], 2 * mmd(z, noise[:, 3:], torch.tensor(WAE_SCALES)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MMD(-1.0), "≥ 0"),
        (lambda: MMD(1.0, scales=()), "at least one positive"),
        (lambda: MMD(1.0, scales=(1.0, 0.0)), "at least one positive"),
        (lambda: CodeNorm(-0.1), "≥ 0"),
        (lambda: JacobianPenalty(float("nan"), dimensions=3), "≥ 0"),
    ],
)
def test_wrong_weights_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_a_critics_step_leaves_running_averages_alone():
    encoder = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)).double()

    class Reads(nn.Module):
        """An encoder with batch norm."""

        def __init__(self):
            super().__init__()
            self.network = encoder

        def forward(self, x, c=None):
            return self.network(x)

    model = autoencoder(Adversarial(1.0, nn.Linear(2, 1)))
    model = VAE(
        Reads(), model.decoder, latent_dim=2, posterior=Deterministic(), likelihood=model.likelihood,
        regularizers=[Adversarial(1.0, nn.Linear(2, 1))],
    ).double().train()  # fmt: skip
    x, noise = torch.rand(6, 4), torch.randn(6, 4)
    before = encoder[1].running_mean.clone()
    (step,) = model.steps_before()
    step.loss(x, None, noise)
    assert torch.equal(encoder[1].running_mean, before)
    assert encoder[1].momentum == 0.1
    model(x, noise=noise)
    assert not torch.equal(encoder[1].running_mean, before)


def test_jacobian_penalty_of_the_first_of_several_draws():
    plain = small_vae(6, 3).double()
    mixed = VAE(plain.encoder, plain.decoder, latent_dim=3, regularizers=[JacobianPenalty(1.0, dimensions=6)], draws=2)
    x, noise = torch.randn(5, 6), torch.randn(5, 12)
    penalty = mixed(x, noise=noise).penalties["jacobian"]
    penalty.sum().backward()
    z = draw(mixed.encode(x), noise[:, :3])
    jacobians = torch.stack([torch.func.jacrev(lambda one: mixed.decode(one[None])[0])(one) for one in z])
    probe = noise[:, 6:].sign()
    torch.testing.assert_close(penalty, (jacobians.mT @ probe[..., None]).square().sum((1, 2)))


def test_mmd_of_one_row_is_nothing():
    assert float(mmd(torch.randn(1, 3), torch.randn(1, 3), torch.tensor(WAE_SCALES))) == 0


@pytest.mark.parametrize("name", ["likelihood", "mmd"])
def test_mixed_precision_rounds_layers_only(name):
    """Objectives under autocast differ from full precision by what the layers round, not by the loss's own rounding."""
    torch.set_default_dtype(torch.float32)
    model = autoencoder(*([MMD(1.0)] if name == "mmd" else [])).float()
    x, noise = torch.rand(64, 4), torch.randn(64, *model.noise_shape)
    with torch.autocast("cpu", torch.bfloat16):
        z = model.encode(x).mean
        parameters = model.decoder(z).float()
        found = model(x, noise=noise)
    if name == "likelihood":
        torch.testing.assert_close(found.distortion, model.likelihood.nll(parameters, x), rtol=1e-6, atol=1e-6)
    else:
        expected = mmd(z, noise[:, 2:], torch.tensor(WAE_SCALES))
        torch.testing.assert_close(found.penalties["mmd"][0], expected, rtol=1e-5, atol=1e-6)


def a_vae(schedule, weight=2.0):
    torch.manual_seed(0)
    return VAE(
        MLPEncoder((4,), 4, hidden=(8,)),
        MLPDecoder(2, (4,), hidden=(8,)),
        latent_dim=2,
        likelihood=Gaussian(FixedVariance(1.0)),
        regularizers=[KL(weight, schedule=schedule)],
    ).double()


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Rising(0.5), {0.0: 0.0, 0.25: 0.5, 0.5: 1.0, 0.9: 1.0}),
        (Rising(0.5, cycles=4), {0.0: 0.0, 0.0625: 0.5, 0.125: 1.0, 0.2: 1.0, 0.25: 0.0, 0.8125: 0.5, 0.99: 1.0}),
    ],
)
def test_a_kl_rises_while_it_trains_and_is_whole_where_it_is_scored(schedule, factors):
    model, x, noise = a_vae(schedule), torch.rand(5, 4), torch.randn(5, 2)
    whole = model.eval()(x, noise=noise).penalties["kl"]
    model.train()
    for share, factor in factors.items():
        model.begin_step(share)
        torch.testing.assert_close(model(x, noise=noise).penalties["kl"], factor * whole)
        torch.testing.assert_close(model.eval()(x, noise=noise).penalties["kl"], whole)
        model.train()


def test_a_controller_follows_its_equations():
    """kp/(1 + exp e) − ki Σ e, of which the sum stops at the limits."""
    control, total = Controlled(3.0, kp=0.2, ki=0.05).double(), 0.0
    for kl in (2.0, 5.0, 9.0, 30.0, 4.0, 0.5, 1.0):
        error = 3.0 - kl
        part = 0.2 / (1 + math.exp(error))
        if 0 <= part + total - 0.05 * error <= 1:
            total -= 0.05 * error
        wanted = min(max(part + total, 0.0), 1.0)
        assert float(control(torch.full((4,), kl))) == pytest.approx(wanted)
    assert float(control.integral) == pytest.approx(total)


def test_a_controlled_kl_ends_where_it_is_asked_to():
    """On rows for which the whole weight ends elsewhere; a resumed training has the same controller."""
    x = 3 * torch.randn(400, 4, generator=torch.Generator().manual_seed(1))
    ends = {}
    for target in (1.0, 3.0):
        model = a_vae(Controlled(target, kp=0.01, ki=1e-2), weight=20.0)
        fit(model, Rows(x), FitSettings(epochs=150, batch_size=100, lr=1e-2), compute=Compute(precision="64-true"))
        ends[target] = mean_objective(model, Rows(x))["kl"] / 20
    assert ends[1.0] == pytest.approx(1, abs=0.3)
    assert ends[3.0] == pytest.approx(3, abs=0.3)
    assert "integral" in " ".join(model.state_dict())


def test_schedules_refuse_what_makes_no_sense():
    for made in (lambda: Rising(0.0), lambda: Rising(cycles=0), lambda: Controlled(0.0), lambda: Controlled(1, ki=0)):
        with pytest.raises(InputError):
            made()
