"""Counting dimensions: clusters, gaps, intervals, classes; and a small training that finds the truth."""

import math

import pytest
import torch

from helpers import Rows
from vaelab.data import ArrayBatches
from vaelab.diagnostics.dimension import Dimensions, count_dimensions, dimensions_of
from vaelab.diagnostics.groups import groups_of, regions_of
from vaelab.errors import InputError
from vaelab.model import VAE, Deterministic, Gaussian, Isotropic, LearnedVariance, variance_ratios_of
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.specs import Compute
from vaelab.training import FitSettings, fit
from vaelab_papers.synthetic import sigmoid_manifold


def _ratios(*means, n=100, spread=0.0):
    noise = spread * torch.randn(n, len(means), generator=torch.Generator().manual_seed(0)).double()
    return torch.tensor(means, dtype=torch.float64).expand(n, -1) * noise.exp()


def test_two_clusters_are_counted():
    found = count_dimensions(_ratios(0.001, 0.98, 0.01, 1.0, spread=0.1))
    assert (found.count, found.by_gap, found.low, found.high) == (2, 2, 2, 2)
    assert found.clear
    assert found.warnings == []
    assert found.gap == pytest.approx(98, rel=0.1)


def test_separated_clusters_on_the_wrong_side_of_the_threshold_are_told():
    found = count_dimensions(_ratios(0.01, 0.02, 0.1, 1.0, 0.99))
    assert (found.count, found.by_gap) == (2, 3)
    assert "gap is the better count" in found.warnings[0]


def test_a_code_that_is_full_says_so():
    found = count_dimensions(_ratios(0.01, 0.02, 0.01))
    assert (found.count, found.by_gap) == (3, 3)
    assert "κ is too small" in found.warnings[0]


def test_a_collapsed_code_has_no_dimension():
    found = count_dimensions(_ratios(1.0, 0.97, 0.99))
    assert (found.count, found.by_gap) == (0, 0)
    assert found.clear


def test_a_smear_is_no_count():
    found = count_dimensions(_ratios(0.02, 0.04, 0.09, 0.18, 0.37, 0.75))
    assert not found.clear
    assert "two clusters" in found.warnings[0]


def test_a_ratio_at_the_threshold_widens_the_interval():
    ratios = torch.stack([torch.tensor([0.0, 0.1]).repeat(50), torch.full((100,), 0.001)], 1).double()
    found = count_dimensions(ratios)
    assert (found.low, found.high) == (1, 2)


def test_ratios_above_one_and_single_rows_do_not_crash():
    found = count_dimensions(_ratios(1.3, 0.001, n=1))
    assert (found.count, found.by_gap, found.rows) == (1, 1, 1)
    with pytest.raises(InputError, match="at least one row"):
        count_dimensions(torch.zeros(0, 3))


def test_a_wider_gap_among_active_dimensions_does_not_mislead():
    """0.00001 to 0.02 is a factor 2000, but the clusters part between 0.02 and 0.9."""
    found = count_dimensions(_ratios(1e-5, 1e-5, 0.02, 0.9, 1.0))
    assert (found.count, found.by_gap, found.clear) == (3, 3, True)
    assert found.gap == pytest.approx(45)
    assert found.active.tolist() == [True, True, True, False, False]


