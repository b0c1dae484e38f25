"""The table of Dai & Wipf: rows, and the paper's settings."""

import pytest

from vaelab.model import Bernoulli, FixedVariance, LearnedVariance
from vaelab.nets import ARELBOEncoder
from vaelab.presets import preset
from vaelab.runs import read_run
from vaelab_papers import TABLES, Result, Trials, markdown, run
from vaelab_papers.dai_wipf_data import GANS, NUMBERS, REVIEW_MEANS
from vaelab_papers.layout import choices
from vaelab_papers.places import Planned
from vaelab_papers.runner import train_group
from vaelab_papers.stacked import fit_together

TABLE, CIFAR, CELEBA = (TABLES[f"dai-wipf/table1{suffix}"] for suffix in ("", "-cifar10", "-celeba"))


GAN_ROWS = {
    "MM GAN": "minimax",
    "NS GAN": "non-saturating",
    "LSGAN": "least-squares",
    "WGAN": "wasserstein",
    "WGAN GP": "wgan-gp",
    "DRAGAN": "dragan",
    "BEGAN": "began",
}


def job(data, decoder, size=64, scale="smoke"):
    table = CIFAR if data == "cifar10" else TABLE
    cell = next(cell for cell in table.cells if cell.axes == {"data": data, "decoder": decoder, "κ": size})
    return table.build(cell, table.scales[scale], 0)


def test_published_numbers_are_where_they_are_measured():
    cells = {cell.name: cell for table in (TABLE, CIFAR, CELEBA) for cell in table.cells}
    mnist = cells["data=mnist, decoder=learned γ, κ=64"]
    assert mnist.published == {"prior": Trials(54.5, 1.0), "second_stage": Trials(12.6, 1.5)}
    assert mnist.versions == {"review version": {"prior": Trials(47.0, 0.9), "second_stage": Trials(13.4, 1.3)}}
    assert cells["data=fashion_mnist, decoder=fixed γ, κ=64"].published == {"prior": Trials(84.6, 0.9)}
    entropy = cells["data=cifar10, decoder=cross-entropy, κ=64"]
    assert (entropy.published, entropy.versions["review version"]) == ({}, {"prior": Trials(155.7, 11.6)})
    assert cells["data=mnist, decoder=learned γ, κ=16"].published == {}
    assert cells["data=celeba, decoder=WGAN GP, κ=64"].published == {"prior": Trials(30.3, 1.0)}
    assert sum(len(cell.published) for cell in cells.values()) == 12 + 28
    assert sum(len(own) for cell in cells.values() for own in cell.versions.values()) == 16
    assert CELEBA.quoted["WAE-GAN (review version, its own network)"] == {"celeba": 42.0}
    assert TABLE.quoted["Best GAN, default"] == {"mnist": 10.0, "fashion_mnist": 32.0}
    assert TABLE.quoted["WGAN (review version)"] == {"mean of the four data sets": Trials(31.2, 1.6)}
    assert sum(len(row) for table in (TABLE, CIFAR, CELEBA) for row in table.quoted.values()) == 4 + 4 + 3 + 12


def test_the_review_versions_means_are_over_the_four_data_sets():
    """To the digit that it prints."""
    for name, mean in REVIEW_MEANS.items():
        own = [GANS[data][name] if name in GANS[data] else NUMBERS[data].review[name] for data in NUMBERS]
        assert sum(each.mean for each in own) / 4 == pytest.approx(mean.mean, abs=0.06), name


