"""Citations and the bibliography: each names a work that stands there, and each work is named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = r"[A-ZÀ-Ž][a-zà-ž’'-]*[A-ZÀ-Ž]?[a-zà-ž’-]+"
VENUE = r"(?:, (?:AISTATS|ICLR|ICML|NeurIPS|Neurocomputing|Annals of Statistics))?"
CITED = re.compile(
    rf"\b((?:van der |van |de )?{NAME})(?: et al\.|(?:, {NAME})? (?:&|and) {NAME}|, {NAME}, {NAME} & {NAME})?{VENUE} "
    r"\(?((?:1[89]|20)\d\d)\b"
)
ENTRY = re.compile(r"@\w+\{(\w+),\n\s+author = \{(.*)\},\n(?:.*\n)*?\s+year = \{(\d{4})\}")


def entries():
    """Key → (surname of the first author, year)."""
    text = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    return {key: (authors.split(" and ")[0].split(",")[0], year) for key, authors, year in ENTRY.findall(text)}


def pages():
    for folder, kinds in (("src", ("*.py", "*.yaml")), ("docs", ("*.md",))):
        for kind in kinds:
            yield from (path for path in (ROOT / folder).rglob(kind) if "_build" not in path.parts)
    yield ROOT / "README.md"


def cited(text):
    return {(name, year) for name, year in CITED.findall(re.sub(r"\s+", " ", text))}


def test_every_citation_names_a_work_of_the_bibliography():
    known = set(entries().values())
    named = {(page.name, work) for page in pages() for work in cited(page.read_text(encoding="utf-8"))}
    assert not {(page, work) for page, work in named if work not in known}


def test_every_work_is_cited():
    used = set().union(*(cited(page.read_text(encoding="utf-8")) for page in pages()))
    assert not set(entries().values()) - used


@pytest.mark.parametrize(
    ("text", "work"),
    [
        ("as found (Dai & Wipf 2019, eq. 4)", ("Dai", "2019")),
        ("van der Maaten & Hinton 2008.", ("van der Maaten", "2008")),
        ("(Zheng, He, Qiu & Wipf, NeurIPS 2022)", ("Zheng", "2022")),
        ("Takida et al., Neurocomputing 2022", ("Takida", "2022")),
        ("Horn 1965", ("Horn", "1965")),
    ],
)
def test_citations_are_found(text, work):
    assert cited(text) == {work}
