"""Smaller models from larger ones: exact slices of every family, parity, and its failure."""

import copy

import pytest
import torch
from torch import nn

from helpers import Rows, small_vae
from vaelab.data import ArrayBatches
from vaelab.diagnostics.dimension import Dimensions, count_dimensions, dimensions_of
from vaelab.diagnostics.prune import prune
from vaelab.errors import InputError, VaelabWarning
from vaelab.model import (
    VAE,
    Bernoulli,
    Conditional,
    FullCovariance,
    Gaussian,
    Isotropic,
    LearnedVariance,
    absorb_prior,
)
from vaelab.nets import (
    MLP,
    Embedded,
    Gated,
    InfoGANDecoder,
    InfoGANEncoder,
    MLPDecoder,
    MLPEncoder,
    ResNetDecoder,
    ResNetEncoder,
    WAEDecoder,
    WAEEncoder,
)
from vaelab.nets.conditioning import ConditionReader
from vaelab.nets.recurrent import LSTMDecoder, LSTMEncoder, SharedPrior
from vaelab.nets.residual import ResidualDecoder, ResidualEncoder
from vaelab.specs import Compute
from vaelab.training import FitSettings, fit
from vaelab_papers.synthetic import sigmoid_manifold

KAPPA, KEEP, D = 5, [0, 3], 6
IMAGE = (1, 8, 8)


def _mlp(size, width):
    return MLPEncoder((D,), 2 * size, hidden=(8,), condition_dim=width), MLPDecoder(
        size, (D,), hidden=(8,), condition_dim=width
    )


def _affine(size, width):
    return MLPEncoder((D,), 2 * size, hidden=(), condition_dim=width), MLPDecoder(
        size, (D,), hidden=(), condition_dim=width
    )


def _skip(size, width):
    encoder = MLPEncoder((2, 3), 2 * size, hidden=(8, 7), skip=True, condition_dim=width)
    return encoder, MLPDecoder(size, (2, 3), hidden=(7, 8), skip=True, condition_dim=width)


def _infogan(size, width):
    return InfoGANEncoder(IMAGE, 2 * size, condition_dim=width), InfoGANDecoder(size, IMAGE, condition_dim=width)


def _resnet(size, width):
    options = {"base_width": 2, "condition_dim": width}
    return ResNetEncoder(IMAGE, 2 * size, dense_width=8, **options), ResNetDecoder(size, IMAGE, **options)


def _wae(size, width):
    options = {"base_width": 2, "condition_dim": width}
    return WAEEncoder(IMAGE, 2 * size, **options), WAEDecoder(size, IMAGE, **options)


def _residual(size, width):
    options = {"base_width": 2, "condition_dim": width}
    return ResidualEncoder(IMAGE, 2 * size, dense_width=8, **options), ResidualDecoder(size, IMAGE, **options)


FAMILIES = {f.__name__.strip("_"): f for f in (_mlp, _affine, _skip, _infogan, _resnet, _residual, _wae)}


def _model(family, size, condition, posterior=None):
    """Plain, with the condition concatenated, or with everything a condition can pass through."""
    torch.manual_seed(1)
    encoder, decoder = family(size, 0 if condition == "none" else 3)
    prior = None
    if condition == "embedded":
        encoder, decoder = Embedded(encoder, 2, 3, hidden=(4,)), Embedded(decoder, 2, 3, hidden=(4,))
        decoder = Gated(decoder, 2, hidden=(4,))
        prior = Conditional(ConditionReader(2, 2 * size, hidden=(4,)), size)
    if condition == "plain":
        decoder, prior = Gated(decoder), Conditional(MLP(3, 2 * size, (4,)), size)
    likelihood = Gaussian(LearnedVariance(0.1))
    return VAE(encoder, decoder, latent_dim=size, prior=prior, likelihood=likelihood, posterior=posterior).double()