@pytest.mark.parametrize("table", [TABLE, CIFAR, CELEBA], ids=lambda table: table.name)
def test_a_cell_is_the_preset_with_what_the_row_changes(table):
    """At the paper's scale every field but the row's is the preset's, and the model is built from these settings."""
    scale = table.scales["paper"]
    for cell in table.cells:
        decoder, gans = cell.axes["decoder"], GAN_ROWS
        name = f"gan/{gans[decoder]}" if decoder in gans else f"dai-wipf/{cell.axes['data']}"
        known, found = preset(name), table.settings(cell, scale, 3)
        changed = {name for name in type(known).model_fields if getattr(known, name) != getattr(found, name)}
        if decoder in gans:
            epochs = {"mnist": 20, "fashion_mnist": 20, "cifar10": 100, "celeba": 40}[cell.axes["data"]]
            assert changed == {"seed", "training"}
            assert found.training == known.training.set_params(epochs=epochs)
            continue
        assert changed == {
            "seed",
            *(() if cell.axes["κ"] == 64 else ("latent_dim",)),
            *(() if decoder == "learned γ" else ("likelihood", "densities")),
        }
        assert found.network.norm_decay == 0.999


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
    ("table", "epochs", "halvings"),
    [(TABLE, (400, 800), (150, 300)), (CIFAR, (1000, 2000), (300, 600)), (CELEBA, (120, 300), (48, 120))],
)
def test_paper_scale_is_the_papers(table, epochs, halvings):
    scale = table.scales["paper"]
    cell = next(cell for cell in table.cells if cell.axes["decoder"] == "learned γ")
    settings = table.settings(cell, scale, 0)
    second = settings.density("second_stage")
    stages = settings.training, second.training
    assert tuple(stage.epochs for stage in stages) == epochs
    assert tuple(stage.schedule.every for stage in stages) == halvings
    assert {(stage.lr, stage.batch_size, stage.schedule.kind) for stage in stages} == {(1e-4, 100, "step")}
    assert settings.likelihood.variance.initial == 1
    assert scale.seeds == 10
    assert second.hidden == (1024, 1024, 1024)
    assert scale.effort.protocol.startswith("dai-wipf-program")


def test_a_second_stage_only_where_the_paper_has_one(tmp_path):
    results = {result.cell: result.measured for result in run(CIFAR, "smoke", tmp_path)}
    for name, measured in results.items():
        assert ("second_stage" in measured) == ("learned" in name)
        assert set(measured) >= ({"prior"} if any(f"={row}," in name for row in GAN_ROWS) else {"prior", "mse"})


def test_kappa_is_chosen_by_evidence_and_not_by_the_distance():
    measured = {64: (-900.0, 12.0), 16: (-700.0, 10.0), 32: (-950.0, 13.0)}
    results = [
        Result(
            CIFAR.name,
            "smoke",
            f"data=cifar10, decoder=learned γ, κ={size}",
            seed,
            {"nll": nll, "second_stage": fid},
            1.0,
            {},
            {},
        )
        for size, (nll, fid) in measured.items()
        for seed in (0, 1)
    ]
    (found,) = choices(CIFAR, results)
    assert "κ=32 has the least NLL, and 2nd VAE 13." in found
    assert choices(CIFAR, results[:4]) == []  # one κ is missing
    assert found in markdown(CIFAR, results)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "celeba"])
def test_the_networks_of_the_figures_are_presets_too(name):
    plain, found = preset(f"dai-wipf/{name}"), preset(f"dai-wipf/{name}-resnet")
    assert found.network.kind == "resnet"
    assert found.density("second_stage").hidden == (2048,) * 3
    assert found.training == plain.training
    assert found.density("second_stage").training == plain.density("second_stage").training


def test_a_gans_weights_are_those_nearest_to_rows_set_aside(tmp_path):
    """Under the table's own protocol; its model is kept as a run that can be drawn from."""
    made = job("mnist", "DRAGAN").placed(tmp_path, None)
    assert made.trained is made.gan
    assert made.model is made.gan.generator
    assert (len(made.batches), len(made.held_out)) == (135, 15)
    assert made.gan.judge.protocol.name == "pca-10k+reference_count=100"
    fit_together([made.trained], [made.batches], made.length, held_out=made.held_out)
    distance = made.gan.judge(made.model.eval())
    assert float(made.gan.distance) == pytest.approx(distance, rel=1e-4)
    measured = TABLE.measure(made)
    assert set(measured) == {"prior"}
    assert read_run(tmp_path).sample(3).shape == (3, 1, 8, 8)


def test_a_table_chooses_the_weights_of_its_gans(tmp_path, monkeypatch):
    """The runner hands over the rows set aside, and the result is the distance of a model that is kept."""
    seen = []

    def watched(*models, held_out, **options):
        seen.append(len(held_out))
        fit_together(*models, held_out=held_out, **options)

    monkeypatch.setattr("vaelab_papers.runner.fit_together", watched)
    cell = next(cell for cell in TABLE.cells if cell.axes["decoder"] == "BEGAN")
    (result,) = train_group(TABLE, "smoke", [Planned(cell, 0)], tmp_path)
    assert seen == [15]
    assert set(result.measured) == {"prior"}
