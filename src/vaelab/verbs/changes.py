"""Changes of settings that a remedy is given."""

from __future__ import annotations

from collections.abc import Mapping

from vaelab.errors import InputError
from vaelab.spec import parse, unknown
from vaelab.specs import FitSettings, Gaussian, Likelihood, Profiled, Settings

_LENGTHS = ("epochs", "batch_size", "lr")  # may be named without the ``training__`` in front


def check_order(changes: object, y: object) -> None:
    """Refuse changes and conditions that have changed places."""
    remedy = "Call retrain(model, X, changes, y)."
    if not isinstance(changes, Mapping):
        raise InputError(
            f"changes of type {type(changes).__name__}", "names and values, such as {'epochs': 20}", remedy
        )
    if isinstance(y, Mapping):
        raise InputError(f"y of type {type(y).__name__}", "a condition for every row, or none", remedy)


def changed(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """Return settings with changes, named as arguments of estimators.

    Raises
    ------
    InputError
        An unknown name, or a contradiction.
    """
    return settings.set_params(**{f"training__{name}" if name in _LENGTHS else name: v for name, v in changes.items()})


def further(changes: Mapping[str, object], defaults: FitSettings) -> tuple[FitSettings, Gaussian | None]:
    """Return how networks that are there already are trained on, and the Gaussian that they are to have, if any.

    Raises
    ------
    InputError
        A change that they cannot have.
    """
    named = {name.removeprefix("training__"): value for name, value in changes.items()}
    wanted = named.pop("likelihood", None)
    known = [*FitSettings.model_fields, "likelihood"]
    if "latent_dim" in named:
        got = "a change of latent_dim, for networks that are trained on"
        remedy = f"Train a new model: vaelab.GaussianVAE(latent_dim={named['latent_dim']!r}).fit(X)."
        raise InputError(got, f"some of {', '.join(sorted(known))}", remedy)
    if wrong := [name for name in named if name not in known]:
        raise InputError(*unknown(wrong, known, of="a training of networks that are there"))
    settings = parse(FitSettings, {**defaults.get_params(deep=False), **named})
    if wanted is None:
        return settings, None
    likelihood = Likelihood.of(wanted)
    if not isinstance(likelihood, Gaussian) or not isinstance(likelihood.variance, Profiled):
        raise InputError(f"likelihood={wanted!r}", "a Gaussian of profiled variance", "Build a VAE with another one.")
    return settings, likelihood
