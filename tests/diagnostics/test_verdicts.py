"""The rules: that each can hold, that what it hides is hidden, and that a measure that was not taken says nothing."""

from __future__ import annotations

import math

import pytest

import vaelab
from vaelab.diagnostics import verdicts
from vaelab.diagnostics.diagnosis import SEVERITIES, Evidence, Measures
from vaelab.diagnostics.verdicts import LABELS, Condition, Context, rules, verdicts_of

CONTEXT = Context(latent_dim=8, dimensions=20, kind="table")


def judged(monkeypatch, values: dict[str, float | None], context: Context = CONTEXT):
    monkeypatch.setattr(verdicts, "values_of", lambda measures, context: dict.fromkeys(LABELS) | values)
    return verdicts_of(Measures(), context)


def barely(condition: Condition) -> float:
    step = max(abs(condition.threshold), 1.0) * 1e-6
    return condition.threshold + (step if condition.relation == ">" else -step)


ALTERNATIVES = [(rule, i) for rule in rules() for i in range(len(rule.when))]


@pytest.mark.parametrize(("rule", "which"), ALTERNATIVES, ids=lambda v: getattr(v, "name", str(v)))
def test_every_alternative_of_every_rule_can_hold(monkeypatch, rule, which):
    met = {condition.measure: barely(condition) for condition in rule.when[which]}
    found = judged(monkeypatch, met)
    assert rule.name in [one.name for one in found]
    said = next(one for one in found if one.name == rule.name)
    shown = {LABELS[condition.measure] for condition in rule.when[which] if condition.source}
    assert shown == {evidence.label for evidence in said.evidence} != set()


@pytest.mark.parametrize(("rule", "which"), ALTERNATIVES, ids=lambda v: getattr(v, "name", str(v)))
def test_a_rule_needs_all_of_its_conditions(monkeypatch, rule, which):
    conditions = rule.when[which]
    for left_out in conditions:
        values = {one.measure: barely(one) for one in conditions if one is not left_out}
        for value in (None, math.nan, left_out.threshold):
            found = judged(monkeypatch, values | {left_out.measure: value})
            others = [i for i in range(len(rule.when)) if i != which]
            met = any(all(c.of(dict.fromkeys(LABELS) | values) for c in rule.when[i]) for i in others)
            assert (rule.name in [one.name for one in found]) == met


def test_nothing_measured_is_nothing_found(monkeypatch):
    assert [one.name for one in judged(monkeypatch, {})] == ["healthy"]


def test_the_main_verdict_is_the_first_alarm_and_notes_come_last(monkeypatch):
    found = judged(monkeypatch, {"sampler_share": 0.5, "declared_over_residual": 30.0, "holes": 0.9})
    assert [one.name for one in found] == ["prior-mismatch", "variance-too-large", "unlikely-between"]
    assert [one.severity for one in found] == ["warning", "warning", "note"]


def test_notes_alone_leave_a_model_healthy(monkeypatch):
    found = judged(monkeypatch, {"holes": 0.9})
    assert [one.name for one in found] == ["healthy", "unlikely-between"]


def test_a_whitened_code_is_no_healthy_one_and_what_draws_badly_comes_before_it(monkeypatch):
    assert [one.name for one in judged(monkeypatch, {"whitened": 4.0, "idle": 9.0})] == ["whitened-columns"]
    found = judged(monkeypatch, {"whitened": 4.0, "sampler_share": 0.5})
    assert [one.name for one in found] == ["prior-mismatch", "whitened-columns"]


def test_what_follows_from_a_verdict_is_hidden(monkeypatch):
    alone = {"implied_over_residual": 10.0}
    assert judged(monkeypatch, alone)[0].name == "oversmoothing"
    collapsed = judged(monkeypatch, alone | {"used": 0.0, "information": 0.0})
    assert [one.name for one in collapsed] == ["posterior-collapse"]


def test_rules_hide_rules_that_there_are():
    names = {rule.name for rule in rules()}
    assert len(names) == len(rules())
    assert all(rule.hides <= names for rule in rules())


def test_exactly_one_rule_holds_without_conditions_and_it_is_good():
    assert [rule.severity for rule in rules() if not rule.when] == ["good"]


def test_every_threshold_has_a_source_but_for_whom_a_rule_is_for():
    whom = {"dimensions", "latent_dim", "table", "image", "said", "units_known"}
    conditions = [condition for rule in rules() for one in rule.when for condition in one]
    assert {condition.measure for condition in conditions if not condition.source} == whom
    assert all(condition.measure not in whom for condition in conditions if condition.source)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
@pytest.mark.parametrize("form", ["estimator", "module"])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_remedy_names_a_call_that_exists(monkeypatch, rule, form, conditional):
    context = Context(latent_dim=8, dimensions=20, kind="image", form=form, conditional=conditional, epochs=10)
    values = {} if not rule.when else {condition.measure: barely(condition) for condition in rule.when[0]}
    said = next(one for one in judged(monkeypatch, values, context) if one.name == rule.name)
    assert rule.severity in SEVERITIES
    assert said.meaning.count(".") >= 1
    assert "{" not in said.meaning + said.remedy
    if said.severity in ("critical", "warning"):
        assert said.call
    if said.call:
        compile(said.call, said.name, "eval")
        assert hasattr(vaelab, said.call.removeprefix("vaelab.").split("(")[0])


def test_evidence_prints_both_numbers():
    text = str(Evidence("squared error of unseen rows", 2.5, ">", 1.6, "zoo"))
    assert "2.5" in text
    assert "1.6" in text
    assert "above" in text
