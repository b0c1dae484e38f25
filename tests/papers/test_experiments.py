"""Tables are data; the runner trains what is missing; the same comes out however many processes there are."""

import json
from dataclasses import replace

import pytest
import torch

from vaelab.errors import InputError, VaelabError
from vaelab_papers import TABLES, Cell, Check, Ordering, Quantity, markdown, page, read, run

TABLE = TABLES["zheng/table1"]
FEW = replace(TABLE, cells=TABLE.cells[-4:])  # two shapes


OWN = [table for table in TABLES.values() if not table.results_of]


@pytest.mark.campaign
@pytest.mark.parametrize("table", OWN, ids=lambda table: table.name)
def test_every_table_runs_at_smoke_scale(table, tmp_path):
    at_smoke_scale(table, tmp_path)


@pytest.mark.parametrize("table", OWN, ids=lambda table: table.name)
def test_the_ends_of_every_table_run_at_smoke_scale(table, tmp_path):
    ends = (table.cells[0], table.cells[-1])
    at_smoke_scale(replace(table, cells=ends, orderings=(), claims=()), tmp_path)


def at_smoke_scale(table, tmp_path):
    """Run a table, look at its results and how they are shown."""
    threads = torch.get_num_threads()
    results = run(table, "smoke", tmp_path)
    assert [r.cell for r in results] == [cell.name for cell in table.cells]
    assert set(table.measures) <= {name for result in results for name in result.measured}
    for result, cell in zip(results, table.cells, strict=True):
        assert set(cell.published) <= set(result.measured)
        assert result.seconds > 0
        assert result.versions["torch"]
    text = markdown(table, results)
    quoted = len(table.quoted)
    assert text.count("\n|") == len(table.cells) + 2 + bool(quoted) * (2 + quoted)
    assert text.count("not judged") >= len(table.orderings)
    assert page([(table, results)]).count("<tr>") == len(table.cells) + 1 + bool(quoted) * (1 + quoted)
    (file,) = tmp_path.glob("*.jsonl")
    assert len(list(tmp_path.glob(f"{file.stem}/*/model.safetensors"))) == len(results)
    assert len(file.read_text().splitlines()) == len(results)
    assert torch.get_num_threads() == threads


def test_finished_cells_are_not_run_again(tmp_path, monkeypatch):
    first = run(FEW, "smoke", tmp_path)
    monkeypatch.setattr("vaelab_papers.runner.fit_together", lambda *a, **k: pytest.fail("trained again"))
    assert run(FEW, "smoke", tmp_path) == first


def test_only_missing_cells_are_run(tmp_path):
    first = run(FEW, "smoke", tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[2:]) + "\n")
    notes = []
    again = run(FEW, "smoke", tmp_path, note=notes.append)
    assert sum("2 cells" in note for note in notes) == len(notes) == 1
    for one, other in zip(first, again, strict=True):
        assert one.measured["nelbo"] == pytest.approx(other.measured["nelbo"], rel=1e-4)


def test_results_of_other_settings_are_left_out(tmp_path):
    run(FEW, "smoke", tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    line = json.loads(file.read_text().splitlines()[0])
    line["settings"]["hidden"] = 99
    file.write_text(json.dumps(line) + "\n")
    notes = []
    run(FEW, "smoke", tmp_path, note=notes.append)
    assert len(notes) == 2  # both shapes


def test_results_from_before_a_setting_existed_still_count(tmp_path):
    first = run(FEW, "smoke", tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        del line["settings"]["fit"]["weight_decay"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    notes = []
    again = run(FEW, "smoke", tmp_path, note=notes.append)
    assert not notes
    assert [result.measured for result in again] == [result.measured for result in first]


@pytest.mark.campaign
def test_two_processes_measure_what_one_does(tmp_path):
    alone = run(FEW, "smoke", tmp_path / "1")
    side_by_side = run(FEW, "smoke", tmp_path / "2", processes=2)
    assert [r.cell for r in alone] == [r.cell for r in side_by_side]
    assert [r.measured for r in alone] == [r.measured for r in side_by_side]


def test_a_large_group_is_divided_alike_whatever_the_processes(tmp_path):
    scales = {"smoke": replace(TABLE.scales["smoke"], seeds=4, rows=100)}
    notes = []
    results = run(replace(TABLE, cells=TABLE.cells[:2], scales=scales), "smoke", tmp_path, note=notes.append)
    assert [r.seed for r in results] == [0, 1, 2, 3] * 2
    assert [note.split(", ")[2].split(" in ")[0] for note in notes] == ["4 cells", "4 cells"]


def test_the_other_groups_finish_when_one_fails(tmp_path):
    def build(cell, scale, seed):
        if cell.axes["κ"] == 5:
            raise InputError("a cell that cannot be built", "another")
        return TABLE.build(cell, scale, seed)

    broken = replace(FEW, build=build)
    with pytest.raises(VaelabError, match=r"1 of 2 groups of zheng/table1 failed: \[κ=5, d=20, r=6; .*cannot be built"):
        run(broken, "smoke", tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    assert [result.cell for result in read(file)] == [FEW.cells[0].name]
    assert len(run(FEW, "smoke", tmp_path)) == 4  # and can be completed


def test_checks():
    assert Check("active", "equal").passed(2, 2)
    assert not Check("active", "equal").passed(3, 2)
    assert Check("nelbo", "at most").passed(-3.0, -2.5)
    assert not Check("nelbo", "at most").passed(-2.0, -2.5)


@pytest.mark.parametrize(("by", "passed"), [(0, True), (2, True), (2.5, False), (-1, True)])
def test_orderings(by, passed):
    values = {Quantity("a", "active"): 5.0, Quantity("b", "active"): 7.0}
    low, high = values
    assert Ordering("a below b", low, high, by).passed(values.__getitem__) is passed
    assert Ordering("b below a", high, low, by).passed(values.__getitem__) is (by == -3)


@pytest.mark.parametrize("name", TABLES)
def test_orderings_name_cells_that_are_there(name):
    cells = {cell.name for cell in TABLES[name].cells}
    assert {q.cell for o in TABLES[name].orderings for q in (o.lower, o.upper)} <= cells


def test_cells_have_axes_of_words_and_numbers():
    cell = Cell({"data": "mnist", "κ": 32, "lr": 0.5}, {})
    assert cell.name == "data=mnist, κ=32, lr=0.5"
    assert cell.number("κ") == 32


def test_what_cannot_be_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="huge"):
        run(TABLE, "huge", tmp_path)
    with pytest.raises(InputError, match="processes=0"):
        run(TABLE, "smoke", tmp_path, processes=0)
    assert read(tmp_path / "none.jsonl") == []
