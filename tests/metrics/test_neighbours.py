"""Precision, recall, density and coverage against direct loops and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from vaelab.errors import InputError
from vaelab.metrics import neighbours
from vaelab.metrics.neighbours import neighbour_measures


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def direct(real, fake, k_precision, k_density):
    """The definitions, pair by pair; differences of exact copies are exactly 0."""

    def distance(a, b):
        return float((a - b).norm())

    def radii(points, k):
        return [sorted(distance(p, q) for j, q in enumerate(points) if j != i)[k - 1] for i, p in enumerate(points)]

    narrow, of_fake, wide = radii(real, k_precision), radii(fake, k_precision), radii(real, k_density)
    across = [[distance(r, f) for f in fake] for r in real]
    n, m = len(real), len(fake)
    precision = sum(any(across[i][j] <= narrow[i] for i in range(n)) for j in range(m)) / m
    recall = sum(any(across[i][j] <= of_fake[j] for j in range(m)) for i in range(n)) / n
    density = sum(across[i][j] <= wide[i] for i in range(n) for j in range(m)) / (k_density * m)
    coverage = sum(any(across[i][j] <= wide[i] for j in range(m)) for i in range(n)) / n
    return precision, recall, density, coverage


@pytest.mark.parametrize(("k_precision", "k_density"), [(3, 5), (1, 1), (6, 2)])
@pytest.mark.parametrize("entries", [1 << 22, 300])
def test_measures_are_their_definitions(monkeypatch, k_precision, k_density, entries):
    monkeypatch.setattr(neighbours, "_ENTRIES", entries)  # 300: blocks of a few rows
    real, fake = normal(40, 2), 0.7 * normal(33, 2, seed=1) + 0.8
    found = neighbour_measures(real, fake, k_precision=k_precision, k_density=k_density)
    assert found == pytest.approx(direct(real, fake, k_precision, k_density), abs=1e-14)
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1


def test_measures_agree_with_scikit_learn():
    real, fake = normal(500, 8).numpy(), 1.2 * normal(400, 8, seed=1).numpy()
    of_real, of_fake = (NearestNeighbors(n_neighbors=5).fit(x) for x in (real, fake))
    radii = of_real.kneighbors()[0]
    precision = [len(i) > 0 for i in _inside(real, radii[:, 2], fake)]
    recall = [len(i) > 0 for i in _inside(fake, of_fake.kneighbors()[0][:, 2], real)]
    density = [len(i) / 5 for i in _inside(real, radii[:, 4], fake)]
    coverage = of_fake.kneighbors(real, 1)[0][:, 0] <= radii[:, 4]
    expected = tuple(np.mean(x) for x in (precision, recall, density, coverage))
    assert neighbour_measures(torch.tensor(real), torch.tensor(fake)) == pytest.approx(expected, abs=1e-14)


def _inside(centres, radii, points):
    """For each point, the balls that hold it."""
    distances = np.linalg.norm(points[:, None] - centres[None], axis=2)
    return [np.flatnonzero(row <= radii) for row in distances]


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_duplicates_and_ties_count_as_inside(shift):
    """Balls of radius 0 hold exact copies; a grid is all ties; both far from the origin, where rounding is worst."""
    copies = normal(6, 30).repeat_interleave(7, 0) + shift
    assert neighbour_measures(copies, copies.flip(0)) == pytest.approx((1, 1, 7 / 5, 1))
    assert neighbour_measures(copies, normal(20, 30, seed=1) + shift).precision == 0
    side = torch.arange(6, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    part = grid[::2]
    expected = direct(grid, part, 3, 5)
    assert neighbour_measures(grid + shift, part + shift) == pytest.approx(expected, abs=1e-14)


def test_equal_sets_are_whole_and_distant_sets_empty():
    x = normal(300, 5)
    found = neighbour_measures(x, x)
    assert found[:2] == (1, 1)
    assert found.coverage == 1
    assert found.density == pytest.approx(6 / 5)  # each ball: its five neighbours and its centre
    assert neighbour_measures(x, x + 100) == (0, 0, 0, 0)


def test_equal_laws_have_density_one_and_the_known_coverage():
    """A ball is empty if the k nearest of the 2n − 1 other rows are all real (Naeem et al. 2020)."""
    n, k = 1500, 5
    found = neighbour_measures(normal(n, 3), normal(n, 3, seed=1), k_density=k)
    empty = np.prod([(n - 1 - i) / (2 * n - 1 - i) for i in range(k)])
    assert found.density == pytest.approx(1, abs=0.05)
    assert found.coverage == pytest.approx(1 - empty, abs=0.02)


def test_memory_modes_cost_recall_and_outliers_cost_precision():
    real = torch.cat([normal(100, 2), normal(100, 2, seed=1) + 50])
    one_mode = neighbour_measures(real, normal(100, 2, seed=2))
    assert one_mode.precision > 0.9
    assert one_mode.recall < 0.55
    assert one_mode.coverage < 0.55
    stray = neighbour_measures(normal(100, 2), torch.cat([normal(50, 2, seed=2), normal(50, 2, seed=3) + 50]))
    assert stray.precision < 0.55


def test_measures_are_invariant_and_take_float32():
    real, fake = (normal(200, 4) + 3).float(), (1.3 * normal(150, 4, seed=1) + 3).float()
    expected = neighbour_measures(real.double(), fake.double())
    assert neighbour_measures(real.requires_grad_(), fake) == expected
    turn = torch.linalg.qr(normal(4, 4, seed=2))[0]
    assert neighbour_measures(real.double() @ turn + 1e4, fake.double() @ turn + 1e4) == expected


def test_too_few_rows_and_wrong_neighbours_are_refused():
    x = normal(6, 2)
    assert neighbour_measures(x, x).coverage == 1
    with pytest.raises(InputError, match=r"fake with 5 row\(s\).*≥ 6"):
        neighbour_measures(x, x[:5])
    with pytest.raises(InputError, match=r"real with 6 row\(s\).*≥ 7"):
        neighbour_measures(x, x, k_precision=6)
    with pytest.raises(InputError, match="k_density=0"):
        neighbour_measures(x, x, k_density=0)
    with pytest.raises(InputError, match=r"\(6, 2\) and \(6, 1\)"):
        neighbour_measures(x, x[:, :1])
