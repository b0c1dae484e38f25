"""Calls of what is fitted: gaps that are filled, rows that are called odd, files for others, ways to draw."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tests.wrong_inputs.in_python import MODELS, Place, crossed, fitted, mixed, never, new
from tests.wrong_inputs.judging import Case
from tests.wrong_inputs.values import COUNTS, MAY, OTHER_ROWS, REFUSE, ROWS, SEEDS, SHARES, SPECS, TOO_MANY, Values, X

import vaelab
from vaelab import VAEDetector, VAEImputer

HOLES = np.where(np.arange(X.size).reshape(X.shape) % 7 == 0, np.nan, X)
_FRAME = pd.DataFrame(HOLES, columns=list("012"))
_TAKES_GAPS = {"a NaN", "None in a column", "only NaN"}


@cache
def imputer() -> Any:
    return VAEImputer(new(likelihood="mixed"), k=20, random_state=0).fit(HOLES)


@cache
def detector() -> Any:
    return VAEDetector(new(), random_state=0).fit(X)


@cache
def _report() -> Any:
    return vaelab.diagnose(fitted(), X, rows=100, pictures=False)


@cache
def _compared() -> Any:
    return vaelab.compare_tables(pd.DataFrame(X), pd.DataFrame(X))


def _export(path: Any, *given: Any, **options: Any) -> Any:
    """Write into a folder of its own, where the path is one word."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path if isinstance(path, str) and path and "/" not in path else path
        return str(fitted().export(target, *given, **options))


def _rows() -> Iterator[tuple[str, Place]]:
    yield "VAEImputer.fit(X)", lambda v: VAEImputer(new(likelihood="mixed"), k=5).fit(v).transform(v)
    yield "VAEImputer.transform(X)", lambda v: imputer().transform(v)
    yield "mixed.impute_quantiles(X)", lambda v: mixed().impute_quantiles(v, 0.5, k=5)[0]
    yield "VAEDetector.fit(X)", lambda v: VAEDetector(new()).fit(v).predict(v)
    yield "VAEDetector.predict(X)", lambda v: detector().predict(v)
    yield "VAEDetector.explain(X)", lambda v: detector().explain(v).kl
    yield "VAEDetector.calibrate(X)", lambda v: VAEDetector(fitted()).calibrate(v).predict(X)
    yield "sample(on_manifold=)", lambda v: fitted().sample(3, on_manifold=v)
    yield "TwoStageVAE.sample(on_manifold=)", lambda v: fitted("TwoStageVAE").sample(3, on_manifold=v)


def _counts() -> Iterator[tuple[str, Place]]:
    yield "impute_quantiles(k=)", lambda v: mixed().impute_quantiles(HOLES, 0.5, k=v)[0]
    yield "predictive(k=)", lambda v: mixed().predictive(HOLES, "0", k=v).predict()
    yield "predictive.draws(count)", lambda v: mixed().predictive(HOLES, "0", k=5).draws(v)
    yield "VAEImputer(k=)", lambda v: VAEImputer(new(likelihood="mixed"), k=v).fit_transform(HOLES)
    yield "mixed.sample(missing=, n)", lambda v: mixed().sample(v, missing=True)


def _many() -> Iterator[tuple[str, Place]]:
    yield "impute(draws=)", lambda v: mixed().impute(HOLES, draws=v, k=5)
    yield "log_likelihood(k=) of gaps", lambda v: mixed().log_likelihood(HOLES, k=v)
    yield "TwoStageVAE(score_draws=)", lambda v: new("TwoStageVAE", score_draws=v).fit(X).score_samples(X)


