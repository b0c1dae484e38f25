"""The contract of every latent density, with no condition, a class and a vector."""

import pytest
import torch
from torch import Tensor, nn

from vaelab.errors import InputError
from vaelab.latent import (
    Codes,
    Generator,
    LatentDensity,
    PriorDensity,
    SecondStage,
    build_flow,
    build_flow_matching,
    compare_on_codes,
    density_from_state,
    fit_mixture,
)
from vaelab.model import VAE, Conditional, Standard
from vaelab.nets import ConditionReader, MLPDecoder, MLPEncoder
from vaelab.storage import load_tensors, save_tensors

SIZE, WIDTH = 3, 2
KINDS = ["none", "one-hot", "vector"]
NAMES = ["prior", "gaussian", "mixture", "second_stage", "flow", "flow_matching"]


def conditions(kind: str, n: int) -> Tensor | None:
    generator = torch.Generator().manual_seed(n)
    if kind == "none":
        return None
    if kind == "sequence":
        return torch.randn(n, 4, WIDTH, generator=generator)
    if kind == "one-hot":
        return torch.eye(WIDTH)[torch.randint(WIDTH, (n,), generator=generator)]
    return torch.randn(n, WIDTH, generator=generator)


def codes(kind: str, n: int = 300) -> Codes:
    generator = torch.Generator().manual_seed(0)
    c = conditions(kind, n)
    z = torch.randn(n, SIZE, generator=generator)
    if c is not None:
        z = 0.5 * z + c.flatten(1)[:, :1]
    return Codes(z, torch.full_like(z, 0.1), c)


