"""From any autoencoder to a `VAE`: recognise it, try it on two rows, assemble it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from vaelab.diagnostics.adapters.networks import ForeignDecoder, ForeignEncoder, owner_of
from vaelab.diagnostics.adapters.of_diffusers import of_diffusers
from vaelab.diagnostics.adapters.of_modules import of_modules
from vaelab.diagnostics.adapters.of_pythae import of_pythae
from vaelab.diagnostics.adapters.of_sklearn import of_sklearn
from vaelab.diagnostics.adapters.reading import REMEDY, PosteriorReading, read_mean, read_posterior
from vaelab.diagnostics.adapters.wrapping import LikelihoodName, Wrapped
from vaelab.errors import InputError
from vaelab.model import KL, VAE, Bernoulli, FixedVariance, Gaussian

T = TypeVar("T")

_FAMILIES: tuple[Callable[[object], Wrapped | None], ...] = (of_pythae, of_diffusers, of_modules, of_sklearn)
_FEW = 8  # rows that units are proved on
_BETTER = 0.5  # largest share of the squared error, and of the variance, that the right units may leave
_SAME = 1e-3  # of the largest number: what order of summation and tuned kernels may change


class Adapted(NamedTuple):
    """An autoencoder of another program as a `VAE` of this one.

    Attributes
    ----------
    vae
        In evaluation mode, with the weights of the original: no copy. Codes are flat.
    family
        What it came as, with an article.
    gamma_known
        Whether the loss is known to stand for this likelihood. If not, it is a Gaussian one of variance 1.
    loss_read
        Whether that was read off the program, so that nobody can have said it wrongly.
    """

    vae: VAE
    family: str
    gamma_known: bool
    loss_read: bool = False


def adapt(model: object, x: Tensor, *, gamma: float | None = None, likelihood: LikelihoodName | None = None) -> Adapted:
    """Make a `VAE` of any autoencoder.

    Taken are what `vaelab.wrap` returns, models of pythae and of diffusers, a `torch.nn.Module` with ``encode`` and
    ``decode`` (or with modules ``encoder`` and ``decoder``), estimators in the manner of scikit-learn with
    ``transform`` and ``inverse_transform``, and an `MLPRegressor` that was fitted to return its input. The prior is
    N(0, I), and a posterior without spread is an autoencoder's: it has no KL. Models without a declared loss get a
    Gaussian likelihood of variance 1.

    Parameters
    ----------
    model
        Put into evaluation mode; its weights are left alone. A `VAE` of this library is returned itself.
    x
        (n, *event) rows in the units that the model takes, 2 at least.
    gamma
        The decoder variance that the loss stands for, squared units of x; see `vaelab.wrap`. None for what the family
        says.
    likelihood
        None for what the family says.

    Raises
    ------
    InputError
        The model is of no known kind, fails on these rows, is random in evaluation mode, mixes rows, or returns
        something that cannot be read; or `gamma` is given to a model that has its own.
    """
    if isinstance(model, VAE):
        if gamma is not None or likelihood is not None:
            got = f"gamma={gamma} and likelihood={likelihood} for a vaelab VAE, which has its own"
            raise InputError(got, "neither", "Build another VAE with that likelihood.")
        return Adapted(model.eval(), "a vaelab VAE", True)
    if x.ndim < 2 or len(x) < 2 or not x.is_floating_point() or not bool(x[:2].isfinite().all()):
        raise InputError(
            f"rows of shape {tuple(x.shape)} and {x.dtype}", "(n, *event), 2 finite rows of floats or more"
        )
    wrapped = model if isinstance(model, Wrapped) else _recognised(model)
    _check_units(wrapped, x[:_FEW])
    said = isinstance(model, Wrapped) or gamma is not None or likelihood is not None
    wrapped = _overridden(wrapped, gamma, likelihood)
    if wrapped.likelihood == "bernoulli" and not _within(x):
        raise InputError("rows beyond [0, 1] for a Bernoulli likelihood", "rows in [0, 1]", "Use a Gaussian one.")
    adapted = _assembled(wrapped, x[:2].detach())
    return adapted._replace(loss_read=adapted.gamma_known and not said)


def precision_of(model: object, x: Tensor) -> torch.dtype:
    """Return the type of numbers in which a foreign model is to get its rows: its own, where it has one.

    Functions of NumPy arrays get rows as they are. Where no weights are seen, as behind a lambda, it is float32 if the
    function takes that.

    Raises
    ------
    InputError
        The model is of no known kind.
    """
    wrapped = model if isinstance(model, Wrapped) else _recognised(model)
    if wrapped.arrays:
        return x.dtype
    owner = owner_of(wrapped.encode)
    weights = () if owner is None else owner.parameters()
    own = next((weight.dtype for weight in weights if weight.is_floating_point()), None)
    if own is not None or x.dtype != torch.float64:
        return torch.float64 if own == torch.float64 else torch.float32
    try:
        with torch.no_grad():
            wrapped.encode(x[:2].float())
    except Exception:  # said by `adapt`, if it fails for other reasons too
        return x.dtype
    return torch.float32


@torch.no_grad()
def _check_units(wrapped: Wrapped, x: Tensor) -> None:
    """Refuse rows in [0, 1] for a family that was trained on others, where these are rebuilt well, and far better.

    Raises
    ------
    InputError
        With the map from the one to the other.
    """
    if wrapped.takes is None or float(x.min()) < 0 or float(x.max()) > 1:
        return
    low, high = wrapped.takes
    proper = _error(wrapped, low + (high - low) * x) / (high - low) ** 2
    # a model without training rebuilds neither
    if proper < _BETTER * min(_error(wrapped, x), float((x - x.mean(0)).square().mean())):
        got = f"rows from 0 to 1, for {wrapped.name}, which rebuilds them better from {low:g} to {high:g}"
        remedy = f"Pass {high - low:g} * X - {-low:g} (--range pm1)." if low < 0 else ""
        raise InputError(got, "the units of its training", remedy)


def _error(wrapped: Wrapped, x: Tensor) -> float:
    """Mean squared error of reconstructions; infinite where there are none, as `adapt` says later."""
    owners = [owner for owner in (owner_of(wrapped.encode), owner_of(wrapped.decode)) if owner is not None]
    for owner in owners:
        owner.eval()
    weight = next((weight for owner in owners for weight in owner.parameters()), x)
    try:
        rows = x.to(weight)
        rebuilt = read_mean(wrapped.decode(read_posterior(wrapped.encode(rows), wrapped.variance).mean))
        return float((rebuilt.reshape(rows.shape) - rows).square().mean())
    except Exception:
        return math.inf


def _recognised(model: object) -> Wrapped:
    for family in _FAMILIES:
        found = family(model)
        if found is not None:
            return found
    raise InputError(
        f"a model of type {type(model).__name__}",
        "a VAE, a model of pythae or diffusers, a module with encode and decode, or an estimator with transform and "
        "inverse_transform",
        REMEDY,
    )


def _overridden(wrapped: Wrapped, gamma: float | None, likelihood: LikelihoodName | None) -> Wrapped:
    """Let what the caller says stand in the place of what the family says."""
    if likelihood is not None and likelihood != wrapped.likelihood:
        wrapped = replace(wrapped, likelihood=likelihood, gamma=None, kl_weight=1.0)
    return wrapped if gamma is None else replace(wrapped, gamma=gamma)


@torch.no_grad()
def _assembled(wrapped: Wrapped, x: Tensor) -> Adapted:
    """Build the VAE, and try it on two rows."""
    owners = [owner for owner in (owner_of(wrapped.encode), owner_of(wrapped.decode)) if owner is not None]
    for owner in owners:
        owner.eval()
    places = (weight.device for owner in owners for weight in owner.parameters())
    x = x.to(next(places, x.device))
    bernoulli = wrapped.likelihood == "bernoulli"
    encoder = ForeignEncoder(wrapped.encode, x, variance=wrapped.variance, arrays=wrapped.arrays)
    reading = _tried("encode", lambda: _encoded(encoder, x), x, wrapped)
    posterior = reading.posterior
    encoder.out_features = reading.parameters.shape[1]
    decoder = ForeignDecoder(wrapped.decode, x, codes=reading.mean, arrays=wrapped.arrays, logits=bernoulli)
    z = reading.mean.reshape(len(x), -1)
    means = _tried("decode", lambda: _decoded(decoder, z), reading.mean, wrapped)
    if bernoulli and not _within(means):
        got = f"a decoder with outputs from {float(means.min()):.3g} to {float(means.max()):.3g}"
        raise InputError(got, "probabilities, for a Bernoulli likelihood", "Apply a sigmoid in decode.")
    decoder.choose_derivatives(z.to(x))
    gamma = 1.0 if wrapped.gamma is None else wrapped.gamma
    vae = VAE(
        encoder,
        decoder,
        latent_dim=decoder.latent_dim,
        posterior=posterior,
        likelihood=Bernoulli() if bernoulli else Gaussian(FixedVariance(gamma)).to(x),
        regularizers=[] if posterior.degenerate else [KL(wrapped.kl_weight)],
    )
    return Adapted(vae.eval(), wrapped.name, bernoulli or wrapped.gamma is not None)


def _tried(role: str, call: Callable[[], T], given: Tensor, wrapped: Wrapped) -> T:
    """Call a foreign function; whatever it raises becomes a message with a remedy."""
    try:
        return call()
    except InputError:
        raise
    except Exception as error:
        got = f"{wrapped.name} whose {role} fails on {tuple(given.shape)}: {type(error).__name__}: {error}"
        kind = "" if wrapped.arrays else " Functions of NumPy arrays are wrapped with arrays=True."
        raise InputError(got, f"a {role} for these rows", f"Pass rows as in its training.{kind} {REMEDY}") from error


def _encoded(encoder: ForeignEncoder, x: Tensor) -> PosteriorReading:
    reading = encoder.read(x)
    if reading.mean.ndim < 1 or len(reading.mean) != len(x):
        raise InputError(f"codes of shape {tuple(reading.mean.shape)} for {len(x)} rows", "one code per row", REMEDY)
    _check_function("encode", lambda rows: encoder.read(rows).parameters, x, reading.parameters)
    return reading


def _decoded(decoder: ForeignDecoder, z: Tensor) -> Tensor:
    means = decoder.means(z)
    _check_function("decode", decoder.means, z, means)
    return means


def _check_function(role: str, call: Callable[[Tensor], Tensor], rows: Tensor, found: Tensor) -> None:
    """Check two rows: finite, the same when asked again, and the first the same whatever the second is."""
    if found.is_complex():
        raise InputError(f"a {role} with complex numbers", "real ones", REMEDY)
    if not bool(found.isfinite().all()):
        raise InputError(f"a {role} with infinite or undefined numbers", "finite ones", "Check the units of the rows.")
    if not _same(call(rows), found):
        got, wanted = f"a {role} that gives something else every time", "a function"
        raise InputError(got, wanted, "Call model.eval(), or give a function of the mean.")
    if not _same(call(rows[[0, 0]])[0], found[0]):
        got = f"a {role} whose first row depends on the second"
        raise InputError(got, "rows that do not mix", "Call model.eval(), or take batch statistics out.")


def _same(one: Tensor, other: Tensor) -> bool:
    share = max(_SAME, 10 * torch.finfo(other.dtype).eps) if other.is_floating_point() else _SAME
    return bool((one - other).abs().max() <= share * max(1e-6, float(other.abs().max())))


def _within(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())
