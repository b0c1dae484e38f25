"""GANs: losses and penalties against closed forms, the alternating steps against two optimisers by hand."""

import copy
import math

import pytest
import torch
from torch import nn

from helpers import Rows
from vaelab.baselines import GAN, build_gan
from vaelab.errors import InputError
from vaelab.model import draw
from vaelab.model.adversaries import PAIRS, Around, Between, Clip, Equilibrium, Fixed, RebuildingError, Smoothness
from vaelab.model.distributions import Cube
from vaelab.presets import preset
from vaelab.specs import Settings, build_vae
from vaelab.training import Compute, FitSettings, Hook, fit

DOUBLE = Compute(precision="64-true", accelerator="cpu", checkpoint_seconds=0)
NAMES = ("minimax", "non-saturating", "least-squares", "wasserstein", "wgan-gp", "dragan", "began")


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# losses


def two_gaussians(mean, deviation):
    """Weights of a fine grid under N(0, 1) and another Gaussian, and the log of the ratio of their densities."""
    x = torch.linspace(-12, 12, 24_001)
    laws = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(mean, deviation)
    p, q = (law.log_prob(x).exp() * (x[1] - x[0]) for law in laws)
    return p, q, laws[0].log_prob(x) - laws[1].log_prob(x)


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_the_best_critics_loss_is_that_of_goodfellow(name):
    """2 log 2 where the laws agree, else less by twice their Jensen-Shannon divergence (Goodfellow et al., theorem 1).

    The optimum is one: no direction changes the loss.
    """
    for mean, deviation in ((0.0, 1.0), (1.5, 0.7)):
        p, q, logit = two_gaussians(mean, deviation)
        logit.requires_grad_()
        # real and fake part of the loss one after the other: the other side is certain
        pair, certain = Fixed(name), torch.full_like(logit, 1e3)
        loss = (p * pair.critic(logit, -certain) + q * pair.critic(certain, logit)).sum()
        both = (p + q) / 2
        divergence = 0.5 * ((p * (p / both).log()).nansum() + (q * (q / both).log()).nansum())
        assert float(loss.detach()) == pytest.approx(2 * math.log(2) - 2 * float(divergence), abs=1e-9)
        (gradient,) = torch.autograd.grad(loss, logit)
        assert float(gradient.abs().max()) < 1e-12
    assert float(divergence) > 0.1


def test_generators_lower_what_their_names_say():
    """−log D or log(1 − D), which have the same sign of slope; squares; and minus the critic's number."""
    fake = torch.linspace(-3, 3, 7)
    d = fake.sigmoid()
    wanted = {
        "minimax": (1 - d).log(),
        "non_saturating": -d.log(),
        "least_squares": 0.5 * (d - 1).square(),
        "wasserstein": -fake,
    }
    assert set(PAIRS) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(Fixed(name).generator(fake), value)
    real = fake.flip(0) + 0.3
    squares = 0.5 * (real.sigmoid() - 1).square() + 0.5 * d.square()
    torch.testing.assert_close(Fixed("least_squares").critic(real, fake), squares)
    torch.testing.assert_close(Fixed("wasserstein").critic(real, fake), fake - real)
    with pytest.raises(InputError, match="one of minimax"):
        Fixed("least")


def test_began_moves_k_by_the_balance_of_errors():
    """Berthelot et al., section 3.3: the loss has k as it was; k moves in training alone, and is not clipped."""
    pair = Equilibrium(gamma=0.5, rate=0.1)
    real, fake = torch.tensor([0.4, 0.6]), torch.tensor([0.2, 0.6])
    torch.testing.assert_close(pair.critic(real, fake), real)
    k = 0.1 * (0.5 * 0.5 - 0.4)
    assert float(pair.k) == pytest.approx(k)
    assert k < 0
    torch.testing.assert_close(pair.critic(real, fake), real - k * fake)
    assert float(pair.k) == pytest.approx(2 * k)
    pair.eval().critic(real, fake)
    assert float(pair.readings()["k"]) == pytest.approx(2 * k)
    torch.testing.assert_close(pair.generator(fake), fake)


