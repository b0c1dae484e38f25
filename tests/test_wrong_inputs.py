"""A part of the campaign of wrong inputs: each is refused clearly, or handled; see `tests.wrong_inputs`."""

import pytest
from tests.wrong_inputs import in_python, in_shell
from tests.wrong_inputs.judging import Case, counted, dealt, judged


@pytest.mark.parametrize(("module", "number"), [(in_python, 250), (in_shell, 100)], ids=["python", "shell"])
@pytest.mark.parametrize("part", [pytest.param(part, marks=pytest.mark.campaign) for part in range(4)])
def test_wrong_inputs_are_refused_or_handled(module, number, part):
    outcomes = [judged(case, module.REFUSALS) for case in dealt(module.cases(), part, number)]
    assert all(one.right for one in outcomes), counted(outcomes)


def test_the_campaign_tells_refusals_from_faults():
    def foreign():
        raise KeyError("a")

    def refused():
        raise in_python.REFUSALS[0]("said clearly")

    kinds = {
        "foreign": Case("", foreign),
        "refused": Case("", refused),
        "silent": Case("", lambda: 1.0),
        "handled": Case("", lambda: 1.0, may=True),
    }
    for kind, case in kinds.items():
        assert judged(case, in_python.REFUSALS).kind == kind
    assert judged(Case("", lambda: float("nan"), may=True), ()).kind == "silent"
    assert {case.name for case in dealt(in_python.cases(), 0, 250)}.isdisjoint(
        case.name for case in dealt(in_python.cases(), 1, 250)
    )
