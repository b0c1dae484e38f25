"""Conditional models: posteriors, conditional priors, their absorption, gates and embeddings."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vaelab.errors import InputError
from vaelab.model import (
    KL,
    VAE,
    Conditional,
    Deterministic,
    Diagonal,
    FixedVariance,
    FullCovariance,
    Gaussian,
    Isotropic,
    LearnedVariance,
    Posterior,
    absorb_prior,
    count_active,
    draw,
    kl,
    variance_ratio,
)
from vaelab.nets import MLP, ConditionReader, Embedded, Gated, MLPDecoder, MLPEncoder

D, K, W = 7, 3, 4


def _conditional(posterior: Posterior, *, gate: bool = False) -> VAE:
    torch.manual_seed(0)
    decoder = MLPDecoder(K, (D,), hidden=(8,), condition_dim=W)
    vae = VAE(
        MLPEncoder((D,), posterior.parameter_count(K), hidden=(8,), condition_dim=W),
        Gated(decoder, W) if gate else decoder,
        latent_dim=K,
        posterior=posterior,
        prior=Conditional(MLP(W, 2 * K, (8,)), K),
        likelihood=Gaussian(LearnedVariance(0.3)),
    )
    return vae.double()


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("posterior", [Diagonal(), Diagonal("softplus"), FullCovariance(), Isotropic(0.3)])
def test_absorbing_the_prior_changes_nothing(posterior, gate):
    """Remark 1: same loss for every input with the same noise, same samples."""
    vae = _conditional(posterior, gate=gate)
    same = absorb_prior(vae)
    x, c = torch.randn(11, D).double(), torch.randn(11, W).double()
    noise = torch.randn(11, K).double()
    ours, theirs = vae(x, c, noise=noise), same(x, c, noise=noise)
    torch.testing.assert_close(ours.distortion, theirs.distortion, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.penalties["kl"], theirs.penalties["kl"], rtol=1e-11, atol=1e-11)
    ratios = ours.readings["variance_ratio"], theirs.readings["variance_ratio"]
    torch.testing.assert_close(*ratios, rtol=1e-10, atol=1e-12)
    draws = [
        model.sample(11, c, generator=torch.Generator().manual_seed(1), observation_noise=True) for model in (vae, same)
    ]
    torch.testing.assert_close(*draws, rtol=1e-12, atol=1e-12)
    assert not absorb_prior(vae.eval()).training


def test_there_is_nothing_to_absorb_without_a_conditional_prior():
    vae = VAE(MLPEncoder((D,), 2 * K), MLPDecoder(K, (D,)), latent_dim=K)
    with pytest.raises(InputError, match="nothing to absorb"):
        absorb_prior(vae)


def test_a_conditional_prior_needs_its_condition():
    vae = _conditional(Diagonal())
    with pytest.raises(InputError, match="Pass c"):
        vae.sample(3)


@pytest.mark.parametrize("standard", [True, False])
def test_kl_between_conditional_gaussians_is_torchs(standard):
    loc, m = torch.randn(5, K).double(), torch.randn(5, K).double()
    s = torch.rand(5, K).double() + 0.2
    if standard:
        m, s = torch.zeros_like(m), torch.ones_like(s)
    parameters = torch.randn(5, FullCovariance().parameter_count(K)).double()
    for q in (Diagonal()(torch.cat([loc, parameters[:, :K]], 1)), FullCovariance()(parameters)):
        from vaelab.model import DiagonalNormal

        ours = kl(q, DiagonalNormal(m, s), q.mean)
        full = q if isinstance(q, MultivariateNormal) else MultivariateNormal(q.loc, torch.diag_embed(q.scale**2))
        exact = kl_divergence(full, MultivariateNormal(m, torch.diag_embed(s**2)))
        torch.testing.assert_close(ours, exact, rtol=1e-9, atol=1e-9)


def test_a_diagonal_factor_is_the_diagonal_posterior():
    means, logs = torch.randn(6, K).double(), torch.randn(6, K).double()
    below = torch.zeros(6, K * (K - 1) // 2).double()
    full, diagonal = FullCovariance()(torch.cat([means, logs, below], 1)), Diagonal()(torch.cat([means, logs], 1))
    noise, p = torch.randn(6, K).double(), Independent(Normal(torch.zeros(K).double(), torch.ones(K).double()), 1)
    torch.testing.assert_close(draw(full, noise), draw(diagonal, noise))
    torch.testing.assert_close(full.log_prob(noise), diagonal.log_prob(noise))
    ratios = variance_ratio(full, p), variance_ratio(diagonal, p).sort(-1).values
    torch.testing.assert_close(*ratios)


def test_the_factor_is_lower_triangular_and_every_number_is_read():
    for size in (1, 2, 5):
        count = FullCovariance().parameter_count(size)
        parameters = torch.randn(2, count).double().requires_grad_()
        q = FullCovariance()(parameters)
        assert q.loc.shape == (2, size)
        assert bool((q.scale_tril.triu(1) == 0).all())
        assert bool((q.scale_tril.diagonal(dim1=-2, dim2=-1) > 0).all())
        (q.loc.sum() + (q.scale_tril * torch.rand(size, size).double()).sum()).backward()
        assert bool((parameters.grad != 0).all())


def test_active_dimensions_of_a_full_posterior_do_not_depend_on_the_basis():
    q = MultivariateNormal(
        torch.zeros(4, K).double(), torch.diag_embed(torch.tensor([1e-3, 0.9, 1e-2])).double().expand(4, K, K)
    )
    turn = torch.linalg.qr(torch.randn(K, K).double()).Q
    turned = MultivariateNormal(q.loc, turn @ q.covariance_matrix @ turn.T)
    p = Independent(Normal(torch.zeros(K).double(), torch.ones(K).double()), 1)
    torch.testing.assert_close(variance_ratio(q, p), variance_ratio(turned, p), rtol=1e-6, atol=1e-9)
    assert count_active(variance_ratio(turned, p).mean(0)) == 2


def test_an_isotropic_posterior_has_one_variance():
    posterior = Isotropic(0.25)
    q = posterior(torch.randn(5, K))
    torch.testing.assert_close(q.variance, torch.full((5, K), 0.25))
    assert posterior.log_std.requires_grad
    assert not Isotropic(0.25, learned=False).log_std.requires_grad
    with pytest.raises(InputError, match="Deterministic"):
        Isotropic(0.0)


def _autoencoder(regularizers):
    networks = MLPEncoder((D,), K, hidden=(8,)), MLPDecoder(K, (D,), hidden=(8,))
    return VAE(
        *networks,
        latent_dim=K,
        posterior=Deterministic(),
        regularizers=regularizers,
        likelihood=Gaussian(FixedVariance(1.0)),
    )


def test_a_deterministic_posterior_is_an_autoencoder():
    model, x = _autoencoder([]), torch.randn(5, D)
    first, second = (model(x, noise=torch.randn(5, K)).total for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(model.reconstruct(x), model.decode(model.encoder(x)))
    with pytest.raises(InputError, match="ELBO of a deterministic"):
        model.elbo(x, noise=torch.randn(1, 5, K))
    with pytest.raises(InputError, match="infinite"):
        _autoencoder([KL()])


def test_a_gate_scales_the_code():
    decoder = MLPDecoder(K, (D,), hidden=(8,), condition_dim=W)
    gated, z, c = Gated(decoder, W, hidden=(5,)), torch.randn(6, K), torch.randn(6, W)
    w = gated.weights(c)
    assert w.shape == (6, K)
    assert bool(((w > 0) & (w < 1)).all())
    assert torch.equal(gated(z, c), decoder(z * w, c))
    with pytest.raises(InputError, match="no condition"):
        gated(z)
    plain = Gated(MLPDecoder(K, (D,), hidden=(8,)))
    assert torch.equal(plain.weights(), torch.full((K,), 0.5))
    assert plain(z).shape == (6, D)


def test_an_embedding_stands_before_the_network():
    encoder = MLPEncoder((D,), 2 * K, hidden=(8,), condition_dim=5)
    wrapped, x, c = Embedded(encoder, W, 5, hidden=(6,)), torch.randn(3, D), torch.randn(3, W)
    assert torch.equal(wrapped(x, c), encoder(x, wrapped.embedding(c)))
    assert wrapped.out_features == 2 * K
    with pytest.raises(InputError, match="no condition"):
        wrapped(x)
    with pytest.raises(InputError, match="shape \\(3, 2\\)"):
        wrapped(x, torch.randn(3, 2))
    with pytest.raises(InputError, match="condition_dim=5"):
        Embedded(encoder, W, 6)


def test_full_posteriors_train_with_few_decompositions():
    vae = _conditional(FullCovariance()).train()
    x, c = torch.randn(200, D).double(), torch.randn(200, W).double()
    readings = vae(x, c).readings["variance_ratio"]
    assert readings.shape == (64, K)
    torch.testing.assert_close(readings, vae.eval()(x, c).readings["variance_ratio"][:64])


class _Diagonal(nn.Module):
    """The numbers of a diagonal posterior as those of a full one whose factor is diagonal."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x, c=None):
        return torch.cat([self.encoder(x, c), x.new_zeros(len(x), K * (K - 1) // 2)], 1)


def test_a_model_with_a_diagonal_factor_is_the_diagonal_model():
    """Same loss, readings and gradient for every input, condition and noise."""
    diagonal = _conditional(Diagonal()).eval()
    full = VAE(
        _Diagonal(diagonal.encoder),
        diagonal.decoder,
        latent_dim=K,
        posterior=FullCovariance(),
        prior=diagonal.prior,
        likelihood=diagonal.likelihood,
    ).eval()
    x, c, noise = torch.randn(6, D).double(), torch.randn(6, W).double(), torch.randn(6, K).double()
    ours, theirs = full(x, c, noise=noise), diagonal(x, c, noise=noise)
    torch.testing.assert_close(ours.per_sample, theirs.per_sample, rtol=1e-11, atol=1e-11)
    ratios = theirs.readings["variance_ratio"].sort(-1).values
    torch.testing.assert_close(ours.readings["variance_ratio"], ratios, rtol=1e-9, atol=1e-12)
    parameters = list(diagonal.parameters())
    gradients = [torch.autograd.grad(each.total, parameters) for each in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)


class _Turned(nn.Module):
    """An encoder in another basis: mean Q μ, covariance Q Σ Qᵀ."""

    def __init__(self, encoder, turn):
        super().__init__()
        self.encoder, self.turn = encoder, turn

    def forward(self, x, c=None):
        q = FullCovariance()(self.encoder(x, c))
        tril = torch.linalg.cholesky(self.turn @ q.covariance_matrix @ self.turn.T)
        row, column = torch.tril_indices(K, K, -1)
        logs = tril.diagonal(dim1=-2, dim2=-1).log()
        return torch.cat([q.loc @ self.turn.T, logs, tril[:, row, column]], 1)


class _TurnedBack(nn.Module):
    """A decoder that reads Qᵀ z."""

    def __init__(self, decoder, turn):
        super().__init__()
        self.decoder, self.turn = decoder, turn

    def forward(self, z, c=None):
        return self.decoder(z @ self.turn, c)


def test_a_full_model_in_another_basis_is_the_same_and_has_the_same_dimensions():
    posterior = FullCovariance()
    encoder = MLPEncoder((D,), posterior.parameter_count(K), hidden=(8,), condition_dim=W)
    with torch.no_grad():  # one dimension of little variance
        encoder.head.output.bias[K] = -5.0
    decoder = MLPDecoder(K, (D,), hidden=(8,), condition_dim=W)
    turn = torch.linalg.qr(torch.randn(K, K).double()).Q
    parts = {"latent_dim": K, "posterior": posterior, "likelihood": Gaussian(FixedVariance(0.1))}
    vae = VAE(encoder, decoder, **parts).double().eval()
    other = VAE(_Turned(encoder, turn), _TurnedBack(decoder, turn), **parts).double().eval()
    x, c = torch.randn(20, D).double(), torch.randn(20, W).double()
    ours, theirs = vae.encode(x, c), other.encode(x, c)
    torch.testing.assert_close(kl(ours, vae.prior(c), x), kl(theirs, other.prior(c), x), rtol=1e-9, atol=1e-9)
    noise = torch.randn(20, K).double()
    # the noise that gives the same point: L' ε' = Q L ε
    same = torch.linalg.solve_triangular(theirs.scale_tril, turn @ ours.scale_tril @ noise[..., None], upper=False)
    before, after = vae(x, c, noise=noise), other(x, c, noise=same[..., 0])
    torch.testing.assert_close(before.distortion, after.distortion, rtol=1e-9, atol=1e-9)
    ratios = before.readings["variance_ratio"], after.readings["variance_ratio"]
    torch.testing.assert_close(*ratios, rtol=1e-6, atol=1e-9)
    assert [count_active(each.mean(0)) for each in ratios] == [1, 1]


def _embedded():
    """Everything that a condition passes through: embeddings, a gate and a prior."""
    encoder = MLPEncoder((D,), 2 * K, hidden=(8,), condition_dim=5)
    decoder = MLPDecoder(K, (D,), hidden=(8,), condition_dim=5)
    return VAE(
        Embedded(encoder, W, 5),
        Gated(Embedded(decoder, W, 5), W),
        latent_dim=K,
        prior=Conditional(ConditionReader(W, 2 * K), K),
    )


CALLS = {
    "forward": lambda vae, c: vae(torch.randn(4, D), c),
    "encode": lambda vae, c: vae.encode(torch.randn(4, D), c),
    "decode": lambda vae, c: vae.decode(torch.randn(4, K), c),
    "reconstruct": lambda vae, c: vae.reconstruct(torch.randn(4, D), c),
    "sample": lambda vae, c: vae.sample(4, c),
    "elbo": lambda vae, c: vae.elbo(torch.randn(4, D), c, noise=torch.randn(2, 4, K)),
    "importance": lambda vae, c: vae.importance(torch.randn(4, D), c, noise=torch.randn(2, 4, K)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_conditional_model_says_which_condition_it_wants(call):
    vae = _embedded()
    call(vae, torch.randn(4, W))
    with pytest.raises(InputError, match="condition"):
        call(vae, None)
    with pytest.raises(InputError, match=f"shape \\(B, {W}\\)"):
        call(vae, torch.randn(4, W + 1))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_unconditional_model_refuses_a_condition(call):
    vae = VAE(MLPEncoder((D,), 2 * K, hidden=(8,)), MLPDecoder(K, (D,), hidden=(8,)), latent_dim=K)
    with pytest.raises(InputError, match="no condition"):
        call(vae, torch.randn(4, W))
