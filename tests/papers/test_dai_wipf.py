"""The table of Dai & Wipf: rows, and the paper's settings."""

import pytest

from vaelab.model import Bernoulli, FixedVariance, LearnedVariance
from vaelab.nets import ARELBOEncoder
from vaelab_papers import TABLES, run

TABLE, CIFAR = TABLES["dai-wipf/table1"], TABLES["dai-wipf/table1-cifar10"]


def job(data, decoder, size=64, scale="smoke"):
    table = CIFAR if data == "cifar10" else TABLE
    cell = next(cell for cell in table.cells if cell.axes == {"data": data, "decoder": decoder, "κ": size})
    return table.build(cell, table.scales[scale], 0)


def test_published_numbers_are_where_they_are_measured():
    cells = {cell.name: cell.published for cell in (*TABLE.cells, *CIFAR.cells)}
    assert cells["data=mnist, decoder=learned γ, κ=64"] == {"prior": 54.5, "second_stage": 12.6}
    assert cells["data=fashion_mnist, decoder=fixed γ, κ=64"] == {"prior": 84.6}
    assert cells["data=cifar10, decoder=cross-entropy, κ=64"] == {"prior": 155.7}
    assert cells["data=mnist, decoder=learned γ, κ=16"] == {}


def test_rows_are_the_models_that_their_names_say():
    assert isinstance(job("mnist", "cross-entropy").model.likelihood, Bernoulli)
    fixed, learned = (job("mnist", f"{word} γ").model.likelihood.variance for word in ("fixed", "learned"))
    assert isinstance(fixed, FixedVariance)
    assert float(fixed.gamma) == 1
    assert isinstance(learned, LearnedVariance)
    assert learned.lr_scale == 1  # as in the paper's program
    small = job("fashion_mnist", "learned γ", 16)
    assert small.model.latent_dim == 16
    assert isinstance(small.model.encoder, ARELBOEncoder)
    assert [law.name for law in small.sampling.settings.densities] == ["second_stage"]
    assert job("cifar10", "fixed γ").model.encoder.event_shape[0] == 3


@pytest.mark.parametrize(
    ("name", "epochs", "halvings"),
    [
        ("dai-wipf/table1", (400, 800), (150, 300)),
        ("dai-wipf/table1-cifar10", (1000, 2000), (300, 600)),
        ("dai-wipf/table1-celeba", (120, 300), (48, 120)),
    ],
)
def test_paper_scale_is_the_papers(name, epochs, halvings):
    scale = TABLES[name].scales["paper"]
    stages = scale.fit, scale.effort.second
    assert tuple(stage.epochs for stage in stages) == epochs
    assert tuple(stage.schedule.every for stage in stages) == halvings
    assert {(stage.lr, stage.batch_size, stage.schedule.kind) for stage in stages} == {(1e-4, 100, "step")}
    assert scale.gamma == 1
    assert scale.seeds == 10
    assert scale.effort.second_hidden == (1024, 1024, 1024)
    assert scale.effort.protocol.startswith("dai-wipf-program")


def test_a_second_stage_only_where_the_paper_has_one(tmp_path):
    results = {result.cell: result.measured for result in run(CIFAR, "smoke", tmp_path)}
    for name, measured in results.items():
        assert ("second_stage" in measured) == ("learned" in name)
        assert {"prior", "mse"} <= set(measured)
