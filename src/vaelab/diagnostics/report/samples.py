"""The page of a table of samples beside real rows: one file without anything to fetch."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup

from vaelab.data.schema_text import in_words
from vaelab.diagnostics.report.canvas import BLUE, GREEN, GREY, ORANGE, Chart, Picture, number, share
from vaelab.diagnostics.report.page import WORDS, environment
from vaelab.diagnostics.report.tables import ReportCell, ReportTable
from vaelab.diagnostics.table_pictures import marginal, plain

if TYPE_CHECKING:
    from vaelab.diagnostics.table_comparison import TableComparison

_MOST_PANELS, _MOST_BARS, _MOST_PAIRS, _MOST_LISTED = 24, 12, 30, 50
_NAMED = 15  # columns of a heat map, up to which their names stand beside it
_SLIGHT, _CLEAR, _PLAIN = 0.6, 0.75, 0.9  # areas under the curve from which fake rows are told apart
_LEAK = 0.6  # area under the curve of the attack on rows of the training, from which they are given away


class SampleVerdict(NamedTuple):
    """The point of the page: how severe, in a line, and what that means."""

    severity: str
    title: str
    meaning: str


def render_samples(found: TableComparison) -> str:
    """Render a comparison of two tables as one self-contained HTML page.

    Returns
    -------
    str
        HTML with its styles, its pictures and a short script for sorting tables; nothing is loaded from elsewhere.
    """
    real, fake = found.rows
    verdict = verdict_of(found)
    drawn = [_clues(found), _privacy(found), _pairs(found), _gaps(found), _marginals(found)]
    if _leaks(found):  # what the verdict rests on comes first
        drawn.insert(0, drawn.pop(1))
    return (
        environment()
        .get_template("samples.html")
        .render(
            verdict=verdict,
            word=WORDS[verdict.severity],
            what=f"{fake:,} fake rows beside {real:,} real ones · {len(found.columns)} columns",
            facts=_facts(found),
            pictures=[picture for picture in drawn if picture is not None],
            tables=[table for table in (_columns(found), _worst_pairs(found)) if table.rows],
            version=version("vaelab"),
        )
    )


def verdict_of(found: TableComparison) -> SampleVerdict:
    """Say the one thing that matters most: what fake rows give away, else what gives them away."""
    attack, (low, high) = found.membership, found.told_apart.interval
    area, copied = found.told_apart.value, found.copies - found.copies_real
    if _leaks(found):
        return SampleVerdict(
            "critical",
            "These rows give away what they were learned from",
            f"Membership inference tells rows of the training from others with an area under the curve of "
            f"{attack.value:.2f}, where 0.50 gives nothing away: fake rows lie closer to them than to real rows that "
            "were not trained on. Do not share them where the training rows are private; train shorter, on more rows, "
            "or with a smaller model.",
        )
    if copied > 0.01:
        return SampleVerdict(
            "critical",
            f"{share(found.copies)} of these rows are copies of training rows",
            f"Of real rows that were not trained on, {share(found.copies_real)} equal one of those by chance. Do not "
            "share them where the training rows are private.",
        )
    holes = [sum(column[k] for column in ((c.gaps_real, c.gaps_fake) for c in found.columns)) for k in (0, 1)]
    clue = int(np.argmax(found.clues))
    first = f" They go by “{plain(found.columns[clue].name)}” first." if found.clues[clue] > 0.01 else ""
    trees = f"trees tell them from real rows with an area under the curve of {area:.2f} [{low:.2f}, {high:.2f}]"
    if low <= 0.5 <= high or area < 0.5:
        copies = " Well below 0.50, rows of one table are copies of the other's." if high < 0.5 else ""
        return SampleVerdict("good", "These rows pass for real ones", f"{trees.capitalize()}: by chance.{copies}")
    titles = (
        (_SLIGHT, "good", "These rows nearly pass for real ones"),
        (_CLEAR, "note", "These rows are told from real ones now and then"),
        (_PLAIN, "warning", "These rows are often told from real ones"),
        (math.inf, "critical", "These rows are easily told from real ones"),
    )
    severity, title = next((severity, title) for most, severity, title in titles if area < most)
    if holes[0] and not holes[1]:
        first += " Real rows have gaps and these have none, which alone tells them apart: sample with missing=True."
    return SampleVerdict(severity, title, f"{trees.capitalize()}; 0.50 is by chance, 1.00 always.{first}")


def _leaks(found: TableComparison) -> bool:
    """Whether rows of the training are given away; by a little is said in the picture alone."""
    return found.membership.value > _LEAK and found.membership.interval[0] > 0.5


def _facts(found: TableComparison) -> list[tuple[str, str]]:
    facts = [("told apart by trees; 0.50 is best", f"{found.told_apart.value:.2f}")]
    facts.append(("agreement of columns; 1 is best", f"{found.shape:.3f}"))
    if not math.isnan(found.pair):
        facts.append(("agreement of pairs; 1 is best", f"{found.pair:.3f}"))
    if not math.isnan(found.membership.value):
        facts.append(("membership inference; 0.50 is best", f"{found.membership.value:.2f}"))
    if not math.isnan(found.copies):
        facts.append((f"copies of training rows; of real rows {share(found.copies_real)}", share(found.copies)))
    if found.target is not None:
        beside = "" if math.isnan(found.taught_by_real) else f"; from real rows {number(found.taught_by_real)}"
        facts.append((f"score of “{plain(found.target)}” learned from these rows{beside}", number(found.taught)))
    return facts


def _clues(found: TableComparison) -> Picture:
    order = np.argsort(-found.clues)[:_MOST_BARS]
    names, lost = [plain(found.columns[j].name) for j in order], [max(0.0, float(found.clues[j])) for j in order]
    with Chart(0.9 + 0.22 * len(names)) as chart:
        axis = chart.axes()
        axis.barh(range(len(names)), lost, color=ORANGE, height=0.66)
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
        axis.set_xlim(0, max(0.05, 1.05 * max(lost)))
        axis.set_xlabel("area under the curve that is lost without it")
    given_away = found.told_apart.interval[0] > 0.5 and lost[0] > 0.01
    title = f"“{names[0]}” gives fake rows away most" if given_away else "No single column gives fake rows away"
    text = (
        "Gradient-boosted trees tell fake rows from real ones; how much worse they do where a column is shuffled says "
        "how much they go by it, alone or with others."
    )
    listed = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, lost, strict=True))
    return Picture("clues", title, text, chart.markup("clues", f"Area under the curve that is lost: {listed}."))


def _privacy(found: TableComparison) -> Picture | None:
    attack = found.membership
    if math.isnan(attack.value):
        return None
    rows = (("told apart by trees", found.told_apart, ORANGE), ("membership inference", attack, BLUE))
    with Chart(1.5) as chart:
        axis = chart.axes()
        for place, (_, area, colour) in enumerate(rows):
            axis.plot(area.interval, [place, place], color=colour, linewidth=5, solid_capstyle="round", alpha=0.45)
            axis.plot([area.value], [place], "o", color=colour, markersize=8)
        axis.axvline(0.5, color=GREEN, linewidth=1.5)
        axis.set_yticks([0, 1], [label for label, _, _ in rows])
        axis.set_ylim(1.6, -0.6)
        axis.set_xlim(min(0.4, *(area.interval[0] - 0.02 for _, area, _ in rows)), 1.01)
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
        axis.set_xlabel("area under the curve, with its interval")
    told = attack.interval[0] > 0.5
    title = "Fake rows say something of" if told else "Nothing gives away"
    title += f" which rows were trained on: {attack.value:.2f} [{attack.interval[0]:.2f}, {attack.interval[1]:.2f}]"
    text = (
        "Membership inference takes a real row for one of the training where fake rows come closer to it than other "
        "real rows do. 0.5 (the line) is chance, for both: nothing can be told."
    )
    alt = "; ".join(f"{label}: {area.value:.2f}" for label, area, _ in rows)
    return Picture("privacy", title, text, chart.markup("privacy", f"Areas under the curve: {alt}."))


def _pairs(found: TableComparison) -> Picture | None:
    worst = _by_agreement(found)
    if not worst:
        return None
    some = range(min(len(found.columns), _MOST_PAIRS))
    with Chart(4.4) as chart:
        axis = chart.axes()
        axis.grid(visible=False)
        picture = axis.imshow(found.pairs[np.ix_(some, some)], vmin=0.5, vmax=1, cmap="magma")
        chart.figure.colorbar(picture, ax=axis, shrink=0.75, label="agreement of a pair")
        if len(some) <= _NAMED:
            names = [plain(found.columns[j].name)[:14] for j in some]
            axis.set_xticks(list(some), names, rotation=90, fontsize=8)
            axis.set_yticks(list(some), names, fontsize=8)
    value, i, j = worst[0]
    first, second = (plain(found.columns[k].name) for k in (i, j))
    title = f"Pairs of columns agree to {found.pair:.2f}; “{first}” and “{second}” least, to {value:.2f}"
    text = (
        "Two numbers agree as their correlations do; with a category it is the share of rows that would have to change "
        "for both tables to have the same counts. Bright is good."
    )
    return Picture("pairs", title, text, chart.markup("pairs", f"Agreement of pairs, on average {found.pair:.2f}."))


def _gaps(found: TableComparison) -> Picture | None:
    some = [column for column in found.columns if column.gaps_real or column.gaps_fake]
    if not some:
        return None
    some = sorted(some, key=lambda column: -max(column.gaps_real, column.gaps_fake))[:_MOST_BARS]
    with Chart(0.9 + 0.34 * len(some)) as chart:
        axis = chart.axes()
        places = np.arange(len(some))
        axis.barh(places - 0.18, [100 * column.gaps_real for column in some], 0.34, color=GREY)
        axis.barh(places + 0.18, [100 * column.gaps_fake for column in some], 0.34, color=ORANGE)
        axis.set_yticks(places, [plain(column.name) for column in some])
        axis.invert_yaxis()
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
        axis.set_xlabel("% missing, of real rows (grey) and of fake ones")
    real, fake = (
        float(np.mean(part)) for part in zip(*((c.gaps_real, c.gaps_fake) for c in found.columns), strict=True)
    )
    title = f"{share(real)} of real entries are missing, and {share(fake)} of fake ones"
    text = "Samples have gaps where they are asked for: sample(n, missing=True), or vaelab sample --with-gaps."
    listed = ", ".join(f"{plain(c.name)} {c.gaps_real:.2f} and {c.gaps_fake:.2f}" for c in some)
    return Picture("gaps", title, text, chart.markup("gaps", f"Shares of gaps, real and fake: {listed}."))


def _marginals(found: TableComparison) -> Picture:
    order = sorted(range(len(found.columns)), key=lambda j: _or_zero(found.columns[j].agreement))
    shown = sorted(order[:_MOST_PANELS])
    real, fake = found.tables
    panels = []
    for j in shown:
        column, held = found.columns[j], found.schema.columns[j]
        with Chart(1.75) as chart:
            axis = chart.axes()
            marginal(
                axis,
                real[:, j],
                fake[:, j],
                held.levels,
                date=held.dtype.startswith("datetime64"),
                colours=(GREY, ORANGE),
            )
            axis.set_yticks([])
            axis.grid(visible=False)
            axis.set_title(f"{plain(column.name)}   {column.agreement:.2f}", fontsize=10)
        panels.append(chart.markup(f"column-{j}", f"{plain(column.name)}: agreement {column.agreement:.2f}."))
    body = Markup('<div class="panels">{}</div>').format(Markup("").join(panels))
    worst = found.columns[order[0]]
    title = f"Columns agree to {found.shape:.2f} on average; “{plain(worst.name)}” least, to {worst.agreement:.2f}"
    text = "Real rows are filled in grey, fake ones are orange. Beside each name is how well they agree; 1 is best."
    if len(shown) < len(found.columns):
        text += f" The {len(shown)} columns that agree least of {len(found.columns)}."
    return Picture("marginals", title, text, body, wide=True)


def _columns(found: TableComparison) -> ReportTable:
    headings = (
        "Column",
        "Holds",
        "Agrees",
        "Gives away",
        "Gaps",
        "Gaps, real",
        "Out of range",
        "Off grid",
        "Levels met",
    )
    rows = []
    for column, held, clue in zip(found.columns, found.schema.columns, found.clues, strict=True):
        kind = f"{held.dtype or held.form}: {in_words(held)}"
        shares = (column.gaps_fake, column.gaps_real, column.outside, column.off_grid, column.levels)
        rows.append(
            (
                ReportCell.of(plain(column.name)),
                ReportCell.of(kind),
                ReportCell.of(column.agreement),
                ReportCell.of(float(clue)),
                *(
                    ReportCell("–" if math.isnan(one) else share(one), math.inf if math.isnan(one) else one)
                    for one in shares
                ),
            )
        )
    caption = (
        "Agreement is 1 less the largest difference of distribution functions, or of a category's shares. What a "
        "column gives away is the area under the curve that trees lose without it. Out of range and off the grid are "
        "shares of fake numbers; levels met is the share of real levels that occur."
    )
    return ReportTable("Columns", caption, headings, tuple(rows))


def _worst_pairs(found: TableComparison) -> ReportTable:
    rows = [
        tuple(ReportCell.of(part) for part in (plain(found.columns[i].name), plain(found.columns[j].name), value))
        for value, i, j in _by_agreement(found)[:_MOST_LISTED]
    ]
    return ReportTable("Pairs that agree least", "1 is best.", ("Column", "With", "Agrees"), tuple(rows))


def _by_agreement(found: TableComparison) -> list[tuple[float, int, int]]:
    """Pairs of columns, those that agree least first."""
    d = len(found.columns)
    each = [(float(found.pairs[i, j]), j, i) for i in range(d) for j in range(i)]
    return sorted(one for one in each if not math.isnan(one[0]))


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