def vae(kind: str, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    width = 0 if kind == "none" else WIDTH
    encoder = MLPEncoder((SIZE,), 2 * SIZE, hidden=(8,), condition_dim=width)
    decoder = MLPDecoder(SIZE, (SIZE,), hidden=(8,), condition_dim=width)
    prior = Conditional(ConditionReader(WIDTH, 2 * SIZE, hidden=(8,)), SIZE) if width else Standard(SIZE)
    return VAE(encoder, decoder, latent_dim=SIZE, prior=prior)


def build(name: str, kind: str, seed: int = 0) -> LatentDensity:
    if name == "prior":
        return PriorDensity(vae(kind, seed).prior)
    if name == "second_stage":
        return SecondStage(vae(kind, seed))
    if name in {"flow", "flow_matching"}:
        make, size = (build_flow, {"hidden": (16,)}) if name == "flow" else (build_flow_matching, {"width": 16})
        shape = {"none": (), "sequence": (4, WIDTH)}.get(kind, (WIDTH,))
        loc, scale = codes(kind).moments()
        flow = make(SIZE, condition_shape=shape, **size, loc=loc, scale=scale, seed=seed)
        torch.manual_seed(seed)
        for parameter in flow.parameters():
            nn.init.normal_(parameter, std=0.3 if name == "flow" else 0.1)
        return flow
    return fit_mixture(codes(kind), single=name == "gaussian", components=3, covariance="diag", seed=seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_density_contract(name, kind, tmp_path):
    density = build(name, kind).eval()
    c = conditions(kind, 9)
    state = torch.get_rng_state()
    first = density.sample(9, c, generator=torch.Generator().manual_seed(1))
    again = density.sample(9, c, generator=torch.Generator().manual_seed(1))
    other = density.sample(9, c, generator=torch.Generator().manual_seed(2))
    scores = density.log_prob(first, c)
    weights = density.log_weight(first, c, generator=torch.Generator().manual_seed(1))
    assert torch.equal(state, torch.get_rng_state()), "global randomness was used"
    assert first.shape == (9, SIZE)
    assert scores.shape == weights.shape == (9,)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.isfinite(scores).all()
    assert density.exact == (name != "second_stage")
    assert torch.equal(scores, weights) == density.exact
    assert density.sample(0, None if c is None else c[:0]).shape == (0, SIZE)

    # the order of rows is nobody's business
    if density.exact:
        flipped = density.log_prob(first.flip(0), None if c is None else c.flip(0))
        torch.testing.assert_close(flipped.flip(0), scores, rtol=1e-4, atol=1e-4)
    if c is not None:
        assert not torch.allclose(density.log_prob(first, c.roll(1, 1)), scores), "the condition has no effect"

    save_tensors(tmp_path / "state.safetensors", density.state_dict())
    tensors, _ = load_tensors(tmp_path / "state.safetensors")
    if name in {"gaussian", "mixture"}:
        rebuilt = density_from_state(name, tensors)
    else:
        rebuilt = build(name, kind, seed=5)
        assert not torch.allclose(rebuilt.log_prob(first, c), scores) or kind == "none"
        rebuilt.load_state_dict(tensors)
    assert type(rebuilt) is type(density)
    assert torch.equal(rebuilt.eval().log_prob(first, c), scores)
    assert torch.equal(rebuilt.sample(9, c, generator=torch.Generator().manual_seed(1)), first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_one_is_the_law_itself_and_next_to_none_leaves_no_noise(name, kind):
    """At T → 0 draws with one condition are few points: the means, or where the flows carry 0 to."""
    density, c = build(name, kind).eval(), conditions(kind, 40)
    c = None if c is None else c[:1].expand(40, -1)
    usual = density.sample(40, c, generator=torch.Generator().manual_seed(1))
    assert torch.equal(density.sample(40, c, generator=torch.Generator().manual_seed(1), temperature=1.0), usual)
    cold = density.sample(40, c, generator=torch.Generator().manual_seed(1), temperature=1e-9)
    points = (cold[:, None] - cold).abs().amax(2) < 1e-2
    assert len(points.unique(dim=0)) <= (6 if name == "mixture" else 1)
    assert len(usual.unique(dim=0)) == 40


@pytest.mark.parametrize("name", ["flow", "flow_matching"])
@torch.no_grad()
def test_flows_carry_less_noise(name):
    """Carried back, draws at T are T times the normals of draws at 1."""
    law = build(name, "none").eval()

    def normals(z):
        y = (z - law.loc) / law.scale
        return law.carry(y, back=True, steps=200) if name == "flow_matching" else law._bend(y, None)[0]

    usual, cool = (
        normals(law.sample(40, generator=torch.Generator().manual_seed(1), temperature=t)) for t in (1.0, 0.4)
    )
    torch.testing.assert_close(cool, 0.4 * usual, atol=1e-2 if name == "flow_matching" else 1e-4, rtol=0)
    assert float(usual.std()) > 0.7


@pytest.mark.parametrize("kind", ["one-hot", "vector"])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_wrong_condition_is_refused(name, kind):
    density, c, z = build(name, kind).eval(), conditions(kind, 4), torch.zeros(4, SIZE)
    wrong = {"missing": None, "one row": c[:1], "width": torch.cat([c, c], 1), "axes": c[:, 0]}
    for bad in wrong.values():
        for call in (lambda bad=bad: density.sample(4, bad), lambda bad=bad: density.log_prob(z, bad)):
            with pytest.raises(InputError):
                call()


@pytest.mark.parametrize("name", ["prior", "second_stage", "flow", "flow_matching"])
def test_an_unconditional_density_refuses_or_overlooks_a_condition(name):
    density = build(name, "none")
    if name == "prior":
        assert density.sample(4, torch.zeros(4, 2)).shape == (4, SIZE)
        with pytest.raises(InputError, match="for 4 rows"):
            density.sample(4, torch.zeros(3, 2))
    else:
        with pytest.raises(InputError, match="no condition"):
            density.log_prob(torch.zeros(4, SIZE), torch.zeros(4, 2))


@pytest.mark.parametrize("name", ["flow", "flow_matching"])
@torch.no_grad()
def test_a_flow_reads_sequences(name):
    flow, c = build(name, "sequence").eval(), conditions("sequence", 9)
    z = flow.sample(9, c, generator=torch.Generator().manual_seed(0))
    scores = flow.log_prob(z, c)
    assert z.shape == (9, SIZE)
    assert not torch.allclose(scores, flow.log_prob(z, c.flip(1)))
    assert any(isinstance(part, ConditionReader) for part in flow.modules())
    assert torch.isfinite(flow.log_prob(z, c[:, 1:])).all()
    with pytest.raises(InputError, match="wanted c of shape"):
        flow.log_prob(z, c[..., 0])


@pytest.mark.parametrize("kind", KINDS)
def test_comparison_scores_codes_under_their_own_conditions(kind):
    own = codes(kind)
    densities = {name: build(name, kind).eval() for name in NAMES}
    found = compare_on_codes(densities, own, seed=3)
    z, c = own.pairs(generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = {name: float(density.score(z, c).double().mean()) for name, density in densities.items()}
    assert found.scores == pytest.approx(wanted)
    if kind != "none":
        bare = Codes(own.loc, own.scale)
        with pytest.raises(InputError, match=r"without a condition|no condition"):
            compare_on_codes(densities, bare)
        assert (
            found.scores["gaussian"]
            > compare_on_codes({"plain": fit_mixture(bare, single=True)}, own).scores["plain"] + 0.1
        )


def test_a_generator_decodes_with_the_condition_and_checks_it_before_it_draws():
    density = build("mixture", "one-hot")
    drawn = []

    class Spy(LatentDensity):
        def draw(self, n, c, normals):
            drawn.append(n)
            return density.sample(n, c, generator=normals.generator)

        def log_prob(self, z, c=None):
            return density.log_prob(z, c)

    model = vae("one-hot")
    generator, c = Generator(model, Spy()), conditions("one-hot", 5)
    wrong = [(None, "no condition"), (c[:4], "for 5 rows"), (c[:1], "for 5 rows"), (torch.cat([c, c], 1), "shape")]
    for bad, message in wrong:
        with pytest.raises(InputError, match=message):
            generator.sample(5, bad)
    assert not drawn
    x = generator.sample(5, c, generator=torch.Generator().manual_seed(0))
    z = density.sample(5, c, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x, model.decode(z, c).detach())
    assert generator.sample(0, c[:0]).shape == (0, SIZE)
