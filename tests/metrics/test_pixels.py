"""Pixel values: the door, and what protocols do to images."""

import math

import pytest
import torch
from torch import Tensor

from vaelab.errors import InputError
from vaelab.metrics.pixels import as_rgb, jpeg, pixel_values, quantise, resize, stretch

LEVELS = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)


def _noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return 255 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _smooth(channels: int) -> Tensor:
    """Whole grey levels that a JPEG file changes little."""
    across = torch.linspace(0, math.pi, 16)
    waves = [(across[:, None] * k).cos() + (across[None] * (3 - k)).sin() for k in range(channels)]
    return (127 + 40 * torch.stack(waves)).round()[None]


# the door


def test_whole_levels_come_back_from_every_range():
    expected = LEVELS.float()
    grey = expected / 255
    shifted = (expected / 127.5 - 1 + 1) / 2
    for images in (LEVELS, grey, grey.double(), expected * (1 / 255), shifted):
        found = pixel_values(images)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)
        assert torch.equal(quantise(found, "truncate"), expected)
    assert not torch.equal((shifted * 255).floor(), expected), "else the last range shows nothing"


def test_values_between_levels_stay_and_slight_overshoot_is_clipped():
    images = torch.tensor([-9e-4, 0.1, 0.5, 1 + 9e-4]).reshape(1, 1, 2, 2)
    before = images.clone()
    torch.testing.assert_close(pixel_values(images).flatten(), torch.tensor([0, 25.5, 127.5, 255]))
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 9, 9), "unsqueeze"),
        (torch.rand(2, 81), "reshape"),
        (torch.rand(2, 9, 9, 3), r"permute\(0, 3, 1, 2\)"),
        (torch.rand(2, 9, 9, 1), "channels last"),
        (torch.rand(0, 1, 9, 9), "at least one image"),
        (2 * torch.rand(2, 1, 9, 9) - 1, r"looks like \[−1, 1\].*\(images \+ 1\) / 2"),
        (LEVELS.float(), r"looks like \[0, 255\].*uint8"),
        (torch.full((1, 1, 2, 2), 1.2), "overshoots"),
        (3 * torch.randn(2, 1, 9, 9), "no range of pixels.*scaling"),
        (LEVELS.long(), "int64.*uint8"),
        (torch.ones(1, 1, 2, 2, dtype=torch.bool), r"bool.*images\.float\(\)"),
    ],
)
def test_the_door_names_what_is_wrong_and_a_remedy(images, message):
    with pytest.raises(InputError, match=message):
        pixel_values(images)


def test_the_door_counts_images_that_are_not_finite_and_uses_the_callers_name():
    images = torch.rand(5, 3, 4, 4)
    images[1, 0, 0, 0] = math.nan
    images[1, 1, 0, 0] = math.nan
    images[4, 2, 3, 3] = math.inf
    with pytest.raises(InputError, match="2 of 5 test rows"):
        pixel_values(images, name="test rows")


# grey levels


def test_quantise():
    images = torch.tensor([-3.0, 0.4, 0.6, 2.5, 254.7, 260.0]).reshape(1, 1, 2, 3)
    before = images.clone()
    assert quantise(images, "round").flatten().tolist() == [0, 0, 1, 2, 255, 255]
    assert quantise(images, "truncate").flatten().tolist() == [0, 0, 0, 2, 254, 255]
    assert torch.equal(quantise(images, "none"), before)
    assert torch.equal(images, before)


