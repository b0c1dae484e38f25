"""From data to a dimension, from a trained model to its counts, and both from the shell."""

import dataclasses

import numpy as np
import pytest
import torch

from vaelab import runs
from vaelab.cli import main
from vaelab.data import Conditioning, Dataset, TestSplit, TrainSplit, from_arrays
from vaelab.diagnostics.dimension import count_dimensions
from vaelab.errors import InputError
from vaelab.model import VAE
from vaelab.nets import MLPDecoder, MLPEncoder
from vaelab.specs import MLP, Compute, FitSettings, Settings
from vaelab.verbs import Estimate, estimate_dimension, manifold_dimension
from vaelab.verbs.search import Trial, unresolved
from vaelab_papers.synthetic import PROGRAM, sigmoid_manifold

QUICK = Settings(
    latent_dim=2,
    network=MLP((32,), "relu"),
    training=FitSettings(epochs=60, batch_size=200, lr=5e-3, schedule="one_cycle"),
    compute=Compute(accelerator="cpu"),
    held_out=0.0,
)
SHORT = QUICK.set_params(training__epochs=1, densities=())


def test_a_code_that_is_full_is_doubled_until_the_count_settles():
    x = sigmoid_manifold(3000, 8, 2, law=PROGRAM, seed=1).x
    notes = []
    found = estimate_dimension(x, settings=QUICK, seeds=1, note=notes.append)
    assert (found.dimension, found.counts, found.latent_dim) == (2, (2,), 4)
    assert list(found.trainings) == [2, 4]
    assert [one.dimension.by_gap for one in found.trainings[2]] == [2]
    assert found.local == pytest.approx(2, abs=0.1)
    assert found.warnings == []
    assert len(notes) == 2
    assert str(found).startswith("2 dimensions, of 8 numbers per row that vary (3,000 rows)\n  κ = 2: 2 active")


def _estimate(dimension, losses, *, columns=10, ratios=(0.001, 0.001, 0.001, 1.0, 1.0, 1.0)):
    """κ → losses; all trainings have the same ratios."""
    trainings = {
        size: tuple(Trial(count_dimensions(torch.tensor([ratios[:size]])), loss) for loss in own)
        for size, own in losses.items()
    }
    return Estimate(dimension, dimension, 6, trainings, columns, 1000)


def test_a_smaller_code_that_is_better_counts(monkeypatch):
    """Ratios of 3 active dimensions; the code of 2 is better by 2 nats, that of 1 is worse."""
    wide = _estimate(2, {6: (-5.0, -4.9), 2: (-3.0, -7.0), 1: (0.0, 0.0)})

    def train(self, size):
        self.trainings[size] = wide.trainings[size]
        return self.trainings[size]

    monkeypatch.setattr("vaelab.verbs.search.Search.train", train)
    settings = QUICK.model_copy(update={"latent_dim": 6})
    found = estimate_dimension(np.random.default_rng(0).normal(size=(600, 10)), settings=settings)
    assert (found.dimension, found.counts, found.latent_dim) == (2, (3, 3), 6)
    assert list(found.trainings) == [6, 2, 1]
    assert found.warnings[0].startswith("Estimates from neighbours differ: TwoNN 9.")
    assert found.warnings[1:] == [
        "A code of 2 describes the data better, by 2.0 nats per row, than what the larger code of 6 was trained to, "
        "which could do the same. The smaller counts."
    ]
    kept = estimate_dimension(np.random.default_rng(0).normal(size=(600, 10)), settings=settings, smaller=False)
    assert (kept.dimension, list(kept.trainings)) == (3, [6])
    wide = _estimate(3, {6: (-6.8, 0.0), 2: (-3.0, -7.0)})  # seeds differ by more than the codes
    unsure = estimate_dimension(np.random.default_rng(0).normal(size=(600, 10)), settings=settings)
    assert (unsure.dimension, list(unsure.trainings)) == (3, [6, 2])


def test_what_makes_an_estimate_doubtful_is_said():
    full = _estimate(6, {6: (0.0,)}, columns=6, ratios=(0.01,) * 6)
    assert full.warnings == ["All 6 dimensions of the data are active: they lie on no manifold."]
    assert "κ is too small" in _estimate(6, {6: (0.0,)}, columns=9, ratios=(0.01,) * 6).warnings[0]
    few = dataclasses.replace(_estimate(3, {6: (0.0,)}), rows=40, notes=("noiseless",))
    assert few.warnings == ["40 rows are few for a training: the count may be off.", "noiseless"]
    other = Trial(count_dimensions(torch.tensor([[0.001, 1.0, 1.0, 1.0, 1.0, 1.0]])), 0.0)
    apart = dataclasses.replace(few, rows=900, notes=(), trainings={6: (*few.trainings[6], other)})
    assert apart.warnings == ["Seeds disagree: 3, 1. Train for longer."]


