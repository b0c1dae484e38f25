"""Augmentation: a function of the step alone, of training rows alone, refused where it makes no sense."""

import numpy as np
import pytest
import torch

from vaelab import GaussianVAE
from vaelab.data import ArrayBatches
from vaelab.errors import InputError
from vaelab.specs import Flip, Settings, build_vae
from vaelab.training import Compute, FitSettings, Hook, fit, forked

IMAGES = torch.rand(60, 1, 4, 6, generator=torch.Generator().manual_seed(0))
CPU = Compute(accelerator="cpu", checkpoint_seconds=0.0)
QUICK = {"epochs": 4, "batch_size": 16}


def vae():
    with forked("cpu", "weights"):
        return build_vae(Settings(latent_dim=2, network="mlp([8])"), (1, 4, 6), data_variance=0.1)


def trained(x, augment, **options):
    model = vae()
    fit(model, ArrayBatches(x), FitSettings(**QUICK, augment=augment), compute=CPU, **options)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_rows_that_are_all_mirrored_are_the_mirrored_rows():
    mirrored = trained(IMAGES, Flip(1.0))
    assert torch.equal(mirrored, trained(IMAGES.flip(-1), None))
    assert not torch.equal(mirrored, trained(IMAGES, None))


def test_half_of_the_images_are_mirrored_and_the_others_stay():
    x = torch.arange(2000.0)[:, None, None, None] + torch.arange(2.0)
    with forked("cpu", 0):
        share = (Flip()(x)[:, 0, 0, 0] != x[:, 0, 0, 0]).double().mean()
        assert 0.45 < share < 0.55
        assert torch.equal(Flip()(x).sum(-1), x.sum(-1))
        assert (Flip(0.1)(x) != x).double().mean() < 0.15


class Stop(Hook):
    def epoch(self, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("augment", ["flip", lambda x: x + 0.1 * torch.randn_like(x)])
def test_resume_is_exact_and_global_randomness_is_left_alone(augment, tmp_path):
    state = torch.get_rng_state()
    whole = trained(IMAGES, augment)
    with pytest.raises(KeyboardInterrupt):
        trained(IMAGES, augment, hooks=[Stop()], state_file=tmp_path / "state.safetensors")
    torch.randn(3)
    resumed = trained(IMAGES, augment, state_file=tmp_path / "state.safetensors", resume=True)
    assert torch.equal(whole, resumed)
    torch.set_rng_state(state)
    trained(IMAGES, augment)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(whole, trained(IMAGES, augment, seed=1))


def test_steps_draw_anew_and_held_out_rows_are_never_seen():
    seen, draws = [], []

    def spy(x):
        seen.append(x)
        draws.append(float(torch.rand(())))
        return x

    held_out = IMAGES[:20] + 5
    plain, spied = (
        trained(IMAGES, None, held_out=ArrayBatches(held_out)),
        trained(IMAGES, spy, held_out=ArrayBatches(held_out)),
    )
    assert torch.equal(plain, spied)
    assert len(torch.cat(seen)) == 4 * 48
    assert float(torch.cat(seen).max()) < 2
    assert len(set(draws)) == len(draws) == 12


def test_an_estimator_takes_a_word_a_function_or_a_spec():
    x = (IMAGES.numpy() * 255).astype(np.uint8)
    brief = {"latent_dim": 2, "network": "mlp([8])", "epochs": 2, "random_state": 0}
    plain = GaussianVAE(**brief).fit(x).sample(2)
    by_word = GaussianVAE(**brief, training=FitSettings(augment="flip")).fit(x)
    assert not np.array_equal(by_word.sample(2), plain)
    again = GaussianVAE(**brief, training=FitSettings()).set_params(training__augment=Flip()).fit(x)
    np.testing.assert_array_equal(again.sample(2), by_word.sample(2))
    ranges = []
    own = GaussianVAE(**brief, training=FitSettings(augment=lambda x: ranges.append(x.aminmax()) or x)).fit(x)
    np.testing.assert_array_equal(own.sample(2), plain)
    assert min(low for low, _ in ranges) >= 0
    assert 0.9 < max(high for _, high in ranges) <= 1


def test_a_saved_model_knows_its_augmentation(tmp_path):
    import vaelab

    x = (IMAGES.numpy() * 255).astype(np.uint8)
    brief = {"latent_dim": 2, "network": "mlp([8])", "epochs": 1, "random_state": 0}
    GaussianVAE(**brief, training=FitSettings(augment=_doubled)).fit(x).save(tmp_path / "run")
    loaded = vaelab.load(tmp_path / "run")
    assert loaded.trained_.settings.training.augment.kind == "own"
    assert loaded.sample(2).shape == (2, 1, 4, 6)
    with pytest.raises(InputError, match="whose code no run holds"):
        loaded.fit(x)


def _doubled(x):
    return x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FitSettings(augment="rotate"), "augment='rotate'.*flip"),
        (lambda: FitSettings(augment=3), "augment=3"),
        (lambda: FitSettings(augment="flip(0)"), "greater than 0"),
        (lambda: Settings(densities=("second_stage(training=training(augment=flip))",)), "augment for codes"),
        (lambda: trained(IMAGES, lambda x: x[:, :, :2]), r"of shape \(16, 1, 2, 6\)"),
        (lambda: trained(IMAGES, lambda x: None), "returned NoneType"),
        (lambda: trained(IMAGES, lambda x: x.double()), "float64"),
        (
            lambda: GaussianVAE(training=FitSettings(augment="flip")).fit(IMAGES.flatten(1).numpy()),
            r"augment='flip' for rows of shape \(24,\)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
