"""LSTM networks: what they read, the shared prior, and the sequential model that they make."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from vaelab.data.batches import ArrayBatches
from vaelab.data.sequences import Ragged, Windows, latest_windows, target_rows
from vaelab.errors import InputError
from vaelab.model import VAE, Conditional, Gaussian, LearnedVariance, absorb_prior
from vaelab.nets import ConditionReader, Gated, LSTMDecoder, LSTMEncoder, SequenceReader, SharedPrior
from vaelab.training import Compute, FitSettings, fit
from vaelab_papers.arma import arma_sequences

K, T, LATENT, UNITS = 3, 5, 2, 8


def encoder(features: int = K) -> LSTMEncoder:
    return LSTMEncoder((features,), 2 * LATENT, condition_shape=(T, features + 1), units=UNITS)


def model(
    features: int = K, *, shared: bool = False, latent_dim: int = LATENT, units: int = UNITS, seed: int = 0
) -> VAE:
    torch.manual_seed(seed)
    window = (T, features + 1)
    reads = LSTMEncoder((features,), 2 * latent_dim, condition_shape=window, units=units)
    prior = SharedPrior(reads, latent_dim) if shared else ConditionReader(window, 2 * latent_dim, hidden=(units,))
    return VAE(
        reads,
        LSTMDecoder(latent_dim, (features,), condition_shape=window, units=units),
        latent_dim=latent_dim,
        prior=Conditional(prior, latent_dim),
        likelihood=Gaussian(LearnedVariance(1.0)),
    )


def windows(rows: int, steps: int = T) -> Tensor:
    """Windows of 0, 1, 2 … present steps in turn."""
    c = torch.zeros(rows, steps, K + 1, dtype=torch.float64)
    for i in range(rows):
        present = i % (steps + 1)
        c[i, steps - present :, :K] = torch.randn(present, K, dtype=torch.float64)
        c[i, steps - present :, K] = 1
    return c


def test_the_last_state_follows_from_the_equations_of_an_lstm():
    reader, c = SequenceReader(4, UNITS).double(), torch.randn(6, 7, 4).double()
    weights = dict(reader.lstm.named_parameters())
    h = cell = torch.zeros(6, UNITS).double()
    for step in c.unbind(1):
        gates = step @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        gates = gates + h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
        let_in, forget, new, out = gates.chunk(4, dim=1)
        cell = forget.sigmoid() * cell + let_in.sigmoid() * new.tanh()
        h = out.sigmoid() * cell.tanh()
    torch.testing.assert_close(reader(c), h, rtol=1e-12, atol=1e-12)


def test_the_encoder_reads_x_as_the_step_after_the_window():
    net, c, x = encoder().double(), windows(9), torch.randn(9, K).double()
    present = torch.cat([x, torch.ones(9, 1).double()], dim=1)
    direct = net.head(net.reader(torch.cat([c, present[:, None]], dim=1)))
    assert torch.equal(net(x, c), direct)
    # so the posterior of one step is what the shared prior of the next is made of
    assert torch.equal(net.before(torch.cat([c, present[:, None]], dim=1)), direct)
    assert net.event_shape == (K,)
    assert net.condition_shape == (T, K + 1)
    assert net.out_features == 2 * LATENT


def test_the_decoder_puts_z_beside_the_state_of_its_window():
    net = LSTMDecoder(LATENT, (K,), condition_shape=(T, K + 1), units=UNITS).double()
    z, c = torch.randn(9, LATENT).double(), windows(9)
    weight, bias = net.body.output.weight, net.body.output.bias
    direct = torch.cat([z, net.reader(c)], dim=1) @ weight.T + bias
    torch.testing.assert_close(net(z, c), direct, rtol=1e-12, atol=1e-12)
    deep = LSTMDecoder(LATENT, (K,), condition_shape=(T, K + 1), units=UNITS, hidden=(7,), activation="tanh").double()
    assert deep(z, c).shape == (9, K)
    assert (deep.latent_dim, deep.out_shape, deep.condition_shape) == (LATENT, (K,), (T, K + 1))


@pytest.mark.parametrize("steps", [2, T, 11])
@pytest.mark.parametrize("shared", [False, True])
def test_gradients_reach_every_parameter_and_rows_stand_alone(shared, steps):
    vae, c = model(shared=shared).double(), windows(8, steps)
    x, noise = torch.randn(8, K).double(), torch.randn(8, LATENT).double()
    whole = vae(x, c, noise=noise)
    one = vae(x[3:4], c[3:4], noise=noise[3:4])
    torch.testing.assert_close(whole.per_sample[3:4], one.per_sample, rtol=1e-12, atol=1e-12)
    whole.total.backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name


def test_an_absent_step_is_not_a_step_of_zeros():
    """Two windows that differ only in the channel of presence are different conditions."""
    vae, x = model().double(), torch.randn(1, K).double()
    absent, zeros = torch.zeros(2, 1, T, K + 1).double()
    zeros[..., K] = 1
    noise = torch.zeros(1, LATENT).double()
    assert not torch.allclose(vae(x, absent, noise=noise).distortion, vae(x, zeros, noise=noise).distortion)
    assert not torch.allclose(vae.prior(absent).mean, vae.prior(zeros).mean)


def test_a_shared_prior_has_no_weights_of_its_own():
    shared, own = model(shared=True), model(shared=False)
    own_prior = sum(p.numel() for p in own.prior.parameters())
    count = [sum(p.numel() for p in vae.parameters()) for vae in (shared, own)]
    assert count[1] - count[0] == own_prior
    grouped = [id(p) for group in shared.parameter_groups() for p in group.parameters]
    assert len(grouped) == len(set(grouped))
    c = windows(4).float()
    before = shared.prior(c).mean
    torch.testing.assert_close(before, shared.encoder.before(torch.cat([0 * c[:, :1], c], dim=1))[:, :LATENT])
    with torch.no_grad():
        shared.encoder.head.bias += 1
    torch.testing.assert_close(shared.prior(c).mean, before + 1)


@pytest.mark.parametrize("shared", [False, True])
def test_states_and_copies_keep_the_model(shared):
    vae, other = model(shared=shared, seed=0), model(shared=shared, seed=1)
    x, c, noise = torch.randn(6, K), windows(6).float(), torch.randn(6, LATENT)
    wanted = vae(x, c, noise=noise).per_sample
    assert not torch.allclose(other(x, c, noise=noise).per_sample, wanted)
    other.load_state_dict(vae.state_dict())
    assert torch.equal(other(x, c, noise=noise).per_sample, wanted)
    twin = copy.deepcopy(vae)
    assert torch.equal(twin(x, c, noise=noise).per_sample, wanted)
    assert (twin.prior.network.encoder is twin.encoder) if shared else (twin.prior.network is not vae.prior.network)


@pytest.mark.parametrize("shared", [False, True])
def test_the_prior_of_a_sequential_model_can_be_absorbed(shared):
    vae = model(shared=shared).double()
    same, x, c, noise = absorb_prior(vae), torch.randn(7, K).double(), windows(7), torch.randn(7, LATENT).double()
    ours, theirs = vae(x, c, noise=noise), same(x, c, noise=noise)
    torch.testing.assert_close(ours.per_sample, theirs.per_sample, rtol=1e-10, atol=1e-10)


def test_a_gate_stands_before_the_decoder():
    decoder = LSTMDecoder(LATENT, (K,), condition_shape=(T, K + 1), units=UNITS)
    gated, z, c = Gated(decoder), torch.randn(4, LATENT), windows(4).float()
    torch.testing.assert_close(gated(z, c), decoder(z / 2, c))


X, C = torch.zeros(4, K), torch.zeros(4, T, K + 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encoder()(X), "no window of earlier points.*one window per row"),
        (lambda: encoder()(X, C[:3]), r"shape \(3, 5, 4\); wanted c of shape \(4, T, 4\)"),
        (lambda: encoder()(X, C[..., :K]), r"wanted c of shape \(4, T, 4\)"),
        (lambda: encoder()(X, C[:, 0]), r"windows of shape \(4, 4\)"),
        (lambda: encoder()(X[:, :2], C), r"x of shape \(4, 2\)"),
        (lambda: SequenceReader(4, 8)(None), "no sequence"),
        (lambda: SequenceReader(4, 8)(C[:, :0]), "T ≥ 1"),
        (lambda: SequenceReader(4, 8)(C.long()), "int64"),
        (lambda: ConditionReader((T, 4), 2)(C[..., :3]), r"\(B, 5, 4\)"),
        (lambda: model().sample(4), "Pass c"),
        (lambda: model().decoder(torch.zeros(4, LATENT)), "no sequence"),
        (lambda: model().decoder(torch.zeros(4, LATENT + 1), C), r"z of shape \(4, 3\)"),
        (lambda: model().decoder(torch.zeros(3, LATENT), C), "4 windows for 3 rows"),
        (lambda: LSTMEncoder((1, 8, 8), 4, condition_shape=(T, 65)), "Flatten every point"),
        (lambda: LSTMEncoder((K,), 4, condition_shape=(T, K)), r"condition_shape=\(5, 3\); wanted \(T, 4\)"),
        (lambda: ConditionReader((1, 5, 4), 2), r"\(T, channels\) for sequences"),
        (lambda: SharedPrior(encoder(), LATENT + 1), "wanted 6, the means and scales of 3"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def points(sequences: Tensor, which: str = "last") -> ArrayBatches:
    """The last point of each sequence, or every one, as x, the T points before it as c."""
    ragged = Ragged.of(sequences)
    rows = target_rows(ragged, which)
    return ArrayBatches(ragged.points[rows], Windows.before(ragged, rows, T))


def test_the_last_point_is_predicted_from_those_before_it():
    """x_l = R x_{l−1} + noise with R a rotation: predictions err by the noise, which is 0.05 of the marginal's size."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.tensor(0.5)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    steps = [torch.randn(1500, 2, generator=generator)]
    for _ in range(T):
        steps.append(steps[-1] @ turn.T + 0.05 * torch.randn(1500, 2, generator=generator))
    sequences = torch.stack(steps, dim=1)
    vae = model(2, units=16)
    settings = FitSettings(epochs=40, batch_size=100, lr=1e-2, schedule="one_cycle")
    fit(vae, points(sequences[:1200]), settings, compute=Compute(accelerator="cpu"))
    x = sequences[1200:, -1]
    c = latest_windows(Ragged.of(sequences[1200:, :-1]), T)
    with torch.no_grad():
        error = (vae.decode(vae.prior(c).mean, c) - x).square().mean()
        drawn = vae.sample(300, c, generator=generator, observation_noise=True)
    assert float(error) < 0.02 * float(x.var())
    assert float((drawn - x).square().mean()) < 0.04 * float(x.var())


def test_a_prior_that_shares_the_encoders_weights_costs():
    """Theorem 3, on a small ARMA problem, where every point is scored: q of one point is p of the next."""
    sequences = arma_sequences(300, r=2, d=6, window=T + 1).sequences
    batches = points((sequences - sequences.mean((0, 1))) / sequences.std((0, 1)), "all")
    settings = FitSettings(epochs=40, batch_size=100, lr=2e-2, schedule="one_cycle")
    loss = {}
    for shared in (False, True):
        vae = model(6, shared=shared, latent_dim=3, units=16)
        loss[shared] = fit(vae, batches, settings, compute=Compute(accelerator="cpu"))[-1]["loss"]
    assert loss[True] > loss[False] + 2, loss
