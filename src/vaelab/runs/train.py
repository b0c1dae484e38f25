"""The whole training: stage one, codes, latent densities, their comparison (Dai & Wipf 2019, section 4)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vaelab.config import Density, Settings, build_second_stage, build_vae
from vaelab.data import Dataset, Scaling, as_batches
from vaelab.data import split as split_rows
from vaelab.diagnostics.measures import variance_ratios
from vaelab.errors import VaelabWarning
from vaelab.latent import Codes, LatentDensity, Mixture, PriorDensity, SecondStage, compare
from vaelab.model import VAE, Gaussian
from vaelab.runs.trained import Facts, Trained
from vaelab.training import Hook, fit, stream
from vaelab.types import Batches

FIRST, SECOND = "stage one", "stage two"

_FROM_SIMPLE_TO_COMPLEX: tuple[Density, ...] = ("gaussian", "mixture", "second_stage")
_MOST_HELD_OUT = 5_000
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
    scaling = Scaling.fit(data.train.x, data.kind, columns=data.columns)
    batches, rest = _held_out(data, scaling, settings)
    settings = settings.resolve(len(batches), data.event_shape)
    facts = Facts(
        kind=data.kind,
        event_shape=data.event_shape,
        rows=len(batches),
        fingerprint=data.fingerprint(),
        columns=data.columns,
        classes=data.classes,
        data_variance=_mean_variance(batches),
        scored_on_training=rest is None,
    )
    vae = build_vae(settings, data.event_shape, data_variance=facts.data_variance)
    _fit(vae, batches, rest, settings, FIRST, hooks, states, resume=resume)
    trained = Trained(settings, facts, scaling, vae, {"prior": PriorDensity(vae.prior)})
    codes = Codes.of(vae, batches)
    facts.variance_ratios = tuple(variance_ratios(codes).tolist())
    if settings.densities:
        _fit_densities(trained, codes, None if rest is None else Codes.of(vae, rest), hooks, states, resume=resume)
    return trained


def _fit(
    vae: VAE,
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
        length = length.model_copy(update={"keep_best": False})
    fit(
        vae,
        batches,
        length,
        held_out=held_out,
        hooks=hooks,
        stage=stage,
        state_file=None if states is None else states / f"{stage.replace(' ', '-')}.safetensors",
        resume=resume,
    )
    device = next(vae.parameters()).device
    vae.calibrate(batches.to(device), generator=stream(device, settings.seed, stage, "calibrate"))
    if isinstance(vae.likelihood, Gaussian) and vae.likelihood.variance.at_floor:
        warnings.warn(
            f"{stage}: the decoder variance reached its floor, {vae.likelihood.variance.floor:.2g} in the network's "
            "units: the data look noiseless. Likelihoods are then set by gamma_floor, not by the data.",
            VaelabWarning,
            stacklevel=4,
        )


def _fit_densities(
    trained: Trained,
    codes: Codes,
    held_out: Codes | None,
    hooks: Sequence[Hook],
    states: Path | None,
    *,
    resume: bool,
) -> None:
    """Fit every density that the settings name, and score all of them on held-out codes."""
    settings, facts = trained.settings, trained.facts
    facts.code_variance = float((codes.loc.var(0) + codes.scale.square().mean(0)).mean()) if len(codes) > 1 else 1.0
    for name in _FROM_SIMPLE_TO_COMPLEX:
        if name not in settings.densities:
            continue
        density: LatentDensity
        if name == "second_stage":
            second = build_second_stage(settings, code_variance=facts.code_variance)
            _fit(second, codes, held_out, settings, SECOND, hooks, states, resume=resume)
            density = SecondStage(second)
        else:
            for hook in hooks:
                hook.note(f"fitting the {name} to the codes")
            density = _mixture(codes, settings, single=name == "gaussian")
        trained.densities[name] = density
    facts.code_scores, facts.best_density = compare(trained.densities, held_out or codes, seed=settings.seed)


def _mixture(codes: Codes, settings: Settings, *, single: bool) -> Mixture:
    if single:
        return Mixture.fit(codes, components=1, seed=settings.seed)
    return Mixture.select(codes, components=settings.components, covariance=settings.covariance, seed=settings.seed)


def _held_out(data: Dataset, scaling: Scaling, settings: Settings) -> tuple[Batches, Batches | None]:
    """Set rows aside to compare densities and weights on, unless there are too few to spare."""
    batches = as_batches(data.train.x, None, scaling)
    rows = held_out_rows(len(batches), settings)
    return split_rows(batches, rows / len(batches), seed=settings.seed) if rows else (batches, None)


def held_out_rows(n: int, settings: Settings) -> int:
    """Return how many of n training rows are set aside."""
    rows = min(round(settings.held_out * n), _MOST_HELD_OUT)
    return rows if rows >= 2 and n - rows >= 2 else 0


def _mean_variance(batches: Batches) -> float:
    """Mean over dimensions of the variance over rows, in the network's units; 1 where nothing varies."""
    n = min(len(batches), max(100, _MOST_FOR_VARIANCE // torch.Size(batches.event_shape).numel()))
    index = torch.linspace(0, len(batches) - 1, n).long()
    x: Tensor = batches.take(index)[0]
    return float(x.double().flatten(1).var(0, correction=0).mean()) or 1.0
