"""Every public call with wrong values of every argument: places × values."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from tests.wrong_inputs.files import FILES, IMAGES, TABLES
from tests.wrong_inputs.judging import Case
from tests.wrong_inputs.values import (
    ABSURD,
    CONDITIONS,
    COUNTS,
    MAY,
    OTHER_ROWS,
    REFUSE,
    ROWS,
    SEEDS,
    SHARES,
    SPECS,
    TOO_MANY,
    Values,
    X,
)
from torch import nn

import vaelab
from vaelab import ConditionalVAE, GaussianVAE, RegularizedAutoencoder, SequenceVAE, TwoStageVAE
from vaelab import data as data_
from vaelab.errors import VaelabError
from vaelab.verbs import Options

REFUSALS = (VaelabError, NotFittedError)
Place = Callable[[Any], Any]

BRIEF: dict[str, Any] = {"latent_dim": 2, "network": "mlp([8])", "epochs": 1, "random_state": 0}
SEQUENCES = [X[i : i + 5] for i in range(0, 100, 5)]
CLASSES = ["a", "b"] * 60
SETTINGS = vaelab.Settings(latent_dim=2, network="mlp([8])", training="training(epochs=1)")
KINDS = {
    "GaussianVAE": GaussianVAE,
    "ConditionalVAE": ConditionalVAE,
    "TwoStageVAE": TwoStageVAE,
    "RegularizedAutoencoder": RegularizedAutoencoder,
    "SequenceVAE": SequenceVAE,
}


def new(kind: str = "GaussianVAE", **changed: Any) -> Any:
    """An estimator that trains in no time."""
    settings = dict(BRIEF)
    if kind == "SequenceVAE":
        del settings["network"]
        settings["units"] = 4
    if kind in ("TwoStageVAE", "RegularizedAutoencoder"):
        settings["densities"] = "gaussian"
    return KINDS[kind](**settings | changed)


def fit(model: Any) -> Any:
    """The same, fitted to rows that are right."""
    if isinstance(model, SequenceVAE):
        return model.fit(SEQUENCES)
    return model.fit(X, CLASSES if isinstance(model, ConditionalVAE) else None)


@cache
def fitted(kind: str = "GaussianVAE", likelihood: str = "gaussian") -> Any:
    """A fitted model that cases share."""
    return fit(new(kind, **({} if kind == "RegularizedAutoencoder" else {"likelihood": likelihood})))


def mixed() -> Any:
    return fitted(likelihood="mixed")


@cache
def _module() -> nn.Module:
    torch.manual_seed(0)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(3, 4), nn.Linear(2, 3)

        def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return self.encoder(x).chunk(2, 1)

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return self.decoder(z)

    return Plain()


def _rows() -> Iterator[tuple[str, Place]]:
    for kind in ("GaussianVAE", "TwoStageVAE", "RegularizedAutoencoder"):
        yield f"{kind}.fit(X)", lambda v, kind=kind: new(kind).fit(v).sample(2)
    yield "GaussianVAE.fit_transform(X)", lambda v: new().fit_transform(v)
    yield "ConditionalVAE.fit(X)", lambda v: new("ConditionalVAE").fit(v, CLASSES).sample(2, ["a", "b"])
    yield "GaussianVAE(network=custom).fit(X)", lambda v: new(latent_dim=1, network="mlp([4, 4])").fit(v).transform(v)
    yield "data.from_arrays(X)", lambda v: data_.from_arrays(v).train.x
    yield "estimate_dimension(X)", lambda v: vaelab.estimate_dimension(v, settings=SETTINGS, largest=2).dimension


def _fitted_rows() -> Iterator[tuple[str, Place]]:
    for name in ("transform", "reconstruct", "score_samples", "log_likelihood", "score"):
        yield f"GaussianVAE.{name}(X)", lambda v, name=name: getattr(fitted(), name)(v)
    yield "ConditionalVAE.transform(X)", lambda v: fitted("ConditionalVAE").transform(v, CLASSES)
    yield "prune(model, X)", lambda v: vaelab.prune(fitted(), v).transform(X)
    yield "model.prune(X)", lambda v: fitted().prune(v).transform(X)
    yield "recalibrate(model, X)", lambda v: vaelab.recalibrate(fitted(), v).sample(2)
    yield "retrain(model, X)", lambda v: vaelab.retrain(fitted(), v, {"epochs": 1}).sample(2)
    yield "diagnose(model, X)", lambda v: vaelab.diagnose(fitted(), v, rows=100, pictures=False).main.name
    yield "diagnose(module, X)", lambda v: vaelab.diagnose(_module(), v, rows=100, pictures=False).main.name
    yield (
        "diagnose(model, X, held_out=)",
        lambda v: vaelab.diagnose(fitted(), X, held_out=v, rows=100, pictures=False).main.name,
    )
    yield "enhance(model, X)", lambda v: vaelab.enhance(fitted(), v, densities=["gaussian"], samples=50).sample(2)
    yield "enhance(module, X)", lambda v: vaelab.enhance(_module(), v, densities=["gaussian"], samples=50).sample(2)
    yield (
        "compare_densities(model, X)",
        lambda v: str(vaelab.compare_densities(fitted("TwoStageVAE"), v, densities=["gaussian"])),
    )
    yield "local_dimension(model, X)", lambda v: vaelab.local_dimension(fitted(), v)
    yield "manifold_dimension(model, X)", lambda v: str(vaelab.manifold_dimension(fitted(), v))
    yield "compare(X, fake)", lambda v: str(vaelab.compare(v, X))
    yield "compare(real, X)", lambda v: str(vaelab.compare(X, v))


def _given_rows() -> Iterator[tuple[str, Place]]:
    """What takes gaps and text."""
    yield "GaussianVAE(likelihood='mixed').fit(X)", lambda v: new(likelihood="mixed").fit(v).sample(2)
    yield "mixed.impute(X)", lambda v: mixed().impute(v)
    yield "GaussianVAE.impute(X)", lambda v: fitted().impute(v)
    yield "mixed.predictive(X, '0')", lambda v: mixed().predictive(v, "0").predict()
    yield "mixed.score_samples(X)", lambda v: mixed().score_samples(v)
    yield "compare_tables(X, fake)", lambda v: str(vaelab.compare_tables(v, pd.DataFrame(X)))
    yield "compare_tables(real, X)", lambda v: str(vaelab.compare_tables(pd.DataFrame(X), v))


_GAPS = {"a NaN", "None in a column", "only NaN", "text in a column", "only text", "a frame of text"}
"""Rows that a mixed table may hold."""

_SEQUENCE_ROWS = {"three dimensions", "a frame with two columns of one name", "a NaN", "only NaN"}
"""Rows that may be sequences; those that end early are filled up with NaN."""


def _sequences() -> Iterator[tuple[str, Place]]:
    yield "SequenceVAE.fit(X)", lambda v: new("SequenceVAE").fit([v, v]).sample(2, 3)
    for name in ("transform", "score_samples"):
        yield f"SequenceVAE.{name}(X)", lambda v, name=name: getattr(fitted("SequenceVAE"), name)([v, v])
    yield "SequenceVAE.fit(array)", lambda v: new("SequenceVAE").fit(v).sample(2, 3)
    yield "SequenceVAE.sample(prefix=)", lambda v: fitted("SequenceVAE").sample(2, 3, prefix=v)


def _conditions() -> Iterator[tuple[str, Place]]:
    for kind in ("ConditionalVAE", "TwoStageVAE"):
        condition = {"condition": "standard"}
        yield f"{kind}.fit(X, y)", lambda v, kind=kind, c=condition: new(kind, **c).fit(X, v).transform(X, v)
    conditional = lambda: fitted("ConditionalVAE")  # noqa: E731
    yield "ConditionalVAE.transform(X, y)", lambda v: conditional().transform(X, v)
    yield "ConditionalVAE.score_samples(X, y)", lambda v: conditional().score_samples(X, v)
    yield "ConditionalVAE.sample(120, y)", lambda v: conditional().sample(120, v)
    yield "ConditionalVAE.inverse_transform(Z, y)", lambda v: conditional().inverse_transform(X[:, :2], v)
    yield "diagnose(model, X, y)", lambda v: vaelab.diagnose(conditional(), X, v, rows=100, pictures=False).main.name
    yield "enhance(model, X, y)", lambda v: vaelab.enhance(conditional(), X, v, densities=["gaussian"]).sample(2)
    yield "local_dimension(model, X, c)", lambda v: vaelab.local_dimension(conditional(), X, v)
    yield "prune(model, X, c)", lambda v: vaelab.prune(conditional(), X, v).transform(X, v)


_SMALL_CONDITIONS = {"text", "a number", "a class known to nobody", "one class", "None"}


def _counts() -> Iterator[tuple[str, Place]]:
    for name in ("latent_dim", "batch_size", "epochs", "score_draws"):
        yield f"GaussianVAE({name}=)", lambda v, name=name: fit(new(**{name: v})).sample(2)
    for name in ("units", "context", "score_draws"):
        yield f"SequenceVAE({name}=)", lambda v, name=name: fit(new("SequenceVAE", **{name: v})).sample(2, 2)
    for kind in ("GaussianVAE", "TwoStageVAE", "RegularizedAutoencoder"):
        yield f"{kind}.sample(n)", lambda v, kind=kind: fitted(kind).sample(v)
    yield "ConditionalVAE.sample(n)", lambda v: fitted("ConditionalVAE").sample(v, "a")
    yield "SequenceVAE.sample(n)", lambda v: fitted("SequenceVAE").sample(v, 2)
    yield "SequenceVAE.sample(steps=)", lambda v: fitted("SequenceVAE").sample(2, v)
    yield "log_likelihood(k=)", lambda v: fitted().log_likelihood(X, k=v)
    yield "impute(draws=)", lambda v: mixed().impute(X, draws=v)
    yield "impute(k=)", lambda v: mixed().impute(X, k=v)
    yield "diagnose(rows=)", lambda v: vaelab.diagnose(fitted(), X, rows=v, pictures=False).main.name
    yield "enhance(rows=)", lambda v: vaelab.enhance(fitted(), X, densities=["gaussian"], rows=v).sample(2)
    yield "enhance(samples=)", lambda v: vaelab.enhance(fitted(), X, densities=["gaussian"], samples=v).sample(2)
    yield "enhance(epochs=)", lambda v: vaelab.enhance(fitted(), X, densities=["second_stage"], epochs=v).sample(2)
    yield (
        "compare_densities(epochs=)",
        lambda v: str(vaelab.compare_densities(fitted("TwoStageVAE"), X, densities=["second_stage"], epochs=v)),
    )
    yield "manifold_dimension(regions=)", lambda v: str(vaelab.manifold_dimension(fitted(), X, regions=v))
    yield "estimate_dimension(seeds=)", lambda v: vaelab.estimate_dimension(X, settings=SETTINGS, seeds=v).dimension
    yield "estimate_dimension(largest=)", lambda v: vaelab.estimate_dimension(X, settings=SETTINGS, largest=v).dimension
    yield "Options(draws=)", lambda v: Options(draws=v)
    yield "Options(likelihood_draws=)", lambda v: Options(likelihood_draws=v)
    yield "FitSettings(epochs=)", lambda v: vaelab.FitSettings(epochs=v)
    yield "FitSettings(batch_size=)", lambda v: vaelab.FitSettings(batch_size=v)
    yield "Settings(latent_dim=)", lambda v: vaelab.Settings(latent_dim=v)
    yield "data.load(image_size=)", lambda v: data_.load("digits", image_size=v)


_OPEN = ("VAE(latent_dim", "epochs", "batch_size", "context=", "image_size", "largest", "impute(draws")
"""Arguments of which None is a default."""


def _seeds() -> Iterator[tuple[str, Place]]:
    yield "GaussianVAE(random_state=)", lambda v: fit(new(random_state=v)).sample(2)
    yield "SequenceVAE(random_state=)", lambda v: fit(new("SequenceVAE", random_state=v)).sample(2, 2)
    yield "sample(random_state=)", lambda v: fitted().sample(2, random_state=v)
    yield "SequenceVAE.sample(random_state=)", lambda v: fitted("SequenceVAE").sample(2, 2, random_state=v)
    yield "impute(random_state=)", lambda v: mixed().impute(X, random_state=v)
    yield "log_likelihood(random_state=)", lambda v: fitted().log_likelihood(X, random_state=v)
    yield "diagnose(seed=)", lambda v: vaelab.diagnose(fitted(), X, rows=100, pictures=False, seed=v).main.name
    yield "enhance(seed=)", lambda v: vaelab.enhance(fitted(), X, densities=["gaussian"], seed=v).sample(2)
    yield "compare_tables(seed=)", lambda v: str(vaelab.compare_tables(pd.DataFrame(X), pd.DataFrame(X), seed=v))
    yield (
        "compare_densities(seed=)",
        lambda v: str(vaelab.compare_densities(fitted("TwoStageVAE"), X, densities=["gaussian"], seed=v)),
    )
    yield "manifold_dimension(seed=)", lambda v: str(vaelab.manifold_dimension(fitted(), X, seed=v))
    yield "Settings(seed=)", lambda v: vaelab.Settings(seed=v)
    yield "data.load(seed=)", lambda v: data_.load("digits", seed=v)


def _shares() -> Iterator[tuple[str, Place]]:
    yield "GaussianVAE(held_out=)", lambda v: fit(new(held_out=v)).sample(2)
    yield "SequenceVAE(held_out=)", lambda v: fit(new("SequenceVAE", held_out=v)).sample(2, 2)
    yield "Settings(held_out=)", lambda v: vaelab.Settings(held_out=v)
    yield "data.load(test_fraction=)", lambda v: data_.load("digits", test_fraction=v)
    yield "enhance(held_out=)", lambda v: vaelab.enhance(fitted(), X, densities=["gaussian"], held_out=v).sample(2)
    yield (
        "compare_densities(held_out=)",
        lambda v: str(vaelab.compare_densities(fitted("TwoStageVAE"), X, densities=["gaussian"], held_out=v)),
    )
    yield "prune(tolerance=)", lambda v: vaelab.prune(fitted(), X, tolerance=v).transform(X)
    yield "diagnose(gamma=)", lambda v: vaelab.diagnose(_module(), X, gamma=v, rows=100, pictures=False).main.name
    yield "wrap(gamma=)", lambda v: vaelab.wrap(len, len, gamma=v)
    yield "GaussianVAE(lr=)", lambda v: fit(new(lr=v)).sample(2)


_POSITIVE = {"1", "7"}  # right for a variance, a learning rate or a tolerance


def _specs() -> Iterator[tuple[str, Place]]:
    for name in ABSURD:
        kind = "TwoStageVAE" if name == "densities" else "GaussianVAE"
        yield f"{kind}({name}=)", lambda v, name=name, kind=kind: fit(new(kind, **{name: v})).sample(2)
        yield f"Settings({name}=)", lambda v, name=name: vaelab.Settings(**{name: v})
    yield "ConditionalVAE(condition=)", lambda v: fit(new("ConditionalVAE", condition=v)).sample(2, "a")
    yield "SequenceVAE(likelihood=)", lambda v: fit(new("SequenceVAE", likelihood=v)).sample(2, 2)
    yield "SequenceVAE(loss=)", lambda v: fit(new("SequenceVAE", loss=v)).sample(2, 2)
    yield "RegularizedAutoencoder(penalties=)", lambda v: fit(new("RegularizedAutoencoder", penalties=v)).sample(2)
    yield "enhance(densities=)", lambda v: vaelab.enhance(fitted(), X, densities=v).sample(2)
    yield "enhance(densities=[])", lambda v: vaelab.enhance(fitted(), X, densities=[v]).sample(2)
    yield "compare_densities(densities=[])", lambda v: vaelab.compare_densities(fitted("TwoStageVAE"), X, densities=[v])
    yield "log_likelihood(density=)", lambda v: fitted().log_likelihood(X, density=v)
    yield "recalibrate(shape=)", lambda v: vaelab.recalibrate(fitted(), X, shape=v)
    yield "retrain(changes)", lambda v: vaelab.retrain(fitted(), X, v)
    yield "retrain(likelihood)", lambda v: vaelab.retrain(fitted(), X, {"likelihood": v})
    yield "compare(protocols=[])", lambda v: vaelab.compare(X, X, protocols=[v])
    yield "compare(protocols=)", lambda v: vaelab.compare(X, X, protocols=v)
    yield "Options(metrics=)", lambda v: vaelab.compare(X, X, options=Options(metrics=(v,)))
    yield "compare(options=)", lambda v: vaelab.compare(X, X, options=v)
    yield "compare(scaling=)", lambda v: vaelab.compare(X, X, scaling=v)
    yield "compare(train=)", lambda v: vaelab.compare(X, X, train=v)
    yield (
        "evaluate(protocols=[])",
        lambda v: vaelab.evaluate(fitted("TwoStageVAE"), data_.from_arrays(X), protocols=[v]),
    )
    yield "estimate_dimension(settings=)", lambda v: vaelab.estimate_dimension(X, settings=v)
    yield "wrap(likelihood=)", lambda v: vaelab.wrap(len, len, likelihood=v)
    yield "wrap(variance=)", lambda v: vaelab.wrap(len, len, variance=v)
    yield "compare_tables(target=)", lambda v: vaelab.compare_tables(pd.DataFrame(X), pd.DataFrame(X), target=v)
    yield "prune(keep=)", lambda v: vaelab.prune(fitted(), X, keep=v)
    yield "set_params(nonesuch=)", lambda v: new().set_params(nonesuch=v)
    yield "set_params(training__lr=)", lambda v: new().set_params(training__lr=v)
    yield "sample(given=)", lambda v: fitted().sample(2, given=v)
    yield "sample(given={0: })", lambda v: fitted().sample(2, given={0: v})


_NUMBER_MAY = ("retrain(changes)", "learned", "set_params(training__lr=)", "wrap(", "sample(given={0: })")

MODELS: Values = {
    "None": (lambda: None, REFUSE),
    "a number": (lambda: 3, REFUSE),
    "no folder": (lambda: "no/such/folder", REFUSE),
    "an empty path": (lambda: "", REFUSE),
    "a path with a NUL": (lambda: "a\0b", REFUSE),
    "a path beyond any length": (lambda: "a" * 5000, REFUSE),
    "an empty folder": (lambda: tempfile.mkdtemp(), REFUSE),
    "a file": (lambda: __file__, REFUSE),
    "a class": (lambda: GaussianVAE, REFUSE),
    "not fitted": (lambda: new(), REFUSE),
    "a sequence model not fitted": (lambda: new("SequenceVAE"), REFUSE),
    "a dictionary": (lambda: {"model": 1}, REFUSE),
    "a linear layer": (lambda: nn.Linear(3, 3), REFUSE),
    "a PCA not fitted": (lambda: PCA(2), REFUSE),
    "a PCA of other columns": (lambda: PCA(2).fit(np.hstack([X, X])), REFUSE),
    "a function": (lambda: len, REFUSE),
    "rows": (lambda: X, REFUSE),
    "an encoder that fails": (lambda: vaelab.wrap(lambda x: 1 / 0, lambda z: z), REFUSE),
    "an encoder of nothing": (lambda: vaelab.wrap(lambda x: None, lambda z: z), REFUSE),
    "an encoder of NaN": (lambda: vaelab.wrap(lambda x: x * torch.nan, lambda z: z), REFUSE),
    "an encoder of one row": (lambda: vaelab.wrap(lambda x: x[:1], lambda z: z), REFUSE),
    "an encoder of three things": (lambda: vaelab.wrap(lambda x: (x, x, x), lambda z: z), REFUSE),
    "an encoder of text": (lambda: vaelab.wrap(lambda x: "code", lambda z: z), REFUSE),
    "a random encoder": (lambda: vaelab.wrap(lambda x: torch.randn(len(x), 2), lambda z: z), REFUSE),
    "an encoder of whole numbers": (lambda: vaelab.wrap(lambda x: x.long(), lambda z: z), MAY),
    "an encoder of no code": (lambda: vaelab.wrap(lambda x: x[:, :0], lambda z: z), REFUSE),
    "a decoder of other rows": (lambda: vaelab.wrap(lambda x: x[:, :2], lambda z: z), REFUSE),
    "a decoder of nothing": (lambda: vaelab.wrap(lambda x: x, lambda z: None), REFUSE),
    "a decoder of whole numbers": (lambda: vaelab.wrap(lambda x: x, lambda z: z.long()), MAY),
    "a decoder that mixes rows": (lambda: vaelab.wrap(lambda x: x, lambda z: z - z.mean(0)), REFUSE),
    "complex codes": (lambda: vaelab.wrap(lambda x: x + 0j, lambda z: z.real), REFUSE),
    "negative standard deviations": (lambda: vaelab.wrap(lambda x: (x, -x.exp()), lambda z: z, variance="std"), REFUSE),
}  # fmt: skip


def _models() -> Iterator[tuple[str, Place]]:
    yield "diagnose(model)", lambda v: vaelab.diagnose(v, X, rows=100, pictures=False).main.name
    yield "enhance(model)", lambda v: vaelab.enhance(v, X, densities=["gaussian"], samples=50).sample(2)
    yield "evaluate(model)", lambda v: vaelab.evaluate(v, data_.from_arrays(X))
    yield "compare_densities(model)", lambda v: vaelab.compare_densities(v, X, densities=["gaussian"])
    yield "local_dimension(model)", lambda v: vaelab.local_dimension(v, X)
    yield "manifold_dimension(model)", lambda v: vaelab.manifold_dimension(v, X)
    yield "prune(model)", lambda v: vaelab.prune(v, X)
    yield "recalibrate(model)", lambda v: vaelab.recalibrate(v, X)
    yield "retrain(model)", lambda v: vaelab.retrain(v, X, {"epochs": 1})
    yield "load(path)", lambda v: vaelab.load(v)
    yield "data.load(path)", lambda v: data_.load(v)
    yield "evaluate(data)", lambda v: vaelab.evaluate(fitted("TwoStageVAE"), v)
    yield "GaussianVAE(network=)", lambda v: fit(new(network=v)).sample(2)


_EMPTY = {"a file", "an empty folder", "rows"}


GIVEN: Values = {
    "an unknown column": (lambda: {"nonesuch": 1.0}, REFUSE),
    "a column beyond": (lambda: {7: (0, 1)}, REFUSE),
    "a negative column": (lambda: {-1: (0, 1)}, REFUSE),
    "a range turned round": (lambda: {0: (1, 0)}, REFUSE),
    "a range of text": (lambda: {0: ("a", "b")}, REFUSE),
    "a range of NaN": (lambda: {0: (np.nan, np.nan)}, REFUSE),
    "a range of three": (lambda: {0: (0, 1, 2)}, REFUSE),
    "a range that nothing matches": (lambda: {0: (1e6, 2e6)}, REFUSE),
    "a list of pairs": (lambda: [(0, 1)], REFUSE),
    "None": (lambda: {0: None}, REFUSE),
    "a dictionary in it": (lambda: {0: {"low": 1}}, REFUSE),
    "a tuple as column": (lambda: {(0, 1): 1.0}, REFUSE),
    "an array in it": (lambda: {0: np.zeros(3)}, REFUSE),
    "no values": (lambda: {0: []}, REFUSE),
}

CODES: Values = {name: ROWS[name] for name in ROWS if not name.startswith("numbers tiny")}


def crossed(places: Iterator[tuple[str, Place]], values: Values, may: Callable[[str, str], bool]) -> Iterator[Case]:
    for place, call in places:
        for name, (make, fine) in values.items():
            yield Case(f"{place} ← {name}", lambda call=call, make=make: call(make()), fine or may(place, name))


def never(place: str, name: str) -> bool:
    return False


def _taken(place: str, name: str) -> bool:
    """Whether `fit` takes such rows."""
    if name in ("a frame of times", "a frame of text"):  # column by column
        return "likelihood" not in place
    return "network=custom" in place and name == "three dimensions"


def cases() -> Iterator[Case]:
    """All of them, in the order of the tables."""
    from tests.wrong_inputs import of_fitted  # which takes its models from here

    yield from of_fitted.cases()
    yield from crossed(_rows(), ROWS, _taken)
    yield from crossed(_fitted_rows(), {**ROWS, **OTHER_ROWS}, _none_or_own)
    yield from crossed(_given_rows(), {**ROWS, **OTHER_ROWS}, _columns)
    yield from crossed(_sequences(), ROWS, _sequence_may)
    yield from crossed(_conditions(), CONDITIONS, lambda p, n: "fit" not in p and n in _SMALL_CONDITIONS)
    yield from crossed(_counts(), COUNTS, _count_may)
    samples = ((p, c) for p, c in _counts() if "sample(" in p or "latent_dim" in p or "k=" in p or "steps" in p)
    yield from crossed(samples, TOO_MANY, lambda p, n: "Settings" in p)
    yield from crossed(_seeds(), SEEDS, lambda p, n: n == "2 to the 70")
    yield from crossed(
        _shares(), SHARES, lambda p, n: n in _POSITIVE and any(k in p for k in ("gamma", "lr", "tolerance"))
    )
    yield from crossed(_specs(), SPECS, lambda p, n: _spec_may(p, n))
    yield from crossed(_models(), MODELS, _own_data)
    for kind in (fitted, mixed):
        place = f"{'mixed' if kind is mixed else 'plain'} sample(given=)"
        yield from crossed(iter([(place, lambda v, kind=kind: kind().sample(2, given=v))]), GIVEN, never)
    yield from crossed(iter([("inverse_transform(Z)", lambda v: fitted().inverse_transform(v))]), CODES, never)
    for name, texts in ABSURD.items():
        kind = "TwoStageVAE" if name == "densities" else "GaussianVAE"
        for text in texts:
            make = lambda kind=kind, name=name, text=text: fit(new(kind, **{name: text})).sample(2)  # noqa: E731
            yield Case(f"{kind}({name}={text!r})", make)
    yield from _files()


def _count_may(place: str, name: str) -> bool:
    settings = any(known in place for known in ("epochs=", "batch_size", "units", "Settings("))
    return (name == "None" and any(known in place for known in _OPEN)) or (name == "text" and settings)


def _spec_may(place: str, name: str) -> bool:
    own = place == "Settings(network=)" and name in ("a function", "a class")  # that makes networks; seen in fit
    return own or (name == "a number" and any(known in place for known in _NUMBER_MAY))


def _none_or_own(place: str, name: str) -> bool:
    anew = place == "retrain(model, X)" and name in OTHER_ROWS  # an estimator is fitted to whatever comes
    return anew or (name == "None" and "held_out=" in place)  # none are held out


def _columns(place: str, name: str) -> bool:
    return name in _GAPS or name == "a frame of times" or (".fit(" in place and name in OTHER_ROWS and name != "images")


def _sequence_may(place: str, name: str) -> bool:
    one = place == "SequenceVAE.fit(X)" and name == "one dimension"  # each is a sequence of one feature
    one = one or (place == "SequenceVAE.fit(array)" and name == "rows of different lengths")  # as sequences may be
    return one or name in _SEQUENCE_ROWS or ("prefix" in place and name == "None")


def _own_data(place: str, name: str) -> bool:
    anew = place == "retrain(model)" and name == "not fitted"  # all that it is to be fitted again
    return anew or (place == "GaussianVAE(network=)" and name == "None")


def _files() -> Iterator[Case]:
    """Files and folders of data, written where they are asked for."""

    def loaded(write: Callable[[Path], Path], read: Callable[[Path], Any]) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return read(write(Path(folder)))

    readers: Mapping[str, Callable[[Path], Any]] = {
        "data.load": lambda path: data_.load(path).train.x,
        "data.load_rows": lambda path: data_.load_rows(path)[0],
        "data.load(mixed)": lambda path: data_.load(path, mixed=True).train.x,
    }
    for name, (write, fine) in {**FILES, **TABLES, **IMAGES}.items():
        for reader, read in readers.items():
            if reader == "data.load(mixed)" and name not in TABLES:
                continue
            gaps = reader == "data.load(mixed)" or fine
            yield Case(f"{reader} ← {name}", lambda write=write, read=read: loaded(write, read), gaps)
