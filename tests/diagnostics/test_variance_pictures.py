"""Pictures of the decoder variance: the numbers behind them, and one picture for every shape and kind of data."""

import numpy as np
import pytest
import torch

from helpers import small_vae
from vaelab.diagnostics.pictures import save
from vaelab.diagnostics.variance_pictures import (
    decoder_variance,
    deviation_bars,
    deviation_boxes,
    deviation_histogram,
    deviation_map,
    deviation_maps,
    row_variances,
)
from vaelab.errors import InputError
from vaelab.model import (
    VAE,
    Bernoulli,
    DecodedVariance,
    FixedVariance,
    Gaussian,
    LearnedVariance,
    Mixed,
    ProfiledVariance,
    draw,
)
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.nets.tables import TableReader, table_width
from vaelab.training import stream

SHAPES = {
    "iso-i": lambda shape: FixedVariance(0.1),
    "diag-i": lambda shape: LearnedVariance(0.1, event_shape=shape),
    "iso-d": lambda shape: ProfiledVariance(per_sample=True),
    "diag-d": lambda shape: ProfiledVariance(diagonal=True, per_sample=True, floor=1e-6),
    "decoded iso-d": lambda shape: DecodedVariance(0.1),
    "decoded diag-d": lambda shape: DecodedVariance(0.1, diagonal=True),
}
IMAGES, TABLE = (3, 6, 6), (4,)


def build(name, shape) -> VAE:
    torch.manual_seed(0)
    likelihood = Gaussian(SHAPES[name](shape), link="sigmoid" if len(shape) == 3 else "identity")
    decoder = MLPDecoder(2, likelihood.parameter_shape(shape), hidden=(8,))
    return VAE(MLPEncoder(shape, 4, hidden=(8,)), decoder, latent_dim=2, likelihood=likelihood)


def rows(shape, n=20):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [IMAGES, TABLE])
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_has_its_picture(name, shape, tmp_path):
    vae = build(name, shape).train()
    picture = decoder_variance(vae, rows(shape))
    assert vae.training
    if name == "iso-i":
        assert picture is None
        return
    save(picture, tmp_path / "variance.png")
    assert (tmp_path / "variance.png").stat().st_size > 5000
    text = " ".join(one.get_text() for one in picture.findobj(lambda one: hasattr(one, "get_text")))
    assert "decoder" in text
    assert "√γ" in text


@pytest.mark.parametrize(("name", "size"), [("iso-d", (20, 1)), ("diag-d", (20, 4)), ("decoded iso-d", (20, 1))])
def test_a_row_s_variance_is_a_mean_over_draws(name, size, monkeypatch):
    vae, x = build(name, TABLE).eval(), rows(TABLE)
    found = row_variances(vae, x, draws=3)
    assert found.shape == size
    noise = torch.randn(3, 20, 2, generator=stream("cpu", 0, "variance pictures"))
    q = vae.encode(x)
    with torch.no_grad():
        wanted = torch.stack([vae.likelihood.variance_of(vae.decoder(draw(q, one)), x) for one in noise]).mean(0)
    torch.testing.assert_close(found, wanted)
    if name == "iso-d":
        with torch.no_grad():
            squared = torch.stack([(vae.decode(draw(q, one)) - x).square().mean(1, keepdim=True) for one in noise])
        torch.testing.assert_close(found, squared.mean(0))
    monkeypatch.setattr("vaelab.diagnostics.variance_pictures.rows_at_once", lambda shape: 3)
    torch.testing.assert_close(row_variances(vae, x, draws=3), found)


def test_a_shared_variance_is_the_same_for_every_row():
    vae = build("diag-i", IMAGES)
    found = row_variances(vae, rows(IMAGES))
    assert found.shape == (20, *IMAGES)
    torch.testing.assert_close(found, torch.full_like(found, 0.1))


def test_a_map_shows_deviations_of_pixels():
    deviation = np.full((1, 5, 5), 0.01)
    deviation[0, 2, 3] = 0.4
    image = deviation_map(deviation).axes[0].images[0]
    assert image.get_array()[2, 3] == 0.4
    # a factor of 40 spreads over the colours
    assert image.norm(0.01) == pytest.approx(0, abs=0.05)
    assert image.norm(0.4) == pytest.approx(1, abs=0.05)


def test_maps_of_images_share_one_scale():
    real = np.random.default_rng(0).random((3, 1, 6, 6))
    deviation = np.full((3, 1, 6, 6), 0.1)
    deviation[1] = 0.5
    picture = deviation_maps(real, real, deviation)
    maps = picture.axes[1].images[0].get_array()
    assert maps.shape == (6, 3 * 7 - 1)
    assert maps.mask[:, 6].all()
    assert set(np.unique(maps.compressed())) == {0.1, 0.5}


def test_a_histogram_stands_beside_the_rows_at_its_ends():
    deviation = np.linspace(0.1, 1.0, 40)[::-1]
    images = np.broadcast_to(np.linspace(0, 1, 40)[:, None, None, None], (40, 1, 4, 4))
    strips = [axis.images[0].get_array() for axis in deviation_histogram(deviation, images).axes if axis.images]
    surest, least = (strip[:, :4].mean() for strip in strips)
    assert surest == pytest.approx(1.0)  # the last image has the smallest deviation
    assert least == pytest.approx(7 / 39)
    alone = deviation_histogram(np.full(9, 0.2))
    assert len(alone.axes) == 1
    assert "factor of 1" in alone.axes[0].get_title()


def test_columns_are_sorted_and_named():
    bars = deviation_bars(np.array([0.2, 0.9, 0.5]), ("a", "b", "c")).axes[0]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["b", "c", "a"]
    boxes = deviation_boxes(np.array([[0.2, 0.9, 0.5], [0.3, 1.0, 0.6]]), ("a", "b", "c"), most=2).axes[0]
    assert [label.get_text() for label in boxes.get_yticklabels()] == ["b", "c"]
    many = deviation_bars(np.linspace(1, 2, 50), [str(i) for i in range(50)])
    assert "the 30 highest of 50" in many.axes[0].get_title()


def test_what_has_no_variance_has_no_picture():
    vae = small_vae(d=4)
    vae.likelihood = Bernoulli()
    assert decoder_variance(vae, rows(TABLE)) is None
    with pytest.raises(InputError, match="Bernoulli"):
        row_variances(vae, rows(TABLE))
    with pytest.raises(InputError, match="0 rows"):
        row_variances(build("iso-d", TABLE), rows(TABLE, 0))


def test_a_mixed_table_has_a_bar_for_each_numeric_column():
    variance = ProfiledVariance(diagonal=True, floor=1e-6)
    likelihood = Mixed((0, 3, 0), variance)
    reader = TableReader(MLPEncoder((table_width((0, 3, 0)),), 4, hidden=(8,)), (0, 3, 0))
    vae = VAE(reader, MLPDecoder(2, (5,), hidden=(8,)), latent_dim=2, likelihood=likelihood)
    variance.calibrate(torch.tensor([1.0, 4.0]))
    picture = decoder_variance(vae, torch.zeros(4, 3), columns=("width", "kind", "height"))
    (axis,) = picture.axes[:1]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["height", "width"]  # the noisier one first
