"""Packages that import on demand: every public name is there, and none is hidden by a module of the same name."""

import importlib
from pathlib import Path

import pytest

import vaelab

ROOT = Path(vaelab.__file__).parent
LAZY = sorted(
    ".".join(("vaelab", *path.parent.relative_to(ROOT).parts))
    for path in ROOT.rglob("__init__.py")
    if "attach(" in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", LAZY)
def test_every_public_name_is_there_and_no_module_has_it(name):
    package = importlib.import_module(name)
    modules = {path.stem for path in Path(package.__file__).parent.iterdir()}
    assert set(package.__all__) <= set(dir(package))
    for public in package.__all__:
        assert public not in modules  # an import of the module would take the name's place
        getattr(package, public)


def test_the_lazy_packages_are_found():
    assert {"vaelab", "vaelab.runs", "vaelab.training", "vaelab.verbs"} <= set(LAZY)