def test_began_judges_by_the_mean_absolute_error():
    x = torch.rand(5, 2, 3)
    half = nn.Sequential(nn.Flatten(), nn.Linear(6, 6), nn.Unflatten(1, (2, 3)))
    nn.init.zeros_(half[1].weight), nn.init.zeros_(half[1].bias)
    torch.testing.assert_close(RebuildingError(half, bounded=True)(x), (x - 0.5).abs().mean((1, 2)))
    torch.testing.assert_close(RebuildingError(half, bounded=False)(x), x.mean((1, 2)))


# what keeps a critic smooth


def test_the_slope_of_a_linear_critic_is_its_weights_norm():
    """λ(√(10⁻⁴ + ‖w‖²) − 1)² wherever it is measured, and so is the gradient."""
    w = torch.tensor([0.6, -1.2, 0.3], requires_grad=True)
    real, fake = torch.randn(2, 7, 3)
    penalty = Between(10.0)
    noise = torch.randn(7, penalty.noise_count(3))
    found = penalty(lambda x: x @ w, real, fake, noise)
    norm = (1e-4 + w.square().sum()).sqrt()
    torch.testing.assert_close(found, (10 * (norm - 1).square()).expand(7))
    (gradient,) = torch.autograd.grad(found.mean(), w)
    torch.testing.assert_close(gradient, 20 * (norm - 1) / norm * w.detach())
    with torch.no_grad():
        torch.testing.assert_close(penalty(lambda x: x @ w, real, fake, noise), found)


def test_wgan_gp_looks_between_real_and_generated_rows():
    """The slope of ‖x‖²/2 is x, which tells where it was measured."""
    real, fake = torch.randn(2, 6, 2, 2)
    noise = torch.randn(6, 1)
    share = torch.distributions.Normal(0.0, 1.0).cdf(noise)[:, :, None]
    x = ((1 - share) * real + share * fake).flatten(1)
    wanted = 3 * ((1e-4 + x.square().sum(1)).sqrt() - 1).square()
    torch.testing.assert_close(Between(3.0)(lambda x: x.flatten(1).square().sum(1) / 2, real, fake, noise), wanted)


def test_dragan_looks_around_real_rows():
    """At x + α · u · deviation / 2, all entries of u apart, of the sigmoid of the critic's number."""
    real, fake = torch.randn(6, 2, 2), torch.full((6, 2, 2), torch.nan)
    penalty = Around(2.0)
    noise = torch.randn(6, penalty.noise_count(4))
    u = torch.distributions.Normal(0.0, 1.0).cdf(noise)
    x = real.flatten(1) + u[:, :1] * 0.5 * real.flatten().std(correction=0) * u[:, 1:]
    d = (x.square().sum(1) / 2).sigmoid()
    slope = (d * (1 - d))[:, None] * x
    wanted = 2 * ((1e-4 + slope.square().sum(1)).sqrt() - 1).square()
    torch.testing.assert_close(penalty(lambda x: x.flatten(1).square().sum(1) / 2, real, fake, noise), wanted)


def test_clipping_holds_every_weight_and_changes_none_within():
    critic = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = copy.deepcopy(critic.state_dict())
    Clip(0.2).hold(critic)
    for name, weight in critic.named_parameters():
        torch.testing.assert_close(weight, before[name].clamp(-0.2, 0.2))
    assert float(critic[1].weight.detach().max()) == pytest.approx(0.2)
    assert not Smoothness()(critic, torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 0)).any()


# the prior


def test_noise_of_a_generator_is_uniform():
    law, z = Cube(torch.zeros(3)), draw(Cube(torch.zeros(3)), torch.randn(20_000, 3))
    assert float(z.abs().max()) <= 1
    deciles = torch.linspace(-1, 1, 11)
    assert float((z.flatten().quantile(torch.linspace(0, 1, 11)) - deciles).abs().max()) < 0.03
    assert float((z.var(0) - law.variance).abs().max()) < 0.01
    found = law.log_prob(torch.tensor([[0.0, 0.5, -1.0], [0.0, 0.0, 1.1]]))
    assert found.tolist() == [pytest.approx(-3 * math.log(2)), -math.inf]


