"""The tables of Takida et al.: rows, shared results, claims, and what is measured against what it is by definition."""

from dataclasses import replace

import pytest
import torch

from vaelab import presets
from vaelab.data import ArrayBatches
from vaelab.errors import InputError
from vaelab.model import (
    KL,
    VAE,
    Bernoulli,
    CodeNorm,
    DecodedVariance,
    Deterministic,
    DiscretizedLogisticMixture,
    FixedVariance,
    Gaussian,
    Isotropic,
    LearnedVariance,
    ProfiledVariance,
)
from vaelab.nets import MLPEncoder
from vaelab.runs.stages import mean_variance
from vaelab_papers import (
    TABLES,
    Cell,
    Closeness,
    Job,
    Ordering,
    Quantity,
    Trend,
    markdown,
    page,
    read,
    run,
    takida,
)
from vaelab_papers.claims import rank_correlation
from vaelab_papers.sampling import measure_samples
from vaelab_papers.takida_noise import measure_noise
from vaelab_papers.takida_smoothness import measure_smoothness

SAMPLES, NOISE, GIVEN = TABLES["takida/table4"], TABLES["takida/table3"], TABLES["takida/table1"]
SMOKE = SAMPLES.scales["smoke"]


def built(table, name):
    cell = next(cell for cell in table.cells if cell.name == name)
    return table.build(cell, table.scales["smoke"], 0)


@pytest.fixture(scope="module")
def jobs():
    return {str(cell.axes["model"]): SAMPLES.build(cell, SMOKE, 0) for cell in SAMPLES.cells}


def test_there_is_every_row_of_the_paper(jobs):
    published = {cell.axes["model"]: cell.published for cell in SAMPLES.cells}
    assert len(jobs) == 16  # those of both data sets, and one that is our own
    assert published["VAE, MoL"] == published["RAE-GP, program"] == {}
    assert published["MLE Diag-D"] == {"mse": 6.80, "prior": 16.64, "second_stage": 10.49, "gmm10": 10.05}
    assert "prior" not in published["AE"]
    assert len(TABLES["takida/table4-celeba"].cells) == 15
    assert len(TABLES["takida/table5"].cells) == 14
    assert len(TABLES["takida/table7"].cells) == 5


def test_rows_are_the_models_that_their_names_say(jobs):
    assert isinstance(jobs["VAE, Bernoulli"].model.likelihood, Bernoulli)
    assert isinstance(jobs["VAE, MoL"].model.likelihood, DiscretizedLogisticMixture)
    names = {name: [r.name for r in job.model.regularizers] for name, job in jobs.items()}
    assert names["VAE, σ² = 1"] == names["MLE Diag-D"] == ["kl"]
    assert names["AE"] == []
    assert names["WAE-MMD"] == ["mmd"]
    assert names["RAE"] == ["code_norm", "weight_norm"]
    assert names["RAE-GP"] == names["RAE-GP, program"] == ["code_norm", "jacobian"]
    forms = [jobs[name].model.regularizers[1].form for name in ("RAE-GP", "RAE-GP, program")]
    assert forms == ["jacobian", "program"]  # the paper's eq. 4, and what the program of RAE computes
    for name, job in jobs.items():
        assert isinstance(job.model.posterior, Deterministic) == (name in _DETERMINISTIC)


_DETERMINISTIC = {"AE", "WAE-MMD", "RAE", "RAE-GP", "RAE-GP, program"}


def test_weights_are_for_sums(jobs):
    """‖x − x̂‖² + a‖z‖² with a = β·d/κ; 0.05‖x − x̂‖² + 10 MMD."""
    rae, wae = jobs["RAE"].model, jobs["WAE-MMD"].model
    assert float(rae.likelihood.variance.gamma) == 0.5
    assert rae.regularizers[0].weight == pytest.approx(1e-4 * 784 / 16)
    assert rae.regularizers[1].weight == pytest.approx(1e-7 * 784)
    assert float(wae.likelihood.variance.gamma) == pytest.approx(10)
    assert wae.regularizers[0].weight == 10


@pytest.mark.parametrize("shape", ["Iso-I", "Diag-I", "Iso-D", "Diag-D"])
def test_shapes_of_variances(jobs, shape):
    diagonal, per_row = shape.startswith("Diag"), shape.endswith("-D")
    profiled, trained = (jobs[f"{word} {shape}"].model.likelihood.variance for word in ("MLE", "trainable"))
    assert isinstance(profiled, ProfiledVariance)
    assert (profiled.diagonal, profiled.per_sample) == (diagonal, per_row)
    assert isinstance(trained, DecodedVariance if per_row else LearnedVariance)
    assert trained.diagonal == diagonal
    # 1e-6 inside the logarithm, of pixels in [0, 1] whose variance is MNIST's: of one pixel, or of the sum over all
    share = 784 if shape == "Iso-D" else 1
    settings = jobs[f"MLE {shape}"].sampling.settings
    assert settings.likelihood.floor * 0.0667 * share == pytest.approx(1e-6, rel=0.01)
    assert profiled.floor == pytest.approx(settings.likelihood.floor * mean_variance(jobs[f"MLE {shape}"].batches))


