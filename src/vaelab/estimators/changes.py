"""Changes of settings: those that a training can have, and the defaults of what they leave no place for."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import get_args

from pydantic import ValidationError

from vaelab.config import Settings, VarianceShape
from vaelab.config.settings import explain
from vaelab.errors import InputError
from vaelab.training import FitSettings

OF_GAMMA = ("variance", "variance_shape", "gamma", "gamma_lr_scale")
"""Settings of the decoder variance."""
_WITH_GAMMA = ("gaussian", "mixed")  # likelihoods


def check_order(changes: object, y: object) -> None:
    """Refuse changes and conditions that have changed places."""
    remedy = "Call retrain(model, X, changes, y)."
    if not isinstance(changes, Mapping):
        raise InputError(
            f"changes of type {type(changes).__name__}", "names and values, such as {'epochs': 20}", remedy
        )
    if isinstance(y, Mapping):
        raise InputError(f"y of type {type(y).__name__}", "a condition for every row, or none", remedy)


def completed(changes: Mapping[str, object], current: Mapping[str, object]) -> dict[str, object]:
    """Return the changes, and defaults of what they leave no place for."""
    _check(changes, current)
    default, wanted = Settings().model_dump(), dict(changes)
    reset: list[str] = []
    if changes.get("likelihood", "gaussian") not in _WITH_GAMMA:
        reset += OF_GAMMA
    elif any(name in changes for name in OF_GAMMA):
        if current.get("likelihood", "gaussian") not in _WITH_GAMMA:
            reset += ["likelihood", "logistic_components"]
        if current.get("variance") == "fixed" and changes.get("variance_shape", "iso-i") != "iso-i":
            wanted.setdefault("variance", "profiled")
    if "variance" in wanted:
        kept = {"profiled": "variance_shape", "learned": "gamma variance_shape gamma_lr_scale", "fixed": "gamma"}
        own = kept.get(str(wanted["variance"]), "")
        reset += [name for name in OF_GAMMA[1:] if name not in own.split()]
    if changes.get("keep_best") and not current.get("held_out", True):
        reset.append("held_out")  # by which the best weights are told
    return {name: default[name] for name in reset if name in current} | wanted


def _check(changes: Mapping[str, object], known: Collection[str]) -> None:
    """Refuse names that are none."""
    unknown = [name for name in changes if name not in known]
    if unknown:
        close = [one for name in unknown for one in difflib.get_close_matches(name, known, n=1)]
        remedy = f"Did you mean {', '.join(close)}?" if close else ""
        raise InputError(f"changes of {', '.join(unknown)}", f"some of {', '.join(sorted(known))}", remedy)


def check_further(changes: Mapping[str, object]) -> None:
    """Refuse changes of what networks that are there already cannot have."""
    known = [*FitSettings.model_fields, "variance", "variance_shape"]
    if "latent_dim" in changes:
        got = "a change of latent_dim, for networks that are trained on"
        remedy = f"Train a new model: vaelab.GaussianVAE(latent_dim={changes['latent_dim']!r}).fit(X)."
        raise InputError(got, f"some of {', '.join(sorted(known))}", remedy)
    _check(changes, known)
    if changes.get("variance", "profiled") != "profiled":
        raise InputError(f"variance={changes['variance']!r}", "'profiled'", "Build a VAE with another and pass it.")
    if changes.get("variance_shape", "iso-i") not in get_args(VarianceShape):
        raise InputError(
            f"variance_shape={changes['variance_shape']!r}", f"one of {', '.join(get_args(VarianceShape))}"
        )


def fit_settings(values: Mapping[str, object]) -> FitSettings:
    """Return checked settings of a training."""
    try:
        return FitSettings.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, FitSettings) from None
