"""What training hides of a row from the encoder."""

import math

import pytest
import torch
from torch.testing import assert_close

from helpers import Rows
from vaelab.errors import InputError
from vaelab.model import VAE, FixedVariance, Hiding, Mixed
from vaelab.nets import MLPDecoder, MLPEncoder, TableReader, table_width
from vaelab.specs import Mixed as MixedSpec
from vaelab.specs import Settings
from vaelab.training import Compute, FitSettings, fit

D, KAPPA = 4, 2
LEVELS = (0, 3, 0, 0)


def of_table(hiding):
    torch.manual_seed(0)
    likelihood = Mixed(LEVELS, FixedVariance(0.5), gaps=(1, 0, 0, 0))
    encoder = TableReader(MLPEncoder((table_width(LEVELS),), 2 * KAPPA, hidden=(8,)), LEVELS)
    decoder = MLPDecoder(KAPPA, likelihood.parameter_shape((D,)), hidden=(8,))
    return VAE(encoder, decoder, latent_dim=KAPPA, likelihood=likelihood, hiding=hiding)


def table(n):
    torch.manual_seed(1)
    x = torch.randn(n, D)
    x[:, 1] = torch.randint(3, (n,))
    x[::5, 0] = math.nan
    return x


def test_rows_lose_a_share_of_their_own():
    hide, x = Hiding(50, 0.2), torch.zeros(4000, 50)
    torch.manual_seed(0)
    seen, scored = hide(x, torch.randn(4000, hide.noise_count))
    share = seen.isnan().double().mean(1)
    assert scored is seen
    assert float(share.mean()) == pytest.approx(0.2, abs=0.01)
    assert float(share.std()) == pytest.approx(math.sqrt(0.4**2 / 12 + 0.15 / 50), abs=0.01)  # uniform, then binomial
    assert float(seen.isnan().double().mean(0).std()) < 0.01


@pytest.mark.parametrize("rate", [0.0, -0.1, 0.6, math.nan])
def test_a_share_that_is_none_is_refused(rate):
    with pytest.raises(InputError, match="hidden"):
        Hiding(3, rate)


@pytest.mark.parametrize("scored", ["seen", "known"])
def test_the_objective_is_of_what_is_seen_or_of_all_that_is_known(scored):
    hiding = Hiding(D, 0.4, scored)
    vae, x = of_table(hiding), table(20)
    plain = vae.replace(hiding=None)
    noise = torch.randn(20, *vae.noise_shape)
    assert vae.noise_shape == (KAPPA + 1 + D,)
    seen = hiding(x, noise[:, KAPPA:])[0]
    assert bool((seen.isnan() & ~x.isnan()).any())
    found, of_seen = vae(x, noise=noise), plain(seen, noise=noise[:, :KAPPA])
    assert_close(found.penalties["kl"], of_seen.penalties["kl"])
    parameters = vae.decoder(vae.encode(seen).mean + vae.encode(seen).stddev * noise[:, :KAPPA])
    assert_close(found.distortion, vae.likelihood.nll(parameters, seen if scored == "seen" else x))
    # which entries are missing is said of those that are
    assert_close(found.penalties["gaps"], vae.likelihood.beside(parameters, x)["gaps"])


def test_a_training_that_hides_entries_resumes_to_the_same_weights(tmp_path):
    settings, rows = FitSettings(epochs=6, batch_size=10), Rows(table(30))
    state = tmp_path / "state.safetensors"

    def stopping(record):
        if record["epoch"] == 3:
            raise RuntimeError("killed")

    class Hook:
        def start(self, start): ...
        def update(self, step, latest): ...
        def end(self): ...
        def note(self, text): ...

        epoch = staticmethod(stopping)

    whole, parted = of_table(Hiding(D, 0.3)), of_table(Hiding(D, 0.3))
    fit(whole, rows, settings, seed=3)
    always = Compute(checkpoint_seconds=0.0)
    with pytest.raises(RuntimeError, match="killed"):
        fit(parted, rows, settings, compute=always, seed=3, hooks=[Hook()], state_file=state)
    assert state.is_file()
    again = of_table(Hiding(D, 0.3))
    fit(again, rows, settings, compute=always, seed=3, state_file=state, resume=True)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_settings_hide_what_they_say_and_nothing_by_default():
    assert MixedSpec().hiding(5) is None
    made = MixedSpec(hidden=0.2, scored="known").hiding(5)
    assert (made.entries, made.rate, made.scored) == (5, 0.2, "known")
    with pytest.raises(InputError):
        Settings(likelihood="mixed(hidden=0.7)")
