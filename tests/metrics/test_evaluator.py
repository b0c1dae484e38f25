"""From rows to readings: preparation, intervals, floors, and refusals."""

import math

import pytest
import torch

from vaelab.errors import InputError, VaelabWarning
from vaelab.metrics.distances import energy_distance
from vaelab.metrics.evaluator import Evaluator, prepared
from vaelab.metrics.features import Identity
from vaelab.metrics.protocols import protocol

TABLE = protocol("tabular")
ALL = ("frechet", "kernel", "precision", "recall", "density", "coverage", "sliced_wasserstein", "energy", "two_sample")


def _rows(n, *, shift=0.0, seed=0, d=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def _blocks(x, size=40):
    return lambda: x.split(size)


def _evaluator(measures=ALL, n=300, **how):
    return Evaluator(TABLE, Identity(), _blocks(_rows(n)), measures=measures, **how)


def test_equal_laws_score_like_the_floor_and_shifted_ones_worse():
    judge = _evaluator(floor=_blocks(_rows(300, seed=1)))
    same = {r.measure: r for r in judge.score("same", [_blocks(_rows(300, seed=s)) for s in (2, 3, 4)])}
    moved = {r.measure: r for r in judge.score("moved", [_blocks(_rows(300, shift=0.8, seed=s)) for s in (2, 3, 4)])}
    assert set(same) == set(moved) == set(ALL)
    for name in ("frechet", "kernel", "sliced_wasserstein", "energy", "two_sample"):
        assert moved[name].value > same[name].value + 2 * (same[name].high - same[name].low)
        assert moved[name].value > same[name].floor
    for name in ("precision", "recall", "coverage"):
        assert moved[name].value < same[name].value


def test_the_reference_against_itself_scores_nothing():
    (reading,) = _evaluator(("frechet",)).score("itself", [_blocks(_rows(300))])
    assert reading.value == pytest.approx(0, abs=1e-9)


def test_every_reading_says_what_it_depends_on():
    (reading,) = _evaluator(("frechet",)).score("x", [_blocks(_rows(250, seed=5))])
    assert (reading.protocol, reading.version, reading.hash) == ("tabular", 2, TABLE.hash)
    assert (reading.n, reading.n_reference, reading.extractor) == (250, 300, "identity")
    assert len(reading.reference) == 64
    other = Evaluator(TABLE, Identity(), _blocks(_rows(300, seed=9)), measures=("frechet",))
    assert other.reference != reading.reference


def test_blocks_do_not_matter():
    x, y = _rows(300), _rows(300, shift=0.3, seed=1)
    found = [
        {
            (r.measure, end): getattr(r, end)
            for end in ("low", "value", "high")
            for r in Evaluator(TABLE, Identity(), _blocks(x, a), measures=ALL).score("y", [_blocks(y, b)])
        }
        for a, b in ((300, 300), (7, 33))
    ]
    assert found[0] == pytest.approx(found[1])
    first, second = (Evaluator(TABLE, Identity(), _blocks(x, a), measures=("frechet",)).reference for a in (300, 7))
    assert first == second


def test_the_interval_over_draws_is_that_of_students_t():
    judge = _evaluator(("energy",))
    draws = [_blocks(_rows(300, shift=0.5, seed=s)) for s in (1, 2)]
    (both,) = judge.score("x", draws)
    values = [judge.score("x", [draw])[0].value for draw in draws]
    assert both.value == pytest.approx(sum(values) / 2)
    half = 12.7062047 * abs(values[0] - values[1]) / 2  # t at one degree of freedom; s/√2 is half the difference
    assert both.high - both.value == pytest.approx(half, rel=1e-6)
    assert both.interval == "2 draws"


def test_the_jackknife_interval_covers_the_spread_over_fresh_sets():
    """For a mean-like measure the jackknife's standard error is that of repeated experiments."""
    widths, values = [], []
    for seed in range(12):
        judge = Evaluator(TABLE, Identity(), _blocks(_rows(300, seed=2 * seed)), measures=("energy",))
        (reading,) = judge.score("x", [_blocks(_rows(300, shift=0.5, seed=2 * seed + 1))])
        values.append(reading.value)
        widths.append((reading.high - reading.low) / 2 / 2.2621572)  # back to standard errors
    spread = torch.tensor(values).std().item()
    assert 0.5 * spread < sum(widths) / len(widths) < 2 * spread


def test_floor_and_jackknife_are_direct_computations():
    """Row i belongs to group i mod 10; t = 2.2622 at nine degrees of freedom."""
    real, other, fake = _rows(300).double(), _rows(200, seed=1).double(), _rows(250, shift=0.5, seed=2).double()
    judge = Evaluator(TABLE, Identity(), _blocks(real), measures=("energy", "two_sample"), floor=_blocks(other))
    energy, accuracy = judge.score("x", [_blocks(fake)])
    assert energy.floor == pytest.approx(energy_distance(real, other))
    assert energy.value == pytest.approx(energy_distance(real, fake))
    left = [energy_distance(*(x[torch.arange(len(x)) % 10 != group] for x in (real, fake))) for group in range(10)]
    mean = sum(left) / 10
    half = 2.26215716 * (0.9 * sum((value - mean) ** 2 for value in left)) ** 0.5
    assert (energy.low, energy.high) == pytest.approx((energy.value - half, energy.value + half), rel=1e-6)
    assert accuracy.high - accuracy.value == pytest.approx(1.96 * 0.5 / 250**0.5)


def test_few_rows_have_no_jackknife_interval():
    (reading,) = _evaluator(("frechet",), n=60).score("x", [_blocks(_rows(60, seed=1))])
    assert (reading.low, reading.high, reading.interval) == (None, None, "")
    assert math.isfinite(reading.value)


def test_an_extractor_of_the_house_serves_its_own_protocols_only():
    with pytest.raises(InputError, match="as protocol ttur-10k says"):
        Evaluator(protocol("ttur-10k"), Identity(), _blocks(_rows(50)), measures=("frechet",))


def test_a_strangers_extractor_makes_a_protocol_of_its_own():
    judge = Evaluator(TABLE, lambda x: x * 2, _blocks(_rows(50)), measures=("energy",))
    (reading,) = judge.score("x", [_blocks(_rows(50, seed=1))])
    assert reading.protocol == "tabular+extractor=own"
    assert reading.hash != TABLE.hash


def test_moments_suffice_for_the_frechet_distance_alone():
    judge = _evaluator(("frechet",))
    assert judge._reference.rows is None
    assert _evaluator(("frechet", "energy"))._reference.rows is not None


def test_only_the_measures_asked_for_are_computed():
    judge = _evaluator(("frechet", "energy"))
    assert [r.measure for r in judge.score("x", [_blocks(_rows(300, seed=1))], measures=("energy",))] == ["energy"]
    assert judge.score("x", [_blocks(_rows(300, seed=1))], measures=("recall",)) == []


def test_unknown_measures_are_refused():
    with pytest.raises(InputError, match="freshet"):
        _evaluator(("freshet",))


def _images(n=4, *, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, 8, 8), generator=generator, dtype=torch.uint8)


