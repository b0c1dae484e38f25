"""The whole training: stage one, codes, latent densities, their comparison (Dai & Wipf 2019, section 4)."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from vaelab.data import ArrayBatches, Dataset, MappedBatches, Scaling, Schema, as_batches
from vaelab.data import split as split_rows
from vaelab.data.checks import GAPS_REMEDY, MIXED, check_finite
from vaelab.errors import InputError, VaelabWarning
from vaelab.latent import Codes, LatentDensity, PriorDensity, Site, compare_on_codes, law_of
from vaelab.model import VAE, variance_ratios_of
from vaelab.model.linear import begin_linear, best_linear_model, can_begin_linear
from vaelab.runs.baseline import Gain, gain_over_gaussian
from vaelab.runs.trained import Facts, Trained
from vaelab.specs import MLP, FitSettings, Mixed, Profiled, Settings, build_vae
from vaelab.specs import Gaussian as GaussianSpec
from vaelab.specs.densities import Density, ordered
from vaelab.specs.likelihoods import WithVariance
from vaelab.training import Hook, fit, stream
from vaelab.types import Batches, Trainable

FIRST, SECOND = "stage one", "stage two"
LINEAR, BELOW = "stage one from a linear model", "stage one from below"  # the same again from another start
_LOW = 0.01  # first γ of a training that is tried again, relative to the variance of the data

_MOST_HELD_OUT = 5_000
_MOST_FOR_LINEAR = 20_000  # rows
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

    Stage one is trained again from another start where unseen rows may prefer that.

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
    scores = isinstance(settings.likelihood, Mixed) and settings.likelihood.numbers == "scores"
    scaling = Scaling.fit(data.train.x, data.kind, columns=data.columns, levels=levels or None, scores=scores)
    c = data.train.c if settings.conditional else None
    if scaling.marginals is None:
        batches = as_batches(data.train.x, c, scaling)
    else:
        spread = scaling.to_net(torch.as_tensor(data.train.x), generator=stream("cpu", settings.seed, "spread"))
        batches = as_batches(spread, c)
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

    def first_stage(settings: Settings, stage: str) -> Iterator[tuple[VAE, Gain | None]]:
        """Train a VAE, of the same seed always, so that only the settings differ; a linear one is yielded before."""
        variance = facts.data_variance
        vae = build_vae(settings, data.event_shape, data_variance=variance, condition_shape=shape, levels=levels)
        if getattr(settings.network, "start", None) == "linear":
            _begin_linear(vae, batches, rest)
            yield copy.deepcopy(vae).eval(), gain_over_gaussian(vae.eval(), batches, rest, seed=settings.seed)
        _fit(vae, batches, rest, settings, settings.training, stage, hooks, states, resume=resume)
        yield vae, gain_over_gaussian(vae, batches, rest, seed=settings.seed)

    *linear, first = list(first_stage(settings, FIRST))
    vae, gain = first
    for stage, another in ((BELOW, _from_below), (LINEAR, _from_linear)):
        other = another(settings, vae, gain)
        if other is not None:
            *before, last = list(first_stage(other, stage))
            linear += before
            vae, gain = max((vae, gain), last, key=lambda each: -math.inf if each[1] is None else each[1].value)
    for simple, found in linear:  # what training cannot clearly better is better left
        if gain is not None and found is not None and not gain.clearly_above(found):
            vae, gain = simple, found
    facts.gaussian_gain = None if gain is None else gain._replace(rows=())
    if gain is not None and gain.doubt:
        warnings.warn(gain.doubt, VaelabWarning, stacklevel=3)
    _warn_of_blank(vae, settings, facts.data_variance)
    trained = Trained(settings, facts, scaling, vae, {"prior": PriorDensity(vae.prior)}, conditioning, schema)
    facts.variance_ratios = tuple(variance_ratios_of(vae, batches).mean(0).tolist())
    if settings.densities:
        codes, unseen = Codes.of(vae, batches), None if rest is None else Codes.of(vae, rest)
        fit_densities(trained, codes, unseen, hooks=hooks, states=states, resume=resume)
    return trained


def _from_linear(settings: Settings, vae: VAE, gain: Gain | None) -> Settings | None:
    """Return settings to train once more with, from a linear model, or None where that is of no use.

    Where a Gaussian is as good, or a γ per column has given columns up, a training from random weights has stopped
    short of what is linear in the rows.
    """
    network, likelihood = settings.network, settings.likelihood
    if gain is None or not isinstance(network, MLP) or network.start is not None or not can_begin_linear(vae):
        return None
    if not isinstance(likelihood, GaussianSpec) or not isinstance(likelihood.variance, Profiled):
        return None
    if likelihood.shape != "diag-i" and gain.value > 2 * gain.error:
        return None
    return settings.model_copy(update={"network": network.set_params(start="linear")})


def _from_below(settings: Settings, vae: VAE, gain: Gain | None) -> Settings | None:
    """Return settings with a γ that starts low, where training found nothing, or None.

    It leaves the saddle in which z is unused.
    """
    likelihood = settings.likelihood
    if gain is None or not isinstance(likelihood, GaussianSpec) or not isinstance(likelihood.variance, Profiled):
        return None
    if gain.value > 2 * gain.error or not gain.unused or likelihood.variance.start is not None:
        return None
    low = likelihood.set_params(variance=likelihood.variance.set_params(start=_LOW))
    return settings.model_copy(update={"likelihood": low})


def _begin_linear(vae: VAE, batches: Batches, rest: Batches | None) -> None:
    """Set the first weights to the linear model that unseen rows prefer.

    Raises
    ------
    InputError
        The networks cannot be affine, or the rows have conditions or gaps.
    """
    device = next(vae.parameters()).device
    (x, c), (unseen, _) = (
        each.take(torch.arange(min(len(each), _MOST_FOR_LINEAR), device=device)) for each in (batches, rest or batches)
    )
    most = can_begin_linear(vae)
    if c is not None or not most or not bool(x.isfinite().all()):
        raise InputError("start='linear' for such data or settings", "a table of numbers", "Leave start out.")
    variance = vae.likelihood.variance
    diagonal, floor = (False, 0.0) if variance is None else (variance.diagonal, variance.floor)
    begin_linear(vae, best_linear_model(x, unseen, most, diagonal=diagonal, floor=floor))


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
        return data.schema or Schema.of_numbers(data.event_shape[0], data.columns)
    if data.schema is not None:
        chosen = [name for name, count in zip(data.schema.names, data.schema.levels, strict=True) if count]
        if chosen:
            shown = ", ".join(map(repr, chosen[:10])) + (" …" if len(chosen) > 10 else "")
            got = f"{data.name} with {len(chosen)} column(s) that hold no numbers, {shown}"
            got += f", for likelihood={settings.likelihood.kind!r}"
            raise InputError(got, "columns of numbers", f"Use {MIXED}.")
        check_finite(data.train.x, name=data.name, columns=data.columns, remedy=GAPS_REMEDY)
    return None


def check_densities(densities: Sequence[Density], condition_shape: tuple[int, ...]) -> None:
    """Refuse, before anything is trained, densities that do not take such conditions or need what is not installed."""
    for law in densities:
        law_of(law).check(law, condition_shape)


def _fit(
    model: Trainable,
    batches: Batches,
    held_out: Batches | None,
    settings: Settings,
    length: FitSettings,
    stage: str,
    hooks: Sequence[Hook],
    states: Path | None,
    *,
    resume: bool,
) -> None:
    """Train one stage, then set a profiled γ, from rows that were set aside where there are any."""
    if held_out is None and length.schedule.kind == "plateau":
        text = f"{stage}: too few rows to hold any out, which schedule='plateau' watches; the learning rate stays."
        warnings.warn(text, VaelabWarning, stacklevel=4)
        length = length.set_params(schedule="constant")
    fit(
        model,
        batches,
        length,
        compute=settings.compute,
        seed=settings.seed,
        held_out=held_out,
        hooks=hooks,
        stage=stage,
        state_file=None if states is None else states / f"{stage.replace(' ', '-')}.safetensors",
        resume=resume,
    )
    if not isinstance(model, VAE):
        return
    device = next(model.parameters()).device
    model.calibrate(
        batches.to(device),
        unseen=None if held_out is None else held_out.to(device),
        generator=stream(device, settings.seed, stage, "calibrate"),
    )
    variance = model.likelihood.variance
    if variance is not None and variance.at_floor:
        warnings.warn(
            f"{stage}: the decoder variance reached its floor, {variance.floor:.2g} in the network's "
            "units: the data look noiseless. Likelihoods are then set by its floor, not by the data.",
            VaelabWarning,
            stacklevel=4,
        )


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
    *,
    hooks: Sequence[Hook] = (),
    states: Path | None = None,
    resume: bool = False,
) -> None:
    """Fit every density that the settings name, and score all of them on held-out codes."""
    settings, facts = trained.settings, trained.facts
    facts.code_variance = float(codes.moments()[1].square().mean())
    for law in ordered(settings.densities):
        fitted = fit_density(law, trained, codes, held_out, hooks=hooks, states=states, resume=resume)
        trained.densities[law.name] = fitted
    facts.code_scores, facts.best_density = compare_on_codes(trained.densities, held_out or codes, seed=settings.seed)


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
        By which the weights of a flow or a second stage are chosen; None keeps the last ones.
    hooks, states, resume
        As for `train`.
    """

    def on_codes(model: T, length: FitSettings, stage: str) -> T:
        _fit(model, codes, held_out, trained.settings, length, stage, hooks, states, resume=resume)
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
