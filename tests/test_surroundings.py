"""What the caller has told torch, other threads, and earlier fits: none of them changes a result."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch

import vaelab
from helpers import Rows, curved_manifold, small_vae
from vaelab import GaussianVAE, TwoStageVAE
from vaelab.errors import InputError
from vaelab.training import FitSettings, Hook, fit, forked

X = np.random.default_rng(0).normal(size=(150, 3))
IMAGES = np.random.default_rng(0).integers(0, 255, (120, 1, 8, 8)).astype(np.uint8)
BRIEF = {"network": "mlp([8])", "epochs": 2, "random_state": 0}


@contextlib.contextmanager
def _float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def _two_stages():
    model = TwoStageVAE(2, densities=("gaussian", "second_stage(hidden=[8])"), **BRIEF).fit(X)
    return model.sample(4, density="second_stage")


def _mixed():
    return GaussianVAE(2, likelihood="mixed", **BRIEF).fit(X).sample(4)


def _images():
    return GaussianVAE(2, **BRIEF).fit(IMAGES).transform(IMAGES)


def _diagnosed():
    return vaelab.diagnose(GaussianVAE(2, **BRIEF).fit(IMAGES), IMAGES, pictures=False).measures.reconstruction


@pytest.mark.parametrize("work", [_two_stages, _mixed, _images, _diagnosed])
@pytest.mark.parametrize("around", [_float64, torch.no_grad, torch.inference_mode])
def test_what_torch_was_told_changes_nothing(work, around):
    wanted = work()
    with around():
        found = work()
    if isinstance(wanted, np.ndarray):
        np.testing.assert_array_equal(found, wanted)
    else:
        assert str(found) == str(wanted)


def test_a_loaded_model_is_float32_whatever_the_default(tmp_path):
    model = GaussianVAE(2, **BRIEF).fit(X)
    model.save(tmp_path / "model")
    with _float64():
        again = vaelab.load(tmp_path / "model")
    assert {p.dtype for p in again.trained_.vae.parameters()} == {torch.float32}
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


def test_fits_in_threads_are_those_of_one_after_the_other():
    def fitted(seed):
        return GaussianVAE(2, network="mlp([32])", epochs=2, random_state=seed).fit(X).transform(X)

    alone = [fitted(seed) for seed in range(12)]
    state = torch.random.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fitted, range(12)))
    np.testing.assert_array_equal(together, alone)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_one_thread_at_a_time_seeds_the_global_generator():
    inside = threading.Event()

    def first():
        with forked("cpu", 1):
            inside.set()
            time.sleep(0.1)  # for the second to come in, if it can
            return torch.rand(3)

    def second():
        inside.wait()
        with forked("cpu", 2):
            time.sleep(0.3)  # until the first has drawn, if it can
            return torch.rand(3)

    with ThreadPoolExecutor(2) as pool:
        drawn = [job.result() for job in (pool.submit(first), pool.submit(second))]
    for seed, numbers in enumerate(drawn, start=1):
        with forked("cpu", seed):
            assert torch.equal(torch.rand(3), numbers)


class _Until(Hook):
    """Ends a training once something has happened elsewhere."""

    def __init__(self):
        self.began, self.happened = threading.Event(), threading.Event()

    def epoch(self, record):
        self.began.set()
        if self.happened.is_set():
            raise KeyboardInterrupt


def test_other_threads_wait_for_a_chunk_of_a_training_with_dropout_and_not_for_its_end():
    hook, vae = _Until(), small_vae()
    vae.encoder.dropout = torch.nn.Dropout(0.1)  # that it is there is enough

    def other():
        hook.began.wait()
        with forked("cpu", 1):
            hook.happened.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other)
        with pytest.raises(KeyboardInterrupt):
            fit(vae, Rows(curved_manifold(60, d=6)), FitSettings(epochs=150, batch_size=10), hooks=[hook])
        waiting.result()


@pytest.mark.parametrize("fitted", [False, True])
def test_a_refused_fit_leaves_the_estimator_as_it_was(fitted):
    model = GaussianVAE(2, **BRIEF)
    if fitted:
        model.fit(pd.DataFrame(X, columns=["a", "b", "c"]))
    before = dict(vars(model))
    with pytest.raises(InputError):
        model.fit(pd.DataFrame(np.full((50, 7), np.inf), columns=list("tuvwxyz")))
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())
    with pytest.raises(InputError):
        model.set_params(latent_dim=0).fit(X)
    assert hasattr(model, "trained_") == fitted