def _seeds() -> Iterator[tuple[str, Place]]:
    yield "impute_quantiles(random_state=)", lambda v: mixed().impute_quantiles(HOLES, 0.5, k=5, random_state=v)[0]
    yield "predictive(random_state=)", lambda v: mixed().predictive(HOLES, "0", k=5, random_state=v).predict()
    yield "VAEImputer(random_state=)", lambda v: VAEImputer(new(likelihood="mixed"), k=5, random_state=v).fit(HOLES)
    yield "VAEDetector(random_state=)", lambda v: VAEDetector(new(), random_state=v).fit(X).predict(X)
    yield "sample(on_manifold=, random_state=)", lambda v: fitted().sample(3, on_manifold=X, random_state=v)


def _shares() -> Iterator[tuple[str, Place]]:
    yield "VAEDetector(false_alarms=)", lambda v: VAEDetector(new(), false_alarms=v).fit(X).predict(X)
    yield "VAEDetector(calibration=)", lambda v: VAEDetector(new(), calibration=v).fit(X).predict(X)
    yield "impute_quantiles(q=)", lambda v: mixed().impute_quantiles(HOLES, v, k=5)[0]
    yield "impute_quantiles(q=[])", lambda v: mixed().impute_quantiles(HOLES, [0.5, v], k=5)[0]
    yield "predictive.quantiles(q)", lambda v: mixed().predictive(HOLES, "0", k=5).quantiles(v)
    yield "predictive.interval(coverage)", lambda v: mixed().predictive(HOLES, "0", k=5).interval(v)
    yield "sample(temperature=)", lambda v: fitted().sample(3, temperature=v)
    yield "TwoStageVAE.sample(temperature=)", lambda v: fitted("TwoStageVAE").sample(3, temperature=v)


def _specs() -> Iterator[tuple[str, Place]]:
    yield "VAEDetector(rule=)", lambda v: VAEDetector(new(), rule=v).fit(X).predict(X)
    yield "VAEDetector.explain of a model of", lambda v: VAEDetector(v).fit(X)
    yield "export(what=)", lambda v: _export("m.pt2", v)
    yield "export(format=)", lambda v: _export("m.pt2", format=v)
    yield "export(density=)", lambda v: _export("m.pt2", density=v)
    yield "TwoStageVAE.sample(density=)", lambda v: fitted("TwoStageVAE").sample(2, density=v)
    yield "sample(balance=)", lambda v: mixed().sample(2, balance=v)
    yield "predictive(columns=)", lambda v: mixed().predictive(HOLES, v, k=5).predict()
    yield "impute(mask=)", lambda v: mixed().impute(HOLES, mask=v, k=5)
    yield "kl(schedule=)", lambda v: new(penalties={"kind": "kl", "schedule": v}).fit(X).sample(2)
    yield "mixed(columns=)", lambda v: new(likelihood={"kind": "mixed", "columns": v}).fit(_FRAME).sample(2)
    yield "mixed(columns={0: })", lambda v: new(likelihood={"kind": "mixed", "columns": {"0": v}}).fit(_FRAME).sample(2)


MASKS: Values = {
    "another shape": (lambda: HOLES[:, :2] > 0, REFUSE),
    "fewer rows": (lambda: HOLES[:5] > 0, REFUSE),
    "numbers": (lambda: X, REFUSE),
    "text": (lambda: "all", REFUSE),
    "whole numbers": (lambda: np.full(X.shape, 7), REFUSE),
    "a frame of other columns": (lambda: pd.DataFrame(X > 0, columns=list("abc")), MAY),
    "nothing hidden": (lambda: np.inf < X, MAY),
    "all hidden": (lambda: np.inf > X, MAY),
}
"""In place of which entries are to be filled in."""

PATHS: Values = {
    "no name": (lambda: "", REFUSE),
    "another ending": (lambda: "m.docx", REFUSE),
    "no ending": (lambda: "m", REFUSE),
    "a folder": (tempfile.gettempdir, REFUSE),
    "in no folder": (lambda: "/dev/full/m.pt2", REFUSE),
    "a number": (lambda: 3, REFUSE),
    "None": (lambda: None, REFUSE),
    "with a zero byte": (lambda: "a\0.pt2", REFUSE),
    "beyond any length": (lambda: "m" * 300 + ".pt2", REFUSE),
}
"""In place of a file to write."""

