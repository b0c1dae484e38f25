"""What settings turn into: axes and networks by name, and defaults that depend on the data."""

import pytest
import torch

from vaelab.config import Settings, build_second_stage, build_vae
from vaelab.errors import InputError
from vaelab.model import Conditional, Diagonal, FullCovariance, Isotropic, Standard
from vaelab.nets import Embedded, Gated, LSTMEncoder, SharedPrior


def built(condition_shape=(3,), event_shape=(5,), **values):
    settings = Settings(latent_dim=4, hidden=(8,), condition_hidden=(6,), second_hidden=(8,), **values)
    settings = settings.resolve(100, event_shape)
    return build_vae(settings, event_shape, data_variance=1.0, condition_shape=condition_shape)


@pytest.mark.parametrize(
    ("posterior", "kind"), [("diagonal", Diagonal), ("isotropic", Isotropic), ("full", FullCovariance)]
)
def test_posteriors_by_name(posterior, kind):
    assert isinstance(built((), posterior=posterior).posterior, kind)


def test_attention_comes_with_a_condition_unless_told_otherwise():
    assert isinstance(built(conditional=True).decoder, Gated)
    assert isinstance(built(conditional=True, attention=False).decoder, Embedded)
    assert not isinstance(built(()).decoder, Gated)
    assert isinstance(built((), attention=True).decoder, Gated)


def test_every_class_has_gate_logits_of_its_own():
    """Moving the logits of one class moves those of no other."""
    gate = built(conditional=True).decoder
    weights = gate.weights(torch.eye(3))
    (moved,) = torch.autograd.grad(weights[1].sum(), [gate.raw.body.output.weight])
    assert (moved[:, 1] != 0).all()
    assert (moved[:, [0, 2]] == 0).all()


def test_priors_by_name():
    assert isinstance(built(conditional=True).prior, Standard)
    assert isinstance(built(conditional=True, prior="conditional").prior, Conditional)
    sequential = {"conditional": True, "network": "lstm", "attention": False}
    shared = built((7, 6), prior="shared", **sequential)
    assert isinstance(shared.encoder, LSTMEncoder)
    assert isinstance(shared.prior.network, SharedPrior)
    assert shared.prior.network.encoder is shared.encoder
    with pytest.raises(InputError, match="SequenceVAE"):
        built((3,), prior="conditional", **sequential)


@pytest.mark.parametrize("network", ["infogan", "resnet", "residual", "wae", "mlp"])
def test_every_family_takes_a_condition(network):
    vae = built((3,), (1, 16, 16), network=network, conditional=True, base_width=4)
    x, c = torch.rand(4, 1, 16, 16), torch.eye(3)[[0, 1, 2, 0]]
    assert vae(x, c).per_sample.shape == (4,)
    with pytest.raises(InputError, match="no condition"):
        vae(x)


def test_the_second_stage_reads_the_condition():
    settings = Settings(latent_dim=4, second_hidden=(8,), conditional=True).resolve(100, (5,))
    second = build_second_stage(settings, code_variance=1.0, condition_shape=(3,))
    assert second(torch.randn(2, 4), torch.eye(3)[:2]).per_sample.shape == (2,)
    with pytest.raises(InputError, match="no condition"):
        second(torch.randn(2, 4))


def test_batch_norm_averages_over_a_twentieth_of_a_training_at_most():
    image = (1, 16, 16)
    assert Settings(epochs=200).resolve(6000, image).norm_decay == 0.99
    assert Settings(epochs=40).resolve(1200, image).norm_decay == pytest.approx(1 - 20 / 480)
    assert Settings(epochs=1).resolve(1200, image).norm_decay == 0.5
    assert Settings(epochs=1, norm_decay=0.999).resolve(1200, image).norm_decay == 0.999