def _prepared(name, x, role="generated"):
    return torch.cat(list(prepared(protocol(name), [x], role)))


def test_quantisation_is_on_both_sides_and_leaves_grey_levels_alone():
    x = _images()
    for role in ("reference", "generated"):
        assert torch.equal(_prepared("classifier-10k", x, role), x.float())
        assert torch.equal(_prepared("classifier-10k+quantise=none", x, role), x.float())
    soft = torch.full((2, 1, 8, 8), 100.7 / 255)
    soft[:, :, 0, 0] = 1.0
    assert _prepared("classifier-10k", soft)[0, 0, 1, 1] == 101
    assert _prepared("classifier-10k+quantise=truncate", soft)[0, 0, 1, 1] == 100
    assert _prepared("classifier-10k+quantise=none", soft)[0, 0, 1, 1] == pytest.approx(100.7, rel=1e-5)


def test_only_generated_images_are_stretched():
    dim = torch.linspace(0.2, 0.4, 64).view(1, 1, 8, 8)
    stretched = _prepared("dai-wipf-program", dim, "generated")
    assert (float(stretched.min()), float(stretched.max())) == pytest.approx((0, 255))
    assert float(_prepared("dai-wipf-program", dim, "reference").max()) == pytest.approx(0.4 * 255)
    assert float(_prepared("dai-wipf-program-unstretched", dim, "generated").max()) == pytest.approx(0.4 * 255)


def test_only_the_reference_goes_through_jpeg_where_the_protocol_says_so():
    x = _images(channels=3)
    assert not torch.equal(_prepared("dai-wipf-program-cifar10", x, "reference"), x.float())
    soft = x / 255
    assert torch.equal(
        _prepared("dai-wipf-program-cifar10", soft, "generated"), _prepared("dai-wipf-program", soft, "generated")
    )


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.rand(2, 1, 8, 8) * 2 - 1, "-1|−1"),
        (torch.rand(2, 1, 8, 8) * 255, "255"),
        (torch.rand(2, 8, 8, 1), "permute"),
        (torch.full((2, 1, 8, 8), float("nan")), "NaN"),
        (torch.rand(5, 3), "table rows for protocol"),
    ],
)
def test_images_in_the_wrong_range_are_refused(x, words):
    with pytest.raises(InputError, match=words):
        _prepared("classifier-10k", x)


@pytest.mark.parametrize("x", [torch.ones(2, 1, 8, 8, dtype=torch.uint8), torch.rand(2, 1, 8, 8) / 255])
def test_nearly_black_references_are_refused_and_samples_are_told(x):
    with pytest.raises(InputError, match="divided by 255 twice"):
        _prepared("classifier-10k", x, "reference")
    with pytest.warns(VaelabWarning, match="divided by 255 twice"):
        _prepared("classifier-10k", x, "generated")


def test_images_are_no_table():
    with pytest.raises(InputError, match="protocol for images"):
        _prepared("tabular", torch.rand(2, 1, 8, 8))