ABSURD = {
    "penalties": ("kl(schedule=rising(share=0))", "kl(schedule=rising(share=2))", "kl(schedule=cyclical(cycles=0))",
                  "kl(schedule=cyclical(cycles=1.5))", "kl(schedule=controlled)", "kl(schedule=controlled(-1))",
                  "kl(schedule=controlled(.inf))", "kl(schedule=controlled(20, ki=0))", "kl(schedule=rising(1, 2))"),
    "densities": ("flow_matching(steps=0)", "flow_matching(width=0)", "flow_matching(blocks=-1)",
                  "flow_matching(width=1.5)", "flow_matching(training=3)", "flow_matching(nonesuch=1)"),
    "likelihood": ("mixed(ties=nonesuch)", "mixed(numbers=nonesuch)", "mixed(columns=3)", "auto(shape=round)",
                   "mixed(columns={a: ordered})", "mixed(columns={'0': {kind: ordered, levels: [1, 1]}})"),
    "network": ("mlp([8], skip=maybe)",),
}  # fmt: skip
"""As in `values`, of what came later."""


def _taken(place: str, name: str) -> bool:
    """Whether the place takes such rows: those with gaps, or a table column by column; to `fit` all are new."""
    mixed_table = "VAEImputer" in place or "impute_quantiles" in place
    if name in _TAKES_GAPS or (name == "only text" and "VAEImputer.fit" in place):
        return mixed_table
    if name in ("a frame of times", "a frame of text"):
        return ".fit(" in place or (mixed_table and name == "a frame of times")  # seconds, to a model of numbers
    return (name in OTHER_ROWS and ".fit(" in place) or (name == "None" and "on_manifold" in place)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from crossed(_rows(), {**ROWS, **OTHER_ROWS, "None": (lambda: None, REFUSE)}, _taken)
    yield from crossed(_counts(), {**COUNTS, **TOO_MANY}, never)
    yield from crossed(_many(), TOO_MANY, never)
    yield from crossed(_seeds(), SEEDS, lambda place, name: name == "2 to the 70")
    positive = {"1", "7"}
    few = lambda place, name: ("temperature" in place and name in positive) or ("q" in place and name == "a list")  # noqa: E731
    yield from crossed(_shares(), SHARES, few)
    yield from crossed(_specs(), SPECS, never)
    for kind, call in (
        ("VAEImputer(model)", lambda v: VAEImputer(v, k=5).fit_transform(HOLES)),
        ("VAEDetector(model)", lambda v: VAEDetector(v).fit(X).predict(X)),
        ("VAEDetector.calibrate of", lambda v: VAEDetector(v).calibrate(X).predict(X)),
    ):
        given = {name: value for name, value in MODELS.items() if name != "None"}  # the default, which trains for long
        own = {"not fitted"} if "calibrate" not in kind else set()
        yield from crossed(iter([(kind, call)]), given, lambda place, name, own=own: name in own)
    yield from crossed(iter([("impute(mask=)", lambda v: mixed().impute(HOLES, mask=v, k=5))]), MASKS, never)
    written = (
        ("export(path)", _export),
        ("report.save(path)", lambda v: _report().save(v)),
        ("compare_tables(…).save_html(path)", lambda v: _compared().save_html(v)),
    )
    yield from crossed(iter(written), PATHS, lambda place, name: "save_html" in place and "ending" in name)
    folders = {name: PATHS[name] for name in PATHS if "ending" not in name}
    yield from crossed(iter([("model.save(path)", lambda v: fitted().save(v))]), folders, never)
    for name, texts in ABSURD.items():
        kind = "TwoStageVAE" if name == "densities" else "GaussianVAE"
        for text in texts:
            make = lambda kind=kind, name=name, text=text: new(kind, **{name: text}).fit(_FRAME.fillna(0)).sample(2)  # noqa: E731
            yield Case(f"{kind}({name}={text!r})", make)
