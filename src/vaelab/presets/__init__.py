"""Settings of the papers, as data: one YAML file per paper, one entry per data set."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.resources import files

from vaelab.errors import InputError
from vaelab.spec import from_yaml, parse
from vaelab.specs import Settings


@cache
def _entries() -> dict[str, dict[str, object]]:
    entries: dict[str, dict[str, object]] = {}
    for file in sorted(files(__name__).iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            paper = file.name.removesuffix(".yaml")
            prefix = "" if paper == "networks" else f"{paper}/"
            for name, values in from_yaml(file.read_text(encoding="utf-8")).items():
                entries[prefix + name] = values
    return entries


def names() -> list[str]:
    """Return the names of all presets, such as ``dai-wipf/mnist``."""
    return sorted(_entries())


def preset(name: str) -> Settings:
    """Return the settings of a preset.

    Raises
    ------
    InputError
        There is no preset of this name.
    """
    entries = _entries()
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"preset {name!r}", f"one of {', '.join(names())}", hint)
    return parse(Settings, entries[name])
