import os
import random
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.distributions import Distribution


@contextmanager
def forked_randomness():
    """Start from the same global randomness and leave it as it was."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002
            random.seed(0)
            yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])


@pytest.fixture(autouse=True)
def _forked_randomness():
    with forked_randomness():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    """Fixtures that tests share are built by whichever comes first, outside its own fork."""
    if fixturedef.scope == "function":
        return (yield)
    with forked_randomness():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    """Some modules draw when they are imported; what they get must not depend on which others are."""
    with forked_randomness():
        return (yield)


@pytest.fixture(autouse=True)
def _checked_arguments(monkeypatch):
    """Distributions check their arguments, also where a package that switches this off has been imported before."""
    monkeypatch.setattr(Distribution, "_validate_args", __debug__)


@pytest.fixture(autouse=True, scope="session")
def _threads():
    """Small tensors are fastest on one thread, and tests run side by side; OMP_NUM_THREADS asks for another number."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Nothing is read from or left in the cache folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("VAELAB_INCEPTION", raising=False)
        yield
