"""Tables 4, 5 and 7 of the paper on the decoder variance: what samples, interpolations and likelihoods it makes.

Y. Takida, W.-H. Liao, C.-H. Lai, T. Uesaka, S. Takahashi, Y. Mitsufuji, "Preventing Oversmoothing in VAE via
Generalized Variance Parameterization", Neurocomputing 2022.

Every model has the same networks; a model is a row of settings (`MODELS`). One training of a model measures all three
tables. The paper leaves the weights of its baselines open; here they are those of the programs that the baselines come
from:

    I. Tolstikhin, O. Bousquet, S. Gelly, B. Schölkopf, "Wasserstein Auto-Encoders", ICLR 2018.
    P. Ghosh, M. S. M. Sajjadi, A. Vergari, M. Black, B. Schölkopf, "From Variational to Deterministic Autoencoders",
    ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, cast

from vaelab.specs import (
    MMD,
    CodeNorm,
    Fixed,
    Gaussian,
    Halving,
    Jacobian,
    Learned,
    Profiled,
    Variance,
    VarianceShape,
    WeightNorm,
)
from vaelab.training import FitSettings
from vaelab_papers.claims import Ordering, Quantity
from vaelab_papers.job import Job
from vaelab_papers.sampling import images, job_of, measure_samples
from vaelab_papers.table import Cell, Effort, Scale, ScaleName, Table
from vaelab_papers.takida_data import SAMPLES_CELEBA, SAMPLES_MNIST, Row

PAPER: Final = "Takida et al., Neurocomputing 2022"
FLOOR: Final = 1e-6
"""What the paper adds to a variance inside its logarithm, of pixels in [0, 1]."""

SMALL_FLOOR: Final = 1e-3
"""In its place for Diag-D at small scale. With 1e-6, learning rates of 1e-3 and 3e-4 both end with black images, which
few epochs do not leave: a black pixel that is right to the last digit is worth 3 nats more than one that is wrong
by 0.03."""

_SHAPES: Final = ("Iso-I", "Diag-I", "Iso-D", "Diag-D")


class _Images(NamedTuple):
    """A data set of the paper, and what depends on it.

    Attributes
    ----------
    name, channels
        As `vaelab.data.load` calls it.
    network, latent_dim
        The common network.
    size
        d, numbers in one image.
    error_weight, mmd_weight
        Of the squared error and of the MMD, WAE's program; for pixels in [0, 1].
    published
        Model → measure → number.
    mixtures
        Beside the one of 10 components.
    """

    name: str
    channels: int
    network: str
    latent_dim: int
    size: int
    error_weight: float
    mmd_weight: float
    published: Mapping[str, Row]
    mixtures: tuple[int, ...] = ()


# the error's weight is 0.05; CelebA's images are in [−1, 1] there, where errors are four times as large
_MNIST = _Images("mnist", 1, "arelbo", 16, 784, 0.05, 10.0, SAMPLES_MNIST)
# the nearest network of the house: its decoder has one dense layer, and its last convolution has stride 1
_CELEBA = _Images("celeba140", 3, "rae", 64, 3 * 64 * 64, 0.2, 100.0, SAMPLES_CELEBA, (100,))


def _gaussian(shape: str, variance: Variance) -> Gaussian:
    return Gaussian(variance=variance, shape=cast("VarianceShape", shape.lower()))


def models(data: _Images) -> dict[str, dict[str, object]]:
    """Return every model's settings, those that differ from the common ones.

    Sums over pixels throughout: ‖x − x̂‖² is a Gaussian of variance ½, and a weight on means over d pixels and κ
    codes is d/κ times as large here.
    """
    half: dict[str, object] = {"posterior": "deterministic", "likelihood": Gaussian(variance=Fixed(value=0.5))}
    codes, weights, gradient = 1e-4, 1e-7, 5e-8 if data.channels == 1 else 1e-7  # Ghosh et al., per data set
    norm = CodeNorm(weight=codes * data.size / data.latent_dim)
    wide = Gaussian(variance=Fixed(value=0.5 / data.error_weight))
    gradients = Jacobian(weight=gradient * data.size / data.latent_dim, form="program")
    return {
        "VAE, σ² = 1": {"likelihood": Gaussian(variance=Fixed(value=1.0))},
        "VAE, Bernoulli": {"likelihood": "bernoulli"},
        "VAE, MoL": {"likelihood": "logistic_mixture"},
        "AE": half,
        "WAE-MMD": half | {"likelihood": wide, "penalties": MMD(weight=data.mmd_weight)},
        "RAE": half | {"penalties": (norm, WeightNorm(weight=weights * data.size))},
        "RAE-GP": half | {"penalties": (norm, gradients)},
        **{f"trainable {shape}": {"likelihood": _gaussian(shape, Learned(lr_scale=1.0))} for shape in _SHAPES},
        **{f"MLE {shape}": {"likelihood": _gaussian(shape, Profiled())} for shape in _SHAPES},
    }


def _build(data: _Images, cell: Cell, scale: Scale, seed: int) -> Job:
    model = str(cell.axes["model"])
    row = models(data)[model]
    common = {
        "network": data.network,
        "latent_dim": data.latent_dim,
        "densities": ("mixture_10", "second_stage"),
    }
    sampled = ("mixture_10", "second_stage", *(f"gmm{k}" for k in data.mixtures))
    return job_of(
        {**common, **row},
        images(data.name, scale, channels=data.channels),
        scale,
        seed,
        metrics=("frechet", "reconstruction", "interpolation") + ("nll",) * (model in _BOUNDED),
        densities=sampled if model in _WITHOUT_PRIOR else ("prior", *sampled),
        mixtures=data.mixtures,
        floor=floor_of(model, scale),
    )


def floor_of(shape: str, scale: Scale) -> float:
    """Return what is added to the variances of a model or shape that is called so."""
    return scale.floor if scale.floor is not None and shape.endswith("Diag-D") else FLOOR


_WITHOUT_PRIOR: Final = ("AE", "RAE", "RAE-GP")  # nothing draws their codes to it
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
_MNIST_PAPER = Scale(
    60_000,
    64,
    FitSettings(epochs=100, batch_size=64, lr=1e-3, schedule="constant"),
    effort=Effort("takida-2022", FitSettings(epochs=800, lr=1e-4, schedule=Halving(every=300))),
)
_CELEBA_PAPER = Scale(
    162_770,
    128,
    FitSettings(epochs=70, batch_size=64, lr=2e-4, schedule="constant"),
    effort=Effort("takida-2022", FitSettings(epochs=300, lr=1e-4, schedule=Halving(every=120))),
)
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
    """Return the models with any of these numbers, in the paper's order."""
    rows = ((name, data.published.get(name)) for name in models(data))
    return tuple(
        Cell({"model": name}, {key: row[key] for key in measures if key in row})
        for name, row in rows
        if row is not None and (any(key in row for key in measures) or (not row and "mse" in measures))
    )


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


