"""The whole training: stage one, codes, latent densities, their comparison (Dai & Wipf 2019, section 4)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from vaelab.config import Density, Settings, build_second_stage, build_vae
from vaelab.data import ArrayBatches, Dataset, MappedBatches, Scaling, Schema, as_batches
from vaelab.data import split as split_rows
from vaelab.data.checks import GAPS_REMEDY, MIXED, check_finite
from vaelab.diagnostics.dimension import variance_ratios_of
from vaelab.errors import InputError, VaelabWarning
from vaelab.latent import (
    MIXTURES,
    Codes,
    LatentDensity,
    PriorDensity,
    SecondStage,
    build_flow,
    check_mixture,
    compare,
    fit_named_mixture,
)
from vaelab.latent.flow import require_zuko
from vaelab.model import VAE
from vaelab.runs.trained import Facts, Trained
from vaelab.training import Hook, fit, stream
from vaelab.types import Batches, Trainable

FIRST, SECOND, FLOW = "stage one", "stage two", "the flow"

FROM_SIMPLE_TO_COMPLEX: tuple[Density, ...] = (
    "gaussian",
    "mixture_10",
    "bayesian_mixture",
    "mixture",
    "mixture_100",
    "flow",
    "second_stage",
)
"""The order in which densities are preferred where their scores do not tell them apart."""

_MOST_HELD_OUT = 5_000
T = TypeVar("T", bound=Trainable)
_MOST_FOR_VARIANCE = 2_000_000  # numbers, of rows spread over the data


def train(
    data: Dataset,
    settings: Settings,
    *,
    hooks: Sequence[Hook] = (),
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
        Onlookers of both stages.
    states
        Folder for the training states, one file per stage; None keeps none.
    resume
        Go on from these.
    """
    fingerprint = data.fingerprint()  # as it came, by which a later run knows it again
    if settings.conditional:
        data = data.conditioned()
    schema = schema_of(data, settings)
    levels = () if schema is None else schema.levels
    scaling = Scaling.fit(data.train.x, data.kind, columns=data.columns, levels=levels or None)
    batches = as_batches(data.train.x, data.train.c if settings.conditional else None, scaling)
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
    )
    conditioning = data.conditioning if settings.conditional else None
    shape = () if conditioning is None else conditioning.shape
    check_densities(settings.densities, shape)
    vae = build_vae(settings, data.event_shape, data_variance=facts.data_variance, condition_shape=shape, levels=levels)
    _fit(vae, batches, rest, settings, FIRST, hooks, states, resume=resume)
    _warn_of_blank(vae, settings, facts.data_variance)
    trained = Trained(settings, facts, scaling, vae, {"prior": PriorDensity(vae.prior)}, conditioning, schema)
    facts.variance_ratios = tuple(variance_ratios_of(vae, batches).mean(0).tolist())
    if settings.densities:
        codes, unseen = Codes.of(vae, batches), None if rest is None else Codes.of(vae, rest)
        fit_densities(trained, codes, unseen, hooks=hooks, states=states, resume=resume)
    return trained


def schema_of(data: Dataset, settings: Settings) -> Schema | None:
    """Return what the columns of a mixed table hold; None for other data.

    Raises
    ------
    InputError
        There are categories or missing entries, and the likelihood has no place for them.
    """
    if settings.likelihood == "mixed":
        if data.kind != "table":
            raise InputError(f"likelihood='mixed' for {data.name}, which are images", "a table", "Leave it out.")
        return data.schema or Schema.of_numbers(data.event_shape[0], data.columns)
    if data.schema is not None:
        chosen = [name for name, count in zip(data.schema.names, data.schema.levels, strict=True) if count]
        if chosen:
            shown = ", ".join(map(repr, chosen[:10])) + (" …" if len(chosen) > 10 else "")
            got = f"{data.name} with {len(chosen)} column(s) that hold no numbers, {shown}"
            got += f", for likelihood={settings.likelihood!r}"
            raise InputError(got, "columns of numbers", f"Use {MIXED}.")
        check_finite(data.train.x, name=data.name, columns=data.columns, remedy=GAPS_REMEDY)
    return None


def check_densities(densities: Sequence[Density], condition_shape: tuple[int, ...]) -> None:
    """Refuse, before anything is trained, densities that do not take such conditions or need what is not installed."""
    mixtures = [name for name in densities if name in MIXTURES]
    if len(condition_shape) > 1 and mixtures:
        remedy = "Use densities=('second_stage',), or 'flow'."
        raise InputError(f"densities {', '.join(mixtures)} under conditions that are sequences", "others", remedy)
    for name in mixtures:
        check_mixture(name, condition_shape)
    if "flow" in densities:
        require_zuko()