def test_paper_scale_is_the_papers():
    scale = SAMPLES.scales["paper"]
    assert scale.effort.protocol == "takida-2022"
    assert scale.effort.likelihood_draws == 500
    assert scale.rows == NOISE.scales["paper"].rows == 60_000
    assert GIVEN.scales["paper"].fit.epochs == 200
    celeba = TABLES["takida/table4-celeba"]
    assert "small" not in celeba.scales
    for table, epochs, lr, second in ((SAMPLES, 100, 1e-3, (800, 300)), (celeba, 70, 2e-4, (300, 120))):
        settings = table.settings(table.cells[0], table.scales["paper"], 0)
        fit, own = settings.training, settings.density("second_stage").training
        assert (fit.epochs, fit.batch_size, fit.lr, fit.schedule.kind) == (epochs, 64, lr, "constant")
        assert (own.epochs, own.schedule.every, own.lr) == (*second, 1e-4)  # Dai & Wipf, whose networks it takes


@pytest.mark.parametrize("name", ["takida/table4", "takida/table4-celeba", "takida/table3"])
def test_a_cell_is_its_preset(name):
    """At the paper's scale a cell's settings are the preset's but for the seed; the noise study fits no laws."""
    table = TABLES[name]
    for cell in table.cells:
        model = str(cell.axes.get("model", f"MLE {cell.axes.get('shape')}"))
        prefix = "celeba" if name.endswith("celeba") else "mnist"
        known = presets.preset(f"takida/{prefix}-{takida.PRESETS[model]}")
        found = table.settings(cell, table.scales["paper"], 5)
        changed = {field for field in type(known).model_fields if getattr(known, field) != getattr(found, field)}
        assert changed == {"seed", *(("densities",) if table is NOISE else ())}, cell.name
        assert found.network.norm_decay == 0.9


def test_one_training_fills_three_tables(tmp_path):
    few = replace(SAMPLES, cells=[cell for cell in SAMPLES.cells if cell.axes["model"] in {"AE", "MLE Iso-D"}])
    results = run(few, "smoke", tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    assert file.name == "takida-table4-smoke.jsonl"
    assert set(results[0].measured) == {"mse", "second_stage", "gmm10", "middle", "random", "gamma"}
    assert set(results[1].measured) == {*results[0].measured, "prior", "nll"}
    bounds = TABLES["takida/table7"]
    missing = replace(bounds, cells=[c for c in bounds.cells if c.axes["model"] in {"MLE Iso-D", "MLE Iso-I"}])
    notes = []
    found = run(missing, "smoke", tmp_path, note=notes.append)
    assert len(notes) == 1  # Iso-I alone
    assert found[1] == results[1]
    assert {r.cell for r in read(file)} == {"model=AE", "model=MLE Iso-I", "model=MLE Iso-D"}
    assert "no normalised density" in markdown(missing, found)


def test_samples_need_something_to_compare_with():
    with pytest.raises(InputError, match="without data to compare"):
        measure_samples(built(NOISE, "pattern=none, s²=0, shape=Iso-I"))


@pytest.mark.parametrize(("pattern", "rows", "small"), [("uniform", 8, 0), ("spatial", 4, 0), ("both", 4, 1)])
def test_noise_is_where_the_pattern_says(pattern, rows, small):
    clean, noisy = (
        built(NOISE, name) for name in ("pattern=none, s²=0, shape=Iso-I", f"pattern={pattern}, s²=0.1, shape=Iso-I")
    )
    every = torch.arange(len(clean.batches))
    added = noisy.batches.take(every)[0] - clean.batches.take(every)[0]
    wanted = torch.zeros(added.shape, dtype=torch.bool)
    wanted[:, :, :rows] = True
    if small:
        wanted[clean.labels >= 5] = False
    assert torch.equal(added != 0, wanted)
    assert float(added[wanted].var()) == pytest.approx(0.1, rel=0.1)


def test_all_shapes_see_the_same_noise():
    first, other = (built(NOISE, f"pattern=both, s²=0.1, shape={shape}") for shape in ("Iso-I", "Diag-D"))
    rows = torch.arange(len(first.batches))
    assert torch.equal(first.batches.take(rows)[0], other.batches.take(rows)[0])


class Black(torch.nn.Module):
    """A decoder whose mean is 0 everywhere."""

    def forward(self, z, c=None):
        return z.new_zeros(len(z), 1, 4, 2)


@pytest.mark.parametrize("shape", ["Iso-I", "Diag-I", "Iso-D", "Diag-D"])
def test_variances_of_parts_are_the_errors_there(shape):
    """With a mean of 0 the errors are x itself: 1 to 4 in the four parts."""
    labels = torch.tensor([0, 4, 5, 9])
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0]]).sqrt()
    x = x[:, None, :, None].repeat_interleave(2, 2).expand(4, 1, 4, 2)
    variance = ProfiledVariance(diagonal="Diag" in shape, per_sample="-D" in shape, floor=1e-9)
    model = VAE(MLPEncoder((1, 4, 2), 2, hidden=(2,)), Black(), latent_dim=1, likelihood=Gaussian(variance))
    found = measure_noise(Job(model, ArrayBatches(x), labels))
    wanted = {
        "Iso-I": {"SU": 2.5, "SL": 2.5, "BU": 2.5, "BL": 2.5},
        "Diag-I": {"SU": 2, "SL": 3, "BU": 2, "BL": 3},
        "Iso-D": {"SU": 1.5, "SL": 1.5, "BU": 3.5, "BL": 3.5},
        "Diag-D": {"SU": 1, "SL": 2, "BU": 3, "BL": 4},
    }[shape]
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    assert found["all"] == pytest.approx(2.5)
    assert found["U"] == pytest.approx((wanted["SU"] + wanted["BU"]) / 2)
    assert found["B"] == pytest.approx((wanted["BU"] + wanted["BL"]) / 2)


