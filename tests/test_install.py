"""What pyproject.toml declares is what the source imports, and constraints.txt pins it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines]
# what another brings, and what is called otherwise than its module where it is not installed
STANDS_FOR = {"scipy": "scikit-learn", "joblib": "scikit-learn", "skdim": "scikit-dimension"}


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports, except for the type checker's sake."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"vaelab", "vaelab_papers"}


def distributions(paths) -> dict[str, str]:
    """Map the distribution of each module that the files import to one of those files."""
    known = packages_distributions()
    return {
        STANDS_FOR.get(name, canonicalize_name(name)): str(path)
        for path in paths
        for module in imported(path)
        for name in known.get(module, [module])
    }


def names(requirements) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def test_the_readers_need_the_core_alone():
    needed = distributions((SOURCE / "vaelab" / "data").rglob("*.py"))
    assert {"pandas", "pyarrow", "pillow", "numpy"} <= needed.keys()
    assert {name: path for name, path in needed.items() if name not in names(CORE)} == {}


def test_every_import_is_declared():
    needed = distributions(SOURCE.rglob("*.py"))
    assert {name: path for name, path in needed.items() if name not in names(CORE + EXTRAS)} == {}


def test_every_core_dependency_is_pinned_within_its_range():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in CORE:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_every_extra_that_is_named_exists():
    named = re.compile(r"vaelab\[([a-z]+)\]|(?:MissingExtraError|require)\(\s*\"\w+\",\s*\"(\w+)\"")
    files = [*SOURCE.rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    extras = {first or second for path in files for first, second in named.findall(path.read_text())}
    assert {"flow", "download", "track"} <= extras <= PROJECT["optional-dependencies"].keys()
