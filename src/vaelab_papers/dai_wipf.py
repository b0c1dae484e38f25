"""Table 1 of Dai & Wipf: FIDs of VAEs with a fixed and a learned decoder variance, and of the two-stage VAE.

Dai & Wipf 2019. The final paper has the first table; the version that went to review has other settings and other
numbers, a cross-entropy baseline and 2-Stage VAE*, whose κ was picked for each data set out of "a couple", which are
not named. Here those are the rows with another κ than 64; of them and of κ = 64 that one is chosen which gives test
rows the best bound on their likelihood, which the FIDs have no part in.

A cell is the preset ``dai-wipf/<data>`` with another likelihood or κ. One training with a learned γ measures two rows
of the paper: its samples from the prior are "VAE (learned γ)", those through the second stage "2-Stage VAE".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

from vaelab.presets import preset
from vaelab.specs import Fixed, Gaussian, Settings
from vaelab.training import FitSettings
from vaelab_papers.claims import Choice, Ordering, Quantity
from vaelab_papers.dai_wipf_data import CELEBA_WAE, GANS, NUMBERS, Numbers
from vaelab_papers.job import Job
from vaelab_papers.sampling import DISTANCES, at_scale, images, job_of, measure_samples
from vaelab_papers.table import Cell, Effort, Scale, ScaleName, Table
from vaelab_papers.trials import Number

_PAPER: Final = "Dai & Wipf, ICLR 2019"
REVIEW: Final = "review version"

_SIZE: Final = 64  # κ
_OTHERS: Final = (16, 32)  # of 2-Stage VAE*


class _Images(NamedTuple):
    """A data set, and its numbers."""

    name: str
    channels: int

    @property
    def numbers(self) -> Numbers:
        return NUMBERS[self.name]


_MNIST, _FASHION = _Images("mnist", 1), _Images("fashion_mnist", 1)
_CIFAR, _CELEBA = _Images("cifar10", 3), _Images("celeba", 3)


def _cells(data: _Images) -> tuple[Cell, ...]:
    def cell(decoder: str, size: int, final: Mapping[str, Number], review: Mapping[str, Number]) -> Cell:
        axes: dict[str, float | str] = {"data": data.name, "decoder": decoder, "κ": size}
        return Cell(axes, final, {REVIEW: review} if review else {})

    final, review = data.numbers.final, data.numbers.review
    two = {"second_stage": "two_stage", "prior": "learned"}
    return (
        cell("cross-entropy", _SIZE, {}, {"prior": review["entropy"]}),
        cell("fixed γ", _SIZE, {"prior": final["fixed"]}, {"prior": review["fixed"]}),
        cell("learned γ", _SIZE, *({name: own[key] for name, key in two.items()} for own in (final, review))),
        *(cell("learned γ", size, {}, {}) for size in _OTHERS),
    )


def _settings(cell: Cell, scale: Scale, seed: int) -> Settings:
    """Return the preset of the data with the cell's likelihood and κ, at a scale."""
    settings, decoder = preset(f"dai-wipf/{cell.axes['data']}"), cell.axes["decoder"]
    changes: dict[str, object] = {"latent_dim": int(cell.number("κ"))}
    if decoder == "cross-entropy":
        changes |= {"likelihood": "bernoulli", "densities": ()}
    elif decoder == "fixed γ":
        changes |= {"likelihood": Gaussian(variance=Fixed(value=1.0)), "densities": ()}
    elif scale.gamma is not None:
        changes["likelihood__variance__initial"] = scale.gamma
    return at_scale(settings.set_params(**changes), scale, seed)


def _build(channels: dict[str, int], cell: Cell, scale: Scale, seed: int) -> Job:
    name, learned = str(cell.axes["data"]), cell.axes["decoder"] == "learned γ"
    return job_of(
        _settings(cell, scale, seed),
        images(name, scale, channels=channels[name]),
        scale,
        metrics=("frechet", "reconstruction", *(("nll",) if learned else ())),
        densities=("prior", "second_stage") if learned else ("prior",),
    )


