"""Tables never mix protocols unmarked; JSON holds everything."""

import json
from dataclasses import replace

import pytest

from vaelab.errors import InputError
from vaelab.metrics.report import Nats, Reading, Report, merge

READING = Reading(
    row="mixture",
    measure="frechet",
    value=12.3456,
    low=11.9,
    high=12.8,
    interval="5 draws",
    n=10_000,
    n_reference=10_000,
    floor=1.25,
    floor_n=10_000,
    protocol="classifier-10k",
    version=1,
    hash="aaaaaaaa",
    extractor="e" * 64,
    reference="f" * 64,
)


def _row(table, name):
    return next(line for line in table.splitlines() if line.startswith(name))


def test_a_number_stands_with_its_interval_floor_and_protocol():
    table = str(Report("x", [READING]))
    assert "12.35 ± 0.45" in _row(table, "mixture")
    assert "1.25" in _row(table, "floor: 10,000 real rows")
    for part in ("classifier-10k v1 (aaaaaaaa)", "eeeeeeee", "ffffffff", "10,000 against 10,000 rows", "5 draws"):
        assert part in table


def test_one_protocol_needs_no_marks():
    assert "¹" not in str(Report("x", [READING, replace(READING, row="prior")]))


@pytest.mark.parametrize(
    "change", [{"hash": "b"}, {"extractor": "other"}, {"reference": "other"}, {"n": 500}, {"n_reference": 500}]
)
def test_numbers_that_do_not_compare_are_marked(change):
    table = str(Report("x", [READING, replace(READING, row="prior", **change)]))
    assert _row(table, "mixture").startswith("mixture¹")
    assert _row(table, "prior").startswith("prior²")
    assert "do not compare" in table
    assert table.count("protocol classifier-10k") == 2


def test_a_frechet_distance_is_called_fid_only_with_the_published_weights():
    assert READING.title == "Fréchet ↓"
    assert replace(READING, extractor="6726825d" + "0" * 56).title == "FID ↓"
    assert replace(READING, extractor="6726825d" + "0" * 56, measure="kernel").title == "KID ↓"
    assert replace(READING, extractor="6726825d" + "0" * 56, measure="recall").title == "recall ↑"


def test_merged_reports_keep_their_subjects_and_marks():
    other = Report("b", [replace(READING, hash="bbbbbbbb")], pixels={"PSNR": 20.0}, notes=["same", "own"])
    whole = merge([Report("a", [READING], pixels={"PSNR": 21.0}, notes=["same"]), other])
    assert [r.row for r in whole.readings] == ["a: mixture", "b: mixture"]
    assert whole.pixels == {"a: PSNR": 21.0, "b: PSNR": 20.0}
    assert whole.notes == ["same", "own"]
    assert "a: mixture¹" in str(whole)
    assert merge([other]) is other


def test_json_holds_everything_and_no_infinity():
    report = Report("x", [READING], [Nats("prior", "bound", float("nan"), 0.0, float("inf"), 5, 10)], {"PSNR": 20.0})
    values = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert values["readings"][0]["hash"] == "aaaaaaaa"
    assert values["likelihood"][0]["value"] is None
    assert values["likelihood"][0]["high"] is None


def test_likelihoods_carry_draws_rows_and_caveats():
    numbers = [
        Nats("prior", "bound", -90.0, -91.0, -89.0, 500, 1000, "cross-entropy of grey values is no density"),
        Nats("prior", "elbo", -95.0, -96.0, -94.0, 500, 1000),
    ]
    table = str(Report("x", likelihood=numbers))
    assert "-90.0 ± 1.0" in _row(table, "prior")
    assert "k = 500" in table
    assert "1,000 rows" in table
    assert "Not a log-density: cross-entropy" in table


def test_values_by_name():
    report = Report("x", [READING])
    assert report.value("mixture", "frechet") == 12.3456
    with pytest.raises(InputError, match="mixture frechet"):
        report.value("mixture", "kernel")


def test_markdown_is_a_table():
    lines = Report("x", [READING]).table("markdown").splitlines()
    assert lines[0].startswith("| ")
    assert set(lines[1]) <= set("|-")
