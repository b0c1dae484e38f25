"""Marks are where they belong, in Markdown and in HTML."""

import re
from html.parser import HTMLParser

import pytest

from vaelab.training import FitSettings
from vaelab_papers import Cell, Check, Ordering, Quantity, Result, Scale, Table, markdown, page

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
    scales={"smoke": Scale(1, 1, FitSettings())},
    build=lambda cell, scale, seed: pytest.fail("nothing is trained here"),
    checks=(Check("active", "equal"), Check("nelbo", "at most")),
    orderings=(
        Ordering("counts grow", Quantity("r=2", "active"), Quantity("r=4", "active"), by=1),
        Ordering("losses fall", Quantity("r=4", "nelbo"), Quantity("r=2", "nelbo"), by=0),
    ),
)


def result(r, active, nelbo, *, seed=0):
    measured = {"active": active, "by_gap": r, "nelbo": nelbo}
    return Result("made/up", "smoke", f"r={r}", seed, measured, 1.5, {}, {"torch": "2.0"})


RESULTS = [result(2, 2, -50.0), result(4, 3, -30.5), result(6, 6, -1234.5)]


def test_markdown_marks_what_is_checked():
    lines = markdown(TABLE, RESULTS).splitlines()
    assert lines[0] == r"**Dimensions <of> & \| all** (nobody, 1999); measured / published"
    assert lines[2] == "| cell | active dimensions (equal) | −ELBO (at most) |"
    assert lines[4:7] == [
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


def test_seeds_are_named_and_averaged_in_orderings():
    several = [result(2, 2, -50), result(2, 1, -50, seed=1), result(4, 4, -1), result(4, 3, -1, seed=1), RESULTS[2]]
    text = markdown(TABLE, several)
    assert "| r=2, seed 1 |" in text
    assert "counts grow: 1.5 and 3.5, holds" in text


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
