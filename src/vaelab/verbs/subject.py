"""What an analysis is given, whatever it came as: a model and rows, both in the network's units.

An estimator, a run's folder or what `vaelab.runs.train` returns are vaelab's own and bring their units, conditions and
densities along. A bare `VAE` and any foreign autoencoder take rows as they are; they become a `Trained` whose scaling
changes nothing and whose only density is the prior, so that everything which reads a training reads them as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vaelab import runs
from vaelab.data import ArrayBatches, Conditioning, Dataset, MappedBatches, Scaling, TestSplit, TrainSplit, check_array
from vaelab.data.cells import container_of
from vaelab.data.checks import is_frame, plain_rows
from vaelab.data.conditions import Column, is_one_hot
from vaelab.diagnostics.adapters import Wrapped, adapt, precision_of
from vaelab.diagnostics.adapters.networks import owner_of
from vaelab.errors import InputError
from vaelab.estimators.base import Estimator
from vaelab.estimators.sequence import SequenceVAE
from vaelab.latent import PriorDensity
from vaelab.model import (
    VAE,
    Bernoulli,
    FixedVariance,
    FullCovariance,
    Isotropic,
    LearnedVariance,
    Regularizer,
    no_encoder,
)
from vaelab.model.contexts import evaluating
from vaelab.runs import Facts, Trained
from vaelab.runs.stages import hold_out, mean_variance
from vaelab.specs import Condition, Fixed, Gaussian, Learned, Likelihood, Penalty, Posterior, Settings

_TRIED = 64  # rows that an adapter may look at


Origin = Literal["training", "module", "foreign"]
"""Who made a model: a training of vaelab's, somebody who composed a `VAE`, or another program."""


@dataclass(frozen=True)
class Subject:
    """A model and rows, in the network's units.

    Attributes
    ----------
    trained
        The model. Of one that no training of vaelab's made the scaling changes nothing, and the settings say no more
        than the latent dimensions, the posterior and the likelihood.
    origin
        Who made it.
    family
        What it came as, in words.
    gamma_known
        Whether the decoder variance is one that somebody declared or learned.
    loss_read
        Whether that of a foreign model was read off its program.
    batches
        Rows that it was trained on, or that were given, with their conditions.
    held_out
        Rows that it was not trained on; None where there are none.
    folder
        Of a run; None for what is in memory.
    labels
        (n,) int64 classes of the rows of `batches`; None where none are known.
    groups
        (n,) int64: rows of one group, such as the points of a sequence, belong together; None for independent rows.
    sections
        What a run folder of the model holds beside it: of its data, and of its estimator.
    """

    trained: Trained
    origin: Origin
    family: str
    gamma_known: bool
    batches: ArrayBatches | MappedBatches
    held_out: ArrayBatches | MappedBatches | None = None
    folder: Path | None = None
    labels: Tensor | None = None
    groups: Tensor | None = None
    sections: Mapping[str, Any] = field(default_factory=dict)
    loss_read: bool = False


def subject_of(
    model: object,
    X: object | None = None,
    y: object | None = None,
    *,
    held_out: object | None = None,
    gamma: float | None = None,
) -> Subject:
    """Bring any autoencoder and its rows to one form.

    Parameters
    ----------
    model
        A fitted estimator, what `vaelab.runs.train` returns, the folder of a run, a bare `VAE`, what `vaelab.enhance`
        returns, or what `vaelab.diagnostics.adapters.adapt` takes. It is left as it is.
    X
        Rows in the units that the model takes, or a `Dataset`, whose test rows are then the held-out ones. None, for a
        run, is its own data: the rows that its weights were trained on, and its test rows (or those that it set aside,
        where there is no test split).
    y
        n conditions in the form that the model was fitted with; of a bare VAE a tensor (n, *condition_shape).
    held_out
        Rows like X that the model was not trained on; a pair (rows, conditions) for a conditional model.
    gamma
        Decoder variance that the loss of a foreign model stands for, in its own units squared.

    Raises
    ------
    InputError
        The model is of no known kind, there are no rows, or rows, conditions and `gamma` do not fit the model.
    """
    known = getattr(model, "subject", None)
    if isinstance(known, Subject):  # of an enhancement
        return _described(known, X, y, held_out)
    trained = isinstance(model, str | Path | Trained | Estimator | SequenceVAE)
    if (trained or isinstance(model, VAE)) and gamma is not None:
        raise InputError(f"gamma={gamma}, for a model that has its own", "gamma for a foreign model", "Leave it out.")
    return _of_training(model, X, y, held_out) if trained else _of_networks(model, X, y, held_out, gamma)


