"""`evaluate`: samples, reconstructions, interpolations and likelihood of a trained model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vaelab import runs
from vaelab.data import Dataset, Rows, Schema, Split, content_hash, load
from vaelab.diagnostics.table_comparison import TableComparison
from vaelab.errors import InputError
from vaelab.estimators.base import Estimator
from vaelab.metrics.evaluator import Blocks, Evaluator
from vaelab.metrics.extractors import extractor_for
from vaelab.metrics.features import FeatureStore, hash_of
from vaelab.metrics.interpolation import linear, pairs, spherical
from vaelab.metrics.options import Options
from vaelab.metrics.protocols import Protocol
from vaelab.metrics.reconstruction import psnr, squared_error, ssim
from vaelab.metrics.report import TITLES, Reading, Report, RowMean
from vaelab.metrics.rows import BLOCK, blocks_of, chosen_of, chosen_rows, in_units, quarter, watched
from vaelab.metrics.tabular import FEWEST
from vaelab.model import no_encoder
from vaelab.runs import Draws, Trained, rejection_of
from vaelab.runs.drawing import DRAWS
from vaelab.specs.densities import title_of
from vaelab.training import stream
from vaelab.training.devices import join
from vaelab.verbs.comparison import few
from vaelab.verbs.likelihood import bits, likelihoods, noise_level
from vaelab.verbs.subject import trained_of
from vaelab.verbs.tabular import compare_tables

_OF_PAIRS = ("frechet", "kernel")  # measured of reconstructions and interpolations
_PATHS = {"spherical": spherical, "linear": linear}


def evaluate(
    model: Trained | Estimator | Path | str,
    data: Dataset | Path | str | None = None,
    *,
    protocols: Sequence[Protocol | str] = (),
    options: Options | None = None,
) -> Report:
    """Measure a trained model.

    Parameters
    ----------
    model
        The folder of a run, a fitted estimator, or what `vaelab.runs.train` returns.
    data
        Of its test split are most references, and what likelihoods are of; its training split gives features and the
        floor. A data set or what `vaelab.data.load` takes; for a run, the data it was trained on if None. Arrays become
        a data set by `vaelab.data.from_arrays`.
    protocols
        How distances are measured, by name or as records, each on its own; the one that suits the data if empty.
    options
        How much to measure.

    Several processes, under torchrun, share the extraction of features; each returns the whole report.

    Raises
    ------
    InputError
        The data do not fit the model, or the options the data.
    """
    join()
    options = Options.of(options)
    trained, data, notes = _resolved(model, data)
    if notes and options.on_manifold:
        got = f"draws on the manifold, and other rows than {model} was trained on"
        raise InputError(got, "those of its training, which say where the manifold is", "Or measure all draws.")
    data = trained.conditioned(data)
    _check_data(trained, data)
    metrics = options.chosen(data.kind, len(data.test), model=True)
    if not trained.encodes:
        metrics = _of_samples(metrics, options)
    elif trained.vae.posterior.degenerate:
        metrics = _of_codes_without_noise(metrics, options)
    mixed = trained.schema is not None
    if mixed:
        metrics = _of_mixed(metrics, options)
    unknown = [name for name in options.densities if name not in trained.densities]
    if unknown:
        raise InputError(f"densities {', '.join(unknown)}", f"some of {', '.join(trained.densities)}")
    chosen = options.protocols(protocols, data.kind, labels=data.train.labels is not None)
    report = Report(str(model) if isinstance(model, str | Path) else data.name, notes=notes)
    for each in chosen if set(metrics) - {"nll", "bits"} else ():
        samples = _Samples(trained, data, each, options)
        report.readings += samples.readings(metrics)
        report.notes += samples.notes
    if "nll" in metrics:
        report.rows += likelihoods(trained, data.test, options)
        report.notes += noise_level(trained, data.test.x)
    if mixed and not options.metrics:
        report.notes += _beside_rows(trained, data, options)
    if "bits" in metrics:
        report.rows += bits(trained, data.test, options)
    if "reconstruction" in metrics:
        report.rows += reconstruction_errors(trained, data.test)
        report.notes.append("Reconstructions are of the reference's own rows, so they may score below the floor.")
    return report


def _resolved(
    model: Trained | Estimator | Path | str, data: Dataset | Path | str | None
) -> tuple[Trained, Dataset, list[str]]:
    """Load what was given by name, and say where data differ from those of the training."""
    found = trained_of(model)
    if isinstance(data, str | Path):
        columns = getattr(found.settings.likelihood, "columns", None)
        data = load(data, mixed=found.schema is not None, columns=columns)
    given: object = data
    if given is not None and not isinstance(given, Dataset):
        remedy = "Pass vaelab.data.from_arrays(train, test)."
        raise InputError(f"data of type {type(given).__name__}", "a data set, its name or its path", remedy)
    if isinstance(model, str | Path):
        data = runs.data_of(runs.source_of(Path(model))[1]) if data is None else data
        same = data.fingerprint() == found.facts.fingerprint
        return found, data, [] if same else ["These are not the rows that the model was trained on."]
    if data is None:
        raise InputError("a model without data", "data to measure it on", "Pass vaelab.data.from_arrays(train, test).")
    return found, data, []


def _of_samples(metrics: Sequence[str], options: Options) -> tuple[str, ...]:
    """Return what can be measured of a GAN: distances of samples."""
    others = [name for name in metrics if name not in TITLES]
    if others and options.metrics:
        raise no_encoder(f"metrics {', '.join(others)}")
    return tuple(name for name in metrics if name in TITLES)


def _of_codes_without_noise(metrics: Sequence[str], options: Options) -> tuple[str, ...]:
    """Return what can be measured of an autoencoder: it has no bound on log p(x)."""
    bounds = [name for name in metrics if name in ("nll", "bits")]
    if options.metrics and bounds:
        got = f"metrics {', '.join(bounds)} for an autoencoder, which has no bound on log p(x)"
        raise InputError(got, "distances or reconstruction", "Leave metrics out, or train with a posterior.")
    return tuple(name for name in metrics if name not in bounds)


def _of_mixed(metrics: Sequence[str], options: Options) -> tuple[str, ...]:
    """Return what can be measured of a mixed table; distances would take levels for numbers, and gaps have none."""
    others = [name for name in metrics if name != "nll"]
    if options.metrics and others:
        raise InputError(
            f"metrics {', '.join(others)} for a mixed table", "nll", "Impute and encode the rows yourself."
        )
    return ("nll",)


def _beside_rows(trained: Trained, data: Dataset, options: Options) -> list[str]:
    """Say in a line for each density how samples of a mixed table compare with its test rows."""
    if min(len(data.test), len(data.train)) < FEWEST or not isinstance(data.test.x, Tensor):
        return []
    lines = []
    for name in options.densities or tuple(trained.densities):
        how = drawn_as(trained, data, options, name)
        found = beside_rows(trained, data, how)
        area = found.told_apart
        lines.append(
            f"Samples from {title_of(name)}{_altered(how)}: told apart by trees {area.value:.3f} ± "
            f"{1.96 * area.error:.3f} (0.5 is best), columns agree {found.shape:.3f}, pairs {found.pair:.3f} (1 is "
            f"best), copies of training rows {100 * found.copies:.1f} % (of test rows {100 * found.copies_real:.1f} %)."
        )
        if not math.isnan(found.membership.value):
            low, high = found.membership.interval
            lines.append(
                f"Which rows were trained on, by samples from {title_of(name)}: membership inference "
                f"{found.membership.value:.3f} [{low:.3f}, {high:.3f}] (0.5 gives nothing away)."
            )
    return [*lines, "vaelab.compare_tables has these column by column, and a page (--html page.html)."]


def drawn_as(trained: Trained, data: Dataset, options: Options, density: str) -> Draws:
    """Return how rows of a density are drawn that are measured."""
    rejection = rejection_of(trained, data.train) if options.on_manifold else None
    return Draws(density=density, temperature=options.temperature, rejection=rejection)


def _altered(how: Draws) -> str:
    """Say how draws differ from those of the law itself."""
    parts = [] if how.temperature == 1 else [f" at a temperature of {how.temperature:g}"]
    return ",".join([*parts, *([] if how.rejection is None else [f" {how.rejection.share:.1%} of them rejected"])])


def beside_rows(trained: Trained, data: Dataset, how: Draws = DRAWS) -> TableComparison:
    """Compare samples of a table with its test rows, as many, with gaps where the training rows had any.

    Raises
    ------
    InputError
        Images, or too few rows.
    """
    if trained.facts.kind != "table":
        raise InputError(f"{data.name}, which are images, beside real rows of a table", "a table", "Leave it out.")
    schema = trained.schema or Schema.of_numbers(trained.facts.event_shape[0], trained.facts.columns)
    schema = schema.modelled  # identifiers made anew say nothing
    splits = data.test, data.train
    real, train = (schema.to_frame(torch.cat([x for x, _ in split.parts()])) for split in splits)
    c = data.test.c
    how = dataclasses.replace(how, missing=any(trained.facts.gaps or ()))
    drawn = trained.sample(len(data.test), None if c is None else c.to(trained.device), how)
    return compare_tables(real, schema.to_frame(drawn), train=train)


def _check_data(trained: Trained, data: Dataset) -> None:
    """Refuse data in another shape, other units, or with other columns than the model was trained on."""
    facts = trained.facts
    if data.event_shape != facts.event_shape:
        raise InputError(f"data of shape {data.event_shape}", f"{facts.event_shape}, that of the model")
    if None not in (data.columns, facts.columns) and data.columns != facts.columns:
        raise InputError(f"columns {data.columns}", f"{facts.columns}, in this order, as in training")
    if data.schema != trained.schema and (
        data.schema is not None or any(trained.schema.levels if trained.schema else ())
    ):
        remedy = "Pass vaelab.data.from_arrays(train, test, schema=model.schema_)."
        raise InputError(f"{data.name} with other levels than in training", "rows coded as in training", remedy)
    for split in (data.train, data.test):
        trained.scaling.check(split.x, name=data.name)


class _Samples:
    """The rows of one model under one protocol, and their scores."""

    def __init__(self, trained: Trained, data: Dataset, chosen: Protocol, options: Options) -> None:
        self.trained, self.data, self.chosen, self.options = trained, data, chosen, options
        self.learned, unseen = quarter(data.train)
        used: Split = data.test if chosen.reference == "test" else data.train
        other = unseen.x if chosen.reference == "test" else data.test.x
        self.reference = chosen_of(used, chosen.reference_count, chosen, "reference")
        self.n = min(chosen.generated_count, len(self.reference))
        self.floor = chosen_rows(other, self.n, chosen, "floor") if len(other) >= self.n else None
        wanted = min(chosen.generated_count, chosen.reference_count)
        self.notes = [few(self.n, chosen)] if self.n < wanted else []
        if self.floor is None:
            self.notes.append(f"There is no floor: {len(other):,} other real rows for {self.n:,} generated ones.")

    def readings(self, metrics: Sequence[str]) -> list[Reading]:
        """Score every density, then reconstructions and interpolations."""
        options, chosen, trained = self.options, self.chosen, self.trained
        extractor = extractor_for(chosen, self.learned, trained.scaling, options)
        measures = [name for name in metrics if name in TITLES]
        evaluator = Evaluator(
            chosen,
            extractor,
            self._real(self.reference.x, "reading the reference"),
            measures=measures or _OF_PAIRS,
            floor=None if self.floor is None else self._real(self.floor, "measuring the floor"),
            store=options.store(chosen),
        )
        found: list[Reading] = []
        # features of generated rows are kept so that an interrupted evaluation goes on, until they are all there
        unfinished = f"{chosen.hash}-{hash_of(*trained.vae.state_dict().values())[:16]}"  # of this model alone
        with FeatureStore.passing(options.folder / "unfinished" / unfinished) as store:
            for name in (options.densities or tuple(trained.densities)) if measures else ():
                how = drawn_as(trained, self.data, options, name)
                draws = [self._generated(how, draw) for draw in range(options.draws)]
                read = evaluator.score(name, draws, store=store)
                share = None if how.rejection is None else how.rejection.share
                found += [dataclasses.replace(one, temperature=how.temperature, rejected=share) for one in read]
            if "reconstruction" in metrics:
                found += evaluator.score("reconstructions", [self._rebuilt()], measures=_OF_PAIRS, store=store)
            if "interpolation" in metrics:
                means = self._means()
                for kind in _PATHS:
                    for where in ("middle", "random"):
                        draws = [self._between(means, kind, where, draw) for draw in range(options.draws)]
                        row = f"{kind}, {where}"
                        found += evaluator.score(row, draws, measures=_OF_PAIRS, store=store)
        return found

    def _real(self, rows: Rows, text: str) -> Blocks:
        return watched(blocks_of(rows, self.trained.scaling), self.options.watch, text, len(rows))

    def _generated(self, how: Draws, draw: int) -> Blocks:
        """Rows from one density, under the reference's conditions; every block has a random stream of its own."""
        generator, device, chosen = self.trained.generator(how.density), self.trained.device, self.chosen
        c = self.reference.c

        def blocks() -> Iterator[Tensor]:
            for start in range(0, self.n, BLOCK):
                size = min(BLOCK, self.n - start)
                own = None if c is None else c.index_select(0, torch.arange(start, start + size)).to(device)
                rows = generator.sample(
                    size,
                    own,
                    generator=stream(device, chosen.seed, "evaluate", how.density, draw, start),
                    observation_noise=chosen.observation_noise and not self.trained.vae.posterior.degenerate,
                    temperature=how.temperature,
                    rejection=how.rejection,
                )
                yield shown(self.trained, rows)

        return watched(blocks, self.options.watch, f"{how.density}, draw {draw + 1} of {self.options.draws}", self.n)

    def _rebuilt(self) -> Blocks:
        def blocks() -> Iterator[Tensor]:
            for x, c in self.reference.parts():
                rebuilt = self.trained.reconstruct(x, c)
                yield shown(self.trained, self.trained.scaling.to_net(rebuilt))

        return watched(blocks, self.options.watch, "rebuilding the reference", len(self.reference))

    def _means(self) -> Tensor:
        return torch.cat([self.trained.encode(x, c) for x, c in self.reference.parts()])

    def _between(self, means: Tensor, kind: str, where: str, draw: int) -> Blocks:
        """Decode points between the codes of random pairs: half way, or at a uniform random share (Takida et al.).

        Under a condition, that of the first of each pair.
        """
        chosen, trained = self.chosen, self.trained
        conditions = self.reference.c

        def blocks() -> Iterator[Tensor]:
            generator = stream("cpu", chosen.seed, "interpolation", draw)
            both = pairs(len(means), self.n, generator).to(means.device)
            share = torch.rand(self.n, generator=generator).to(means.device)
            for start in range(0, self.n, BLOCK):
                first = both[start : start + BLOCK, 0].cpu()
                c = None if conditions is None else conditions.index_select(0, first)
                a, b = means[both[start : start + BLOCK].T]
                t = 0.5 if where == "middle" else share[start : start + BLOCK]
                yield shown(trained, trained.scaling.to_net(trained.decode(_PATHS[kind](a, b, t), c)))

        text = f"interpolations, {kind}, {where}, draw {draw + 1} of {self.options.draws}"
        return watched(blocks, self.options.watch, text, self.n)


