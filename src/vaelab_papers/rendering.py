"""Measured beside published, as Markdown and as one page of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from vaelab_papers.layout import Entry, Verdict, choices, columns, number, ranks, rows, verdicts
from vaelab_papers.runner import Result
from vaelab_papers.scope import statement
from vaelab_papers.table import Table

_QUOTED: Final = "Published, and not trained here"


def markdown(table: Table, results: Sequence[Result]) -> str:
    """Lay a table out as Markdown.

    Parameters
    ----------
    table
        What was run.
    results
        Its results.

    Returns
    -------
    str
        A title; what the numbers are of (`statement`); one line per cell with a mark at every number that is checked;
        the claims; and published numbers of what is not trained here.
    """
    head = ["cell", *(column.head for column in columns(table, results))]
    lines = [f"**{_flat(table.title)}** ({_flat(table.source)}); measured / published", ""]
    lines += [f"{_flat(line)}  " for line in statement(table, results)]
    lines += ["", *_grid(head, _texts(table, results))]
    found = verdicts(table, results)
    lines += [""] * bool(found)
    lines += [f"-{_mark(one.passed)} {_flat(one.claim.claim)}: {_numbers(one.found)}, {_word(one)}" for one in found]
    lines += [line for text in choices(table, results) for line in ("", _flat(text))]
    order = ranks(table, results)
    lines += ["", order] * bool(order)
    lines += ["", _flat(table.convention)] * bool(table.convention)
    every = (entry for _, entries in rows(table, results) for entry in entries if entry is not None)
    checks = [entry.passed for entry in every if entry.passed is not None]
    if checks:
        lines += ["", f"{sum(checks)} of {len(checks)} checks agree with the paper."]
    if table.quoted:
        lines += ["", f"{_QUOTED}:", "", *_grid(["row", *_quoted_columns(table)], _quoted_texts(table))]
    return "\n".join(lines) + "\n"


def page(tables: Sequence[tuple[Table, Sequence[Result]]]) -> str:
    """Lay tables out as one HTML page that needs no other file.

    Parameters
    ----------
    tables
        Tables with their results, as for `markdown`.
    """
    body = "\n".join(_section(table, results) for table, results in tables)
    names = ", ".join(table.name for table, _ in tables)
    texts = dict.fromkeys(table.convention for table, _ in tables if table.convention)
    notes = "".join(f"<p class=note>{escape(text)}</p>\n" for text in texts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(names)}: measured and published</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n{notes}</main>\n</body>\n</html>\n"
    )


def _section(table: Table, results: Sequence[Result]) -> str:
    head = [column.head for column in columns(table, results)]
    body = [
        (label, ["<td></td>" if entry is None else _cell(entry) for entry in entries])
        for label, entries in rows(table, results)
    ]
    claims = [
        f"<li>{escape(one.claim.claim)}: {_numbers(one.found)} {_verdict(one.passed, _word(one))}</li>"
        for one in verdicts(table, results)
    ]
    seconds = f"{sum(result.seconds for result in results):,.0f} s of training"
    made = [f"{name} {value}" for name, value in (results[0].versions if results else {}).items()]
    scope = "".join(f"<p class=scope>{escape(line)}</p>\n" for line in statement(table, results))
    quoted = [(name, [f"<td>{text}</td>" for text in texts]) for name, *texts in _quoted_texts(table)]
    return (
        f"<section>\n<h1>{escape(table.title)}</h1>\n<p class=source>{escape(table.source)}; measured / published</p>\n"
        + scope
        + _html_grid("cell", head, body)
        + (f"<ul>{''.join(claims)}</ul>\n" if claims else "")
        + "".join(f"<p>{escape(text)}</p>\n" for text in choices(table, results))
        + (f"<p>{escape(order)}</p>\n" if (order := ranks(table, results)) else "")
        + (f"<h2>{_QUOTED}</h2>\n" + _html_grid("row", _quoted_columns(table), quoted) if quoted else "")
        + f"<p class=note>{escape(', '.join([seconds, *made]) if results else '')}</p>\n</section>"
    )


def _html_grid(corner: str, head: Sequence[str], body: Sequence[tuple[str, list[str]]]) -> str:
    names = "".join(f"<th scope=col>{escape(name)}</th>" for name in head)
    lines = [f"<tr><th scope=row>{escape(label)}</th>{''.join(cells)}</tr>" for label, cells in body]
    return (
        f"<div class=wide><table>\n<thead><tr><th scope=col>{corner}</th>{names}</tr></thead>\n"
        "<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table></div>\n"
    )


def _cell(entry: Entry) -> str:
    measured = f"<span>{entry.found}</span>" if entry.found else ""
    published = "".join(f"<span class={'published' if measured else 'alone'}>{text}</span>" for text in entry.printed)
    return f"<td>{measured}{published}{_verdict(entry.passed, 'agrees' if entry.passed else 'differs')}</td>"


def _verdict(passed: bool | None, word: str) -> str:
    if passed is None:
        return f"<i>{word}</i>" if word == _UNJUDGED else ""
    return f"<b class={'good' if passed else 'off'}>{word}</b>"


_UNJUDGED: Final = "not judged"


def _word(verdict: Verdict) -> str:
    return _UNJUDGED if verdict.passed is None else "holds" if verdict.passed else "does not hold"


def _texts(table: Table, results: Sequence[Result]) -> list[list[str]]:
    return [
        [label, *("" if entry is None else entry.text + _mark(entry.passed) for entry in entries)]
        for label, entries in rows(table, results)
    ]


def _quoted_columns(table: Table) -> list[str]:
    return list(dict.fromkeys(name for numbers in table.quoted.values() for name in numbers))


def _quoted_texts(table: Table) -> list[list[str]]:
    names = _quoted_columns(table)
    return [
        [label, *(number(numbers[name]) if name in numbers else "" for name in names)]
        for label, numbers in table.quoted.items()
    ]


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(map(_flat, head)) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(map(_flat, row)) + " |" for row in body]


def _mark(passed: bool | None) -> str:
    return "" if passed is None else " ✓" if passed else " ✗"


def _numbers(values: Sequence[float]) -> str:
    return " and ".join(number(value) for value in values)


def _flat(text: str) -> str:
    """Text that cannot end a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5d6b7a; --line: #dfe4ea; --back: #ffffff; --band: #f6f8fa;
  --good: #12703f; --off: #a8391c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #98a5b3; --line: #2e3742; --back: #12171d;
  --band: #1a2129; --good: #5ccb93; --off: #f09273; } }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 84rem; margin: 0 auto; padding: 2.5rem 1.25rem; }
section { margin-bottom: 3.5rem; }
h2 { font-size: 1rem; font-weight: 600; margin: 1.5rem 0 .5rem; }
h1 { font-size: 1.35rem; font-weight: 600; line-height: 1.3; margin: 0 0 .25rem; }
.source, .note { color: var(--soft); font-size: .875rem; margin: 0 0 1rem; }
.scope { margin: 0; border-left: 3px solid var(--line); padding-left: .8rem; }
.wide { overflow-x: auto; margin-top: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .4rem .9rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
tbody tr:hover { background: var(--band); }
th:first-child { text-align: left; font-weight: 500; padding-left: 0; }
.published, .alone { color: var(--soft); }
.published { margin-left: .3em; }
.published::before { content: "/ "; }
b { font-weight: 600; font-size: .75rem; margin-left: .6em; }
.good { color: var(--good); } .good::before { content: "✓ "; }
.off { color: var(--off); } .off::before { content: "✗ "; }
ul { padding-left: 1.2rem; }
"""
