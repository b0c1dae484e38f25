"""Tables of Zheng et al. 2022 on MNIST and Fashion-MNIST: 2, 4, 9, and dimensions per digit.

See `vaelab_papers.zheng` for the paper and its conventions. Pixels are in [0, 1]; numbers are of the training
rows.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vaelab.data import ArrayBatches, Dataset, Scaling, load
from vaelab.errors import InputError
from vaelab.model import VAE, Conditional, Diagonal, FullCovariance, Gaussian, LearnedVariance, Posterior
from vaelab.nets import MLP, Embedded, Gated, MLPDecoder, MLPEncoder, ResidualDecoder, ResidualEncoder
from vaelab.training import FitSettings, forked
from vaelab_papers.claims import Check, Ordering, Quantity
from vaelab_papers.job import Job
from vaelab_papers.table import Cell, Scale, ScaleName, Table
from vaelab_papers.zheng import CONVENTION

_PAPER = "Zheng et al., NeurIPS 2022"
_SIDE: Final = 28
_CLASSES: Final = 10
_FEATURES: Final = 5  # of the label's embedding: half its width, by a perceptron of 16 units (the authors' program)


def _fit(epochs: int, batch_size: int, lr: float) -> FitSettings:
    return FitSettings(epochs=epochs, batch_size=batch_size, lr=lr, schedule="one_cycle")


def _scales(width: int, small: Scale) -> dict[ScaleName, Scale]:
    """Return the paper's budget, one of minutes a cell on one core, and one of seconds without MNIST."""
    smoke = Scale(200, 2, _fit(1, 100, 2e-3), stand_in=True)
    return {"smoke": smoke, "small": small, "paper": Scale(60_000, width, _fit(400, 512, 2e-3))}


def _images(name: str, scale: Scale) -> tuple[Tensor, Tensor]:
    """(n, 1, 28, 28) bytes and (n,) labels of the training split."""
    data: Dataset = load("digits" if scale.stand_in else name)
    x, labels = data.train.x, data.train.labels
    if labels is None or not isinstance(x, Tensor) or len(data.classes or ()) != _CLASSES:
        raise InputError(f"{name} without labels of {_CLASSES} classes", "the labelled data set", "Fetch it again.")
    x, labels = x[: scale.rows], labels[: scale.rows]
    if scale.stand_in:
        x = F.interpolate(x.float(), _SIDE, mode="bilinear").round().to(torch.uint8)
    return x, labels


def _likelihood(scale: Scale) -> Gaussian:
    """Return N(μ, γI) with its mean through a sigmoid."""
    return Gaussian(LearnedVariance(1.0 if scale.gamma is None else scale.gamma, lr_scale=1.0), link="sigmoid")