def test_constant_columns_are_left_out_of_the_count():
    x = np.random.default_rng(0).normal(size=(300, 4))
    x[:, 1] = 3.0
    found = estimate_dimension(x, settings=SHORT.model_copy(update={"latent_dim": 8}), seeds=1, smaller=False)
    assert (found.columns, found.latent_dim) == (3, 3)
    assert any("constant" in text for text in found.warnings)
    assert "300 rows are few" in str(found)


@pytest.mark.parametrize("shape", [(20, 2), (40, 1), (30, 1, 8, 8)])
def test_few_rows_one_column_and_images_are_counted(shape):
    x = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    found = estimate_dimension(x, settings=SHORT.set_params(training__batch_size=15), seeds=1, largest=2)
    assert 0 <= found.dimension <= 2
    assert found.latent_dim <= min(2, found.columns)


def test_wrong_input_is_refused_before_training():
    x = np.random.default_rng(0).normal(size=(300, 3))
    with pytest.raises(InputError, match="seeds=0"):
        estimate_dimension(x, seeds=0)
    with pytest.raises(InputError, match="largest=0"):
        estimate_dimension(x, largest=0)
    with pytest.raises(InputError, match="all the same"):
        estimate_dimension(np.ones((20, 3)))
    with pytest.raises(InputError, match="isotropic"):
        estimate_dimension(x, settings=QUICK.set_params(posterior="isotropic"))


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    return generator.normal(size=(80, 5)), generator.choice(["cat", "dog"], 80)


@pytest.fixture(scope="module")
def plain(rows):
    return runs.train(from_arrays(rows[0], labels=rows[1]), SHORT)


def _conditional(x, y):
    conditioning = Conditioning.fit(y)
    train, test = TrainSplit(torch.from_numpy(x), c=conditioning.to_net(y)), TestSplit(torch.zeros(0, x.shape[1]))
    data = Dataset("rows", "table", train, test, conditioning=conditioning)
    return runs.train(data, SHORT.set_params(condition="standard")), data


def test_a_trained_model_counts_in_the_users_units(rows, plain, tmp_path):
    x, y = rows
    found = manifold_dimension(plain, x, labels=y)
    assert list(found.groups) == ["cat", "dog"]
    assert sum(one.rows for one in found.groups.values()) == found.all.rows == 80
    net = plain.scaling.to_net(torch.from_numpy(x))
    bare = manifold_dimension(plain.vae, net, labels=torch.from_numpy((y == "dog").astype(int)))
    torch.testing.assert_close(bare.groups["1"].ratios, found.groups["dog"].ratios)
    runs.save(plain, tmp_path / "run")
    torch.testing.assert_close(manifold_dimension(tmp_path / "run", x).all.ratios, found.all.ratios)
    of_data = manifold_dimension(plain, from_arrays(x, labels=y))
    assert {name: one.rows for name, one in of_data.groups.items()} == {n: o.rows for n, o in found.groups.items()}


def test_a_class_of_one_member_is_counted(rows, plain):
    x, _ = rows
    found = manifold_dimension(plain, x, labels=[0] * 79 + [1])
    assert found.groups["1"].rows == 1
    assert found.groups["1"].low == found.groups["1"].high == found.groups["1"].count


def test_conditions_are_counted_by_class(rows):
    trained, data = _conditional(*rows)
    found = manifold_dimension(trained, *rows)
    assert list(found.groups) == ["cat", "dog"]
    assert str(found).splitlines()[2].startswith("cat ")
    torch.testing.assert_close(manifold_dimension(trained, data).groups["cat"].ratios, found.groups["cat"].ratios)
    with pytest.raises(InputError, match="conditional"):
        manifold_dimension(trained, rows[0])
    with pytest.raises(InputError, match="unknown class bird"):
        manifold_dimension(trained, rows[0], ["bird"] * 80)


def test_conditions_are_counted_by_region_in_the_users_units(rows):
    x, y = rows[0], np.where(rows[1] == "cat", 1000.0, 3000.0) + rows[0][:, 0]
    trained, _ = _conditional(x, y)
    found = manifold_dimension(trained, x, y, regions=2)
    names = sorted(name.split(" around ")[1] for name in found.groups)
    assert names == ["1e+03", "3e+03"]
    assert sum(one.rows for one in found.groups.values()) == 80


def test_a_model_and_rows_that_do_not_fit_are_refused(rows, plain):
    x, y = rows
    with pytest.raises(InputError, match="as in training"):
        manifold_dimension(plain, x[:, :3])
    with pytest.raises(InputError, match="without rows"):
        manifold_dimension(plain)
    with pytest.raises(InputError, match="takes none"):
        manifold_dimension(plain, x, y)
    with pytest.raises(InputError, match="one label per row"):
        manifold_dimension(plain, x, labels=y[:5])
    with pytest.raises(InputError, match="type dict"):
        manifold_dimension({}, x)
    vae = VAE(MLPEncoder((5,), 4, hidden=(8,)), MLPDecoder(2, (5,), hidden=(8,)), latent_dim=2)
    with pytest.raises(InputError, match="bare VAE"):
        manifold_dimension(vae, x)


