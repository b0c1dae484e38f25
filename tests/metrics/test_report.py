"""Tables never mix protocols unmarked; JSON holds everything."""

import json
from dataclasses import replace

import pytest
import torch

from vaelab.errors import InputError
from vaelab.metrics.report import Reading, Report, RowMean, merge

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


def test_two_protocols_that_do_the_same_keep_their_names():
    table = str(Report("x", [READING, replace(READING, protocol="another")]))
    assert "protocol classifier-10k" in table
    assert "protocol another" in table


def test_merged_reports_keep_their_subjects_and_marks():
    mean = RowMean("prior", "bound", -90.0, -91.0, -89.0, 1000, "iwae-500", "d" * 64)
    other = Report("b", [replace(READING, hash="bbbbbbbb")], [replace(mean, reference="e" * 64)], notes=["same"])
    whole = merge([Report("a", [READING], [mean], notes=["same"]), other])
    assert [r.row for r in whole.readings] == ["a: mixture", "b: mixture"]
    assert whole.notes == ["a: same", "b: same"]
    assert "a: mixture¹" in str(whole)
    assert "a: prior¹" in str(whole)  # nats of two data sets
    assert "b: prior²" in str(whole)
    assert merge([other]) is other


def test_json_holds_everything_and_no_infinity():
    mean = RowMean("prior", "bound", float("nan"), 0.0, float("inf"), 10, "iwae-5", "d" * 64)
    values = json.loads(json.dumps(Report("x", [READING], [mean]).as_dict(), allow_nan=False))
    assert values["readings"][0]["hash"] == "aaaaaaaa"
    assert values["rows"][0]["value"] is None
    assert values["rows"][0]["high"] is None
    assert len(values["rows"][0]["hash"]) == 8


def test_means_over_rows_carry_protocol_rows_and_caveats():
    mean = RowMean("prior", "bound", -90.0, -91.0, -89.0, 1000, "iwae-500", "d" * 64, "grey values")
    table = str(Report("x", rows=[mean, replace(mean, measure="elbo", value=-95.0)]))
    assert "-90.0 ± 1.0" in _row(table, "prior")
    for part in ("protocol iwae-500", "1,000 rows dddddddd", "not a log-density: grey values", "log p(x) ≥, nats"):
        assert part in table


@pytest.mark.parametrize("change", [{"protocol": "iwae-5"}, {"reference": "other"}, {"n": 5}, {"caveat": "none"}])
def test_means_that_do_not_compare_are_marked(change):
    mean = RowMean("prior", "bound", -90.0, -91.0, -89.0, 1000, "iwae-500", "d" * 64)
    table = str(Report("x", rows=[mean, replace(mean, row="mixture", **change)]))
    assert _row(table, "prior").startswith("prior¹")
    assert _row(table, "mixture").startswith("mixture²")


def test_a_mean_over_rows_has_its_interval():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    mean = RowMean.of("prior", "elbo", values, protocol="iwae-5", reference="d")
    assert mean.value == 3.0
    assert mean.high - mean.value == pytest.approx(1.96 * values.std().item() / 2)


def test_the_kind_of_interval_is_said_of_each_row():
    jackknife = replace(READING, row="reconstructions", interval="jackknife over 10 groups of rows")
    table = str(Report("x", [READING, replace(READING, row="prior"), jackknife]))
    assert "±: 95 %, 5 draws (reconstructions: jackknife over 10 groups of rows)" in table


def test_values_by_name():
    report = Report("x", [READING])
    assert report.value("mixture", "frechet") == 12.3456
    with pytest.raises(InputError, match="mixture frechet"):
        report.value("mixture", "kernel")


def test_markdown_is_a_table():
    lines = Report("x", [READING]).table("markdown").splitlines()
    assert lines[0].startswith("| ")
    assert set(lines[1]) <= set("|-")
