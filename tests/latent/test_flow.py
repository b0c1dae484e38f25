"""The flow: an exact density, in every number of dimensions."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from vaelab.errors import InputError, MissingExtraError
from vaelab.latent import Codes, build_flow, compare_on_codes, fit_mixture
from vaelab.nets.autoregressive import Autoregressive
from vaelab.training import Compute, FitSettings, fit, mean_objective


def bent(latent_dim: int, condition_shape=(), *, strength: float = 0.5):
    """An untrained flow whose splines are far from the identity, on shifted and stretched codes."""
    loc, scale = torch.arange(latent_dim) - 0.5, 0.5 + torch.arange(latent_dim)
    flow = build_flow(
        latent_dim, condition_shape=condition_shape, hidden=(16, 16), transforms=3, loc=loc, scale=scale
    ).double()
    torch.manual_seed(0)
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=strength)
    return flow.eval()


@pytest.mark.parametrize("condition_shape", [(), (2,)])
@pytest.mark.parametrize("latent_dim", [1, 2])
@torch.no_grad()
def test_the_density_integrates_to_one(latent_dim, condition_shape):
    flow = bent(latent_dim, condition_shape, strength=0.5 if latent_dim == 1 else 0.25)
    u = torch.linspace(-7, 7, 60_001 if latent_dim == 1 else 401, dtype=torch.float64)
    grid = flow.loc + flow.scale * torch.cartesian_prod(*[u] * latent_dim).view(-1, latent_dim)
    cell = float((u[1] - u[0]) ** latent_dim * flow.scale.prod())
    c = torch.tensor([0.7, -1.0]).double().expand(len(grid), -1) if condition_shape else None
    assert float(flow.log_prob(grid, c).exp().sum()) * cell == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("condition_shape", [(), (2,)])
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_samples_are_scored_by_the_change_of_variables(latent_dim, condition_shape):
    flow = bent(latent_dim, condition_shape)
    c = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).double() if condition_shape else None
    with torch.no_grad():
        z = flow.sample(6, c, generator=torch.Generator().manual_seed(1))
    # the noise that sampling drew, and the map from it, differentiated a row at a time
    u = torch.randn(6, latent_dim, generator=torch.Generator().manual_seed(1)).double()
    for row in range(6):
        own = None if c is None else c[row : row + 1]

        def to_code(noise, own=own):
            return flow.loc + flow.scale * flow._invert(noise[None], own)[0]

        torch.testing.assert_close(to_code(u[row]), z[row])
        slope = torch.linalg.slogdet(torch.autograd.functional.jacobian(to_code, u[row])).logabsdet
        wanted = Normal(0.0, 1.0).log_prob(u[row]).sum() - slope
        torch.testing.assert_close(flow.log_prob(z[row : row + 1], own)[0], wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("latent_dim", [1, 2, 7])
@torch.no_grad()
def test_codes_go_to_noise_and_come_back(latent_dim):
    flow, c = bent(latent_dim, (3,)), torch.randn(50, 3).double()
    u = 2 * torch.randn(50, latent_dim).double()
    y = flow._invert(u, c)
    torch.testing.assert_close(flow._bend(y, c)[0], u)
    assert (y - u).abs().max() > 0.1


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_network_reads_what_comes_before_and_all_of_that(dim, context, backwards):
    network = Autoregressive(dim, 2, (40, 40), context=context, backwards=backwards).double()
    x, c = torch.randn(3, dim).double(), torch.randn(3, context).double() if context else None
    slopes = torch.autograd.functional.jacobian(lambda x: network(x, c).sum(0), x).abs().sum((1, 2))  # of j by i
    before = torch.ones(dim, dim).tril(-1) if not backwards else torch.ones(dim, dim).triu(1)
    assert torch.equal(slopes > 0, before > 0)
    for j in range(dim):
        torch.testing.assert_close(network.of(j, x, c), network(x, c)[:, j])
    if c is not None:
        read = torch.autograd.functional.jacobian(lambda c: network(x, c).sum(0), c).abs().sum((1, 2))
        assert bool((read > 0).all())


def curve(n: int, seed: int) -> Codes:
    """A parabola that opens upwards for one sign of c and downwards for the other."""
    generator = torch.Generator().manual_seed(seed)
    t, sign = torch.randn(n, generator=generator), torch.randint(2, (n,), generator=generator) * 2.0 - 1
    z = torch.stack([10 + t, 100 * sign * t.square()], 1)
    return Codes(z, torch.tensor([0.1, 10.0]).expand(n, 2).contiguous(), sign[:, None])


def test_training_finds_a_curve_that_follows_its_condition():
    train, test = curve(3000, 0), curve(1000, 1)
    loc, scale = train.moments()
    flow = build_flow(2, condition_shape=1, hidden=(32, 32), transforms=3, loc=loc, scale=scale)
    assert flow.noise_shape == (0,)
    settings = FitSettings(epochs=15, batch_size=100, lr=5e-3, schedule="one_cycle")
    history = fit(flow, train, settings, compute=Compute(accelerator="cpu"))
    assert history[-1]["loss"] < history[0]["loss"]
    linear = fit_mixture(train, single=True)
    scores = compare_on_codes({"gaussian": linear, "flow": flow}, test)
    assert scores.best == "flow"
    assert scores.scores["flow"] > scores.scores["gaussian"] + 0.5
    held_out = mean_objective(flow, test)
    assert held_out["loss"] == pytest.approx(held_out["distortion"])
    with torch.no_grad():
        c = torch.tensor([[1.0], [-1.0]]).repeat(1500, 1)
        z = flow.sample(3000, c, generator=torch.Generator().manual_seed(0))
    mean = z[:, 1].view(-1, 2).mean(0)
    torch.testing.assert_close(mean, torch.tensor([100.0, -100.0]), atol=25, rtol=0)


def test_wrong_sizes_are_refused_before_anything_is_built():
    for make, message in (
        (lambda: build_flow(0), "latent_dim=0"),
        (lambda: build_flow(2, transforms=0), "transforms=0"),
        (lambda: build_flow(2, loc=torch.zeros(3)), r"\(2,\) both"),
        (lambda: build_flow(2, scale=torch.zeros(2)), "positive scale"),
        (lambda: build_flow(2, condition_shape=(1, 2, 3)), "condition_shape"),
    ):
        with pytest.raises(InputError, match=message):
            make()


def test_equal_seeds_build_equal_flows_and_leave_the_world_alone():
    state = torch.get_rng_state()
    first, again, other = (build_flow(3, condition_shape=2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_import_of_flows_leaves_the_checks_of_distributions_on():
    """In a process of its own, where nothing has imported zuko before; by itself it switches them off."""
    script = """
        from torch.distributions import Distribution
        from vaelab.latent import build_flow
        before = Distribution._validate_args
        build_flow(2)
        assert before and Distribution._validate_args
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_an_absent_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(MissingExtraError, match=r"vaelab\[flow\]"):
        build_flow(2)
