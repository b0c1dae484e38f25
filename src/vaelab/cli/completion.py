"""``vaelab --print-completion``: a script with which a shell completes verbs, flags and files.

Flags are those that a verb's own help lists, so there is no second list of them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module

from vaelab.errors import InputError

# a line of help that begins with a flag: "│ -o PATH, --out PATH" or "  --download, --no-download"
_LINE = re.compile(r"^[│ ]*(--?\w.*)$", re.M)
_FLAG = re.compile(r"(?:^|, )(--?[a-z][\w.-]*)")

_BASH = """\
_vaelab() {
    local word=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} known
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        known="VERBS --help --version --print-completion"
    else
        case "$word" in -*) ;; *) return ;; esac
        case "$verb" in
CASES
        esac
    fi
    COMPREPLY=( $(compgen -W "$known" -- "$word") )
}
complete -o default -F _vaelab vaelab
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def script(shell: str, verbs: Mapping[str, str], elsewhere: Mapping[str, str]) -> str:
    """Return the script for a shell.

    Parameters
    ----------
    shell
        ``"bash"``, ``"zsh"`` or ``"fish"``.
    verbs
        Verb → what it does.
    elsewhere
        Verb → the module that runs it, where that is not of its name in `vaelab.cli`.

    Raises
    ------
    InputError
        For another shell.
    """
    if shell not in ("bash", "zsh", "fish"):
        raise InputError(
            f"--print-completion {shell}".rstrip(),
            "bash, zsh or fish",
            'Such as: eval "$(vaelab --print-completion bash)"',
        )
    flags = {verb: flags_of(verb, elsewhere.get(verb, f"vaelab.cli.{verb}")) for verb in verbs}
    if shell == "fish":
        return "\n".join(_fish(verbs, flags)) + "\n"
    cases = "\n".join(f'            {verb}) known="{" ".join(known)}" ;;' for verb, known in flags.items())
    bash = _BASH.replace("VERBS", " ".join(verbs)).replace("CASES", cases)
    return bash if shell == "bash" else _ZSH + bash


def flags_of(verb: str, module: str) -> list[str]:
    """Return the flags that a verb's help lists, long and short, in its order."""
    text = io.StringIO()
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "200"  # no flag is broken in two
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            import_module(module).run(["--help"])
    finally:
        if width is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = width
    lines = _LINE.findall(text.getvalue())
    return list(dict.fromkeys(flag for line in lines for flag in _FLAG.findall(line.split("  ")[0])))


def _fish(verbs: Mapping[str, str], flags: Mapping[str, list[str]]) -> Iterator[str]:
    """Lines for fish, which shows what a verb does beside it."""
    for verb, text in verbs.items():
        yield f'complete -c vaelab -f -n __fish_use_subcommand -a {verb} -d "{text}"'
    for verb, known in flags.items():
        for flag in known:
            kind = "-l" if flag.startswith("--") else "-s" if len(flag) == 2 else "-o"
            yield f'complete -c vaelab -n "__fish_seen_subcommand_from {verb}" {kind} {flag.lstrip("-")}'
