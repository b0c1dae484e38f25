"""Verdicts: named conditions that follow from measures by the rules of ``verdicts.yaml``.

The rules are data: thresholds with their sources, what a condition means, and the call that mends it. Here is only how
they are read, and what each name in them measures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from vaelab.diagnostics.diagnosis import SEVERITIES, Evidence, Measures, Severity, Verdict
from vaelab.diagnostics.measures.reconstruction import Reconstruction

_ZOO = "calibrated on models with known faults"
_TOLD = 0.35  # logarithm of a variance from which it is told from γ = 1, that of a summed error


@dataclass(frozen=True)
class Context:
    """What rules must know beside the measures.

    Attributes
    ----------
    latent_dim, dimensions
        κ and d.
    kind
        Of the rows.
    sampler
        The density that samples are drawn from.
    gamma_known
        Whether the decoder variance is the model's own.
    foreign
        Whether another program trained the model.
    loss_read
        Whether what its loss stands for was read off that program, and not said by somebody.
    form
        ``"estimator"``, which has settings and can be trained anew, or ``"module"``, which has networks alone.
    conditional
        Whether the model takes conditions.
    epochs
        Of the training, where that is known.
    shape
        Of the variance that the model has: ``"iso-i"`` and so on.
    units_known
        Whether the rows are known to be in the units of the training.
    whitened
        Whether the code is the whitened columns, and no training's.
    keeps_to
        [0, 1] or [−1, 1] where the decoder keeps to it for codes however far, as a sigmoid or tanh makes it do.
    """

    latent_dim: int
    dimensions: int
    kind: Literal["image", "table"]
    sampler: str = "prior"
    gamma_known: bool = True
    foreign: bool = False
    loss_read: bool = False
    form: Literal["estimator", "module"] = "estimator"
    conditional: bool = False
    epochs: int | None = None
    shape: str = "iso-i"
    units_known: bool = False
    whitened: bool = False
    keeps_to: tuple[float, float] | None = None


@dataclass(frozen=True)
class Condition:
    """A measure and the bound that it must pass; without a source it is no evidence, but says whom a rule is for."""

    measure: str
    relation: Literal["<", ">"]
    threshold: float
    source: str

    def of(self, values: Mapping[str, float | None]) -> Evidence | None:
        """Return the evidence if the condition is met."""
        value = values[self.measure]
        if value is None or math.isnan(value):
            return None
        met = value < self.threshold if self.relation == "<" else value > self.threshold
        return Evidence(LABELS[self.measure], value, self.relation, self.threshold, self.source) if met else None


@dataclass(frozen=True)
class Rule:
    """One entry of ``verdicts.yaml``; without alternatives it holds where no alarm does."""

    name: str
    title: str
    severity: Severity
    when: tuple[tuple[Condition, ...], ...]
    hides: frozenset[str]
    meaning: str
    remedy: str
    call: str
    call_module: str | None

    def of(self, values: Mapping[str, float | None]) -> tuple[Evidence, ...] | None:
        """Return the evidence of the first alternative whose conditions are all met."""
        for conditions in self.when:
            found = [condition.of(values) for condition in conditions]
            if all(one is not None for one in found):
                return tuple(one for one in found if one is not None and one.source)
        return None


LABELS: dict[str, str] = {
    "explained": "share of the variance that reconstructions explain",
    "slope": "slope of rows against their reconstructions",
    "slope_apart": "how far that slope is from 1, as a logarithm",
    "beyond": "how far rows go beyond a range that outputs keep to, standard deviations",
    "largest_share": "share of the variance that one column holds",
    "dimensions": "dimensions of a row",
    "latent_dim": "latent dimensions",
    "used": "dimensions in use",
    "used_share": "share of dimensions in use",
    "idle": "idle dimensions",
    "idle_share": "share of dimensions that are idle",
    "information": "information that the code has about the row, nats",
    "transmitted": "information that reconstructions keep about the row, nats",
    "implied_over_residual": "decoder variance that the posterior implies, over that of the residuals",
    "implied_over_declared": "decoder variance that the posterior implies, over the declared one",
    "implied_apart": "how far the implied variance is from the declared one, as a logarithm",
    "residual_over_implied": "largest variance of the residuals along a direction, over the implied decoder variance",
    "declared_over_residual": "decoder variance over that of the residuals",
    "residual_over_declared": "largest variance of the residuals along a direction, over the decoder variance",
    "mean_reduced": "distance (of logarithms) of the implied variance from d/2 or d/2κ, those of averaged errors",
    "said": "loss of another program, of which somebody says what it stands for",
    "error_ratio": "squared error of unseen rows over that of training rows",
    "gap": "what unseen rows cost more, nats beyond three standard errors",
    "gain": "share of the squared error that further steps remove",
    "gain_share": "share of what the code is worth, over a constant, that further steps add",
    "gain_nats": "what further steps take off the objective, nats beyond three standard errors",
    "structured": "directions of the residuals above the noise",
    "direction_gain": "nats per dimension that a code with room for these directions would gain",
    "sampler_share": "energy distance of codes to what is sampled, as a share of the largest possible",
    "sampler_accuracy": "accuracy of a classifier that tells codes from draws, less two standard errors",
    "shape_gain": "nats per dimension that a variance of the better shape gains on unseen rows",
    "samples_off": "share of samples that are unlike any reconstruction",
    "whitened": "columns that make up the code, whitened",
    "units_known": "rows are in the units of the training",
    "holes": "share of midpoints between codes that look like no row",
    "table": "rows are table rows",
    "image": "rows are images",
}
"""Names in the rules → what they measure, in words."""


def values_of(measures: Measures, context: Context) -> dict[str, float | None]:
    """Return every measure that rules may name; None where it was not taken."""
    use, fit, rest = measures.code_use, measures.reconstruction, measures.residuals
    size, gamma = context.latent_dim, None
    values: dict[str, float | None] = dict.fromkeys(LABELS)
    values |= {"latent_dim": float(size), "dimensions": float(context.dimensions)}
    values |= {"table": float(context.kind == "table"), "image": float(context.kind == "image")}
    values["whitened"] = float(context.dimensions * context.whitened)
    values |= {"said": float(context.foreign and not context.loss_read), "units_known": float(context.units_known)}
    if fit is not None:
        values |= {"explained": fit.explained, "slope": fit.slope, "largest_share": fit.largest_share}
        values["slope_apart"] = abs(math.log(fit.slope)) if fit.slope > 0 else math.inf if fit.slope <= 0 else None
        values["beyond"] = _beyond(fit, context.keeps_to)
        if math.isnan(fit.explained):  # rows so far off that networks overflow explain less than nothing
            values["explained"] = -math.inf
        gamma = fit.gamma if context.gamma_known else None
        noisy = use is None or not use.degenerate  # else γ only weighs the penalties
        values["declared_over_residual"] = fit.ratio if context.gamma_known and noisy else None
    if use is not None:
        if use.used is not None:
            values |= {"used": float(use.used), "used_share": use.used / size}
            values |= {"idle": float(size - use.used), "idle_share": 1 - use.used / size}
        if use.information is not None:
            values["information"] = use.information.lower.value
        if use.transmitted is not None and not context.conditional:  # of a condition, too, the output tells
            values["transmitted"] = use.transmitted.lower.value
    implied = None if measures.optimality is None else measures.optimality.implied_gamma
    if implied is not None and fit is not None:
        values["implied_over_residual"] = implied / fit.residual
        if rest is not None and len(rest.spectrum):
            values["residual_over_implied"] = float(rest.spectrum[0]) * fit.residual / implied
        if gamma is not None:
            values["implied_over_declared"] = implied / gamma
            values["implied_apart"] = abs(math.log(implied / gamma)) if implied > 0 else math.inf
        if context.foreign and not context.gamma_known:
            averaged = (context.dimensions / 2, context.dimensions / (2 * size))
            told = [one for one in averaged if abs(math.log(one)) >= _TOLD]
            values["mean_reduced"] = min((abs(math.log(implied / one)) for one in told), default=None)
    if implied is None and measures.optimality is not None and gamma is not None:
        values["implied_apart"] = math.inf  # a code that says nothing says nothing of a variance
    if rest is not None and fit is not None:
        values |= {"structured": float(rest.structured), "direction_gain": rest.expected_nats / context.dimensions}
        if gamma is not None and len(rest.spectrum):
            values["residual_over_declared"] = float(rest.spectrum[0]) * fit.residual / gamma
        likely = context.gamma_known and not (use is not None and use.degenerate)  # there is a density to gain on
        if context.shape == "iso-i" and likely:
            values["shape_gain"] = max(rest.gains.values()) / context.dimensions
    if measures.generalisation is not None:
        found = measures.generalisation
        values["error_ratio"] = found.error_ratio
        values["gap"] = math.inf if found.gap is None else found.gap.value - 3 * found.gap.error
    if measures.continuation is not None:
        more = measures.continuation
        values |= {"gain": more.gain, "gain_share": more.share, "gain_nats": more.own.value - 3 * more.own.error}
    if measures.aggregated is not None and context.sampler in measures.aggregated.matches:
        match = measures.aggregated.matches[context.sampler]
        values["sampler_share"] = match.share
        if match.accuracy is not None:
            values["sampler_accuracy"] = match.accuracy.accuracy - 2 * match.accuracy.standard_error
    if measures.manifold is not None:
        values |= {"holes": measures.manifold.holes, "samples_off": measures.manifold.rates.get(context.sampler)}
    return values


def _beyond(fit: Reconstruction, keeps_to: tuple[float, float] | None) -> float:
    """How far rows go beyond a range that outputs cannot leave, in standard deviations."""
    if keeps_to is None or fit.data_variance <= 0:
        return 0.0
    beyond = max(keeps_to[0] - fit.data_range[0], fit.data_range[1] - keeps_to[1], 0.0)
    return beyond / math.sqrt(fit.data_variance)


def verdicts_of(measures: Measures, context: Context) -> tuple[Verdict, ...]:
    """Apply the rules: alarms in their order, or what is good where there is none, then notes."""
    values = values_of(measures, context)
    words = _words(measures, context)
    hidden: set[str] = set()
    found: list[Verdict] = []
    for rule in rules():
        if not rule.when or rule.name in hidden:
            continue
        evidence = rule.of(values)
        if evidence is not None:
            hidden |= rule.hides
            found.append(_verdict(rule, evidence, words, context))
    alarms = [one for one in found if SEVERITIES.index(one.severity) < 2]
    if not alarms:
        alarms = [_verdict(rule, (), words, context) for rule in rules() if not rule.when and rule.name not in hidden]
        alarms += [one for one in found if one.severity == "good"]
    return (*alarms, *(one for one in found if one not in alarms))


def _verdict(rule: Rule, evidence: tuple[Evidence, ...], words: Mapping[str, Any], context: Context) -> Verdict:
    call = rule.call_module if context.form == "module" and rule.call_module is not None else rule.call
    said = [text.format(**words) for text in (rule.meaning, rule.remedy, call)]
    return Verdict(rule.name, rule.title, rule.severity, evidence, *said)


def _words(measures: Measures, context: Context) -> dict[str, Any]:
    """Return what the texts of the rules are filled in with."""
    rest = measures.residuals
    return {
        "args": "model, X, y" if context.conditional else "model, X",
        "given": ", y" if context.conditional else "",
        "latent_dim": context.latent_dim,
        "double": 2 * context.latent_dim,
        "used": max(1, 0 if measures.code_use is None else measures.code_use.used or 0),
        "more_epochs": 3 * context.epochs if context.epochs else 100,
        "fewer_epochs": max(1, context.epochs // 3) if context.epochs else 5,
        # of both patterns at once, a variance per row and dimension, training is unstable: the one that gains more
        "shape": "diag-i" if rest is None else max(rest.gains, key=lambda name: rest.gains[name]),
    }


@cache
def rules() -> tuple[Rule, ...]:
    """Read the rules, in their order."""
    text = files("vaelab.diagnostics").joinpath("verdicts.yaml").read_text(encoding="utf-8")
    return tuple(_rule(entry) for entry in yaml.safe_load(text))


def _rule(entry: Mapping[str, Any]) -> Rule:
    """Check one entry's names, so that a typing error does not silence a rule."""
    known = {"name", "title", "severity", "when", "hides", "meaning", "remedy", "call", "call_module"}
    unknown = set(entry) - known
    alternatives = tuple(
        tuple(_condition(measure, bound) for measure, bound in one.items()) for one in entry.get("when", ())
    )
    if unknown or entry["severity"] not in SEVERITIES:
        raise ValueError(f"rule {entry['name']} with {unknown or entry['severity']}")
    return Rule(
        name=entry["name"],
        title=entry["title"],
        severity=entry["severity"],
        when=alternatives,
        hides=frozenset(entry.get("hides", ())),
        meaning=entry["meaning"].strip(),
        remedy=entry["remedy"].strip(),
        call=entry.get("call", ""),
        call_module=entry.get("call_module"),
    )


def _condition(measure: str, bound: Mapping[str, Any]) -> Condition:
    if measure not in LABELS or len(set(bound) - {"source"}) != 1 or not set(bound) <= {"above", "below", "source"}:
        raise ValueError(f"condition {measure}: {dict(bound)}")
    source = bound.get("source", "")
    source = _ZOO if source == "zoo" else source
    if "above" in bound:
        return Condition(measure, ">", float(bound["above"]), source)
    return Condition(measure, "<", float(bound["below"]), source)