def _fit(
    model: Trainable,
    batches: Batches,
    held_out: Batches | None,
    settings: Settings,
    stage: str,
    hooks: Sequence[Hook],
    states: Path | None,
    *,
    resume: bool,
) -> None:
    """Train one stage, then set a profiled γ from all its training data."""
    length = settings.fit_settings("first" if stage == FIRST else "second")
    if held_out is None:
        if length.schedule == "plateau":
            text = f"{stage}: too few rows to hold any out, which schedule='plateau' watches; the learning rate stays."
            warnings.warn(text, VaelabWarning, stacklevel=4)
            length = length.model_copy(update={"schedule": "constant", "halve_every": None})
        length = length.model_copy(update={"keep_best": False})
    fit(
        model,
        batches,
        length,
        held_out=held_out,
        hooks=hooks,
        stage=stage,
        state_file=None if states is None else states / f"{stage.replace(' ', '-')}.safetensors",
        resume=resume,
    )
    if not isinstance(model, VAE):
        return
    device = next(model.parameters()).device
    model.calibrate(batches.to(device), generator=stream(device, settings.seed, stage, "calibrate"))
    variance = model.likelihood.variance
    if variance is not None and variance.at_floor:
        warnings.warn(
            f"{stage}: the decoder variance reached its floor, {variance.floor:.2g} in the network's "
            "units: the data look noiseless. Likelihoods are then set by gamma_floor, not by the data.",
            VaelabWarning,
            stacklevel=4,
        )


def _warn_of_blank(vae: VAE, settings: Settings, data_variance: float) -> None:
    """Say where a γ per row and dimension has ended in the optimum that ignores z."""
    variance = vae.likelihood.variance
    if settings.variance_shape != "diag-d" or settings.variance != "profiled" or variance is None:
        return
    error = float(variance.gamma.mean())
    if error > 0.9 * data_variance:
        warnings.warn(
            f"The decoder errs as much as the data vary ({error:.2g}, {data_variance:.2g}): it ignores z. "
            "Raise gamma_floor, or take variance_shape='diag-i'.",
            VaelabWarning,
            stacklevel=3,
        )


def fit_densities(
    trained: Trained,
    codes: Codes,
    held_out: Codes | None,
    *,
    hooks: Sequence[Hook] = (),
    states: Path | None = None,
    resume: bool = False,
) -> None:
    """Fit every density that the settings name, and score all of them on held-out codes."""
    settings, facts = trained.settings, trained.facts
    facts.code_variance = float(codes.moments()[1].square().mean())
    for name in FROM_SIMPLE_TO_COMPLEX:
        if name in settings.densities:
            found = fit_density(name, trained, codes, held_out, hooks=hooks, states=states, resume=resume)
            trained.densities[name] = found
    facts.code_scores, facts.best_density = compare(trained.densities, held_out or codes, seed=settings.seed)


def fit_density(
    name: Density,
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
    name
        Which.
    trained
        Whose settings, facts (the codes' variance) and conditioning it is for.
    codes
        To fit.
    held_out
        By which the weights of a flow or a second stage are chosen; None keeps the last ones.
    hooks, states, resume
        As for `train`.
    """
    settings = trained.settings
    shape = () if trained.conditioning is None else trained.conditioning.shape

    def trained_on_codes(model: T, stage: str) -> T:
        _fit(model, codes, held_out, settings, stage, hooks, states, resume=resume)
        return model

    if name == "second_stage":
        second = build_second_stage(settings, code_variance=trained.facts.code_variance, condition_shape=shape)
        return SecondStage(trained_on_codes(second, SECOND))
    if name == "flow":
        mean, std = codes.moments()
        flow = build_flow(settings.latent_dim, condition_shape=shape, loc=mean, scale=std, seed=settings.seed)
        return trained_on_codes(flow, FLOW)
    for hook in hooks:
        hook.note(f"fitting the {name} to the codes")
    return fit_named_mixture(
        codes, name, components=settings.components, covariance=settings.covariance, seed=settings.seed
    )


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


def held_out_rows(n: int, settings: Settings) -> int:
    """Return how many of n training rows are set aside."""
    rows = min(round(settings.held_out * n), _MOST_HELD_OUT)
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
