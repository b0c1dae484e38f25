"""Flags of `Settings`, made from the settings themselves: one per axis, ``--axis.option`` for what is inside.

A value is written as in Python, without quotes: ``--network 'mlp(hidden=[64, 64])'``, or ``--network mlp
--network.hidden 64 64``; ``--training.lr 1e-4`` is ``--lr 1e-4``.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vaelab.errors import InputError
from vaelab.spec import Spec, Value, plain_value
from vaelab.specs import Settings

_SHORT = {"epochs": "training.epochs", "batch-size": "training.batch_size", "lr": "training.lr"}
_GROUPS = {
    "the model": ("latent_dim", "network", "likelihood", "posterior", "condition", "penalties", "adversary"),
    "laws of the codes": ("densities",),
    "training": ("training", "held_out", "seed"),
    "computing": ("compute",),
}


def help_of_settings() -> str:
    """Lay out the flags of all settings by group, with the values of every axis and their options."""
    lines: list[str] = []
    for title, names in _GROUPS.items():
        lines.append(f"\n{title}:")
        for name in names:
            field = Settings.model_fields[name]
            axis = _axis(field)
            if axis is not None:
                lines += _described(f"--{_flag(name)} VALUE", field.description or "", field)
                lines += [
                    f"      {_signature(kind, each)}" for kind, each in axis.kinds().items() if kind not in each.short
                ]
            elif isinstance(field.default, Spec):
                for inner, option in type(field.default).model_fields.items():
                    short = next((s for s, full in _SHORT.items() if full == f"{name}.{inner}"), None)
                    shown = f"--{short}" if short else f"--{name}.{inner}"
                    lines += _described(f"{shown} {inner.upper()}", option.description or "", option)
            else:
                lines += _described(f"--{_flag(name)} {name.upper()}", field.description or "", field)
    lines += [
        "",
        "A value may be a call, --network 'mlp(hidden=[64, 64])', or have its options apart: --network.hidden 64 64.",
        "Lists take several values: --densities gaussian 'mixture(components=10)', --penalties 'kl(4)'.",
    ]
    return "\n".join(lines)


def _described(flag: str, text: str, field: FieldInfo) -> list[str]:
    default = field.get_default(call_default_factory=True)
    shown = default.kind if isinstance(default, Value) else default
    if isinstance(default, tuple):
        shown = " ".join(each.kind for each in default if isinstance(each, Value)) or default
    note = "" if shown is None or "default" in text else f" (default: {shown})"
    return [f"  {flag}", f"      {text}{note}"]


def _signature(kind: str, each: type[Value]) -> str:
    options = ", ".join(each.model_fields)
    return f"{kind}({options})" if options else kind


def _axis(field: FieldInfo) -> type[Value] | None:
    """Return the axis whose values a field takes, one or several; None for other fields."""
    inner = field.annotation
    found = [inner, *get_args(inner)]
    return next((each for each in found if isinstance(each, type) and issubclass(each, Value)), None)


def _flag(name: str) -> str:
    return name.replace("_", "-")


def known_flags() -> set[str]:
    """Return all flags, as they are written."""
    flags = {f"--{name}" for name in _SHORT} | {"--conditional"}
    for name, field in Settings.model_fields.items():
        flags |= {f"--{_flag(name)}", *(f"--{_flag(name)}.{inner}" for inner in _inner(field))}
    return flags


def _inner(field: FieldInfo) -> Iterator[str]:
    for kind in _kinds(field):
        yield from kind.model_fields


def _kinds(field: FieldInfo) -> list[type[BaseModel]]:
    """Return the records that a field takes."""
    axis = _axis(field)
    kinds: list[type[BaseModel]] = list(axis.kinds().values()) if axis else []
    return kinds + ([type(field.default)] if isinstance(field.default, Spec) else [])


def settings_of(arguments: list[str], start: Settings) -> tuple[Settings, list[str]]:
    """Return the settings with what the flags change, and the arguments that are not about settings.

    Raises
    ------
    InputError
        A flag without a value, or values that do not fit.
    """
    plain: dict[str, Any] = {}
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        path = _SHORT.get(name, name).replace("-", "_")
        if word == "--conditional":
            plain["condition"] = "standard"
            continue
        outer = path.split(".")[0]
        if not word.startswith("--") or outer not in Settings.model_fields:
            rest.append(word)
            continue
        values = [value] if equals else []
        most = None if _takes_several(outer, path) else 1  # what follows a single value may be the data
        while not equals and queue and not queue[0].startswith("--") and len(values) != most:
            values.append(queue.pop(0))
        plain[path.replace(".", "__")] = _value(outer, path, values, word)
    return start.set_params(**plain), rest


def _takes_several(outer: str, path: str) -> bool:
    """Whether a flag takes a list."""
    field = Settings.model_fields[outer]
    return isinstance(field.default, tuple) if path == outer else _is_list(field, path.split(".")[-1])


def _value(outer: str, path: str, words: list[str], flag: str) -> Any:
    """Read what stands behind a flag."""
    field = Settings.model_fields[outer]
    if path == outer and _axis(field) is not None:
        if isinstance(field.default, tuple):
            return tuple(words)
        if len(words) != 1:
            raise InputError(f"{len(words)} values for {flag}", "one, in quotes if it has spaces")
        return None if words[0].lower() == "none" else words[0]
    if not words:
        kinds = [
            kind.model_fields[path.split(".")[-1]] for kind in _kinds(field) if path.split(".")[-1] in kind.model_fields
        ]
        if not any(bool in (each.annotation, *get_args(each.annotation)) for each in kinds):
            raise InputError(f"{flag} without a value", "one")
        return True  # a switch
    if not all(words):
        raise InputError(f"{flag} ''", "a value")
    read = [plain_value(word) for word in words]
    return read[0] if len(read) == 1 and not _is_list(field, path.split(".")[-1]) else read


def _is_list(field: FieldInfo, option: str) -> bool:
    """Whether an option inside takes a list."""
    kinds = [kind for kind in _kinds(field) if option in kind.model_fields]
    return any(get_origin(kind.model_fields[option].annotation) is tuple for kind in kinds)


def refuse_unknown(words: list[str], more: Mapping[str, object]) -> None:
    """Refuse flags that are none, with the nearest one.

    Raises
    ------
    InputError
        There is one.
    """
    wrong = [word.partition("=")[0] for word in words if word.startswith("--")]
    if not wrong:
        return
    known = known_flags() | {f"--{_flag(name)}" for name in more}
    close = difflib.get_close_matches(wrong[0], known, n=1)
    hint = f"Did you mean {close[0]}?" if close else "See `vaelab train --help`."
    raise InputError(f"{wrong[0]}, which is no flag", "one of those of `vaelab train --help`", hint)


def parser_of(kind: type[BaseModel], *, prog: str, text: str) -> argparse.ArgumentParser:
    """Return a parser of a flat record: a flag per field, a switch per boolean, the first field by position."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=text,
        epilog=help_of_settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for place, (name, field) in enumerate(kind.model_fields.items()):
        said = (field.description or "").replace("%", "%%")
        if place == 0:
            parser.add_argument(name, nargs="?", help=said)
        elif bool in (field.annotation, *get_args(field.annotation)):
            parser.add_argument(f"--{_flag(name)}", dest=name, action=argparse.BooleanOptionalAction, help=said)
        else:
            several = {"nargs": "+"} if get_origin(field.annotation) is tuple else {}
            parser.add_argument(f"--{_flag(name)}", dest=name, metavar=name.upper(), help=said, **several)  # type: ignore[arg-type]
    return parser


