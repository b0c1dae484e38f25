"""What mends a trained model: a decoder variance that fits its errors, or the same training with other settings."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args, overload

import torch
from sklearn.base import clone
from torch import Tensor

from vaelab import runs
from vaelab.data import Dataset
from vaelab.diagnostics.row_means import Mean, Part, over_rows
from vaelab.errors import InputError
from vaelab.estimators.base import Estimator
from vaelab.estimators.saved import Rowwise
from vaelab.latent import PriorDensity
from vaelab.model import KL, VAE, Gaussian, ProfiledVariance, row_terms
from vaelab.runs.stages import hold_out
from vaelab.runs.trained import Trained
from vaelab.specs import FitSettings, Profiled
from vaelab.specs import Gaussian as GaussianSpec
from vaelab.specs.likelihoods import WithVariance
from vaelab.training import fit, stream
from vaelab.types import Batches
from vaelab.verbs.changes import changed, check_order, further
from vaelab.verbs.returned import returned
from vaelab.verbs.subject import Subject, left_as_it_is, read, subject_of

Shape = Literal["iso-i", "diag-i"]

_ROWS = 4_000  # that the shape is chosen on, and the gain measured
_FINE = 3e-4  # learning rate for weights that are trained already


@dataclass(frozen=True)
class Recalibrated:
    """A VAE with the decoder variance that its errors say.

    Attributes
    ----------
    vae
        Its networks are copies, in evaluation mode; of a foreign model its own, in the modes that they have there.
    shape
        ``"iso-i"``, one γ, or ``"diag-i"``, one per dimension.
    before, after
        γ, the mean over dimensions; `before` is None where nobody declared one.
    nats
        By which the mean log p(x | z) per row has risen, with its standard error; None without a `before`, or if the
        γ before was fitted to every row that it scored.
    rows
        That γ was set from.
    """

    vae: VAE = field(repr=False)
    shape: Shape
    before: float | None
    after: float
    nats: Mean | None
    rows: int

    def __str__(self) -> str:
        """Return what was and what is, in a line."""
        was = "" if self.before is None else f", before {self.before:.4g}"
        gain = "" if self.nats is None else f"; {self.nats} nats per row gained"
        return f"decoder variance {self.after:.4g} ({self.shape}) from {self.rows:,} rows{was}{gain}"


@overload
def recalibrate(
    model: Rowwise | Path | str, X: object = None, y: object = None, *, shape: Shape | Literal["auto"] = "auto"
) -> Rowwise: ...


@overload
def recalibrate(
    model: object, X: object = None, y: object = None, *, shape: Shape | Literal["auto"] = "auto"
) -> Any: ...


def recalibrate(model: object, X: object = None, y: object = None, *, shape: Shape | Literal["auto"] = "auto") -> Any:
    """Set the decoder variance γ to its maximum-likelihood value, the mean squared error; the weights stay.

    A γ that is too large for the errors of a model hides how well it reconstructs from its likelihoods, and smooths
    nothing any more once the weights are trained (Takida et al. 2022, eq. 9a). The KL and the codes are
    as before. A model that a wrong γ has trained badly needs `retrain`.

    Parameters
    ----------
    model
        A fitted estimator, the folder of a run, what `vaelab.runs.train` returns, a `VAE`, or a foreign autoencoder, as
        for `vaelab.diagnose`. It is left as it is.
    X, y
        Rows and conditions, best those of the training; None for a run's own.
    shape
        One γ or one per dimension. ``"auto"`` is ``"diag-i"`` where that gains clearly on rows that it was not set
        from, by more than two standard errors, else ``"iso-i"``.

    Returns
    -------
    estimator, Trained or Recalibrated
        For an estimator or a run an estimator, with the record as ``recalibrated_``; for a `Trained` another one; for a
        VAE or a foreign model the record, with the new VAE.

    Raises
    ------
    InputError
        The likelihood has no γ, the decoder emits it, or rows do not fit the model.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import GaussianVAE, recalibrate
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> model = GaussianVAE(2, network="mlp([16])", likelihood="gaussian(fixed)", epochs=5, random_state=0).fit(X)
    >>> model.gamma_, round(recalibrate(model, X, shape="iso-i").gamma_, 1)
    (1.0, 1.1)
    """
    if not isinstance(shape, str) or shape not in ("auto", "iso-i", "diag-i"):
        raise InputError(f"shape={shape!r}", "'auto', 'iso-i' or 'diag-i'")
    with left_as_it_is(model):
        subject = subject_of(model, X, y)
        record = _recalibrated(subject, shape)
    if subject.origin != "training":
        return record
    old = subject.trained
    densities = {**old.densities, "prior": PriorDensity(record.vae.prior)}
    likelihood = _spec_of(old).set_params(variance=Profiled(), shape=record.shape)
    settings = old.settings.model_copy(update={"likelihood": likelihood})
    trained = dataclasses.replace(old, settings=settings, vae=record.vae, densities=densities)
    return returned(model, trained, {"likelihood": likelihood}, recalibrated_=record)


def _recalibrated(subject: Subject, shape: Shape | Literal["auto"]) -> Recalibrated:
    """Copy the model, unless its networks are shared with a foreign one, and set γ from the rows."""
    old, batches = subject.trained.vae, subject.batches
    variance = old.likelihood.variance
    name = type(old.likelihood).__name__
    if variance is None:
        remedy = "Use vaelab.retrain(model, X, {'likelihood': 'gaussian'})."
        raise InputError(f"a likelihood without a variance, {name}", "a Gaussian one", remedy)
    if variance.outputs(1) != 1:
        remedy = "Use vaelab.retrain(model, X, {'likelihood': 'gaussian(shape=diag-i)'})."
        raise InputError("a decoder that emits its variance", "one variance for all rows", remedy)
    settings = subject.trained.settings
    floor = _spec_of(subject.trained).set_params(variance=Profiled()).least(subject.trained.facts.data_variance)
    base = old if subject.origin == "foreign" else copy.deepcopy(old).eval()
    if shape == "auto":
        shape = _shape_of(base, batches, floor, settings.seed)
    new = _with_profile(base, shape, floor)
    _calibrate(new, batches, settings.seed)
    found = new.likelihood.variance
    assert found is not None
    nats = None
    if subject.gamma_known and not variance.per_sample:
        nats = Mean.of(_scores(old, batches, settings.seed) - _scores(new, batches, settings.seed))
    before = float(variance.gamma.double().mean()) if subject.gamma_known else None
    return Recalibrated(new, shape, before, float(found.gamma.double().mean()), nats, len(batches))


def _spec_of(trained: Trained) -> WithVariance:
    """Return the settings of a training's Gaussian likelihood, with one variance for all rows."""
    likelihood = trained.settings.likelihood
    known = likelihood if isinstance(likelihood, WithVariance) else GaussianSpec()
    return known.set_params(variance=Profiled(), shape="iso-i") if known.shape.endswith("-d") else known


