"""Every Python block of the README and the docs runs, in order, page by page."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from vaelab import diagnose

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules[diagnose.__module__], "_EMBEDDED", 100)  # a t-SNE of fewer codes, in less time
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
            exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


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
