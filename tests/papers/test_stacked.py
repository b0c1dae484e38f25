"""Models trained together end where they would end alone."""

import copy

import pytest
import torch

from helpers import Rows, curved_manifold, small_vae
from vaelab.errors import InputError
from vaelab.model import KL, LearnedVariance, ProfiledVariance, Rising
from vaelab.training import Compute, FitSettings, fit
from vaelab_papers.stacked import Stack, StackedBatches, fit_together

SETTINGS = FitSettings(epochs=6, batch_size=50, lr=5e-3, schedule="one_cycle")
DOUBLE = Compute(accelerator="cpu", precision="64-true")


def _models(variance, count=3):
    return [small_vae(variance=variance(), seed=seed).double() for seed in range(count)]


def _data(count=3, n=200):
    return [Rows(curved_manifold(n, d=6, seed=seed).double()) for seed in range(count)]


@pytest.mark.parametrize("variance", [lambda: LearnedVariance(1.0, lr_scale=3.0), ProfiledVariance])
def test_together_is_apart(variance):
    together, data = _models(variance), _data()
    apart = copy.deepcopy(together)
    fit_together(together, data, SETTINGS, compute=DOUBLE)
    for one, other, rows in zip(together, apart, data, strict=True):
        fit(other, rows, SETTINGS, compute=DOUBLE)
        for (name, value), (_, wanted) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-10, msg=name)
        assert not one.training


def test_training_moves_every_member():
    models = _models(ProfiledVariance)
    before = [copy.deepcopy(model.state_dict()) for model in models]
    fit_together(models, _data(), SETTINGS, compute=DOUBLE)
    for model, old in zip(models, before, strict=True):
        assert all(not torch.equal(model.state_dict()[name], old[name]) for name in old)


def test_parameter_groups_keep_their_learning_rates():
    groups = Stack(_models(lambda: LearnedVariance(1.0, lr_scale=3.0))).parameter_groups()
    assert [group.lr_scale for group in groups] == [1.0, 3.0]
    assert groups[1].parameters[0].shape == (3,)


def test_conditions_are_stacked():
    class Conditioned(Rows):
        def take(self, index, noise=None):
            return self.x[index], self.x[index, :2]

    data = StackedBatches((Conditioned(torch.randn(5, 6)), Conditioned(torch.randn(5, 6))))
    x, c = data.take(torch.tensor([3, 1]))
    assert (x.shape, c.shape) == ((2, 2, 6), (2, 2, 2))
    assert torch.equal(x[0, 1], data.members[1].x[3])
    assert torch.equal(c, x[..., :2])


def test_what_does_not_stack_is_refused():
    with pytest.raises(InputError, match="2 architectures"):
        Stack([small_vae(6), small_vae(7)])
    with pytest.raises(InputError, match="as many rows"):
        StackedBatches((Rows(torch.randn(5, 6)), Rows(torch.randn(4, 6))))
    with pytest.raises(InputError, match="as many of each"):
        fit_together([small_vae()], [], SETTINGS, compute=DOUBLE)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_step_is_the_sum_of_the_members_recorded_or_not(monkeypatch, recorded):
    if not recorded:
        monkeypatch.setattr("vaelab_papers.stacked.record", lambda function, arguments: None)
    models = _models(ProfiledVariance)
    x, noise = torch.randn(10, 3, 6).double(), torch.randn(10, 3).double()
    stack = Stack(models).train()
    for _ in range(2):  # recorded, then repeated
        objective = stack(x, noise=noise)
        apart = [model.train()(x[:, i], noise=noise) for i, model in enumerate(models)]
        torch.testing.assert_close(objective.per_sample, sum(one.per_sample for one in apart))
        assert list(objective.penalties) == ["kl"]
    (recording,) = stack._recordings.values()
    assert isinstance(recording, torch.fx.GraphModule) is recorded


def test_training_and_evaluation_are_recorded_apart():
    stack = Stack(_models(ProfiledVariance)).train()
    x, noise = torch.randn(10, 3, 6).double(), torch.randn(10, 3).double()
    fitted = stack(x, noise=noise).distortion.detach()
    stack.eval()
    torch.testing.assert_close(stack(x, noise=noise).distortion.detach(), fitted)  # γ was kept from the batch
    moved = stack(2 * x, noise=noise).distortion.detach()
    assert not torch.allclose(stack.train()(2 * x, noise=noise).distortion.detach(), moved)


def test_one_model_is_trained_as_it_is():
    together, data = _models(ProfiledVariance, 1), _data(1)
    apart = copy.deepcopy(together)
    fit_together(together, data, SETTINGS, compute=DOUBLE)
    fit(apart[0], data[0], SETTINGS, compute=DOUBLE)
    for name, value in together[0].state_dict().items():
        assert torch.equal(value, apart[0].state_dict()[name]), name


def test_a_schedule_that_no_member_would_hear_of_is_refused():
    model = small_vae()
    model.regularizers = torch.nn.ModuleList([KL(schedule=Rising())])
    with pytest.raises(InputError, match="schedule of the KL"):
        Stack([model])
