"""Marks are where they belong, in Markdown and in HTML."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from vaelab.training import FitSettings
from vaelab_papers import Cell, Check, Effort, Ordering, Quantity, Result, Scale, Table, Trials, markdown, page

CELLS = (
    Cell({"r": 2}, {"active": 2, "nelbo": -58.26}),
    Cell({"r": 4}, {"active": 4, "nelbo": -29.83}),
    Cell({"r": 6}, {"active": 6}),
)
TABLE = Table(
    name="made/up",
    title="Dimensions <of> & | all",
    source="nobody, 1999",
    cells=CELLS,
    scales={name: Scale(1, 1, FitSettings(epochs=1)) for name in ("smoke", "small", "paper")},
    build=lambda cell, scale, seed: pytest.fail("nothing is trained here"),
    checks=(Check("active", "equal"), Check("nelbo", "at most")),
    orderings=(
        Ordering("counts grow", Quantity("r=2", "active"), Quantity("r=4", "active"), by=1),
        Ordering("losses fall", Quantity("r=4", "nelbo"), Quantity("r=2", "nelbo"), by=0),
    ),
)


def result(r, active, nelbo, *, seed=0, scale="small"):
    measured = {"active": active, "by_gap": r, "nelbo": nelbo}
    return Result("made/up", scale, f"r={r}", seed, measured, 1.5, {}, {"torch": "2.0"})


RESULTS = [result(2, 2, -50.0), result(4, 3, -30.5), result(6, 6, -1234.5)]


def test_markdown_marks_what_is_checked():
    lines = markdown(TABLE, RESULTS).splitlines()
    assert lines[0] == r"**Dimensions <of> & \| all** (nobody, 1999); measured / published"
    assert lines[2].startswith("Scale small: at most 1 training rows, epochs 1, batch size 100, width 1, 1 trial. (The")
    assert lines[5] == "| cell | active dimensions (equal) | −ELBO (at most) |"
    assert lines[7:10] == [
        "| r=2 | 2 / 2 ✓ | −50 / −58.3 ✗ |",
        "| r=4 | 3 (4 by gap) / 4 ✗ | −30.5 / −29.8 ✓ |",
        "| r=6 | 6 / 6 ✓ | −1,234 |",
    ]
    assert "- ✓ counts grow: 2 and 3, holds" in lines
    assert "- ✗ losses fall: −30.5 and −50, does not hold" in lines
    assert lines[-1] == "3 of 5 checks agree with the paper."


def test_orderings_are_of_the_measured_numbers():
    worse = [result(2, 2, -50.0), result(4, 2, -60.0), RESULTS[2]]
    text = markdown(TABLE, worse)
    assert "- ✗ counts grow: 2 and 2, does not hold" in text
    assert "- ✓ losses fall: −60 and −50, holds" in text


def test_trials_are_a_mean_and_a_deviation():
    several = [result(2, 2, -50), result(2, 1, -52, seed=1), result(4, 4, -1), result(4, 4, -1, seed=1), RESULTS[2]]
    text = markdown(TABLE, several)
    assert "| r=2 | 1.5 ± 0.707 (2 by gap) / 2 ✗ | −51 ± 1.41 / −58.3 ✗ |" in text
    assert "| r=4 | 4 ± 0 / 4 ✓ |" in text
    assert "counts grow: 1.5 and 4, holds" in text


PROTOCOLS = replace(
    TABLE,
    cells=(
        Cell({"r": 2}, {"prior": Trials(54.5, 1.0), "nelbo": -58.26}, {"review version": {"prior": 47.0}}),
        Cell({"r": 4}, {"prior": 52.0, "nelbo": -29.83}),
        Cell({"r": 6}, {"prior": 12.6, "nelbo": -20.0}),
    ),
    scales={
        "small": Scale(1, 1, FitSettings(epochs=1), effort=Effort("classifier-10k")),
        "paper": Scale(1, 1, FitSettings(epochs=1), effort=Effort("ttur-10k")),
    },
    checks=(Check("prior", "at most"), Check("nelbo", "at most")),
    orderings=(),
    distances=("prior",),
    ranked=("prior", "nelbo"),
    quoted={"WGAN": {"mnist": Trials(6.7, 0.4)}},
)


def of_protocol(scale):
    numbers = {2: (130.0, -60.0), 4: (120.0, -40.0), 6: (110.0, -30.0)}
    return [
        Result("made/up", scale, f"r={r}", 0, dict(zip(("prior", "nelbo"), own, strict=True)), 1.0, {}, {})
        for r, own in numbers.items()
    ]


def test_distances_of_another_protocol_stand_apart_without_mark_or_rank():
    text = markdown(PROTOCOLS, of_protocol("small"))
    assert "| prior, measured | prior, published | prior, review version | −ELBO (at most) |" in text
    assert "| r=2 | 130 | 54.5 ± 1 | 47 | −60 / −58.3 ✓ |" in text
    assert "Rank correlation of measured with published: −ELBO 1 (3 cells)." in text
    assert "3 of 3 checks" in text
    assert "Published distances are of ttur-10k, other numbers" in text
    assert "130" not in re.findall(r"<span>([^<]*)</span><span class=published>", page_of("small"))


def test_distances_of_the_papers_protocol_compare():
    text = markdown(PROTOCOLS, of_protocol("paper"))
    assert "| prior (at most) | prior, review version | −ELBO (at most) |" in text
    assert "| r=2 | 130 / 54.5 ± 1 ✗ | 47 | −60 / −58.3 ✓ |" in text
    assert "prior 1 (3 cells)" in text
    assert "ttur-10k (Inception's features, FIDs), as published" in text


def page_of(scale):
    return page([(PROTOCOLS, of_protocol(scale))])


def test_what_is_quoted_has_a_table_of_its_own():
    text = markdown(PROTOCOLS, of_protocol("small"))
    assert text.endswith("Published, and not trained here:\n\n| row | mnist |\n|---|---|\n| WGAN | 6.7 ± 0.4 |\n")
    assert "<h2>Published, and not trained here</h2>" in page_of("small")


@pytest.mark.parametrize("stand_in", [False, True])
def test_nothing_is_judged_on_stand_ins_or_after_a_few_steps(stand_in):
    scale = Scale(1, 1, FitSettings(epochs=1), stand_in=stand_in)
    table = replace(TABLE, scales={"small" if stand_in else "smoke": scale}, data=("mnist",), ranked=("nelbo",))
    results = [result(one.axes["r"], 2, -60.0, scale=next(iter(table.scales))) for one in CELLS]
    text = markdown(table, results)
    assert not re.search("[✓✗]|Rank|checks", text)
    assert "| r=2 | 2 | 2 | −60 | −58.3 |" in text
    assert "counts grow: 2 and 2, not judged" in text
    first = text.splitlines()[:7]
    assert any("Nothing here compares with the paper" in line for line in first)
    assert any("stand in for mnist" in line for line in first) == stand_in
    html = page([(table, results)])
    assert "<b " not in html.split("</style>")[1]
    assert html.index("Nothing here compares") < html.index("<table>")


class Outline(HTMLParser):
    """Tags that are open, and the verdicts that were met."""

    def __init__(self):
        super().__init__()
        self.open, self.words, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "b":
            self.words.append(data)


def test_page_is_whole_self_contained_and_escaped():
    text = page([(TABLE, RESULTS)])
    outline = Outline()
    outline.feed(text)
    assert outline.open == outline.links == []
    assert outline.words == ["agrees", "differs", "differs", "agrees", "agrees", "holds", "does not hold"]
    assert "Dimensions &lt;of&gt; &amp; | all" in text
    assert "<of>" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text


def test_a_page_of_several_tables():
    text = page([(TABLE, RESULTS), (TABLE, RESULTS)])
    assert len(re.findall("<section>", text)) == 2