def in_flags(text: str) -> str:
    """Return a message with settings as the shell takes them: ``likelihood='mixed'`` is ``--likelihood mixed``."""
    flags = _flags_of_settings()

    def flag(found: re.Match[str]) -> str:
        name, word, number = found.groups()
        return f"{flags[name]} {word or number}" if name in flags and (word or number) else found[0]

    return _SETTING.sub(flag, _COLUMN.sub(r"the line `\1: \2` in a file for --schema", text))


_SETTING = re.compile(r"(?<![(\w.'])([a-z][a-z_0-9]*)=(?:'([\w.-]*)'|(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?!\w))")
_COLUMN = re.compile(r"columns=\{'([^']*)': '(\w+)'\}")


@cache
def _flags_of_settings() -> dict[str, str]:
    """Name of a setting → its flag; of settings inside others, those whose names no verb has for something else."""
    inside = {
        option: f"--{outer}.{option}"
        for outer in ("training", "compute")
        for option in _inner(Settings.model_fields[outer])
    }
    inside |= {option: f"--likelihood.{option}" for option in ("shape", "floor")}
    short = {full.split(".")[1]: f"--{flag}" for flag, full in _SHORT.items()}
    return inside | {name: f"--{_flag(name)}" for name in Settings.model_fields} | short
