"""What is published: the package, its metadata, and the files by which a forge and other people work on it."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.metadata import Metadata
from packaging.requirements import Requirement

import bounds
import vaelab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYTHONS = {"3.11", "3.12", "3.13", "3.14"}


def test_the_metadata_say_what_a_stranger_asks():
    assert PROJECT["version"] == vaelab.__version__
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["requires-python"] == ">=3.11"
    named = {line.rpartition(":: ")[2] for line in PROJECT["classifiers"] if line.startswith("Programming")}
    assert named >= PYTHONS
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert {"variational autoencoder", "posterior collapse"} <= set(PROJECT["keywords"])


def test_nothing_is_pinned():
    for line in PROJECT["dependencies"]:
        bound = Requirement(line)
        above = {"<"} if bound.name == "lightning-fabric" else set()  # its interfaces move between minor versions
        assert {each.operator for each in bound.specifier} == {">=", *above}, line


def test_bounds_of_dependencies():
    oldest, newest = bounds.constraints("oldest"), bounds.constraints("newest")
    assert "torch==2.6" in oldest
    assert "torch>=2.6" in newest
    assert len(oldest) == len(newest) >= len(PROJECT["dependencies"])
    for old, new in zip(oldest, newest, strict=True):
        version = next(iter(Requirement(old).specifier)).version
        assert Requirement(new).specifier.contains(version), new


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_targets_that_exist(path):
    steps = [step for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values() for step in job["steps"]]
    called = [word for step in steps for word in re.findall(r"make ([\w-]+)", step.get("run", ""))]
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].split()
    assert called
    assert set(called) <= set(targets)
    assert all("make" in step["run"] for step in steps if "run" in step)


def test_workflows_test_every_python_and_both_ends_of_dependencies():
    rows = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    assert {row["python"] for row in rows["include"]} == PYTHONS
    assert {row["dependencies"] for row in rows["include"]} == {"pinned", "oldest", "newest"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_a_form_for_issues_is_one(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    for part in form["body"]:
        assert part["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert part["attributes"].get("label") or part["type"] == "markdown"
    names = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(set(names)) == len(names)


def test_the_citation_is_complete():
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "type", "license"} <= said.keys()
    assert (said["version"], said["license"]) == (vaelab.__version__, PROJECT["license"])
    assert said["authors"] == PROJECT["authors"]
    for paper in said["references"]:
        assert {"type", "title", "authors", "year"} <= paper.keys()
        assert all({"family-names", "given-names"} == author.keys() for author in paper["authors"])


def test_the_changelog_has_its_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", each) for each in headings[1:])
    kinds = set(re.findall(r"^### (.*)$", text, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_what_contributors_are_sent_to_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:src/|tests/)?[\w/-]+/[\w.*-]*)`", text):
        if "*" not in name:
            assert (ROOT / name).exists() or (ROOT / "src" / name).exists(), name
    for target in re.findall(r"^make ([\w-]+)", text, re.M):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M), target


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.campaign
def test_the_wheel_has_everything(wheel):
    with zipfile.ZipFile(wheel) as file:
        held = set(file.namelist())
        written = file.read(next(name for name in held if name.endswith("/METADATA")))
    kept = {path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    names = {path.relative_to(ROOT / "src").as_posix() for path in kept}
    assert {name for name in names if ".egg-info/" not in name} <= held
    assert {"vaelab/py.typed", "vaelab_papers/py.typed", "vaelab/diagnostics/report/page.html"} <= held
    said = Metadata.from_email(written, validate=True)
    assert said.description.startswith("# vaelab")
    assert not said.project_urls


@pytest.mark.campaign
def test_the_wheel_works_where_it_is_installed(wheel, tmp_path):
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", "there", str(wheel)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    there = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}

    def said(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=there, check=True, capture_output=True, text=True)
        return done.stdout

    assert str(tmp_path) in said(sys.executable, "-c", "import vaelab; print(vaelab.__file__)")
    script = [sys.executable, str(tmp_path / "there" / "bin" / "vaelab")]
    assert said(*script, "--version").strip() == vaelab.__version__
    assert "vaelab train digits" in said(*script, "--help")
    brief = "--latent-dim 2 --network mlp --network.hidden 8 --epochs 1 --densities gaussian --quiet"
    assert said(*script, "train", "digits", *brief.split()).strip() == "runs/digits"
    said(
        *script, "diagnose", "runs/digits", "-o", "page.html", "--rows", "200", "--quiet"
    )  # templates and rules are there
    assert (tmp_path / "page.html").stat().st_size > 1000
