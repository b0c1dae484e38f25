"""Every Python block of the README and the docs runs, page by page; the gallery; what a search of the docs finds."""

import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
from sphinx.cmd.build import main as sphinx_build
from sphinx.search.en import SearchEnglish

import vaelab
from vaelab import diagnose

ROOT = Path(__file__).parent.parent
GALLERY = ROOT / "docs" / "gallery"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
sys.path.insert(0, str(GALLERY))
import make  # noqa: E402

sys.path.remove(str(GALLERY))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules[diagnose.__module__], "_EMBEDDED", 100)  # a t-SNE of fewer codes, in less time
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
            exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", [*PAGES, *sorted(GALLERY.glob("*.md"))], ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_every_public_name_has_a_page():
    listed = set(re.findall(r"^   ([\w.]+)$", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8"), re.M))
    public = {f"vaelab.{name}" for name in vaelab.__all__ if not name.startswith("__")}
    moved = {"vaelab.Settings": "vaelab.specs.Settings", "vaelab.FitSettings": "vaelab.specs.FitSettings"}
    assert {moved.get(name, name) for name in public} <= listed


PHRASES = ["blurry", "posterior collapse", "latent dim", "KL weight", "negative loss", "disentangled", "missing values"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The search index of the questions and answers."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    (source / "conf.py").write_text('extensions = ["myst_parser"]\nroot_doc = "faq"\nsuppress_warnings = ["myst"]\n')
    shutil.copy(ROOT / "docs" / "faq.md", source)
    assert sphinx_build(["-q", str(source), str(built)]) == 0
    return json.loads((built / "searchindex.js").read_text(encoding="utf-8").split("(", 1)[1].rstrip(")"))


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_search_finds_what_people_ask(phrase, index):
    """All words of a phrase stand in the page, and some question has one of them in its title."""
    stems = [SearchEnglish({}).stem(word.lower()) for word in phrase.split()]
    assert set(stems) <= index["terms"].keys() | index["titleterms"].keys()
    titles = [re.findall(r"\w+", title.lower()) for title in index["alltitles"]]
    assert any(set(stems) <= {SearchEnglish({}).stem(word) for word in title} for title in titles), phrase


def test_thirty_questions_have_a_call_each():
    parts = re.split(r"^### ", (ROOT / "docs" / "faq.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    assert len(parts) >= 30
    for part in parts:
        assert part.splitlines()[0].endswith(("?", ".")), part
        assert "```python" in part, part


@pytest.mark.parametrize("name", make.names())
def test_a_page_of_the_gallery_is_of_its_script(name):
    source, page = ((GALLERY / f"{name}{end}").read_text(encoding="utf-8") for end in (".py", ".md"))
    printed = page.partition("```text\n")[2].partition("\n```")[0]
    assert page == make.page_of(name, source, printed)
    body = source.split('"""', 2)[2]
    assert len([line for line in body.splitlines() if line.strip()]) <= 40
    assert (GALLERY / f"{name}.png").stat().st_size < make.MOST
    assert f"\n{name}\n" in (GALLERY / "index.md").read_text(encoding="utf-8")


@pytest.mark.campaign
@pytest.mark.parametrize("name", make.names())
def test_a_script_of_the_gallery_runs_to_its_end(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = (GALLERY / f"{name}.py").read_text(encoding="utf-8")
    brief = re.sub(r"\b(epochs ?= ?|steps = )\d+", r"\g<1>2", source)
    with warnings.catch_warnings(), matplotlib.rc_context(fname=GALLERY / "matplotlibrc"):
        warnings.simplefilter("ignore")
        exec(compile(brief, name, "exec"), {})
        plt.close("all")
    assert (tmp_path / f"{name}.png").stat().st_size > 1000


LEFT = re.compile(r"(runs|build|dist|docs/_build|\.git|\.venv)/|.*(__pycache__|_cache|\.egg-info)/|\.coverage")


def kept() -> list[str]:
    """Names of the files under version control; in an archive of the source, of all but what tools left there."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return listed.stdout.rstrip("\0").split("\0")
    names = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")]
    return [name for name in names if not LEFT.match(name)]


def test_the_tree_names_no_machine():
    """No path of one machine, no address of a registry, in anything that is kept."""
    pattern = re.compile(r"(?<![\w./])/(?:tmp|work|root|home)/|pypi\.org|files\.pythonhosted")
    for name in kept():
        path = ROOT / name
        if path.suffix in {".png", ".safetensors"} or name == "tests/test_docs.py" or not path.is_file():
            continue
        found = pattern.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{name}: {found and found.group()}"