def _choice(data: _Images) -> Choice:
    cells = tuple(f"data={data.name}, decoder=learned γ, κ={size}" for size in (_SIZE, *_OTHERS))
    return Choice(f"2-Stage VAE* on {data.name}, κ by held-out evidence", cells, "nll", "second_stage")


def _claims(data: _Images) -> tuple[Ordering, ...]:
    fixed, learned = (f"data={data.name}, decoder={word} γ, κ={_SIZE}" for word in ("fixed", "learned"))
    two_stage = Quantity(learned, "second_stage")
    return (
        Ordering(f"{data.name}: the second stage is below the prior", two_stage, Quantity(learned, "prior"), by=0),
        Ordering(f"{data.name}: two stages are below a fixed γ", two_stage, Quantity(fixed, "prior"), by=0),
    )


_SMOKE = Scale(
    150,
    1,
    FitSettings(epochs=1, batch_size=50, lr=1e-3),
    stand_in=True,
    effort=Effort("pca-10k+reference_count=100", FitSettings(epochs=1), (8,), likelihood_draws=3, likelihood_rows=10),
)
_SMALL = Scale(
    20_000,
    16,
    FitSettings(epochs=30, batch_size=100, lr=1e-3),
    gamma=0.05,
    effort=Effort("classifier-10k", FitSettings(epochs=20), (256, 256, 256), likelihood_rows=200),
)


def _quoted(data: tuple[_Images, ...]) -> dict[str, dict[str, Number]]:
    """Return what the paper compares with and nothing here trains: a column for each data set."""
    rows: dict[str, dict[str, Number]] = {}
    for one in data:
        for name, number in GANS[one.name].items():
            rows.setdefault(name, {})[one.name] = number
        rows.setdefault(f"2-Stage VAE, κ picked ({REVIEW})", {})[one.name] = one.numbers.review["picked"]
    if _CELEBA in data:
        rows |= {f"{name} ({REVIEW}, its own network)": {_CELEBA.name: value} for name, value in CELEBA_WAE.items()}
    return rows


def _table(suffix: str, where: str, data: tuple[_Images, ...], rows: int, protocol: str, *, small: bool) -> Table:
    scales: dict[ScaleName, Scale] = {"smoke": _SMOKE, **({"small": _SMALL} if small else {})}
    return Table(
        name=f"dai-wipf/table1{suffix}",
        title=f"Samples of one VAE and of two stages, {where}",
        source=f"{_PAPER}, Table 1",
        convention=(
            "Distances of samples are Fréchet distances under the protocol of the scale: FIDs in Inception's features "
            "only. “prior” of a learned γ is the paper's “VAE (learned γ)”, “2nd VAE” its “2-Stage VAE”. The version "
            "that went to review was made with other settings: its numbers stand in columns of their own. With its "
            "2-Stage VAE*, of which κ was picked for each data set, compare the one that is chosen here. MSE is summed "
            "over pixels; NLL is minus the importance-weighted bound on test rows, nats."
        ),
        cells=tuple(cell for one in data for cell in _cells(one)),
        scales={**scales, "paper": Scale(rows, seeds=10, effort=Effort(protocol, likelihood_rows=1000))},
        build=partial(_build, {one.name: one.channels for one in data}),
        settings=_settings,
        data=tuple(one.name for one in data),
        measure=measure_samples,
        orderings=tuple(claim for one in data for claim in _claims(one)),
        ranked=("prior",),
        distances=DISTANCES,
        shown=("mse", "nll", "gamma"),
        choices=tuple(_choice(one) for one in data),
        quoted=_quoted(data),
    )


TABLE_1 = _table("", "MNIST and Fashion-MNIST", (_MNIST, _FASHION), 60_000, "dai-wipf-program", small=True)
CIFAR_1 = _table("-cifar10", "CIFAR-10", (_CIFAR,), 50_000, "dai-wipf-program-cifar10", small=True)
CELEBA_1 = _table("-celeba", "CelebA", (_CELEBA,), 162_770, "dai-wipf-program", small=False)