def modules_of(model: object) -> Iterator[nn.Module]:
    """Yield the modules that a model, of any kind that `subject_of` takes, is or holds; of a folder there are none."""
    subject = getattr(model, "subject", None)
    known = subject.trained if isinstance(subject, Subject) else getattr(model, "trained_", model)
    if isinstance(known, nn.Module):
        yield known
    elif isinstance(known, Trained):
        yield from (known.vae, *known.densities.values())
    elif isinstance(known, Wrapped):
        yield from (owner for owner in map(owner_of, (known.encode, known.decode)) if owner is not None)


@contextmanager
def left_as_it_is(model: object) -> Iterator[None]:
    """Keep the modules of a model in evaluation mode, as adapters leave them, and give each its own mode back."""
    with evaluating(*modules_of(model)):
        yield


def _described(known: Subject, X: object | None, y: object | None, held_out: object | None) -> Subject:
    """Return the model that an enhancement was made of, with its densities; on its own rows, or on others."""
    if X is None:
        if held_out is not None:
            raise InputError("held_out without X", "both, or neither", "Pass X.")
        return known
    if known.origin == "training":
        given = _of_training(known.trained, X, y, held_out)
    else:
        given = _of_networks(known.trained.vae, X, y, held_out, None)
    return replace(known, batches=given.batches, held_out=given.held_out, labels=given.labels, groups=given.groups)


def trained_of(model: object) -> Trained:
    """Return the training that a run's folder, an estimator or a `Trained` stands for.

    Raises
    ------
    InputError
        It is none of these, or an estimator that is not fitted.
    """
    found = runs.read_run(Path(model)) if isinstance(model, str | Path) else getattr(model, "trained_", model)
    if not isinstance(found, Trained):
        got, wanted = f"a model of type {type(model).__name__}", "a fitted estimator, a run's folder, or a VAE"
        raise InputError(got, wanted, "Fit it first.")
    return found


def read(model: object, X: object | None, y: object | None) -> tuple[Trained, Dataset]:
    """Return a training of vaelab's, and rows as data with the conditions that it takes; X None for a run's own.

    Raises
    ------
    InputError
        `model` is none of vaelab's own, is not fitted, or has no encoder; or rows or conditions do not fit it.
    """
    folder = Path(model) if isinstance(model, str | Path) else None
    trained = trained_of(model)
    if not trained.encodes:
        raise no_encoder("what is found out from codes")
    if X is None and folder is not None:
        X = runs.data_of_run(folder)
    if X is None:
        raise InputError("a model without rows", "rows to look at", "Pass those that it was fitted on.")
    if isinstance(X, Dataset):
        if y is not None:
            raise InputError("y beside a data set", "the conditions of the data set", "Leave y out.")
        data = trained.conditioned(X)
    elif isinstance(model, Estimator | SequenceVAE):
        data = model.as_dataset(X, y)
    else:
        data = _joined(trained, X, y, folder)
    if data.event_shape != trained.facts.event_shape:
        raise InputError(f"rows of shape {data.event_shape}", f"{trained.facts.event_shape}, as in training")
    return trained, data


def _joined(trained: Trained, X: object, y: object | None, folder: Path | None) -> Dataset:
    """Rows and conditions of a training without an estimator, as a data set."""
    if trained.settings.network.takes == "sequences":
        call = "its estimator" if folder is None else f"vaelab.load('{folder}')"
        raise InputError("rows for a training on sequences", "its estimator, which reads them", f"Pass {call}.")
    columns = getattr(X, "columns", None)
    if columns is not None and trained.facts.columns not in (None, tuple(map(str, columns))):
        raise InputError(f"columns {tuple(map(str, columns))}", f"{trained.facts.columns}, in this order")
    x = check_array(X, min_rows=1) if trained.schema is None else trained.schema.to_tensor(cast("Any", X))
    if tuple(x.shape[1:]) != trained.facts.event_shape:
        raise InputError(f"rows of shape {tuple(x.shape[1:])}", f"{trained.facts.event_shape}, as in training")
    trained.scaling.check(x)
    c = trained.conditions(y, len(x))
    labels = None if trained.conditioning is None or c is None else trained.conditioning.labels(c)
    return Dataset(
        name="array",
        kind=trained.facts.kind,
        train=TrainSplit(x, labels, c),
        test=TestSplit(x[:0]),
        columns=trained.facts.columns,
        classes=trained.facts.classes,
        source="memory",
        conditioning=trained.conditioning,
        schema=trained.schema,
    )


