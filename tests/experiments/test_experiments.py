"""Tables are data; the runner trains what is missing; the renderer sets measured beside published."""

import json

import pytest

from vaelab.cli import main
from vaelab.errors import InputError
from vaelab.experiments import TABLES, Check, read, render, run


@pytest.mark.parametrize("name", TABLES)
def test_every_table_runs_at_smoke_scale(name, tmp_path):
    table = TABLES[name]
    results = run(table, "smoke", tmp_path)
    assert [r.cell for r in results] == [cell.name for cell in table.cells]
    for result in results:
        assert set(next(c for c in table.cells if c.name == result.cell).published) <= set(result.measured)
        assert result.seconds > 0
        assert result.versions["torch"]
    text = render(table, results)
    assert text.count("\n|") == len(table.cells) + 2
    (file,) = tmp_path.iterdir()
    assert len(file.read_text().splitlines()) == len(results)


def test_finished_cells_are_not_run_again(tmp_path, monkeypatch):
    table = TABLES["zheng/table1"]
    first = run(table, "smoke", tmp_path)
    monkeypatch.setattr("vaelab.experiments.runner.fit_together", lambda *a, **k: pytest.fail("trained again"))
    assert run(table, "smoke", tmp_path) == first


def test_only_missing_cells_are_run(tmp_path):
    table = TABLES["zheng/table1"]
    first = run(table, "smoke", tmp_path)
    (file,) = tmp_path.iterdir()
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[3:]) + "\n")
    notes = []
    again = run(table, "smoke", tmp_path, note=notes.append)
    assert sum("training 3 cells" in note for note in notes) == 1
    for one, other in zip(first, again, strict=True):
        assert one.measured["nelbo"] == pytest.approx(other.measured["nelbo"], rel=1e-4)


def test_results_of_other_settings_are_left_out(tmp_path):
    table = TABLES["zheng/table1"]
    run(table, "smoke", tmp_path)
    (file,) = tmp_path.iterdir()
    line = json.loads(file.read_text().splitlines()[0])
    line["settings"]["hidden"] = 99
    file.write_text(json.dumps(line) + "\n")
    notes = []
    run(table, "smoke", tmp_path, note=notes.append)
    assert len(notes) == 4  # shapes


def test_checks():
    assert Check("active", "equal").passed(2, 2)
    assert not Check("active", "equal").passed(3, 2)
    assert Check("nelbo", "at most").passed(-3.0, -2.5)
    assert not Check("nelbo", "at most").passed(-2.0, -2.5)


def test_a_scale_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="huge"):
        TABLES["zheng/table1"].scale("huge")


def test_nothing_is_read_from_a_file_that_is_not_there(tmp_path):
    assert read(tmp_path / "none.jsonl") == []


def test_from_the_shell(tmp_path, capsys):
    assert main(["reproduce"]) == 0
    assert "zheng/table1" in capsys.readouterr().out
    assert main(["reproduce", "zheng/table1", "--scale", "smoke", "-o", str(tmp_path)]) == 0
    assert "measured / published" in capsys.readouterr().out
    assert main(["reproduce", "zheng/table77"]) == 2