def _with_profile(vae: VAE, shape: Shape, floor: float) -> VAE:
    """Return the same networks, in evaluation mode, under a variance that is still to be set."""
    likelihood = copy.deepcopy(vae.likelihood)
    likelihood.variance = ProfiledVariance(diagonal=shape == "diag-i", floor=floor).to(next(vae.parameters()))
    return vae.replace(likelihood=likelihood).eval()


def _calibrate(vae: VAE, batches: Batches, seed: int) -> None:
    device = next(vae.parameters()).device
    vae.calibrate(batches.to(device), generator=stream(device, seed, "recalibrate"))


def _shape_of(vae: VAE, batches: Batches, floor: float, seed: int) -> Shape:
    """Choose one γ or one per dimension: each half of the rows is scored with what the other half says."""
    order = torch.randperm(len(batches), generator=stream("cpu", seed, "recalibrate", "halves"))[:_ROWS]
    halves = [Part(batches, rows.sort().values) for rows in order.chunk(2)]
    if len(order) < 4:
        return "iso-i"
    gains = []
    for own, other in (halves, halves[::-1]):
        scores = []
        for shape in get_args(Shape):
            new = _with_profile(vae, shape, floor)
            _calibrate(new, own, seed)
            scores.append(_scores(new, other, seed))
        gains.append(scores[0] - scores[1])
    gain = Mean.of(torch.cat(gains))
    return "diag-i" if gain.value > 2 * gain.error else "iso-i"