def test_stretch_is_by_image_over_all_channels():
    images = 50 + _noise(4, 3, 5, 5) / 10
    images[2] = 17
    found = stretch(images)
    for row in (0, 1, 3):
        assert float(found[row].min()) == 0
        assert float(found[row].max()) == 255
    assert not found[2].any()
    assert torch.equal(found[1:2], stretch(images[1:2]))
    assert (found[0].amax((1, 2)) == 255).sum() == 1, "only one channel holds the maximum"
    torch.testing.assert_close(stretch(0.3 * images[:2] + 8), found[:2], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("function", [stretch, lambda x: quantise(x, "round"), jpeg])
def test_bytes_and_single_images_are_refused(function):
    for images in (LEVELS, LEVELS[0].float()):
        with pytest.raises(InputError, match="pixel_values"):
            function(images)


# JPEG


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_smooth_images_and_spoils_noise_less_at_a_higher_quality(channels):
    smooth, rough = _smooth(channels), _noise(2, channels, 16, 16).round()
    found = jpeg(smooth)
    assert found.shape == smooth.shape
    assert found.dtype == smooth.dtype
    assert float((found - smooth).square().mean().sqrt()) < 8
    assert torch.equal(found, found.round())
    low, usual, high = (float((jpeg(rough, quality=q) - rough).abs().mean()) for q in (10, 75, 100))
    assert low > usual > high
    assert torch.equal(jpeg(rough)[1:], jpeg(rough[1:])), "each image has a file of its own"


def test_jpeg_keeps_flat_grey_exactly_and_channels_in_order():
    flat = torch.full((1, 1, 8, 8), 128.0)
    assert torch.equal(jpeg(flat), flat)
    red = torch.zeros(1, 3, 8, 8)
    red[:, 0] = 255
    assert jpeg(red).mean((0, 2, 3)).round().tolist() == pytest.approx([255, 0, 0], abs=3)


def test_jpeg_refuses_what_a_file_cannot_hold():
    with pytest.raises(InputError, match="quantise"):
        jpeg(torch.full((1, 1, 8, 8), 0.5))
    with pytest.raises(InputError, match="quantise"):
        jpeg(torch.full((1, 1, 8, 8), 256.0))
    with pytest.raises(InputError, match="2 channels"):
        jpeg(torch.zeros(1, 2, 8, 8))
    with pytest.raises(InputError, match="quality"):
        jpeg(torch.zeros(1, 1, 8, 8), quality=0)


# sizes


def _loop(images: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """Bilinear interpolation written out pixel by pixel."""
    (n, channels, height, width), (tall, wide) = images.shape, size
    out = torch.zeros(n, channels, tall, wide, dtype=images.dtype)

    def place(i: int, source: int, target: int) -> tuple[int, int, float]:
        at = i * source / target if how == "tf1-bilinear" else max(0.0, (i + 0.5) * source / target - 0.5)
        lower = min(math.floor(at), source - 1)
        return lower, min(lower + 1, source - 1), at - lower

    for i in range(tall):
        y0, y1, v = place(i, height, tall)
        for j in range(wide):
            x0, x1, u = place(j, width, wide)
            top = (1 - u) * images[:, :, y0, x0] + u * images[:, :, y0, x1]
            bottom = (1 - u) * images[:, :, y1, x0] + u * images[:, :, y1, x1]
            out[:, :, i, j] = (1 - v) * top + v * bottom
    return out


@pytest.mark.parametrize("how", ["tf1-bilinear", "bilinear"])
@pytest.mark.parametrize("size", [(7, 5), (13, 11), (4, 9), (1, 1)])
def test_resize_is_the_formula(how, size):
    images = _noise(2, 3, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(resize(images, size, how), _loop(images, size, how), rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("how", ["tf1-bilinear", "bilinear"])
def test_resize_to_the_same_size_changes_nothing(how):
    images = _noise(2, 1, 7, 5)
    assert torch.equal(resize(images, (7, 5), how), images)


def test_a_ramp_enlarged_twice():
    ramp = torch.tensor([0.0, 10, 20]).expand(1, 1, 3, 3)
    corner = resize(ramp, (6, 6), "tf1-bilinear")
    middle = resize(ramp, (6, 6), "bilinear")
    for row in range(6):
        assert corner[0, 0, row].tolist() == [0, 5, 10, 15, 20, 20]
        assert middle[0, 0, row].tolist() == [0, 2.5, 7.5, 12.5, 17.5, 20]


def test_every_enlargement_to_299_stays_within_the_image():
    for side in range(1, 299):  # in float32, i·n_in/n_out may round up across a pixel
        ramp = torch.arange(side, dtype=torch.float32).expand(1, 1, 1, side)
        found = resize(ramp, (1, 299), "tf1-bilinear").flatten()
        expected = (torch.arange(299, dtype=torch.float64) * side / 299).clamp(max=side - 1)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_resize_refuses_bytes_and_empty_sizes():
    with pytest.raises(InputError, match="uint8"):
        resize(LEVELS, (8, 8), "tf1-bilinear")
    with pytest.raises(InputError, match="size"):
        resize(LEVELS.float(), (0, 8), "bilinear")


def test_as_rgb():
    grey, colour = _noise(2, 1, 4, 4), _noise(2, 3, 4, 4)
    assert torch.equal(as_rgb(grey), torch.cat([grey, grey, grey], 1))
    assert torch.equal(as_rgb(colour), colour)
    with pytest.raises(InputError, match="grey"):
        as_rgb(_noise(2, 4, 4, 4))
