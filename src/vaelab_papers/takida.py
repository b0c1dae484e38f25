"""Tables 4, 5 and 7 of Takida et al. 2022: what samples, interpolations and likelihoods a decoder variance makes.

Every model has the same networks; a model is a preset (`PRESETS`). One training of a model measures all three tables.
The paper leaves the weights of its baselines open; in the presets they are those of the programs that the baselines
come from (Tolstikhin et al. 2018; Ghosh et al. 2020).

"RAE-GP" punishes ‖∂μ/∂z‖_F², as the paper says of it (its eq. 4); "RAE-GP, program" what the program of Ghosh et al.
computes in its place. The paper has numbers for one, which stand at the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from vaelab.presets import preset
from vaelab.specs import Settings
from vaelab.training import FitSettings
from vaelab_papers.claims import Ordering, Quantity
from vaelab_papers.job import Job
from vaelab_papers.sampling import CELEBA_HQ, DISTANCES, at_scale, images, job_of, measure_samples
from vaelab_papers.table import Cell, Effort, Scale, ScaleName, Table
from vaelab_papers.takida_data import SAMPLES_CELEBA, SAMPLES_CELEBAHQ, SAMPLES_MNIST, Row

PAPER: Final = "Takida et al., Neurocomputing 2022"

SMALL_FLOOR: Final = 0.015
"""Of Diag-D at small scale, relative to the variance of MNIST: 1e-3 for pixels in [0, 1], not the paper's 1e-6.

With that, learning rates of 1e-3 and 3e-4 both end with black images, which few epochs do not leave: a black pixel that
is right to the last digit is worth 3 nats more than one that is wrong by 0.03.
"""

_SHAPES: Final = ("Iso-I", "Diag-I", "Iso-D", "Diag-D")

PRESETS: Final = {
    "VAE, σ² = 1": "vae",
    "VAE, Bernoulli": "bernoulli",
    "VAE, MoL": "logistic",
    "AE": "ae",
    "WAE-MMD": "wae",
    "RAE": "rae",
    "RAE-GP": "rae-gp",
    "RAE-GP, program": "rae-gp-program",
    **{f"trainable {shape}": f"learned-{shape.lower()}" for shape in _SHAPES},
    **{f"MLE {shape}": shape.lower() for shape in _SHAPES},
}
"""Model → preset, behind ``takida/mnist-``, ``takida/celeba-`` or ``takida/celebahq-``."""


class _Images(NamedTuple):
    """A data set of the paper, and what depends on it.

    Attributes
    ----------
    prefix
        Of its presets.
    name, channels
        As `vaelab.data.load` calls it.
    published
        Model → measure → number.
    without
        Models that the paper does not have on these data.
    tables
        Numbers of its tables of samples, interpolations and likelihoods; None for one that the paper does not have.
    """

    prefix: str
    name: str
    channels: int
    published: Mapping[str, Row]
    without: tuple[str, ...] = ()
    tables: tuple[int, int | None, int] = (4, 5, 7)


_MNIST = _Images("mnist", "mnist", 1, SAMPLES_MNIST)
# colours are no probabilities, so that the paper has no Bernoulli there
_CELEBA = _Images("celeba", "celeba140", 3, SAMPLES_CELEBA, ("VAE, Bernoulli",))
_HQ = _Images(
    "celebahq",
    CELEBA_HQ,
    3,
    SAMPLES_CELEBAHQ,
    ("VAE, Bernoulli", "RAE-GP, program", *(f"trainable {shape}" for shape in _SHAPES)),
    (6, None, 7),
)


def _settings(data: _Images, cell: Cell, scale: Scale, seed: int) -> Settings:
    """Return the preset of a model at a scale."""
    return at_scale(preset(f"takida/{data.prefix}-{PRESETS[str(cell.axes['model'])]}"), scale, seed)


def _build(data: _Images, cell: Cell, scale: Scale, seed: int) -> Job:
    model, settings = str(cell.axes["model"]), _settings(data, cell, scale, seed)
    fitted = tuple(law.name for law in settings.densities)
    return job_of(
        settings,
        images(data.name, scale, channels=data.channels),
        scale,
        metrics=("frechet", "reconstruction", "interpolation") + ("nll",) * (model in _BOUNDED),
        densities=fitted if model in _WITHOUT_PRIOR else ("prior", *fitted),
    )


_WITHOUT_PRIOR: Final = ("AE", "RAE", "RAE-GP", "RAE-GP, program")  # nothing draws their codes to it
_BOUNDED: Final = ("VAE, σ² = 1", *(f"MLE {shape}" for shape in _SHAPES))  # table 7

_SMOKE = Scale(
    150,
    1,
    FitSettings(epochs=1, batch_size=64, lr=1e-3, schedule="constant"),
    stand_in=True,
    effort=Effort("pca-10k+reference_count=100", FitSettings(epochs=1), (8,), likelihood_draws=3, likelihood_rows=10),
)
_SMALL = Scale(
    20_000,
    16,
    FitSettings(epochs=25, batch_size=64, lr=1e-3, schedule="one_cycle"),
    floor=SMALL_FLOOR,
    effort=Effort("classifier-10k", FitSettings(epochs=10), (256, 256, 256), likelihood_rows=200),
)
_MNIST_PAPER = Scale(60_000, effort=Effort("takida-2022"))
_CELEBA_PAPER = Scale(162_770, effort=Effort("takida-2022"))
_HQ_PAPER = Scale(30_000, effort=Effort("takida-2022"))
_MNIST_SCALES: dict[ScaleName, Scale] = {"smoke": _SMOKE, "small": _SMALL, "paper": _MNIST_PAPER}
_CELEBA_SCALES: dict[ScaleName, Scale] = {"smoke": _SMOKE, "paper": _CELEBA_PAPER}

_GENERATED: Final = (
    "Distances of samples and interpolations are Fréchet distances under the protocol of the scale: FIDs, as in the "
    "paper, in Inception's features only; in those of a classifier of the data they are other numbers, whose order can "
    "be compared. MSE is summed over pixels."
)
_BOUNDS: Final = (
    "NLL is minus the importance-weighted bound on test rows, nats per image in [0, 1]. Iso-D and Diag-D fit a "
    "variance to each row that they score: theirs is the bound of no normalised density, and compares with no other. "
    "That of Diag-D hangs on what is added to its variances, 1e-6 in the paper and 1e-3 at small scale."
)


def _below(better: str, worse: str, measure: str, claim: str) -> Ordering:
    return Ordering(claim, Quantity(f"model={better}", measure), Quantity(f"model={worse}", measure), by=0)


def _cells(data: _Images, measures: tuple[str, ...]) -> tuple[Cell, ...]:
    """Return the models with any of these numbers, in the paper's order; all of them for the first table."""
    rows = {name: data.published.get(name, {}) for name in PRESETS if name not in data.without}
    return tuple(
        Cell({"model": name}, {key: row[key] for key in measures if key in row})
        for name, row in rows.items()
        if "mse" in measures or any(key in row for key in measures)
    )


