import pytest
import torch


@pytest.fixture(autouse=True)
def _forked_randomness():
    """Every test starts from the same global randomness and leaves it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors are fastest on one thread, and tests run side by side."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Nothing is read from or left in the cache folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("VAELAB_INCEPTION", raising=False)
        yield
