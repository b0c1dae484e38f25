"""The moving average of the weights, against its recursion."""

import pytest
import torch
from torch import nn

from vaelab.errors import InputError
from vaelab.storage import load_tensors, save_tensors
from vaelab.training import Compute, FitSettings, Hook, fit
from vaelab.training.average import Average
from vaelab.types import Objective, Trainable

CPU = Compute(accelerator="cpu", checkpoint_seconds=0)


class Rows:
    """One number per row."""

    event_shape, noise_shape = (1,), (0,)

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def to(self, device):
        return self

    def take(self, index, noise=None):
        return self.x[index], None


class Level(Trainable):
    """A mean, learned by squared error; it notes what it is when it is trained and when it is judged."""

    noise_shape = (0,)

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.trained, self.judged = [], []

    def forward(self, x, c=None, *, noise=None):
        (self.trained if self.training else self.judged).append(self.w.item())
        return Objective((x[:, 0] - self.w).square(), {}, {})


def recursion(path, decay, epoch):
    """The average after all steps: every eighth of an epoch and its last, with the decay of the steps since."""
    average, before = path[0], 0
    for n in range(1, len(path)):
        if (n % epoch) % 8 == 0:
            d = min(decay, (1 + n) / (10 + n)) ** (n - before)
            average, before = d * average + (1 - d) * path[n], n
    return average


def rows(n=40):
    return Rows(torch.linspace(0, 2, n, dtype=torch.float64)[:, None])


@pytest.mark.parametrize(("steps", "epoch"), [(3, 1), (14, 7), (8, 8), (60, 20)])
def test_the_average_follows_its_recursion(steps, epoch):
    model = nn.Linear(3, 2).double()
    generator = torch.Generator().manual_seed(0)
    average, path = Average(model, 0.95, epoch), [model.weight.detach().clone()]
    for n in range(1, steps + 1):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3, generator=generator, dtype=torch.float64))
        path.append(model.weight.detach().clone())
        average.step(n)
    wanted = recursion(path, 0.95, epoch)
    torch.testing.assert_close(average.state_dict()["weight"], wanted, rtol=1e-12, atol=1e-12)
    with average.lent():
        torch.testing.assert_close(model.weight, wanted)
    assert torch.equal(model.weight, path[-1])


def test_a_training_is_judged_by_the_average_and_ends_with_it():
    model = Level()
    fit(model, rows(), FitSettings(4, 5, lr=0.1, ema=0.9, keep_best=False), compute=CPU, held_out=rows(3))
    last = model.judged[-1]
    assert model.w.item() == last  # what was judged last
    bare = Level()
    fit(bare, rows(), FitSettings(4, 5, lr=0.1, keep_best=False), compute=CPU, held_out=rows(3))
    assert bare.trained == model.trained  # the steps themselves are those of a training without an average
    assert last == pytest.approx(recursion([*model.trained, bare.w.item()], 0.9, 8), rel=1e-12)
    assert bare.w.item() != last


class Stop(Hook):
    def epoch(self, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("keep_best", [False, True])
def test_a_resumed_training_ends_with_the_average_of_a_whole_one(tmp_path, keep_best):
    settings, state = FitSettings(6, 6, lr=0.1, ema=0.9, keep_best=keep_best), tmp_path / "state.safetensors"
    whole, model = Level(), Level()
    fit(whole, rows(), settings, compute=CPU, held_out=rows(3))
    with pytest.raises(KeyboardInterrupt):
        fit(Level(), rows(), settings, compute=CPU, held_out=rows(3), state_file=state, hooks=[Stop()])
    fit(model, rows(), settings, compute=CPU, held_out=rows(3), state_file=state, resume=True)
    assert model.w.item() == whole.w.item()


def test_a_state_without_its_average_is_refused(tmp_path):
    settings, state = FitSettings(6, 6, ema=0.9), tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(Level(), rows(), settings, compute=CPU, held_out=rows(3), state_file=state, hooks=[Stop()])
    tensors, meta = load_tensors(state)
    save_tensors(state, {name: value for name, value in tensors.items() if not name.startswith("average")}, meta)
    with pytest.raises(InputError, match="average of weights"):
        fit(Level(), rows(), settings, compute=CPU, held_out=rows(3), state_file=state, resume=True)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_the_average_is_that_of_the_weights_that_are_trained(precision):
    def ended(ema):
        torch.manual_seed(0)
        model = Line()
        settings = FitSettings(3, 8, lr=0.1, ema=ema, keep_best=False)
        fit(model, Rows(rows().x.float()), settings, compute=Compute(accelerator="cpu", precision=precision))
        return model.weight.item()

    assert ended(0.9) != ended(None)


class Line(Trainable):
    """A slope, in single precision before it is trained."""

    noise_shape = (0,)

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x, c=None, *, noise=None):
        return Objective((x[:, 0] - self.weight * x[:, 0]).square(), {}, {})
