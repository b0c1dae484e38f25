"""The whole training: stage one, codes, latent densities, their comparison (Dai & Wipf 2019, section 4)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from vaelab.data import ArrayBatches, Dataset, MappedBatches, Scaling, Schema, as_batches
from vaelab.data import split as split_rows
from vaelab.data.checks import GAPS_REMEDY, MIXED, check_finite, warn_of_wild_entries
from vaelab.data.mapped import blocks
from vaelab.data.ranges import with_ranges
from vaelab.errors import InputError, VaelabWarning
from vaelab.latent import (
    Codes,
    LatentDensity,
    PriorDensity,
    Site,
    compare_on_codes,
    law_of,
    row_scores,
    simplest_of_best,
)
from vaelab.latent.mixtures import FEW
from vaelab.model import VAE, gap_patterns, variance_ratios_of
from vaelab.model.contexts import own_state
from vaelab.runs.baseline import mixture_beside
from vaelab.runs.decoded import DecodedDraws
from vaelab.runs.facts import Facts
from vaelab.runs.first_stage import FirstStage, fit_stage
from vaelab.runs.generators import fit_generator
from vaelab.runs.trained import Trained
from vaelab.runs.whitened import better_scores, filled
from vaelab.specs import FitSettings, Likelihood, Mixed, Settings
from vaelab.specs.densities import PRIOR, Density, ordered
from vaelab.specs.likelihoods import WithVariance
from vaelab.training import Hook, stream
from vaelab.training.hooks import Callback, hooks_of
from vaelab.types import Batches, Trainable

SECOND = "stage two"
_LEAST_HELD_OUT, _MOST_HELD_OUT = 10, 5_000
_ENOUGH = 20  # rows, of which the usual tenth is two
_FEW_TO_CHOOSE, _FOLDS = 100, 5  # held-out codes, below which all are scored, in parts
_DRAWS, _FEWEST_ROWS = 1_000, 50  # of each density, beside so many unseen rows at least
T = TypeVar("T", bound=Trainable)
_MOST_FOR_VARIANCE = 2_000_000  # numbers, of rows spread over the data


def train(
    data: Dataset,
    settings: Settings,
    *,
    hooks: Sequence[Hook | Callback] = (),
    states: Path | None = None,
    resume: bool = False,
) -> Trained:
    """Train both stages on the training split and fit the densities.

    Every part is a function of the data and the settings, and a stage that is already complete on disk is not run
    again, so resuming is calling this once more with ``resume=True``.

    Parameters
    ----------
    data
        In its own units; the test split is not looked at.
    settings
        What to train and how; ``densities=()`` trains stage one only.
    hooks
        Onlookers of both stages, or functions of a record, whose ``stage`` says of which it is; True ends that stage.
    states
        Folder for the training states, one file per stage; None keeps none.
    resume
        Go on from these.
    """
    hooks = hooks_of(hooks)
    with own_state():
        settings = settings.suited(mixed=data.schema is not None)
        fingerprint = data.fingerprint()  # as it came, by which a later run knows it again
        if settings.conditional:
            data = data.conditioned()
        schema = schema_of(data, settings)
        levels, ordered = ((), ()) if schema is None else (schema.levels, schema.ordered)
        if data.kind == "table":
            warn_of_wild_entries(data.train.x, data.columns, levels)
        own = settings.likelihood
        scores = _scores_of(data, schema, own, settings.seed)
        scaling = Scaling.fit(data.train.x, data.kind, columns=data.columns, levels=levels or None, scores=scores)
        schema = None if schema is None else with_ranges(schema.described(scaling), torch.as_tensor(data.train.x))
        if schema is not None and isinstance(own, Mixed) and own.ties == "found":
            schema = schema.with_ties(torch.as_tensor(data.train.x))
        c = data.train.c if settings.conditional else None
        if scaling.marginals is None:
            batches = as_batches(data.train.x, c, scaling)
        else:
            spread = scaling.to_net(torch.as_tensor(data.train.x), generator=stream("cpu", settings.seed, "spread"))
            batches = as_batches(spread, c)
        _warn_of_share(len(batches), settings)
        batches, rest = hold_out(batches, settings, groups=data.train.groups)
        settings = settings.resolve(len(batches), data.event_shape)
        facts = Facts(
            kind=data.kind,
            event_shape=data.event_shape,
            rows=len(batches),
            fingerprint=fingerprint,
            columns=data.columns,
            classes=data.classes,
            data_variance=mean_variance(batches, levels),
            scored_on_training=rest is None,
            gaps=None if schema is None else _gaps_of(data),
        )
        if settings.adversary is not None:
            made_for = (settings, facts.data_variance)
            vae = fit_generator(data, scaling, batches, rest, *made_for, hooks=hooks, states=states, resume=resume)
            return Trained(settings, facts, scaling, vae, {PRIOR: PriorDensity(vae.prior)})
        conditioning = data.conditioning if settings.conditional else None
        shape = () if conditioning is None else conditioning.shape
        check_densities(settings.densities, shape)

        sizes = (data.event_shape, facts.data_variance, shape, levels)
        gaps = facts.gaps or ()
        first = FirstStage(batches, rest, *sizes, ordered=ordered, gaps=gaps, hooks=hooks, states=states, resume=resume)
        kept = first.grown(settings) if settings.latent_dim == "auto" else first.trained(settings)
        settings, vae, gain, facts.stage, facts.trained_latent_dim, laws, facts.lossless, _ = kept
        if kept.lossless and schema is not None:  # codes are those of whole rows
            batches = filled(vae, batches, laws, settings.seed)
            rest = None if rest is None else filled(vae, rest, laws, settings.seed)
        facts.gaussian_gain = None if gain is None else gain._replace(rows=())
        facts.mixture = None if gain is None else mixture_beside(vae, batches, rest, seed=settings.seed, laws=laws)
        if gain is not None and gain.doubt:
            warnings.warn(gain.doubt, VaelabWarning, stacklevel=3)
        _warn_of_blank(vae, settings, facts.data_variance)
        trained = Trained(settings, facts, scaling, vae, {"prior": PriorDensity(vae.prior)}, conditioning, schema)
        facts.variance_ratios = tuple(variance_ratios_of(vae, batches).mean(0).tolist())
        if trained.unused:
            warnings.warn(trained.unused, VaelabWarning, stacklevel=3)
        if settings.densities:
            codes, unseen = Codes.of(vae, batches), None if rest is None else Codes.of(vae, rest)
            rows = None if rest is None else (batches, rest)
            fit_densities(trained, codes, unseen, rows, hooks=hooks, states=states, resume=resume)
        if kept.lossless and schema is not None:  # of rows with their gaps, not of what filled them
            trained.densities |= laws
        return trained


def schema_of(data: Dataset, settings: Settings) -> Schema | None:
    """Return what the columns of a mixed table hold; None for other data.

    Raises
    ------
    InputError
        There are categories or missing entries, and the likelihood has no place for them.
    """
    if settings.likelihood.takes == "columns":
        if data.kind != "table":
            raise InputError(f"likelihood='mixed' for {data.name}, which are images", "a table", "Leave it out.")
        schema = data.schema or Schema.of_numbers(data.event_shape[0], data.columns)
        if isinstance(settings.likelihood, Mixed):
            schema.check_choices(settings.likelihood.columns)
        return schema
    if data.schema is not None:
        chosen = [name for name, count in zip(data.schema.names, data.schema.levels, strict=True) if count]
        if chosen:
            shown = ", ".join(map(repr, chosen[:10])) + (" …" if len(chosen) > 10 else "")
            got = f"{data.name} with {len(chosen)} column(s) that hold no numbers, {shown}"
            got += f", for likelihood={settings.likelihood.kind!r}"
            raise InputError(got, "columns of numbers", f"Use {MIXED}.")
        check_finite(data.train.x, name=data.name, columns=data.columns, remedy=GAPS_REMEDY)
    return None


def _scores_of(data: Dataset, schema: Schema | None, likelihood: Likelihood, seed: int) -> tuple[bool, ...]:
    """Whether each column of a mixed table becomes normal scores."""
    if schema is None or not isinstance(likelihood, Mixed):
        return ()
    if likelihood.numbers != "chosen":
        return schema.scores(likelihood.numbers, likelihood.columns)
    both = [schema.scores(each, likelihood.columns) for each in ("standardised", "scores")]
    return better_scores(torch.as_tensor(data.train.x), schema.levels, both, seed)


def _gaps_of(data: Dataset) -> tuple[int, ...]:
    """Return the pattern of each column's gaps in the training rows."""
    return gap_patterns(torch.cat([block.isnan().cpu() for block in blocks(data.train.x)]))