def _of_training(model: object, X: object | None, y: object | None, held_out: object | None) -> Subject:
    """Take a model that vaelab has trained."""
    trained, data = read(model, X, y)
    if X is not None and not isinstance(model, Estimator | SequenceVAE) and not isinstance(X, Dataset):
        facts = trained.facts.model_copy(update={"container": container_of(X)})
        trained = replace(trained, facts=facts)
    folder = Path(model) if isinstance(model, str | Path) else None
    batches, labels, groups = trained.batches_of(data.train), data.train.labels, data.train.groups
    rest = trained.batches_of(data.test) if len(data.test) else None
    if X is None:  # the rows that the run's weights have seen, as the training parted them
        labels, groups = (_kept(one, trained.settings, data.train.groups) for one in (labels, groups))
        batches, unseen = hold_out(batches, trained.settings, groups=data.train.groups)
        rest = unseen if rest is None else rest
    if held_out is not None:
        rows, conditions = _pair(held_out)
        rest = trained.batches_of(read(model, rows, conditions)[1].train)
    family = "a run of vaelab" if folder else f"a {type(model).__name__} of vaelab"
    sections: Mapping[str, Any] = {}
    if folder is not None:
        content = runs.read_config(folder)
        sections = {name: content[name] for name in ("data", "estimator") if name in content}
    elif isinstance(model, Estimator | SequenceVAE):
        sections = model.sections()
    return Subject(trained, "training", family, True, batches, rest, folder, labels, groups, sections)


def _kept(labels: Tensor | None, settings: Settings, groups: Tensor | None) -> Tensor | None:
    """Labels of the rows that `hold_out` keeps: they go along as conditions of rows of nothing."""
    if labels is None:
        return None
    part, _ = hold_out(ArrayBatches(torch.zeros(len(labels), 1), labels), settings, groups=groups)
    return part.take(torch.arange(len(part)))[1]


def _pair(held_out: object) -> tuple[object, object | None]:
    """Rows, and conditions if they were given too."""
    if isinstance(held_out, tuple):
        if len(held_out) != 2:
            raise InputError(f"held_out as a tuple of {len(held_out)}", "rows, or (rows, conditions)")
        return held_out
    return held_out, None


def _of_networks(
    model: object, X: object | None, y: object | None, held_out: object | None, gamma: float | None
) -> Subject:
    """Take a bare VAE, or make one by an adapter."""
    labels: Tensor | None = None
    given = y
    if isinstance(X, Dataset):
        if y is not None:
            raise InputError("y beside a data set", "the conditions of the data set", "Leave y out.")
        held_out = (X.test.x, X.test.c) if held_out is None and len(X.test) else held_out
        labels, y, X = X.train.labels, X.train.c, X.train.x
    if X is None:
        raise InputError("a model without rows", "rows to look at", "Pass those that it was fitted on.")
    x = _numbers(X, "X")
    if isinstance(model, VAE):
        vae, family, known, loss_read = model, "a VAE of vaelab", True, True
        x = x if isinstance(X, Tensor) else x.to(next(model.parameters()).dtype)
    else:
        x, y = x.to(precision_of(model, x)), None
        vae, family, known, loss_read = adapt(model, x[:_TRIED], gamma=gamma)
        if given is not None:
            raise InputError(f"conditions, for {family}, which takes none", "rows alone", "Leave y out.")
    batches = ArrayBatches(x, _tensor(y, vae, family), dtype=x.dtype)
    rest = None
    if held_out is not None:
        rows, conditions = _pair(held_out)
        unseen = _numbers(rows, "held_out")
        if unseen.shape[1:] != x.shape[1:]:
            raise InputError(f"held-out rows of shape {tuple(unseen.shape[1:])}", f"{tuple(x.shape[1:])}, as X")
        conditions = _tensor(conditions, vae, family) if batches.c is not None else None
        rest = ArrayBatches(unseen.to(x.dtype), conditions, dtype=x.dtype)
    trained = _trained(vae, batches, X)
    if labels is None and isinstance(batches.c, Tensor) and is_one_hot(batches.c):
        labels = batches.c.argmax(1)
    origin: Origin = "module" if isinstance(model, VAE) else "foreign"
    return Subject(trained, origin, family, known, batches, rest, labels=labels, loss_read=loss_read)


