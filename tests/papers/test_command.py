"""``vaelab reproduce``: lists, runs, writes."""

import pytest

from vaelab.cli import main
from vaelab_papers import TABLES, THEOREMS

NAME = "zheng/table3"


def test_without_a_table_they_are_listed(capsys):
    assert main(["reproduce"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*TABLES, *THEOREMS]


def test_one_table_is_printed_and_written(tmp_path, capsys):
    assert main(["reproduce", NAME, "--scale", "smoke", "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "measured / published" in printed.out
    assert "group 5 of 5" in printed.err
    stem = "zheng-table3-smoke"
    assert sorted(path.name for path in tmp_path.iterdir()) == [stem, f"{stem}.html", f"{stem}.jsonl", f"{stem}.md"]
    assert (tmp_path / f"{stem}.md").read_text() in printed.out
    assert (tmp_path / f"{stem}.html").read_text().startswith("<!doctype html>")


def test_all_runs_every_table_that_has_the_scale(tmp_path, monkeypatch, capsys):
    ran = []

    def record(table, scale, folder, *, processes, note, inception, download):
        ran.append((table.name, scale, processes))
        return []

    monkeypatch.setattr("vaelab_papers.run", record)
    monkeypatch.setattr("vaelab_papers.needs.check_needs", lambda table, scale, **given: None)
    monkeypatch.setattr("vaelab_papers.markdown", lambda table, results: f"# {table.name}\n")
    monkeypatch.setattr("vaelab_papers.page", lambda tables: f"{len(tables)} tables")
    assert main(["reproduce", "all", "--scale", "smoke", "-o", str(tmp_path)]) == 0
    assert ran == [(name, "smoke", 1) for name in TABLES]
    assert (tmp_path / "all-smoke.html").read_text() == f"{len(TABLES)} tables"
    ran.clear()
    assert main(["reproduce", "all", "--scale", "paper", "--processes", "3", "-o", str(tmp_path)]) == 0
    assert ran == [(name, "paper", 3) for name, table in TABLES.items() if "paper" in table.scales]
    assert capsys.readouterr().out.count("# ") == len(TABLES) + len(ran)


@pytest.mark.parametrize("arguments", [["zheng/table77"], [NAME, "--processes", "0"]])
def test_what_cannot_be_run_is_refused(arguments, tmp_path, capsys):
    assert main(["reproduce", *arguments, "-o", str(tmp_path)]) == 2
    assert "Got" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
