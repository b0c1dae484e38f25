"""Measured beside published, as Markdown and as one page of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean
from typing import Final

from vaelab_papers.claims import Check, Claim, Quantity, rank_correlation
from vaelab_papers.runner import Result
from vaelab_papers.table import Cell, Table

_HEADS: Final = {
    "active": "active dimensions",
    "recon": "squared error",
    "kl": "KL",
    "gamma": "γ",
    "nelbo": "−ELBO",
    "mse": "MSE",
    "sigma2": "σ_z²",
    "mi": "MI",
    "gap_2": "gap 10⁻²",
    "gap_3": "gap 10⁻³",
    "els": "ELS",
    "second_stage": "2nd VAE",
    "gmm10": "GMM-10",
    "gmm100": "GMM-100",
    "nll": "NLL",
    "all": "γ of all",
}


@dataclass(frozen=True)
class Entry:
    """One number of one row: measured, published if it is, and whether it passes the check on it, if there is one.

    A count of dimensions has the count by the widest gap beside it, where that is another.
    """

    measured: float
    by_gap: float | None
    published: float | None
    passed: bool | None

    @property
    def found(self) -> str:
        """What was measured."""
        gap = "" if self.by_gap is None else f" ({_number(self.by_gap)} by gap)"
        return _number(self.measured) + gap

    @property
    def text(self) -> str:
        """``measured / published``."""
        return self.found + ("" if self.published is None else f" / {_number(self.published)}")


def markdown(table: Table, results: Sequence[Result]) -> str:
    """Lay a table out as Markdown.

    Parameters
    ----------
    table
        What was run.
    results
        Its results, in its order.

    Returns
    -------
    str
        A title, one line per result with a mark at every number that is checked, and the orderings below.
    """
    head = ["cell", *(_head(table, name) for name in table.measures)]
    lines = [f"**{_flat(table.title)}** ({_flat(table.source)}); measured / published", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for label, entries in _rows(table, results):
        texts = ["" if entry is None else entry.text + _mark(entry.passed) for entry in entries]
        lines.append("| " + " | ".join([_flat(label), *texts]) + " |")
    judged = _judged(table, results)
    lines += [""] * bool(judged)
    for claim, found, passed in judged:
        verdict = "holds" if passed else "does not hold"
        lines.append(f"-{_mark(passed)} {_flat(claim.claim)}: {_numbers(found)}, {verdict}")
    ranks = _ranks(table, results)
    lines += ["", ranks] * bool(ranks)
    every = (entry for _, entries in _rows(table, results) for entry in entries if entry is not None)
    checks = [entry.passed for entry in every if entry.passed is not None]
    lines += ["", _flat(table.convention)] * bool(table.convention)
    if checks:
        lines += ["", f"{sum(checks)} of {len(checks)} checks agree with the paper."]
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
    head = "".join(f"<th scope=col>{escape(_head(table, name))}</th>" for name in table.measures)
    rows = []
    for label, entries in _rows(table, results):
        cells = "".join("<td></td>" if entry is None else _cell(entry) for entry in entries)
        rows.append(f"<tr><th scope=row>{escape(label)}</th>{cells}</tr>")
    claims = []
    for claim, found, passed in _judged(table, results):
        word, kind = ("holds", "good") if passed else ("does not hold", "off")
        claims.append(f"<li>{escape(claim.claim)}: {_numbers(found)} <b class={kind}>{word}</b></li>")
    made = results[0] if results else None
    facts = "" if made is None else f"scale {made.scale}, {sum(r.seconds for r in results):,.0f} s of training, "
    facts += "" if made is None else ", ".join(f"{name} {value}" for name, value in made.versions.items())
    return (
        f"<section>\n<h1>{escape(table.title)}</h1>\n<p class=source>{escape(table.source)}; measured / published</p>\n"
        f"<div class=wide><table>\n<thead><tr><th scope=col>cell</th>{head}</tr></thead>\n"
        "<tbody>\n" + "\n".join(rows) + "\n</tbody>\n"
        "</table></div>\n"
        + (f"<ul>{''.join(claims)}</ul>\n" if claims else "")
        + (f"<p>{escape(ranks)}</p>\n" if (ranks := _ranks(table, results)) else "")
        + f"<p class=note>{escape(facts)}</p>\n</section>"
    )


def _cell(entry: Entry) -> str:
    published = "" if entry.published is None else f"<span class=published>{_number(entry.published)}</span>"
    verdict = ""
    if entry.passed is not None:
        word, kind = ("agrees", "good") if entry.passed else ("differs", "off")
        verdict = f"<b class={kind}>{word}</b>"
    return f"<td><span>{entry.found}</span>{published}{verdict}</td>"


def _head(table: Table, name: str) -> str:
    """Name a column, with the rule that its numbers are checked by."""
    rules = [f" ({check.rule})" for check in table.checks if check.measure == name]
    return _HEADS.get(name, name) + "".join(rules)


def _rows(table: Table, results: Sequence[Result]) -> list[tuple[str, list[Entry | None]]]:
    cells = {cell.name: cell for cell in table.cells}
    checks = {check.measure: check for check in table.checks}
    several = any(result.seed for result in results)
    return [
        (
            f"{result.cell}, seed {result.seed}" if several else result.cell,
            [_entry(result, cells[result.cell], name, checks.get(name)) for name in table.measures],
        )
        for result in results
    ]


def _entry(result: Result, cell: Cell, name: str, check: Check | None) -> Entry | None:
    if name not in result.measured:
        return None
    measured, published = result.measured[name], cell.published.get(name)
    passed = None if check is None or published is None else check.passed(measured, published)
    by_gap = (
        result.measured.get(name.replace("active", "by_gap", 1), measured) if name.startswith("active") else measured
    )
    return Entry(measured, None if by_gap == measured else by_gap, published, passed)


def _judged(table: Table, results: Sequence[Result]) -> list[tuple[Claim, tuple[float, ...], bool]]:
    """Return every claim whose cells are there with its numbers, and whether it holds."""

    def measured(quantity: Quantity) -> float:
        return fmean(result.measured[quantity.measure] for result in results if result.cell == quantity.cell)

    there = {Quantity(result.cell, name) for result in results for name in result.measured}
    known = [one for one in (*table.orderings, *table.claims) if there.issuperset(one.quantities)]
    return [(one, one.found(measured), one.passed(measured)) for one in known]


def _ranks(table: Table, results: Sequence[Result]) -> str:
    """Say how alike the orders of the cells are, measured and published."""
    published = {cell.name: cell.published for cell in table.cells}
    texts = []
    for name in table.ranked:
        pairs = [
            (result.measured[name], published[result.cell][name])
            for result in results
            if name in result.measured and name in published[result.cell]
        ]
        if len(pairs) > 2:
            value = rank_correlation([one for one, _ in pairs], [other for _, other in pairs])
            texts.append(f"{_HEADS.get(name, name)} {_number(round(value, 2))} ({len(pairs)} cells)")
    return f"Rank correlation of measured with published: {', '.join(texts)}." if texts else ""


def _mark(passed: bool | None) -> str:
    return "" if passed is None else " ✓" if passed else " ✗"


def _number(value: float) -> str:
    """Three digits, or a whole number, with a true minus sign."""
    text = f"{abs(value):,.0f}" if abs(value) >= 100 else f"{abs(value):.3g}"
    return f"−{text}" if value < 0 else text


def _numbers(values: Sequence[float]) -> str:
    return " and ".join(_number(value) for value in values)


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
h1 { font-size: 1.35rem; font-weight: 600; line-height: 1.3; margin: 0 0 .25rem; }
.source, .note { color: var(--soft); font-size: .875rem; margin: 0 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .4rem .9rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
tbody tr:hover { background: var(--band); }
th:first-child { text-align: left; font-weight: 500; padding-left: 0; }
.published { color: var(--soft); margin-left: .3em; }
.published::before { content: "/ "; }
b { font-weight: 600; font-size: .75rem; margin-left: .6em; }
.good { color: var(--good); } .good::before { content: "✓ "; }
.off { color: var(--off); } .off::before { content: "✗ "; }
ul { padding-left: 1.2rem; }
"""
