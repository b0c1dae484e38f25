"""Counting dimensions: clusters, gaps, intervals, classes; and a small training that finds the truth."""

import pytest
import torch

from helpers import Rows
from vaelab.data.synthetic import sigmoid_manifold
from vaelab.diagnostics.dimension import count_dimensions, manifold_dimension
from vaelab.errors import InputError
from vaelab.model import VAE, Gaussian, LearnedVariance
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.training import FitSettings, fit


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


def test_classes_are_counted_apart():
    encoder = torch.nn.Linear(1, 4)
    with torch.no_grad():  # the second half of the output is log σ: x switches the first dimension on
        encoder.weight.copy_(torch.tensor([[0.0], [0.0], [-3.0], [0.0]]))
        encoder.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0]))

    class Encoder(torch.nn.Module):
        def forward(self, x, c=None):
            return encoder(x)

    vae = VAE(Encoder(), MLPDecoder(2, (1,)), latent_dim=2)
    x, labels = torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([0, 1, 1])
    found = manifold_dimension(vae, Rows(x), labels=labels, classes=["flat", "line"])
    assert {name: value.count for name, value in found.items()} == {"all": 0, "flat": 0, "line": 1}
    assert found["flat"].rows == 1
    with pytest.raises(InputError, match="2 labels for 3 rows"):
        manifold_dimension(vae, Rows(x), labels=labels[:2])


def test_training_finds_the_dimension_of_a_manifold():
    """Theorem 1 at a small scale: r = 2 in d = 10, κ = 6."""
    data = sigmoid_manifold(4000, 10, 2, seed=1)
    torch.manual_seed(0)
    vae = VAE(
        MLPEncoder((10,), 12, hidden=(32,)),
        MLPDecoder(6, (10,), hidden=(32,)),
        latent_dim=6,
        likelihood=Gaussian(LearnedVariance(1.0, lr_scale=1.0)),
    )
    fit(vae, Rows(data.x), FitSettings(epochs=150, batch_size=200, lr=5e-3, schedule="one_cycle", accelerator="cpu"))
    found = manifold_dimension(vae, Rows(data.x))["all"]
    assert (found.count, found.by_gap) == (2, 2)
    assert found.clear