def _of_these(table: Table, claims: Sequence[Ordering]) -> Table:
    """Give a table those claims that are about its cells."""
    there = {cell.name for cell in table.cells}
    return replace(table, orderings=tuple(one for one in claims if {q.cell for q in one.quantities} <= there))


def _densities(data: _Images) -> tuple[Ordering, ...]:
    """Return the claims of section 6.1."""
    fixed = [
        _below(f"MLE {shape}", "VAE, σ² = 1", measure, f"{word}: {shape} at its MLE is below σ² = 1")
        for measure, word in (("second_stage", "2nd VAE"), ("gmm10", "GMM-10"))
        for shape in _SHAPES
    ]
    trained = [
        _below(
            f"MLE {shape}", f"trainable {shape}", "gmm10", f"GMM-10: {shape} at its MLE is below {shape} by gradient"
        )
        for shape in _SHAPES
    ]
    fitted = [
        Ordering(
            f"{shape} at its MLE: GMM-10 is below the prior",
            Quantity(f"model=MLE {shape}", "gmm10"),
            Quantity(f"model=MLE {shape}", "prior"),
            by=0,
        )
        for shape in _SHAPES
    ]
    best = [_below("MLE Diag-D", "MLE Iso-I", "gmm10", "GMM-10: Diag-D at its MLE is below Iso-I")]
    return (*fixed, *trained, *fitted, *(best if data is _MNIST else ()))


def _tables(data: _Images, scales: dict[ScaleName, Scale], suffix: str, where: str) -> tuple[Table, ...]:
    """Return the tables of one data set; one training of a model measures all of them."""
    of_samples, of_paths, of_bounds = data.tables
    mixtures = ("gmm10",) if data is _MNIST else ("gmm10", "gmm100")
    samples = Table(
        name=f"takida/table{of_samples}{suffix}",
        title=f"Samples from densities of the codes of every autoencoder, {where}",
        source=f"{PAPER}, Table {of_samples}",
        convention=_GENERATED,
        cells=_cells(data, ("mse", "prior", "second_stage", *mixtures)),
        scales=scales,
        build=partial(_build, data),
        settings=partial(_settings, data),
        data=(data.name,),
        measure=measure_samples,
        ranked=("mse", "prior", "second_stage", *mixtures),
        distances=DISTANCES,
        shown=("gamma",),
    )
    between = [
        _below(f"MLE {shape}", "VAE, σ² = 1", measure, f"{measure}: {shape} at its MLE is below σ² = 1")
        for measure in ("middle", "random")
        for shape in _SHAPES
    ]
    interpolations = replace(
        samples,
        name=f"takida/table{of_paths}{suffix}",
        title=f"Interpolations between the codes of two images, half way and at a random point, {where}",
        source=f"{PAPER}, Table {of_paths}",
        cells=_cells(data, ("middle", "random")),
        results_of=samples.name,
        ranked=("middle", "random"),
        shown=(),
    )
    bounds = replace(
        samples,
        name=f"takida/table{of_bounds}{suffix}",
        title=f"Bounds on the negative log-likelihood with 500 draws, {where}",
        source=f"{PAPER}, Table {of_bounds}",
        convention=_BOUNDS,
        cells=_cells(data, ("nll",)),
        results_of=samples.name,
        ranked=("nll",),
        shown=("gamma",),
    )
    likelier = (
        _below("MLE Iso-I", "VAE, σ² = 1", "nll", "Iso-I at its MLE is below σ² = 1"),
        _below("MLE Diag-I", "MLE Iso-I", "nll", "Diag-I is below Iso-I"),
        _below("MLE Diag-D", "MLE Iso-D", "nll", "Diag-D is below Iso-D"),
    )
    return (
        _of_these(samples, _densities(data)),
        *([] if of_paths is None else [_of_these(interpolations, between)]),
        _of_these(bounds, likelier),
    )


TABLE_4, TABLE_5, TABLE_7 = _tables(_MNIST, _MNIST_SCALES, "", "MNIST")
CELEBA_4, CELEBA_5, CELEBA_7 = _tables(_CELEBA, _CELEBA_SCALES, "-celeba", "CelebA")
HQ_6, HQ_7 = _tables(_HQ, {"smoke": _SMOKE, "paper": _HQ_PAPER}, "-celebahq", "CelebA-HQ, 128 × 128")
