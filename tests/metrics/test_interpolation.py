"""Paths between codes against their closed forms, and the picture of them."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from vaelab.diagnostics.pictures import interpolations
from vaelab.errors import InputError
from vaelab.metrics.interpolation import linear, pairs, spherical


def codes(n: int = 20, width: int = 7):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, n, width, generator=generator, dtype=torch.float64).unbind()


@pytest.mark.parametrize("path", [linear, spherical])
def test_paths_start_at_a_end_at_b_and_are_symmetric(path):
    a, b = codes()
    torch.testing.assert_close(path(a, b, 0), a, rtol=0, atol=0)
    torch.testing.assert_close(path(a, b, 1.0), b, rtol=0, atol=0)
    torch.testing.assert_close(path(a, b, 0.3), path(b, a, 0.7))
    torch.testing.assert_close(path(a, b, 0.5), path(b, a, 0.5))


@pytest.mark.parametrize("path", [linear, spherical])
def test_one_share_for_all_rows_or_one_for_each(path):
    a, b = codes()
    t = torch.linspace(0, 1, len(a))
    each = torch.cat([path(a[i : i + 1], b[i : i + 1], float(t[i])) for i in range(len(a))])
    torch.testing.assert_close(path(a, b, t), each)
    assert path(a.float(), b.float(), t).dtype == torch.float32


def test_linear_is_the_weighted_mean():
    a, b = codes()
    torch.testing.assert_close(linear(a, b, 0.25), 0.75 * a + 0.25 * b)


def test_spherical_in_two_dimensions_is_a_rotation():
    """Between angles α and β on a circle of radius r, the point at share t has the angle α + t (β − α)."""
    for alpha, beta, radius in ((0.1, 1.3, 2.0), (-0.4, 2.5, 0.01), (1.0, 1.0 + 1e-4, 3.0), (0.0, 3.1, 1.0)):
        a, b = (radius * torch.tensor([[math.cos(w), math.sin(w)]], dtype=torch.float64) for w in (alpha, beta))
        for t in (0.0, 0.2, 0.5, 0.9, 1.0):
            angle = alpha + t * (beta - alpha)
            expected = [radius * math.cos(angle), radius * math.sin(angle)]
            assert spherical(a, b, t)[0].tolist() == pytest.approx(expected, abs=1e-11)


def test_spherical_keeps_equal_norms_where_linear_cuts_short():
    a, b = codes()
    a, b = 3 * a / a.norm(dim=1, keepdim=True), 3 * b / b.norm(dim=1, keepdim=True)
    for t in (0.1, 0.5, 0.8):
        torch.testing.assert_close(spherical(a, b, t).norm(dim=1), torch.full((20,), 3.0, dtype=torch.float64))
        assert bool((linear(a, b, t).norm(dim=1) < 2.99).all())


def test_spherical_of_different_norms_is_the_formula():
    a, b = codes()
    cosine = (a * b).sum(1, keepdim=True) / (a.norm(dim=1, keepdim=True) * b.norm(dim=1, keepdim=True))
    omega = torch.arccos(cosine)
    expected = (torch.sin(0.7 * omega) * a + torch.sin(0.3 * omega) * b) / torch.sin(omega)
    torch.testing.assert_close(spherical(a, b, 0.3), expected)


def test_without_a_single_great_circle_the_path_is_linear():
    a = torch.tensor([[1.0, 2.0, -2.0]], dtype=torch.float64)
    zero = torch.zeros_like(a)
    for one, other in ((a, a), (a, 5 * a), (a, -a), (a, -0.3 * a), (zero, a), (a, zero), (zero, zero)):
        torch.testing.assert_close(spherical(one, other, 0.25), 0.75 * one + 0.25 * other, rtol=0, atol=1e-15)


def test_spherical_is_continuous_at_small_angles_and_safe_at_extreme_sizes():
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for angle in (1e-3, 1e-5, 1.1e-6, 0.9e-6, 1e-9):
        b = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        expected = [math.cos(0.4 * angle), math.sin(0.4 * angle)]
        assert spherical(a, b, 0.4)[0].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-18)
    other = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    for size in (1e-200, 1e200):
        half = spherical(size * a, size * other, 0.5)
        assert (half / size)[0].tolist() == pytest.approx([math.sqrt(0.5)] * 2)


def test_pairs_are_of_different_rows_and_uniform():
    generator = torch.Generator().manual_seed(0)
    drawn = pairs(4, 24_000, generator)
    assert drawn.shape == (24_000, 2)
    counts = Counter(map(tuple, drawn.tolist()))
    assert counts.keys() == {(i, j) for i in range(4) for j in range(4) if i != j}
    assert max(abs(count - 2000) for count in counts.values()) < 200  # about 4.7 standard deviations
    again = pairs(4, 24_000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    assert sorted(pairs(2, 1, generator)[0].tolist()) == [0, 1]


def test_wrong_input_is_refused():
    a, b = codes()
    for path in (linear, spherical):
        with pytest.raises(InputError, match="two equal shapes"):
            path(a, b[:3], 0.5)
        with pytest.raises(InputError, match="two equal shapes"):
            path(a[0], b[0], 0.5)
        with pytest.raises(InputError, match="t of shape"):
            path(a, b, torch.zeros(3))
    for n, count in ((1, 3), (5, 0)):
        with pytest.raises(InputError, match="at least 2 rows and 1 pair"):
            pairs(n, count, torch.Generator())


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.float32), (3, np.uint8), (2, np.float64)])
def test_the_picture_shows_every_image_in_its_place(channels, dtype):
    generator = np.random.default_rng(0)
    top = 255 if dtype == np.uint8 else 1
    images = (top * generator.random((3, 5, channels, 6, 8))).astype(dtype)
    picture = interpolations({"spherical": images, "linear": images[:, :, :, ::-1]})
    assert [axis.get_title() for axis in picture.axes] == ["spherical", "linear"]
    shown = np.asarray(picture.axes[0].get_images()[0].get_array())
    shown = shown if channels == 3 else shown[..., None]
    lefts = [0, 11, 20, 29, 40]  # 8 wide; one white between decoded steps, three about the real ones
    assert shown.shape == (3 * 7 - 1, 48, 3 if channels == 3 else 1)
    for row in range(3):
        for step, left in enumerate(lefts):
            tile = shown[row * 7 : row * 7 + 6, left : left + 8]
            np.testing.assert_array_equal(tile.transpose(2, 0, 1), images[row, step, : tile.shape[2]])
    assert [label.get_text() for label in picture.axes[0].get_xticklabels()] == ["real", "decoded between", "real"]


def test_the_picture_refuses_what_it_cannot_draw():
    for shape in ((3, 2, 1, 4, 4), (0, 5, 1, 4, 4), (5, 1, 4, 4)):
        with pytest.raises(InputError, match="at least 3 steps"):
            interpolations({"linear": np.zeros(shape)})
    with pytest.raises(InputError, match="no groups"):
        interpolations({})