def _numbers(X: object, name: str) -> Tensor:
    """(n, …) floating-point rows of any rank, as the network takes them."""
    X = plain_rows(X, name)
    shape = tuple(getattr(X, "shape", ()))
    flat: Any = X
    if len(shape) not in (0, 1, 2) and hasattr(X, "reshape"):  # any order of the axes is the network's own affair
        flat = cast("Any", X).reshape(shape[0], -1)
    x = check_array(flat, name=name)
    if x.dtype == torch.uint8:
        remedy = f"Pass floats as in its training, such as {name} / 255 for pixels in [0, 1]."
        raise InputError(f"{name} of dtype uint8, for a network whose units are unknown", "what it takes", remedy)
    return x.reshape(shape) if len(shape) > 2 else x


def _tensor(c: object | None, vae: VAE, family: str) -> Tensor | None:
    """Conditions of a model without a training, which are tensors in the network's units."""
    if c is None:
        return None
    if not isinstance(c, Tensor) or c.ndim < 2 or not c.is_floating_point():
        got = f"conditions of type {type(c).__name__}, for {family}"
        raise InputError(got, "a floating-point tensor (n, *condition_shape) in the network's units")
    return c


def _trained(vae: VAE, batches: ArrayBatches, X: object) -> Trained:
    """Say of a bare model what a training says of its own; X is what its rows came as."""
    dtype = str(getattr(X, "dtype", "float64")).removeprefix("torch.")
    shape, variance = batches.event_shape, vae.likelihood.variance
    penalties = [
        {"kind": each.name, "weight": each.weight}
        for each in cast("Iterable[Regularizer]", vae.regularizers)
        if each.name in Penalty.kinds() and each.weight > 0
    ]
    posterior = "deterministic" if vae.posterior.degenerate else "diagonal"
    if isinstance(vae.posterior, FullCovariance | Isotropic):
        posterior = "full" if isinstance(vae.posterior, FullCovariance) else "isotropic"
    likelihood: Likelihood = Gaussian()
    if isinstance(vae.likelihood, Bernoulli):
        likelihood = Likelihood.of("bernoulli")
    elif isinstance(variance, FixedVariance | LearnedVariance):
        likelihood = Gaussian(variance=Fixed() if isinstance(variance, FixedVariance) else Learned())
    known: dict[str, Any] = {
        "posterior": Posterior.of(posterior),
        "likelihood": likelihood,
        "condition": None if batches.c is None else Condition.of("standard"),
        "penalties": tuple(Penalty.of(each) for each in penalties),
    }
    # lengths of stages as for a table of codes, which is all that is still to be trained
    settings = Settings(latent_dim=vae.latent_dim).resolve(len(batches), (vae.latent_dim,)).model_copy(update=known)
    facts = Facts(
        kind="image" if len(shape) == 3 and shape[0] in (1, 3) else "table",
        event_shape=shape,
        rows=len(batches),
        data_variance=mean_variance(batches),
        container=container_of(X),
        columns=tuple(map(str, cast("Any", X).columns)) if is_frame(X) else None,
    )
    conditioning = None if batches.c is None else _numbers_in_net_units(tuple(batches.c.shape[1:]))
    prior = {"prior": PriorDensity(vae.prior)}
    return Trained(
        settings,
        facts,
        Scaling.identity(shape, dtype if dtype.startswith("float") else "float64"),
        vae,
        dict(prior),
        conditioning,
    )


def _numbers_in_net_units(shape: tuple[int, ...]) -> Conditioning:
    """Conditions that are numbers in the network's units already."""
    if len(shape) == 2:
        return Conditioning(tuple(Column(f"feature {i}") for i in range(shape[1] - 1)), "sequence", shape[0])
    columns = tuple(Column(f"column {i}") for i in range(shape[0]))
    return Conditioning(columns, "table" if len(columns) > 1 else "column")