# steps


def gan(name="wgan-gp", event=(2,), *, seed=0, judge=None, size=2, **changes):
    changes = {"network": "mlp([16, 16])", **changes}
    settings = preset(f"gan/{name}").set_params(latent_dim=size, seed=seed, **changes)
    settings = settings.resolve(100, event)
    return build_gan(settings, build_vae(settings, event, data_variance=1.0).double(), event, judge).double()


@pytest.mark.parametrize("name", NAMES)
def test_critic_and_generator_steps_alternate(name):
    """Each step of the critic has its own rows and draws; then the generator moves, on draws of its own."""
    model = gan(name)
    by_hand, steps = copy.deepcopy(model), model.steps
    seen, noises = [], []

    class Spy(Rows):
        """Remembers the order of the rows."""

        def to(self, device):
            return self

        def take(self, index, noise=None):
            seen.append(self.x[index])
            return super().take(index, noise)

    forward = GAN.forward

    def listen(self, x, c=None, *, noise=None):
        noises.append(noise)
        return forward(self, x, c, noise=noise)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GAN, "forward", listen)
        settings = FitSettings(epochs=3, batch_size=4 * steps, lr=0.01, beta1=0.5, schedule="constant")
        history = fit(model, Spy(torch.randn(4 * steps, 2)), settings, compute=DOUBLE)
    assert len(noises) == len(seen) == 3
    assert {"critic", "distortion"} <= history[-1].keys()

    optimisers = [torch.optim.Adam(part.parameters(), lr=0.01, betas=(0.5, 0.999)) for part in parts_of(by_hand)]
    limit = 0.01 if name == "wasserstein" else math.inf
    for rows, noise in zip(seen, noises, strict=True):
        for i in range(steps):
            own, normals = rows[4 * i : 4 * i + 4], noise[4 * i : 4 * i + 4]
            clipped(by_hand.critic, limit)
            z = 2 * torch.special.ndtr(normals[:, :2]) - 1
            fake = by_hand.generator.decoder(z).detach()
            outputs = [by_hand.critic(each).reshape(4) for each in (own, fake)]
            extra = by_hand.smoothness(lambda x: by_hand.critic(x).reshape(len(x)), own, fake, normals[:, 4:])
            optimisers[0].zero_grad()
            (by_hand.losses.critic(*outputs) + extra).mean().backward()
            optimisers[0].step()
        clipped(by_hand.critic, limit)
        z = 2 * torch.special.ndtr(noise[:4, 2:4]) - 1
        optimisers[1].zero_grad()
        by_hand.losses.generator(by_hand.critic(by_hand.generator.decoder(z)).reshape(4)).mean().backward()
        optimisers[1].step()
    for (key, got), wanted in zip(model.state_dict().items(), by_hand.state_dict().values(), strict=True):
        torch.testing.assert_close(got, wanted, msg=lambda text, key=key: f"{key}: {text}")


def parts_of(model):
    return model.critic, model.generator.decoder


def clipped(critic, limit):
    with torch.no_grad():
        for weight in critic.parameters():
            weight.clamp_(-limit, limit)


@pytest.mark.parametrize("name", ["began", "dragan"])
def test_a_resumed_training_is_the_same_to_the_last_bit(name, tmp_path):
    """With k, the best weights so far, and what the judge has said."""
    x, settings = torch.randn(64, 2), FitSettings(epochs=6, batch_size=20, lr=0.01)

    def run(model, **options):
        return fit(model, Rows(x), settings, held_out=Rows(x[:9]), compute=DOUBLE, **options)

    def judge(vae):
        return float(vae.sample(50, generator=torch.Generator().manual_seed(0)).std())

    class Stop(Hook):
        """Kills the training in its fourth epoch."""

        def epoch(self, record):
            if record["epoch"] == 4:
                raise KeyboardInterrupt

    whole, state = gan(name, judge=judge), tmp_path / "state.safetensors"
    history = run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(gan(name, judge=judge), state_file=state, hooks=[Stop()])
    resumed = gan(name, judge=judge, seed=9)
    again = run(resumed, state_file=state, resume=True)
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())
    assert [each["held_out_loss"] for each in again] == [each["held_out_loss"] for each in history]