def test_the_interval_is_that_of_the_bootstrap():
    """A ratio that is 0 or 0.1 by chance: the mean is below 0.05 in as many resamples as the binomial law says."""
    n, zeros = 200, 104
    ratios = torch.cat([torch.zeros(zeros), torch.full((n - zeros,), 0.1)])[:, None].double()
    counts = [count_dimensions(ratios, resamples=1, seed=seed).high for seed in range(400)]
    law = torch.distributions.Binomial(n, torch.tensor((n - zeros) / n, dtype=torch.float64))
    below = float(law.log_prob(torch.arange(n // 2, dtype=torch.float64)).exp().sum())  # fewer than half are 0.1
    assert sum(counts) / 400 == pytest.approx(below, abs=0.08)
    assert count_dimensions(ratios).low == 0
    assert count_dimensions(ratios).high == 1


@pytest.mark.parametrize(("zeros", "low"), [(110, 0), (120, 1)])
def test_the_interval_holds_95_per_cent_of_the_bootstrap(zeros, low):
    """Of resamples of 200 rows a mean of 0.05 or more has probability 0.09 with 110 zeros, and 0.003 with 120."""
    ratios = torch.cat([torch.zeros(zeros), torch.full((200 - zeros,), 0.1)])[:, None].double()
    for seed in range(5):
        found = count_dimensions(ratios, seed=seed)
        assert (found.low, found.count, found.high) == (low, 1, 1)


def test_a_threshold_of_ones_own_holds_for_the_interval_too():
    found = count_dimensions(_ratios(0.1, 0.3, 0.9, spread=0.01), threshold=0.2)
    assert (found.low, found.count, found.high) == (1, 1, 1)
    assert count_dimensions(_ratios(0.1, 0.3, 0.9)).count == 0


def test_without_clusters_the_widest_gap_counts():
    """0.3 and 0.6 lie on the two sides of one half, a factor of 2 apart; 0.001 and 0.3 are a factor of 300 apart."""
    found = count_dimensions(_ratios(0.9, 0.001, 0.6, 0.3))
    assert (found.by_gap, found.clear) == (1, False)
    assert found.gap == pytest.approx(300)


def test_the_bootstrap_does_not_depend_on_its_blocks(monkeypatch):
    ratios = torch.rand(50, 3).double() * 0.1
    whole = count_dimensions(ratios)
    monkeypatch.setattr("vaelab.diagnostics.dimension._DRAWN", 75)
    assert count_dimensions(ratios).ratios.equal(whole.ratios)
    assert (count_dimensions(ratios).low, count_dimensions(ratios).high) == (whole.low, whole.high)


def test_diverged_ratios_are_refused():
    with pytest.raises(InputError, match="not finite, in 1 of 2 rows"):
        count_dimensions(torch.tensor([[0.1, float("nan")], [0.1, 0.2]]))


class _Switch(torch.nn.Module):
    """An encoder whose first scale is exp(−3 x): x switches the first dimension on."""

    def forward(self, x, c=None):
        return torch.cat([torch.zeros(len(x), 2), -3 * x, torch.zeros_like(x)], 1)


def _switched():
    return VAE(_Switch(), MLPDecoder(2, (1,)), latent_dim=2)


def test_classes_are_counted_apart():
    x = torch.tensor([[0.0], [1.0], [1.0]])
    groups = {"flat": torch.tensor([True, False, False]), "line": x[:, 0] == 1, "empty": torch.zeros(3) == 1}
    found = dimensions_of(_switched(), Rows(x), groups=groups)
    assert found.all.count == 0
    assert {name: value.count for name, value in found.groups.items()} == {"flat": 0, "line": 1}
    assert found.groups["flat"].rows == 1
    assert dimensions_of(_switched(), Rows(x)).groups == {}
    with pytest.raises(InputError, match="for 3 rows"):
        dimensions_of(_switched(), Rows(x), groups={"a": torch.ones(2) == 1})


def test_one_hot_conditions_are_classes_and_others_regions():
    x = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    classes = ArrayBatches(x, torch.eye(2).repeat_interleave(2, 0))
    assert {k: v.count for k, v in dimensions_of(_switched(), classes).groups.items()} == {"0": 0, "1": 1}
    numbers = ArrayBatches(x, torch.tensor([[5.0, 0.0], [5.1, 0.0], [-5.0, 1.0], [-5.1, 1.0]]))
    found = dimensions_of(_switched(), numbers, regions=2)
    by_first = sorted((name.split("(")[1], one.count, one.rows) for name, one in found.groups.items())
    assert by_first == [("-5.05, 1)", 1, 2), ("5.05, 0)", 0, 2)]


def test_regions_cover_every_row_once():
    c = torch.randn(300, 2)
    regions = regions_of(c, 4)
    assert len(regions) == 4
    assert torch.stack(list(regions.values())).sum(0).eq(1).all()
    sizes = [int(rows.sum()) for rows in regions.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert len(regions_of(torch.ones(5, 1), 4)) == 1
    assert list(regions_of(torch.randn(9, 4, 3), 2)) == ["region 1", "region 2"]
    assert list(regions_of(torch.zeros(3, 1), 2, shown=torch.full((3, 1), 7.0))) == ["region 1 around 7"]
    assert list(groups_of(torch.eye(3))) == ["0", "1", "2"]
    with pytest.raises(InputError, match="0 regions"):
        regions_of(c, 0)


def test_posteriors_without_a_variance_per_dimension_are_refused():
    for posterior in (Isotropic(), Deterministic()):
        vae = VAE(
            MLPEncoder((4,), 2, hidden=(8,)),
            MLPDecoder(2, (4,), hidden=(8,)),
            latent_dim=2,
            posterior=posterior,
            regularizers=[],
        )
        with pytest.raises(InputError, match="variance for every dimension"):
            dimensions_of(vae, Rows(torch.randn(5, 4)))
    with pytest.raises(InputError, match="no rows"):
        dimensions_of(_switched(), Rows(torch.zeros(0, 1)))


def test_ratios_are_those_of_evaluation_mode_and_leave_the_model_as_it_was():
    vae = _switched().train()
    ratios = variance_ratios_of(vae, Rows(torch.tensor([[0.0], [1.0]])))
    torch.testing.assert_close(ratios, torch.tensor([[1.0, 1.0], [math.exp(-6), 1.0]], dtype=torch.float64))
    assert vae.training


def test_groups_with_dimensions_of_their_own_are_told_from_a_smear():
    """Half of the rows use one dimension and half another; together neither is active, and neither idle."""
    first, second = _ratios(0.001, 1.0, 1.0), _ratios(1.0, 0.002, 1.0)
    both = count_dimensions(torch.cat([first, first, second]))
    found = Dimensions(both, {"a": count_dimensions(first), "b": count_dimensions(second)})
    assert found.adaptive
    assert found.warnings == [
        "all: The groups use different dimensions, so their mean has no clusters; count per group."
    ]
    lines = str(found).splitlines()
    assert lines[1].split()[:2] == ["all", "0"]
    assert lines[2].split()[:5] == ["a", "1", "(1–1)", "×", "1,000"]
    assert lines[-1].startswith("! all: The groups")


def test_a_table_names_the_groups_that_a_warning_is_about():
    smear = count_dimensions(_ratios(0.02, 0.2, 0.37, 0.75))
    found = Dimensions(smear, {"a": smear, "b": count_dimensions(_ratios(0.001, 1.0, 1.0, 1.0))})
    assert not found.adaptive
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("all, a: The ratios do not fall into two clusters (2 of 4 lie between")
    assert "ratios: 0.02 0.2 0.37 0.75" in str(found)


def test_training_finds_the_dimension_of_a_manifold():
    """Theorem 1 at a small scale: r = 2 in d = 10, κ = 6."""
    data = sigmoid_manifold(2000, 10, 2, seed=1)
    torch.manual_seed(0)
    vae = VAE(
        MLPEncoder((10,), 12, hidden=(32,)),
        MLPDecoder(6, (10,), hidden=(32,)),
        latent_dim=6,
        likelihood=Gaussian(LearnedVariance(1.0, lr_scale=1.0)),
    )
    fit(
        vae,
        Rows(data.x),
        FitSettings(epochs=150, batch_size=200, lr=5e-3, schedule="one_cycle"),
        compute=Compute(accelerator="cpu"),
    )
    found = dimensions_of(vae, Rows(data.x)).all
    assert (found.count, found.by_gap) == (2, 2)
    assert found.clear