def test_models_of_the_smoothness_study():
    noisy, plain = (built(GIVEN, f"encoding={word}, log₁₀ σ_x²=-0.5").model for word in ("stochastic", "deterministic"))
    assert isinstance(noisy.posterior, Isotropic)
    assert noisy.posterior.log_std.requires_grad
    assert isinstance(noisy.regularizers[0], KL)
    assert isinstance(plain.regularizers[0], CodeNorm)
    assert plain.regularizers[0].weight == 0.5
    for model in (noisy, plain):
        assert isinstance(model.likelihood.variance, FixedVariance)
        assert float(model.likelihood.variance.gamma) == pytest.approx(10**-0.5)
        assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    given = TABLES["takida/tableE8"]
    model = given.build(given.cells[-1], given.scales["smoke"], 0).model
    assert float(model.posterior.log_std.exp().square()) == pytest.approx(0.1)
    assert not model.posterior.log_std.requires_grad


class Linear(torch.nn.Module):
    """A decoder W z."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 2))

    def forward(self, z, c=None):
        return z @ self.weight.T


def linear_job(posterior):
    model = VAE(
        MLPEncoder((6,), posterior.parameter_count(2), hidden=(3,)),
        Linear(),
        latent_dim=2,
        posterior=posterior,
        likelihood=Gaussian(FixedVariance(1.0)),
        regularizers=[CodeNorm(0.5)] if posterior.degenerate else None,
    )
    return Job(model, ArrayBatches(torch.randn(1000, 6)))


def test_smoothness_of_a_linear_decoder():
    """J = W everywhere: ELS = ‖W‖² and a gap of 2 s² ‖W‖²; draws of z add σ_z² ‖W‖² to the error."""
    job = linear_job(Isotropic(0.25, learned=False))
    found = measure_smoothness(job)
    square = float(job.model.decoder.weight.detach().square().sum())
    assert found["els"] == pytest.approx(square / 2, rel=1e-4)
    assert found["gap_2"] == pytest.approx(2e-2 * square, rel=0.1)
    assert found["gap_3"] == pytest.approx(2e-3 * square, rel=0.1)
    assert found["sigma2"] == pytest.approx(0.25)
    x = job.batches.take(torch.arange(1000))[0]
    with torch.no_grad():
        plain = float((job.model.reconstruct(x) - x).square().sum(1).mean())
        mean = job.model.encode(x).mean
    assert found["mse"] == pytest.approx(plain + 0.25 * square, rel=0.05)
    divergence = 0.5 * (mean.square().sum(1).mean() + 2 * (0.25 - torch.tensor(0.25).log() - 1))
    assert found["kl"] == pytest.approx(float(divergence), rel=1e-3)


def test_a_deterministic_code_has_no_divergence_and_the_information_of_its_output():
    job = linear_job(Deterministic())
    found = measure_smoothness(job)
    assert set(found) == {"mse", "mi", "gap_2", "gap_3", "els", "gamma"}
    x = job.batches.take(torch.arange(1000))[0]
    with torch.no_grad():
        outputs = job.model.reconstruct(x).double()
    # noise of variance 1 on the outputs: E ln N(x' | own) − ln mean of the others' densities
    noisy = outputs + torch.randn(outputs.shape, dtype=torch.float64)
    scores = -0.5 * torch.cdist(noisy, outputs).square()
    others = scores.masked_fill(torch.eye(1000, dtype=torch.bool), -torch.inf)
    wanted = (scores.diagonal() - others.logsumexp(1)).mean() + torch.tensor(999.0).log()
    assert found["mi"] == pytest.approx(float(wanted), abs=0.1)


def test_closeness_is_relative_to_the_sum():
    values = {Quantity("a", "U"): 0.109, Quantity("b", "U"): 0.005}
    a, b = values
    assert Closeness("", a, b, plus=0.1, within=0.05).found(values.__getitem__) == (0.109, pytest.approx(0.105))
    assert Closeness("", a, b, plus=0.1, within=0.05).passed(values.__getitem__)
    assert not Closeness("", a, b, plus=0.1, within=0.03).passed(values.__getitem__)
    assert not Closeness("", a, b, plus=0.12, within=0.05).passed(values.__getitem__)


def test_a_trend_is_judged_by_ranks():
    values = {Quantity(name, "els"): value for name, value in {"a": 1.0, "b": 2.0, "c": 30.0, "d": 29.0}.items()}
    rising = tuple(values)
    assert Trend("", rising, at_least=0.8).found(values.__getitem__) == (pytest.approx(0.8),)
    assert Trend("", rising, at_least=0.79).passed(values.__getitem__)
    assert not Trend("", rising, at_least=0.9).passed(values.__getitem__)
    assert not Trend("", rising[::-1], at_least=0.5).passed(values.__getitem__)


def test_rank_correlation():
    assert rank_correlation([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 2], [1, 2, 3]) == pytest.approx(0.75**0.5)
    assert rank_correlation([1, 2, 3], [5, 5, 5]) == 0


@pytest.mark.parametrize("name", [name for name in TABLES if TABLES[name].claims or TABLES[name].orderings])
def test_claims_are_about_cells_that_are_there(name):
    table = TABLES[name]
    there = {cell.name for cell in table.cells}
    for claim in (*table.orderings, *table.claims):
        assert {quantity.cell for quantity in claim.quantities} <= there
        assert claim.claim


def test_claims_and_ranks_are_printed(tmp_path):
    cells = tuple(Cell({"r": r}, {"mse": value}) for r, value in ((1, 3.0), (2, 2.0), (3, 1.0)))
    quantities = tuple(Quantity(cell.name, "mse") for cell in cells)
    table = replace(
        GIVEN,
        name="made/up",
        cells=cells,
        orderings=(Ordering("first below last", quantities[0], quantities[2], by=0),),
        claims=(
            Trend("it rises", quantities, at_least=0.9),
            Closeness("near one another", quantities[0], quantities[1], plus=0.0, within=0.5),
            Trend("of cells that are not there", (Quantity("r=9", "mse"), quantities[0]), at_least=0.9),
        ),
        ranked=("mse",),
        convention="Twice <anything>.",
        scales={"small": replace(GIVEN.scales["smoke"], stand_in=False)},
    )
    result = run(replace(GIVEN, cells=GIVEN.cells[:1]), "smoke", tmp_path)[0]
    results = [
        replace(result, scale="small", cell=cell.name, measured={"mse": float(i)}) for i, cell in enumerate(cells, 1)
    ]
    text = markdown(table, results)
    assert "- ✓ it rises: 1, holds" in text
    assert "- ✓ near one another: 1 and 2, holds" in text
    assert "not there" not in text
    assert "Rank correlation of measured with published: MSE −1 (3 cells)." in text
    html = page([(table, results), (table, results)])
    assert html.count("it rises") == 2
    assert html.count("Twice &lt;anything&gt;.") == 1


def test_every_model_has_a_preset_of_what_its_name_says():
    for model, name in takida.PRESETS.items():
        for prefix in ("mnist", "celeba"):
            if (prefix, name) == ("celeba", "bernoulli"):  # which the paper does not have
                continue
            likelihood = presets.preset(f"takida/{prefix}-{name}").likelihood
            word, _, shape = model.partition(" ")
            if word in ("MLE", "trainable"):
                kind = "profiled" if word == "MLE" else "learned"
                assert (likelihood.shape, likelihood.variance.kind) == (shape.lower(), kind), model