def _on_a_cpu(model: VAE) -> VAE:
    """Channels last, with which these networks train a fifth faster."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _unconditional(data: str, size: int, posterior: Posterior, scale: Scale, seed: int, cell: str) -> Job:
    x, _ = _images(data, scale)
    shape = (1, _SIDE, _SIDE)
    with forked("cpu", seed, "zheng", cell):
        model = VAE(
            ResidualEncoder(shape, posterior.parameter_count(size), base_width=scale.width),
            ResidualDecoder(size, shape, base_width=scale.width),
            latent_dim=size,
            posterior=posterior,
            likelihood=_likelihood(scale),
        )
    return Job(_on_a_cpu(model), ArrayBatches(x, None, Scaling.fit(x, "image")))


def _with_labels(model: VAE, x: Tensor, labels: Tensor) -> Job:
    names = tuple(str(label) for label in range(_CLASSES))
    return Job(model, ArrayBatches(x, F.one_hot(labels, _CLASSES).float(), Scaling.fit(x, "image")), labels, names)


def _sized(cell: Cell, scale: Scale, seed: int) -> Job:
    return _unconditional(str(cell.axes["data"]), int(cell.number("κ")), Diagonal(), scale, seed, cell.name)


# from γ = 1 few epochs end with 6 dimensions: those that the KL has closed by then do not open again (as in table 7)
_UNCONDITIONAL = _scales(5, Scale(20_000, 5, _fit(15, 64, 5e-3), gamma=0.01))

# data → κ → active dimensions, Recon, −ELBO
_TABLE_2 = {
    "mnist": {5: (5, 14.9, -842), 16: (12, 9.7, -1066), 32: (13, 7.5, -1224)},
    "fashion_mnist": {5: (5, 13.2, -935), 16: (9, 9.0, -1217), 32: (9, 7.8, -1327)},
}


def _of(data: str, size: int, measure: str) -> Quantity:
    return Quantity(f"data={data}, κ={size}", measure)


TABLE_2 = Table(
    name="zheng/table2",
    title="Active dimensions of a VAE on images, by the size of the code",
    source=f"{_PAPER}, Table 2",
    convention=CONVENTION,
    cells=tuple(
        Cell({"data": data, "κ": size}, {"active": active, "recon": recon, "nelbo": nelbo})
        for data, sizes in _TABLE_2.items()
        for size, (active, recon, nelbo) in sizes.items()
    ),
    scales=_UNCONDITIONAL,
    build=_sized,
    data=tuple(_TABLE_2),
    checks=(Check("active", "equal"), Check("nelbo", "at most")),
    orderings=tuple(
        ordering
        for data in _TABLE_2
        for ordering in (
            Ordering(
                f"{data}: the count saturates, κ = 32 adds at most 3 to that of κ = 16",
                _of(data, 32, "active"),
                _of(data, 16, "active"),
                by=-3,
            ),
            Ordering(
                f"{data}: κ = 5 is too small, κ = 16 activates at least 3 more",
                _of(data, 5, "active"),
                _of(data, 16, "active"),
                by=3,
            ),
        )
    ),
)


def _covariances(cell: Cell, scale: Scale, seed: int) -> Job:
    posterior = FullCovariance() if cell.axes["covariance"] == "full" else Diagonal()
    return _unconditional("mnist", 32, posterior, scale, seed, cell.name)


TABLE_9 = Table(
    name="zheng/table9",
    title="A full beside a diagonal posterior covariance on MNIST (κ = 32)",
    source=f"{_PAPER}, Table 9",
    convention=CONVENTION,
    cells=(
        Cell({"covariance": "full"}, {"active": 8, "recon": 4.5, "nelbo": -1756}),
        Cell({"covariance": "diagonal"}, {"active": 13, "recon": 7.6, "nelbo": -1205}),
    ),
    scales=_UNCONDITIONAL,
    build=_covariances,
    data=("mnist",),
    checks=(Check("active", "equal"), Check("nelbo", "at most")),
    orderings=(
        Ordering(
            "the full covariance needs fewer dimensions",
            Quantity("covariance=full", "active"),
            Quantity("covariance=diagonal", "active"),
            by=1,
        ),
        Ordering(
            "the full covariance reaches a lower −ELBO",
            Quantity("covariance=full", "nelbo"),
            Quantity("covariance=diagonal", "nelbo"),
            by=0,
        ),
    ),
)

_CONDITIONAL = _scales(32, Scale(20_000, 8, _fit(12, 64, 5e-3), gamma=0.01))


def _labelled(cell: Cell, scale: Scale, seed: int) -> Job:
    x, labels = _images(str(cell.axes["data"]), scale)
    shape, size = (1, _SIDE, _SIDE), 32
    with forked("cpu", seed, "zheng", cell.name):
        encoder = ResidualEncoder(shape, 2 * size, base_width=scale.width, condition_dim=_FEATURES)
        decoder = ResidualDecoder(size, shape, base_width=scale.width, condition_dim=_FEATURES)
        model = VAE(
            Embedded(encoder, _CLASSES, _FEATURES, hidden=(16,), activation="prelu"),
            Embedded(decoder, _CLASSES, _FEATURES, hidden=(16,), activation="prelu"),
            latent_dim=size,
            prior=Conditional(MLP(_CLASSES, 2 * size, (16,), activation="prelu"), size),
            likelihood=_likelihood(scale),
        )
    return _with_labels(_on_a_cpu(model), x, labels)


TABLE_4 = Table(
    name="zheng/table4",
    title="A CVAE of images with the label as its condition and a conditional prior (κ = 32)",
    source=f"{_PAPER}, Table 4",
    convention=CONVENTION,
    cells=(
        Cell(
            {"data": "mnist"},
            {"active": 12, "recon": 6.04, "kl": 81.7, "gamma": 0.0063, "nelbo": -1489},
        ),
        Cell(
            {"data": "fashion_mnist"},
            {"active": 9, "recon": 8.77, "kl": 54.6, "gamma": 0.0102, "nelbo": -1239},
        ),
    ),
    scales=_CONDITIONAL,
    build=_labelled,
    data=("mnist", "fashion_mnist"),
    checks=(Check("active", "equal"), Check("nelbo", "at most")),
)


def _gated(cell: Cell, scale: Scale, seed: int) -> Job:
    """Build perceptrons, which reach the detail that tells digits apart sooner than the convolutions of the paper."""
    x, labels = _images("mnist", scale)
    shape, size, width = (1, _SIDE, _SIDE), 64, 64
    with forked("cpu", seed, "zheng", cell.name):
        encoder = MLPEncoder(shape, 2 * size, hidden=(scale.width,), condition_dim=width)
        decoder = Embedded(
            MLPDecoder(size, shape, hidden=(scale.width,), condition_dim=width), _CLASSES, width, hidden=(width,)
        )
        model = VAE(
            Embedded(encoder, _CLASSES, width, hidden=(width,)),
            Gated(decoder, _CLASSES) if cell.axes["attention"] else decoder,
            latent_dim=size,
            likelihood=_likelihood(scale),
        )
    return _with_labels(model, x, labels)


_BY_CLASS = Cell({"attention": 1}, {})

DIGITS_BY_CLASS = Table(
    name="zheng/digits-by-class",
    title="Active dimensions of every MNIST digit, from a CVAE of the label (κ = 64)",
    source="the model of section 4.4 on MNIST; the paper has no such table",
    convention=CONVENTION,
    cells=(Cell({"attention": 0}, {}), _BY_CLASS),
    scales={
        "smoke": Scale(200, 8, _fit(1, 100, 2e-3), stand_in=True),
        "small": Scale(20_000, 256, _fit(40, 200, 3e-3), gamma=0.1, seeds=2),
        "paper": Scale(60_000, 256, _fit(400, 512, 2e-3)),
    },
    build=_gated,
    data=("mnist",),
    orderings=(
        Ordering(
            "a “1” has fewer dimensions than an “8”",
            Quantity(_BY_CLASS.name, "active 1"),
            Quantity(_BY_CLASS.name, "active 8"),
            by=1,
        ),
    ),
    shown=("active", *(f"active {label}" for label in range(_CLASSES)), "recon", "nelbo"),
)