@pytest.mark.parametrize("drawn", [1.0, 1.9, 2.0, 6.0])
def test_a_model_whose_draws_are_not_on_the_manifold_is_not_believed(monkeypatch, drawn):
    """Of a circle in ten dimensions."""
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 600)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(10, 2)))[0].T
    x = np.stack([np.cos(angle), np.sin(angle)], 1) @ turn
    trial = Trial(count_dimensions(torch.tensor([[0.001, 0.001, 1.0, 1.0]])), 0.0, drawn=drawn)
    monkeypatch.setattr("vaelab.verbs.search.Search._one", lambda self, size, seed: trial)
    found = estimate_dimension(x, settings=QUICK.set_params(latent_dim=4), smaller=False)
    assert found.others["DANCo"] == found.dimension == 1
    assert (found.trained, found.unresolved) == (2, drawn >= 2)
    said = "Training has not laid the manifold flat: its count is 2, but" if drawn >= 2 else "Training counts 2, as"
    assert found.warnings[0].startswith(said)


def test_a_count_below_what_neighbours_see_is_not_taken_of_such_a_model(monkeypatch):
    points = np.random.default_rng(0).normal(size=(600, 3))
    x = points / np.linalg.norm(points, axis=1, keepdims=True)
    trial = Trial(count_dimensions(torch.tensor([[0.001, 1.0, 1.0]])), 0.0, drawn=3.0)
    monkeypatch.setattr("vaelab.verbs.search.Search._one", lambda self, size, seed: trial)
    found = estimate_dimension(x, settings=QUICK.set_params(latent_dim=3), smaller=False)
    assert (found.dimension, found.trained) == (2, 1)


def test_a_model_that_draws_what_neighbours_see_is_believed_below_them():
    trial = Trial(count_dimensions(torch.tensor([[0.001, 1.0, 1.0, 1.0]])), 0.0, drawn=3.0)
    assert not unresolved([trial], 3.0)
    assert not unresolved([trial, dataclasses.replace(trial, drawn=9.0)], 3.0)  # one seed of them is enough
    assert unresolved([trial], 2.0)
    assert not unresolved([trial], None)
    assert not unresolved([dataclasses.replace(trial, drawn=None)], 2.0)
    assert not unresolved([dataclasses.replace(trial, drawn=21.0)], 20.0)


def test_noise_to_neighbours_is_no_dimension_of_a_trained_model():
    """A line in five dimensions with noise that is wider than its rows are apart."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, size=(1500, 1)) * np.ones(5) + 0.03 * generator.normal(size=(1500, 5))
    found = estimate_dimension(x, settings=QUICK.set_params(latent_dim=4))
    assert found.others["DANCo"] > 2
    assert not found.unresolved
    assert (found.dimension, found.trained) == (1, 1)
    bent = dataclasses.replace(_estimate(3, {6: (0.0,)}), dimension=2, others={"DANCo": 2.0})
    assert bent.warnings == [
        "Training counts 3, as a strongly bent manifold can make it; neighbours say less, and the smaller number is "
        "given."
    ]


def test_from_the_shell(tmp_path, capsys):
    path = tmp_path / "x.csv"
    table = np.column_stack([sigmoid_manifold(200, 4, 1).x.numpy(), np.arange(200) % 2])
    np.savetxt(path, table, delimiter=",", header="a,b,c,d,kind", comments="")
    arguments = ["--seeds", "1", "--epochs", "2", "--latent-dim", "4", "--label-column", "kind"]
    assert main(["dimension", str(path), *arguments]) == 0
    out = capsys.readouterr().out
    assert f"{path}: " in out
    assert "dimensions, of 4 numbers per row that vary" in out
    assert "κ = 4: " in out
    short = ["--epochs", "1", "--densities", "--label-column", "kind", "--out", str(tmp_path), "--name", "run"]
    assert main(["train", str(path), *short]) == 0
    capsys.readouterr()
    assert main(["dimension", str(tmp_path / "run")]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:4]] == ["all", "0", "1"]


def test_where_training_finds_nothing_neighbours_answer_and_that_is_said():
    idle = _estimate(3, {6: (0.0,)}, ratios=(1.0,) * 6)
    alone = dataclasses.replace(idle, dimension=0)
    assert alone.warnings[0].startswith("Training found nothing: no direction stands out of the noise, so 0 is no dim")
    beside = dataclasses.replace(idle, others={"TwoNN": 3.0})
    assert "so the number is what neighbours say" in beside.warnings[0]
    assert len(beside.warnings) == 1
    noise = np.random.default_rng(0).normal(size=(300, 3))
    found = estimate_dimension(noise, settings=SHORT.set_params(latent_dim=2), seeds=1, largest=2)
    assert found.nothing
    assert found.dimension == 2  # neighbours say three, and two were asked for at most
    assert estimate_dimension(noise, settings=SHORT.set_params(latent_dim=3), seeds=1).dimension == 3