def check_densities(densities: Sequence[Density], condition_shape: tuple[int, ...]) -> None:
    """Refuse, before anything is trained, densities that do not take such conditions or need what is not installed."""
    for law in densities:
        law_of(law).check(law, condition_shape)


def _warn_of_blank(vae: VAE, settings: Settings, data_variance: float) -> None:
    """Say where a γ per row and dimension has ended in the optimum that ignores z."""
    variance = vae.likelihood.variance
    likelihood = settings.likelihood
    if not isinstance(likelihood, WithVariance) or variance is None:
        return
    if likelihood.shape != "diag-d" or likelihood.variance.kind != "profiled":
        return
    error = float(variance.gamma.mean())
    if error > 0.9 * data_variance:
        warnings.warn(
            f"The decoder errs as much as the data vary ({error:.2g}, {data_variance:.2g}): it ignores z. "
            "Raise the likelihood's floor, or take shape='diag-i'.",
            VaelabWarning,
            stacklevel=3,
        )


def fit_densities(
    trained: Trained,
    codes: Codes,
    held_out: Codes | None,
    rows: tuple[ArrayBatches | MappedBatches, ArrayBatches | MappedBatches] | None = None,
    *,
    hooks: Sequence[Hook] = (),
    states: Path | None = None,
    resume: bool = False,
) -> None:
    """Fit every density that the settings name, and score all of them on held-out codes.

    Where codes are few, those that are fitted in closed form or by EM are fitted once more in the end, to all of them;
    where fewer than 100 are held out, five of such fits, each without a fifth of all codes, choose between these.
    Where the rows of both are given, decoded draws have the last word: see `DecodedDraws.nearer_than`.
    """
    settings, facts = trained.settings, trained.facts
    facts.code_variance = float(codes.moments()[1].square().mean())
    for law in ordered(settings.densities):
        fitted = fit_density(law, trained, codes, held_out, hooks=hooks, states=states, resume=resume)
        trained.densities[law.name] = fitted
    facts.code_scores, facts.best_density = compare_on_codes(trained.densities, held_out or codes, seed=settings.seed)
    few = len(codes) < FEW and isinstance(codes.c, Tensor | None)
    if few and held_out is not None and len(held_out) < _FEW_TO_CHOOSE:
        facts.best_density = _best_of_few(trained, codes, held_out)
    if rows is not None:
        likeliest, facts.best_density = facts.best_density, _nearest(trained, *rows)
        facts.nearer_than = None if facts.best_density == likeliest else likeliest
    if not few or held_out is None:
        return
    for law in ordered(settings.densities):
        if not law.gradient:
            trained.densities[law.name] = fit_density(law, trained, codes.joined(held_out), None)