def test_the_nearest_weights_are_kept():
    """The least distance that the judge has named, with the weights that it named it of."""
    x, said = torch.randn(60, 2), []

    def judge(vae):
        said.append((5.0, 3.0, 1.0, 4.0, 2.0)[len(said)])
        kept.append(copy.deepcopy(vae.state_dict()))
        return said[-1]

    kept = []
    model = gan(judge=judge)
    fit(model, Rows(x), FitSettings(epochs=4, batch_size=20), held_out=Rows(x[:5]), compute=DOUBLE)
    assert len(said) == 5
    assert float(model.distance) == 1.0
    assert all(torch.equal(value, kept[2][key]) for key, value in model.generator.state_dict().items())
    assert not all(torch.equal(value, kept[4][key]) for key, value in model.generator.state_dict().items())
    with pytest.raises(InputError, match="without a judge"):
        fit(gan(), Rows(x), FitSettings(epochs=1), held_out=Rows(x[:5]), compute=DOUBLE)


def test_running_averages_of_the_generator_are_of_its_own_steps():
    """A critic's step needs draws in training mode, and leaves the averages of batch norm where they are."""
    model = gan("dragan", (1, 8, 8), network="infogan").train()
    norm = next(m for m in model.generator.modules() if isinstance(m, nn.BatchNorm1d))
    x, noise = torch.rand(6, 1, 8, 8), torch.randn(6, *model.noise_shape)
    before = norm.running_mean.clone()
    model.critic_loss(0, x, None, noise)
    assert torch.equal(norm.running_mean, before)
    model(x, noise=noise)
    assert not torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("name", NAMES)