def _tables(data: _Images, scales: dict[ScaleName, Scale], suffix: str, where: str) -> tuple[Table, Table, Table]:
    """Return tables 4, 5 and 7 of one data set; one training of a model measures all three."""
    build = partial(_build, data)
    samples = Table(
        name=f"takida/table4{suffix}",
        title=f"Samples from three densities of the codes of every autoencoder, {where}",
        source=f"{PAPER}, Table 4",
        convention=_GENERATED,
        cells=_cells(data, ("mse", "prior", "second_stage", "gmm10", "gmm100")),
        scales=scales,
        build=build,
        measure=measure_samples,
        orderings=_densities(data),
        ranked=("mse", "prior", "second_stage", "gmm10", *(f"gmm{k}" for k in data.mixtures)),
        shown=("gamma",),
    )
    between = [
        _below(f"MLE {shape}", "VAE, σ² = 1", measure, f"{measure}: {shape} at its MLE is below σ² = 1")
        for measure in ("middle", "random")
        for shape in _SHAPES
    ]
    interpolations = replace(
        samples,
        name=f"takida/table5{suffix}",
        title=f"Interpolations between the codes of two images, half way and at a random point, {where}",
        source=f"{PAPER}, Table 5",
        cells=_cells(data, ("middle", "random")),
        results_of=samples.name,
        orderings=tuple(between),
        ranked=("middle", "random"),
        shown=(),
    )
    bounds = replace(
        samples,
        name=f"takida/table7{suffix}",
        title=f"Bounds on the negative log-likelihood with 500 draws, {where}",
        source=f"{PAPER}, Table 7",
        convention=_BOUNDS,
        cells=_cells(data, ("nll",)),
        results_of=samples.name,
        orderings=(
            _below("MLE Iso-I", "VAE, σ² = 1", "nll", "Iso-I at its MLE is below σ² = 1"),
            _below("MLE Diag-I", "MLE Iso-I", "nll", "Diag-I is below Iso-I"),
            _below("MLE Diag-D", "MLE Iso-D", "nll", "Diag-D is below Iso-D"),
        ),
        ranked=("nll",),
        shown=("gamma",),
    )
    return samples, interpolations, bounds


TABLE_4, TABLE_5, TABLE_7 = _tables(_MNIST, _MNIST_SCALES, "", "MNIST")
CELEBA_4, CELEBA_5, CELEBA_7 = _tables(_CELEBA, _CELEBA_SCALES, "-celeba", "CelebA")