def _best_of_few(trained: Trained, codes: Codes, held_out: Codes) -> str:
    """Choose as `compare_on_codes` does, but between laws without gradient, which are fitted soon, on all codes."""
    settings, everything = trained.settings, codes.joined(held_out)
    order = torch.randperm(len(everything), generator=stream("cpu", settings.seed, "folds"))
    parts: list[dict[str, Tensor]] = []
    for fold in order.to(codes.loc.device).chunk(_FOLDS):
        rest = order.to(fold)[~torch.isin(order.to(fold), fold)]
        fitted: dict[str, LatentDensity] = {PRIOR: trained.densities[PRIOR]}
        for law in ordered(settings.densities):
            if not law.gradient:
                fitted[law.name] = fit_density(law, trained, everything.subset(rest), None)
        parts.append(row_scores(fitted, everything.subset(fold), seed=settings.seed))
    best = simplest_of_best({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    others = {law.name: trained.densities[law.name] for law in ordered(settings.densities) if law.gradient}
    return compare_on_codes({best: trained.densities[best], **others}, held_out, seed=settings.seed).best


def _nearest(trained: Trained, kept: ArrayBatches | MappedBatches, unseen: ArrayBatches | MappedBatches) -> str:
    """Return the density to sample from, by decoded draws beside unseen rows; the likeliest where there are few."""
    likeliest = trained.facts.best_density
    if trained.settings.network.takes == "sequences" or len(unseen) < _FEWEST_ROWS:
        return likeliest
    try:
        draws = DecodedDraws(trained, kept, unseen, _DRAWS, trained.settings.seed)
    except InputError:  # too few rows have no gaps
        return likeliest
    return draws.nearer_than(likeliest, trained.densities)


def fit_density(
    law: Density,
    trained: Trained,
    codes: Codes,
    held_out: Codes | None,
    *,
    hooks: Sequence[Hook] = (),
    states: Path | None = None,
    resume: bool = False,
) -> LatentDensity:
    """Fit one density as the settings of a training say; the training is left as it is.

    Parameters
    ----------
    law
        Which, resolved.
    trained
        Whose settings, facts (the codes' variance) and conditioning it is for.
    codes
        To fit.
    held_out
        By which the weights of what is trained by gradient are chosen; None keeps the last ones.
    hooks, states, resume
        As for `train`.
    """

    def on_codes(model: T, length: FitSettings, stage: str) -> T:
        fit_stage(model, codes, held_out, trained.settings, length, stage, hooks, states, resume=resume)
        return model

    if not law.gradient:
        for hook in hooks:
            hook.note(f"fitting the {law.name} to the codes")
    return law_of(law).fit(law, codes, site_of(trained), on_codes)


def site_of(trained: Trained) -> Site:
    """Return what the densities of a training are for."""
    shape = () if trained.conditioning is None else trained.conditioning.shape
    return Site(trained.settings, trained.facts.code_variance, shape)


def hold_out(
    batches: ArrayBatches | MappedBatches, settings: Settings, *, groups: Tensor | None = None
) -> tuple[ArrayBatches | MappedBatches, ArrayBatches | MappedBatches | None]:
    """Set rows aside to compare densities and weights on, unless there are too few to spare.

    Parameters
    ----------
    batches
        All training rows.
    settings
        How many.
    groups
        (n,): rows of one group stay together, and about as many rows as asked for are set aside.
    """
    rows = held_out_rows(len(batches), settings)
    if groups is None:
        return split_rows(batches, rows / len(batches), seed=settings.seed) if rows else (batches, None)
    names = groups.unique()
    count = min(len(names) - 1, round(rows / len(groups) * len(names)))
    if count < 1:
        return batches, None
    chosen = names[torch.randperm(len(names), generator=stream("cpu", settings.seed, "groups"))[:count]]
    apart = torch.isin(groups, chosen)
    return batches.subset((~apart).nonzero().flatten()), batches.subset(apart.nonzero().flatten())


def _warn_of_share(n: int, settings: Settings) -> None:
    """Say where far fewer or more rows are set aside than the share that was asked for comes to."""
    share, rows = settings.held_out, held_out_rows(n, settings)
    if not share or n < _ENOUGH or (rows and rows <= 2 * share * n):
        return
    said = f"held_out={share:g} of {n:,} rows is {share * n:.2g} rows, "
    if rows:
        said += f"on which nothing can be chosen: {rows} are set aside. Use held_out={rows / n:.2g}, or 0 for none."
    else:
        said += "where 2 are needed: none is set aside, and what is best is judged on rows of the training. "
        said += f"Use held_out={2 / n:.1g} or more, or 0."
    warnings.warn(said, VaelabWarning, stacklevel=4)


def held_out_rows(n: int, settings: Settings) -> int:
    """Return how many of n training rows are set aside."""
    rows = min(round(settings.held_out * n), _MOST_HELD_OUT)
    if rows:  # on fewer nothing can be chosen
        rows = max(rows, min(_LEAST_HELD_OUT, n // 5))
    return rows if rows >= 2 and n - rows >= 2 else 0


def mean_variance(batches: Batches, levels: tuple[int, ...] = ()) -> float:
    """Mean over dimensions of the variance over rows, in the network's units; 1 where nothing varies.

    Categories and missing entries are left out.
    """
    n = min(len(batches), max(100, _MOST_FOR_VARIANCE // torch.Size(batches.event_shape).numel()))
    index = torch.linspace(0, len(batches) - 1, n).long()
    x: Tensor = batches.take(index)[0]
    if not levels:
        return float(x.double().flatten(1).var(0, correction=0).mean()) or 1.0
    numbers = x[:, torch.tensor(levels) == 0].double()
    return float((numbers - numbers.nanmean(0)).square().nanmean(0).nanmean().nan_to_num()) or 1.0