def test_networks_and_settings_are_the_papers(name):
    """Lucic et al.: rectifiers with a slope, batch norm where they have it, 64 uniform numbers, 64 rows per step."""
    settings = preset(f"gan/{name}").resolve(54_000, (1, 28, 28))
    model = build_gan(settings, build_vae(settings, (1, 28, 28), data_variance=1.0), (1, 28, 28))
    decoder = [type(m).__name__ for m in model.generator.decoder.body]
    assert decoder.count("LeakyReLU") == 3
    assert "ReLU" not in decoder
    norms = sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.critic.modules())
    assert norms == (0 if name in ("wgan-gp", "began") else 2)
    assert not any("pectral" in type(m).__name__ for m in model.critic.modules())
    assert all(getattr(m, "u", None) is None for m in model.critic.modules())
    fit, steps = settings.training, model.steps
    assert (settings.latent_dim, fit.batch_size // steps) == (64, 64)
    assert abs(fit.epochs * (54_000 // fit.batch_size) * steps - 15_625) < 900
    wanted = {
        "minimax": (5e-5, 0.0, 1),
        "non-saturating": (5e-5, 0.0, 1),
        "least-squares": (2e-4, 0.5, 1),
        "wasserstein": (5e-5, 0.5, 5),
        "wgan-gp": (1e-4, 0.5, 5),
        "dragan": (1e-4, 0.5, 1),
        "began": (1e-4, 0.5, 5),
    }
    assert (fit.lr, fit.beta1, steps) == wanted[name]
    rows = torch.rand(4, 1, 28, 28, dtype=torch.float32)
    assert model.critic(rows).numel() == 4
    fakes = model.generator.sample(3).detach()
    assert fakes.shape == (3, 1, 28, 28)
    assert float(fakes.min()) > 0
    assert float(fakes.max()) < 1


def test_what_a_gan_has_not_is_refused():
    for wrong, match in (
        ({"densities": ("gaussian",)}, "densities"),
        ({"posterior": "diagonal", "penalties": "kl"}, "posterior='diagonal'"),
        ({"condition": "standard"}, "condition"),
        ({"latent_dim": "auto"}, "auto"),
        ({"likelihood": "mixed"}, "likelihood='mixed'"),
        ({"compute": {"compile": True}}, "compile"),
    ):
        with pytest.raises(InputError, match=match):
            Settings(adversary="critic", **wrong)
    settings = Settings(adversary="critic", network="resnet").resolve(100, (1, 16, 16))
    with pytest.raises(InputError, match="'infogan' or 'mlp'"):
        build_vae(settings, (1, 16, 16), data_variance=1.0)
    with pytest.raises(InputError, match="batches of 1 row"):
        preset("gan/began").set_params(training__batch_size=9).resolve(100, (1, 16, 16))
    with pytest.raises(InputError, match=r"accumulate=2.*balance"):
        preset("gan/began").set_params(training__accumulate=2)
    with pytest.raises(InputError, match="without an adversary"):
        build_gan(Settings(), gan().generator, (2,))


@pytest.mark.parametrize(
    ("name", "network", "batch", "parts", "said"),
    [
        ("dragan", "infogan", 64, 64, r"batches of 1 row .*64 rows in 64 parts"),
        ("dragan", "infogan", 64, 99, r"batches of 1 row .*64 rows in 64 parts"),
        ("wgan-gp", "infogan", 320, 33, r"batches of 1 row "),
        ("wgan-gp", "mlp", 320, 128, r"batches of 0 rows .*128 parts, 5 critic steps"),
        ("wgan-gp", "mlp", 320, 3, r"leaves rows out.*Such as accumulate=2\."),
        ("wgan-gp", "mlp", 320, 64, None),
        ("wgan-gp", "infogan", 320, 32, None),
        ("dragan", "infogan", 64, 24, None),
    ],
)
def test_parts_of_a_batch_have_rows_for_batch_norm_and_every_critic_step(name, network, batch, parts, said):
    changed = preset(f"gan/{name}").set_params(
        network=network, training__batch_size=batch, training__accumulate=parts, training__epochs=1
    )
    if said is not None:
        with pytest.raises(InputError, match=said):
            changed.resolve(1000, (1, 16, 16))
        return
    changed.resolve(1000, (1, 16, 16))


@pytest.mark.parametrize("rows", [3, 64, 319, 320, 512, 639, 640, 54_000])
@pytest.mark.parametrize("name", ["dragan", "wgan-gp"])
def test_a_critic_takes_no_fewer_steps_than_the_papers(name, rows):
    """15,625, and less than an epoch more, of whole batches alone."""
    settings = preset(f"gan/{name}").set_params(network="mlp")
    batch = min(settings.training.batch_size, rows)
    steps = settings.adversary.steps if batch >= 5 else 1
    settings = settings.set_params(adversary__steps=steps).resolve(rows, (4,))
    per_epoch = rows // batch * steps
    assert 15_625 <= settings.training.epochs * per_epoch < 15_625 + per_epoch


# what is learned


def test_two_clusters_are_learned_in_their_shares():
    """70 % at +1 and 30 % at −1; of a Gaussian of their mean and variance half the draws would be near neither."""
    generator = torch.Generator().manual_seed(3)
    right = torch.rand(2000, 1, generator=generator) < 0.7
    x = torch.where(right, 1.0, -1.0) + 0.15 * torch.randn(2000, 1, generator=generator)
    model = gan("wgan-gp", (1,), adversary__smooth="between(0.1)").float()
    settings = FitSettings(epochs=50, batch_size=320, lr=5e-3, beta1=0.0, schedule="constant")
    fit(model, Rows(x.float()), settings, compute=Compute(accelerator="cpu"))
    drawn = model.generator.sample(4000, generator=torch.Generator().manual_seed(1))
    assert 0.6 < float((drawn > 0).double().mean()) < 0.8
    assert float(((drawn.abs() - 1).abs() < 0.5).double().mean()) > 0.7
