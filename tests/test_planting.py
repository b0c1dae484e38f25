"""The record of planted faults is not stale; the campaign tells a fault that is noticed from one that is not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from planting import campaign

FAULTS = campaign.read()  # which refuses two of one name
NODES = sorted({node for fault in FAULTS for node in fault.tests})


def test_there_are_many():
    assert len(FAULTS) >= 60


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_its_place(fault):
    text = (campaign.SOURCE / fault.file).read_text("utf-8")
    assert fault.planted(text) != text
    assert fault.tests


@pytest.mark.parametrize("node", NODES)
def test_the_named_tests_exist(node):
    path, *names = node.split("::")
    assert (campaign.ROOT / path).exists()
    for name in names:
        assert f"def {name.partition('[')[0]}(" in (campaign.ROOT / path).read_text("utf-8")


def test_two_faults_of_one_name_are_refused(tmp_path):
    entry = {"name": "a", "file": "toy.py", "old": "1", "new": "2", "tests": ["tests"]}
    for name in ("one", "other"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump([entry]), "utf-8")
    with pytest.raises(ValueError, match="one name: \\['a'\\]"):
        campaign.read(tmp_path)


@pytest.mark.parametrize("text", ["", "1 1"])
def test_a_place_that_is_gone_or_not_the_only_one_is_refused(text):
    with pytest.raises(ValueError, match=f"occurs {text.count('1')} times in toy.py"):
        campaign.Fault("a", "toy.py", "1", "2", ("tests",)).planted(text)


TOY = {
    "src/vaelab/__init__.py": "def double(x):\n    return 2 * x\n\n\ndef label():\n    return 'x'\n",
    "tests/test_toy.py": "from vaelab import double, label\n\n\n"
    "def test_double():\n    assert double(3) == 6\n\n\ndef test_label():\n    assert label()\n",
}
NOTICED = {
    "name": "a power for a multiple",
    "file": "vaelab/__init__.py",
    "old": "2 * x",
    "new": "x ** 2",
    "tests": ["tests/test_toy.py::test_double"],
}
UNNOTICED = NOTICED | {"name": "another label", "old": "'x'", "new": "'y'", "tests": ["tests/test_toy.py::test_label"]}
NO_TEST = NOTICED | {"name": "no such test", "tests": ["tests/test_toy.py::test_triple"]}


@pytest.mark.parametrize(
    ("faults", "status", "lines"),
    [
        ([NOTICED], 0, ["caught", "1 of 1 planted faults caught"]),
        (
            [NOTICED, UNNOTICED, NO_TEST],
            1,
            ["caught", "survived", "broken", "1 of 3 planted faults caught"],
        ),
        ([UNNOTICED | {"survives": "any label will do"}], 0, ["survived", "0 of 1 planted faults caught"]),
    ],
)
def test_toy_faults(faults, status, lines, tmp_path):
    for name, text in TOY.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    planting = tmp_path / "tests" / "planting"
    shutil.copytree(Path(campaign.__file__).parent, planting, ignore=shutil.ignore_patterns("*.yaml", "__pycache__"))
    (planting / "faults" / "toy.yaml").write_text(yaml.safe_dump(faults), "utf-8")
    code = (
        "from tests.planting import __main__, campaign; campaign.HEAVY = ('pytest',); raise SystemExit(__main__.main())"
    )
    check = ["--check"] if status == 0 else []
    done = subprocess.run([sys.executable, "-c", code, *check], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    found = done.stdout.splitlines()
    assert len(found) == len(lines)
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(start)
    assert (tmp_path / "src/vaelab/__init__.py").read_text("utf-8") == TOY["src/vaelab/__init__.py"]