def _silence(vae):
    """Make the decoder deaf to what is dropped, so that the smaller model is the same one."""
    decoder = vae.decoder
    while not hasattr(decoder, "body"):
        decoder = decoder.decoder if isinstance(decoder, Gated) else decoder.network
    dropped = [j for j in range(KAPPA) if j not in KEEP]
    layers = [next(m for m in decoder.body.modules() if isinstance(m, nn.Linear))]
    layers += [m.output for m in decoder.body.modules() if isinstance(m, MLP) and m.skip]
    with torch.no_grad():
        for layer in layers:
            layer.weight[:, dropped] = 0.0


def _settle(vae, x, c):
    """Running statistics and power iterations away from where they start."""
    vae.train()
    for _ in range(3):
        vae(x, c)
    vae.eval()


@pytest.mark.parametrize("condition", ["none", "plain", "embedded"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_slice_is_the_same_function_of_what_is_kept(name, condition):
    vae = _model(FAMILIES[name], KAPPA, condition)
    _silence(vae)
    event = {"skip": (2, 3), "mlp": (D,), "affine": (D,)}.get(name, IMAGE)
    x = torch.rand(9, *event).double()
    c = {"none": None, "plain": torch.randn(9, 3).double(), "embedded": torch.randn(9, 2).double()}[condition]
    _settle(vae, x, c)
    before = copy.deepcopy(vae.state_dict())
    pruned = prune(vae, ArrayBatches(x, c, dtype=torch.float64), keep=KEEP)
    assert pruned.kept == (0, 3)
    assert pruned.parity
    assert max(pruned.reconstruction_change, pruned.sample_change) < 1e-9
    assert all(torch.equal(value, before[key]) for key, value in vae.state_dict().items())
    small, q, p = pruned.vae, vae.encode(x, c), vae.prior(c)
    torch.testing.assert_close(small.encode(x, c).mean, q.mean[:, KEEP])
    torch.testing.assert_close(small.encode(x, c).stddev, q.stddev[:, KEEP])
    torch.testing.assert_close(small.prior(c).mean, p.mean[..., KEEP])
    torch.testing.assert_close(small.prior(c).stddev, p.stddev[..., KEEP])
    # an ordinary model of the smaller size takes the weights, and trains
    fresh = _model(FAMILIES[name], len(KEEP), condition)
    fresh.load_state_dict(small.state_dict())
    torch.testing.assert_close(fresh.eval().reconstruct(x, c), small.reconstruct(x, c))
    small.train()(x, c).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())


@pytest.mark.parametrize("shared", [False, True])
def test_sequence_networks_are_sliced(shared):
    torch.manual_seed(0)
    window = (4, 3)
    encoder = LSTMEncoder((2,), 2 * KAPPA, condition_shape=window, units=6)
    vae = VAE(
        encoder,
        LSTMDecoder(KAPPA, (2,), condition_shape=window, units=6),
        latent_dim=KAPPA,
        prior=Conditional(
            SharedPrior(encoder, KAPPA) if shared else ConditionReader(window, 2 * KAPPA, hidden=(6,)), KAPPA
        ),
        likelihood=Gaussian(LearnedVariance(0.1)),
    ).double()
    _silence(vae)
    x, c = torch.randn(7, 2).double(), torch.randn(7, *window).double()
    pruned = prune(vae, ArrayBatches(x, c, dtype=torch.float64), keep=KEEP)
    assert max(pruned.reconstruction_change, pruned.sample_change) < 1e-9
    torch.testing.assert_close(pruned.vae.prior(c).mean, vae.prior(c).mean[:, KEEP])


def test_an_isotropic_posterior_is_sliced():
    encoder, decoder = MLPEncoder((D,), KAPPA, hidden=(8,)), MLPDecoder(KAPPA, (D,), hidden=(8,))
    vae = VAE(encoder, decoder, latent_dim=KAPPA, posterior=Isotropic(0.2), likelihood=Bernoulli())
    _silence(vae)
    x = torch.rand(5, D)
    pruned = prune(vae, Rows(x), keep=KEEP)
    assert pruned.reconstruction_change < 1e-6
    torch.testing.assert_close(pruned.vae.encode(x).mean, vae.encode(x).mean[:, KEEP])


def test_dropping_what_is_used_is_told():
    vae = small_vae(latent_dim=3, variance=LearnedVariance(0.01))
    with pytest.warns(VaelabWarning, match="carry something"):
        pruned = prune(vae, Rows(torch.randn(50, 6)), keep=[1])
    assert not pruned.parity
    assert "1 dimensions kept" in str(pruned)


def test_changes_are_measured_in_units_of_the_noise():
    """A linear decoder: dropping z_j moves x by W_j z_j, so samples by ‖W_j‖/√(d γ)."""
    vae = small_vae(d=6, latent_dim=2, hidden=(), variance=LearnedVariance(0.25)).double()
    x = torch.randn(20_000, 6).double()
    pruned = prune(vae, ArrayBatches(x, dtype=torch.float64), keep=[0], tolerance=10.0)
    column = vae.decoder.body.output.weight[:, 1].detach()
    assert pruned.sample_change == pytest.approx(float(column.norm()) / (6 * 0.25) ** 0.5, rel=0.02)
    mean = vae.encode(x).mean[:, 1].detach().square().mean().sqrt()
    assert pruned.reconstruction_change == pytest.approx(float(mean * column.norm()) / (6 * 0.25) ** 0.5, rel=1e-6)


def test_a_dimension_stays_if_any_group_uses_it():
    vae = small_vae(latent_dim=3)
    often, rare = torch.tensor([[0.001, 1.0, 1.0]]), torch.tensor([[0.001, 0.002, 1.0]])
    ratios = torch.cat([often.expand(990, -1), rare.expand(10, -1)])
    counted = Dimensions(count_dimensions(ratios), {"rare": count_dimensions(ratios[990:])})
    x = Rows(torch.randn(20, 6))
    assert prune(vae, x, dimension=counted, tolerance=9.0).kept == (0, 1)
    assert prune(vae, x, dimension=counted.all, tolerance=9.0).kept == (0,)


def test_wrong_input_is_refused():
    vae, x = small_vae(latent_dim=3), Rows(torch.randn(20, 6))
    for keep in ([], [3], [-1]):
        with pytest.raises(InputError, match="to keep"):
            prune(vae, x, keep=keep)
    with pytest.raises(InputError, match="no active dimension"):
        prune(vae, x, dimension=count_dimensions(torch.ones(4, 3)))
    with pytest.raises(InputError, match="a count over 2 dimensions"):
        prune(vae, x, dimension=count_dimensions(torch.ones(4, 2)))
    posterior = FullCovariance()
    full = VAE(MLPEncoder((6,), posterior.parameter_count(3)), MLPDecoder(3, (6,)), latent_dim=3, posterior=posterior)
    with pytest.raises(InputError, match="FullCovariance, whose axes"):
        prune(full, x, keep=[0])
    absorbed = absorb_prior(_model(_mlp, KAPPA, "plain"))
    with pytest.raises(InputError, match="Standardized"):
        prune(absorbed, x, keep=[0])
    foreign = VAE(nn.Bilinear(2, 2, 6), MLPDecoder(3, (6,)), latent_dim=3)
    with pytest.raises(InputError, match="Bilinear"):
        prune(foreign, x, keep=[0])


def test_idle_dimensions_of_a_trained_model_go_without_a_trace():
    data = sigmoid_manifold(2000, 10, 2, seed=1)
    torch.manual_seed(0)
    vae = small_vae(10, 6, hidden=(32,), variance=LearnedVariance(1.0, lr_scale=1.0))
    fit(
        vae,
        Rows(data.x),
        FitSettings(epochs=100, batch_size=200, lr=5e-3, schedule="one_cycle"),
        compute=Compute(accelerator="cpu"),
    )
    pruned = prune(vae, Rows(data.x))
    assert len(pruned.kept) == 2
    assert pruned.parity
    found = dimensions_of(pruned.vae, Rows(data.x)).all
    assert found.full
    assert found.by_gap == 2