def shown(trained: Trained, x: Tensor) -> Tensor:
    """Bring decoded rows in the network's units to what protocols expect, on the CPU."""
    x = x.detach().cpu()
    if trained.scaling.kind == "image":
        return x.clamp(0, 1)
    return trained.scaling.to_net(trained.scaling.from_net(x.double()), dtype=torch.float64)  # constants are exact


def reconstruction_errors(trained: Trained, split: Split) -> list[RowMean]:
    """Squared error summed over a row, and for images PSNR (dB) and SSIM, network's units."""
    found: dict[str, list[Tensor]] = {}
    for x, c in split.parts():
        real = in_units(x, trained.scaling)
        real = real / 255 if real.dtype == torch.uint8 else real
        rebuilt = shown(trained, trained.scaling.to_net(trained.reconstruct(x, c)))
        found.setdefault("squared_error", []).append(squared_error(real, rebuilt))
        if trained.facts.kind == "image":
            found.setdefault("psnr", []).append(psnr(real, rebuilt))
            found.setdefault("ssim", []).append(ssim(real, rebuilt))
    about = {"protocol": "decoder mean at the posterior mean", "reference": content_hash(split.x)}
    return [RowMean.of("reconstructions", name, torch.cat(parts), **about) for name, parts in found.items()]
