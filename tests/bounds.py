"""Constraints for pip from the ranges in pyproject.toml: ``python tests/bounds.py oldest`` (or newest)."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def constraints(which: str) -> list[str]:
    """One line for each requirement: its lower bound as the version (oldest), or its range as it is (newest)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = project["dependencies"] + [line for lines in project["optional-dependencies"].values() for line in lines]
    known = {line for line in ranges if ">=" in line}
    if which == "oldest":
        known = {re.sub(r">=([^,]+).*", r"==\1", line) for line in known}
    elif which != "newest":
        raise SystemExit(f"Got {which!r}; wanted oldest or newest.")
    return sorted(known)


if __name__ == "__main__":
    print("\n".join(constraints(*sys.argv[1:])))