def _scores(vae: VAE, batches: Batches, seed: int) -> Tensor:
    """(n,) −log p(x | z) in nats, at one z ~ q(z | x) per row; rows and draws are the same for every model."""

    def measure(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        return row_terms(vae, x, c, noise[0]).distortion

    return over_rows(vae, batches, measure, rows=_ROWS, normals=1, seed=seed)


@overload
def retrain(
    model: Rowwise | Path | str, X: object = None, changes: Mapping[str, object] = ..., y: object = None
) -> Rowwise: ...


@overload
def retrain(model: object, X: object = None, changes: Mapping[str, object] = ..., y: object = None) -> Any: ...


def retrain(model: object, X: object = None, changes: Mapping[str, object] = {}, y: object = None) -> Any:
    """Train again, with some settings changed.

    Models of vaelab's are trained from the start, with their own settings and the changes. The networks of a foreign
    module, or of a bare `VAE`, are copied and trained on from where they are, a foreign one's towards the evidence
    lower bound with a profiled decoder variance.

    Parameters
    ----------
    model
        An estimator, the folder of a run, what `vaelab.runs.train` returns, a `VAE`, or a foreign `torch.nn.Module`, as
        for `vaelab.diagnose`. It is left as it is.
    X
        Rows to train on; None for a run's own.
    changes
        Name → value: arguments of the estimator, or settings of the run; ``training__weight_decay`` or
        ``likelihood__shape`` for those inside. For a VAE or a foreign module: fields of `vaelab.FitSettings`, and
        ``likelihood``, a Gaussian one, which gives a profiled decoder variance.
    y
        Conditions of the rows, for a conditional model.

    Returns
    -------
    estimator, Trained or VAE
        The same kind of model, a run as an estimator; for a foreign module the VAE that its copy has become, in
        evaluation mode.

    Raises
    ------
    InputError
        An unknown or contradictory change, no rows, or a foreign model without weights to train.
    """
    check_order(changes, y)
    if isinstance(model, Estimator):
        if X is None or isinstance(X, Dataset):
            raise InputError(f"X of type {type(X).__name__}, for an estimator", "rows and conditions, as in fit")
        return clone(model).set_params(**changes).fit(X, y)
    if isinstance(model, str | Path | Trained):
        return _again(model, X, y, changes)
    return _further(model, X, y, changes)


def _again(model: str | Path | Trained, X: object, y: object, changes: Mapping[str, object]) -> Rowwise | Trained:
    """Train a run again."""
    trained, data = read(model, X, y)
    return cast("Rowwise | Trained", returned(model, runs.train(data, changed(trained.settings, changes))))


def _further(model: object, X: object, y: object, changes: Mapping[str, object]) -> VAE:
    """Train a copy of a bare VAE or of a foreign module."""
    subject = subject_of(copy.deepcopy(model), X, y)
    vae, batches = subject.trained.vae, subject.batches
    if not any(p.requires_grad for p in vae.parameters()):
        remedy = "Wrap modules, not functions around them, and leave requires_grad on."
        raise InputError(f"{subject.family} without weights to train", "a torch module", remedy)
    if getattr(vae.decoder, "differences", False):
        raise InputError(f"{subject.family} whose decoder has no gradient", "one that torch can differentiate")
    old = subject.trained.settings
    settings, wanted = further(changes, FitSettings(epochs=old.training.epochs, lr=_FINE))
    if wanted is not None and not isinstance(vae.likelihood, Gaussian):
        got = f"a change of the variance, for a likelihood without one, {type(vae.likelihood).__name__}"
        raise InputError(got, "a Gaussian one", "Leave it out.")
    if (subject.origin == "foreign" or wanted is not None) and isinstance(vae.likelihood, Gaussian):
        vae = _profiled(vae, subject, wanted or GaussianSpec())
    if vae.likelihood.variance is not None:
        vae.likelihood.variance.forget_start()
    kept, unseen = hold_out(batches, subject.trained.settings)
    fit(vae, kept, settings, seed=old.seed, held_out=unseen)
    _calibrate(vae, kept, old.seed)
    return vae.eval()


def _profiled(vae: VAE, subject: Subject, wanted: GaussianSpec) -> VAE:
    """Return the same networks under a Gaussian of profiled variance, and a foreign one's KL with weight 1."""
    variance = vae.likelihood.variance
    if variance is not None and variance.outputs(1) != 1:
        remedy = "Leave likelihood out."
        raise InputError("a decoder that emits its variance", "one that emits means alone", remedy)
    floor, shape = wanted.least(subject.trained.facts.data_variance), wanted.shape
    likelihood = Gaussian(
        ProfiledVariance(diagonal=shape.startswith("diag"), per_sample=shape.endswith("-d"), floor=floor),
        link=cast("Gaussian", vae.likelihood).link,
    )
    profiled = vae.replace(likelihood=likelihood.to(next(vae.parameters())))
    return (
        profiled.replace(regularizers=[KL()])
        if subject.origin == "foreign" and not vae.posterior.degenerate
        else profiled
    )
