"""A shell completes the verbs and flags that there are."""

import inspect
import shutil
import subprocess

import pytest

from vaelab.cli import VERBS, main
from vaelab.cli.completion import flags_of
from vaelab.cli.sample import sample
from vaelab.specs import Settings


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    from contextlib import redirect_stdout

    path = tmp_path_factory.mktemp("shell") / "vaelab.sh"
    with path.open("w") as file, redirect_stdout(file):
        assert main(["--print-completion", "bash"]) == 0
    return path


def offered(script, *words):
    """What bash offers at the last word."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    line = f'. {script}; COMP_WORDS=(vaelab "$@"); COMP_CWORD=$#; _vaelab; echo "${{COMPREPLY[@]}}"'
    return subprocess.run([bash, "-c", line, "bash", *words], capture_output=True, text=True, check=True).stdout.split()


def test_verbs_are_completed(written):
    assert set(offered(written, "")) == {*VERBS, "--help", "--version", "--print-completion"}
    assert offered(written, "re") == ["reconstruct", "reproduce"]


def test_flags_are_completed(written):
    assert offered(written, "sample", "--temp") == ["--temperature"]
    assert "--resume" in offered(written, "train", "--")
    assert offered(written, "sample", "runs/") == []  # which leaves the word to files


def test_flags_are_those_of_the_verb():
    wanted = {f"--{name.replace('_', '-')}" for name in list(inspect.signature(sample).parameters)[1:]}
    assert wanted <= set(flags_of("sample", "vaelab.cli.sample"))
    axes = {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
    said = set(flags_of("train", "vaelab.cli.train"))
    assert axes - {"--training", "--compute", "--condition"} <= said | {"--condition"}
    assert {"--preset", "--config", "--schema", "--resume", "--lr", "--quiet"} <= said


def test_fish_has_every_verb(capsys):
    assert main(["--print-completion", "fish"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "__fish_use_subcommand" in line]) == len(VERBS)
    assert 'complete -c vaelab -n "__fish_seen_subcommand_from sample" -l temperature' in lines
    assert 'complete -c vaelab -n "__fish_seen_subcommand_from sample" -s n' in lines


@pytest.mark.parametrize("words", [[], ["csh"], ["bash", "zsh"]])
def test_another_shell_is_refused(words, capsys):
    assert main(["--print-completion", *words]) == 2
    assert "bash, zsh or fish" in capsys.readouterr().err
