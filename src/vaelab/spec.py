"""Settings objects: small frozen records, and axes on which such a record is one of several values.

A value of an axis is a class of its own, so that what makes no sense cannot be written. Wherever a value goes, its name
goes too (``"mlp"``), a call as text (``"mlp(hidden=[64, 64])"``, as on a command line), or a mapping with its ``kind``
(as in YAML). A class that is defined anywhere becomes a value by its ``kind``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer, model_validator

from vaelab.arguments import check_real
from vaelab.errors import InputError

if TYPE_CHECKING:
    from pydantic import ModelWrapValidatorHandler
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

_NAMED = re.compile(r"\s*([A-Za-z]\w*)\s*=(.*)", re.DOTALL)
S = TypeVar("S", bound=BaseModel)
_CALL = re.compile(r"\s*([A-Za-z]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)


_INSIDE = ContextVar("inside", default=False)  # whether pydantic is making a record, and those in it


class _Explaining(ModelMetaclass):
    """Makes records, and says what is wrong with their settings as `parse` does; those inside leave it to the outer."""

    def __call__(cls, *values: Any, **named: Any) -> Any:  # noqa: N805 - it is a metaclass
        if _INSIDE.get():
            return super().__call__(*values, **named)
        with _explained(cls):
            return super().__call__(*values, **named)


class Spec(BaseModel, metaclass=_Explaining):
    """A frozen record of settings that checks itself; fields may also be given by position, in their order."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    if not TYPE_CHECKING:  # checkers see the fields by name

        def __init__(self, *values: Any, **named: Any) -> None:
            fields = list(type(self).model_fields)
            if len(values) > len(fields):
                raise TypeError(f"{type(self).__name__} takes at most {len(fields)} values, not {len(values)}")
            placed = dict(zip(fields, values, strict=False))
            if twice := sorted(placed.keys() & named.keys()):
                raise TypeError(f"{type(self).__name__} got {', '.join(twice)} twice")
            super().__init__(**placed, **named)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """Take a call as text, such as ``training(epochs=20)``."""
        call = _CALL.fullmatch(value) if isinstance(value, str) else None
        given = value if call is None or call[2] is None else arguments(cls, call[2])
        for name, each in given.items() if isinstance(given, Mapping) else ():
            field = cls.model_fields.get(str(name))
            if each is not None and field is not None and _counts(field.annotation):
                for number in each if isinstance(each, list | tuple) else (each,):
                    check_real(str(name), number)  # pydantic would take text, and arrays of one
        return given

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Name → value; those of specs inside too, as ``outer__inner``."""
        own = {name: getattr(self, name) for name in type(self).model_fields}
        inner = {n: v.get_params() for n, v in own.items() if deep and isinstance(v, Spec)}
        return own | {f"{outer}__{name}": value for outer, values in inner.items() for name, value in values.items()}

    def set_params(self, **changes: Any) -> Self:
        """Return the same settings but for the changes, which may be named ``outer__inner``; this one stays.

        Raises
        ------
        InputError
            An unknown name, or a value that does not fit.
        """
        plain, inner = nested(changes)
        wrong = [name for name in {**plain, **inner} if name not in type(self).model_fields]
        if wrong:
            raise InputError(*unknown(wrong, type(self).model_fields, of=type(self).__name__))
        changed = parse(type(self), {name: getattr(self, name) for name in type(self).model_fields} | plain)
        if not inner:
            return changed
        values = {name: getattr(changed, name) for name in type(self).model_fields}
        return parse(type(self), values | {name: _changed(name, values[name], each) for name, each in inner.items()})

    def __sklearn_clone__(self) -> Self:
        """Return itself: it cannot change."""
        return self

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Show what differs from the defaults."""
        for name, field in type(self).model_fields.items():
            if getattr(self, name) != field.get_default(call_default_factory=True):
                yield name, getattr(self, name)


def _counts(annotation: object) -> bool:
    """Whether a setting is a number, or several, or none."""
    inner = get_args(annotation)
    if inner:
        return all(_counts(each) or each in (NoneType, ...) for each in inner) and get_origin(annotation) is not dict
    return annotation in (int, float)


def nested(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Part changes into those of values as a whole, and by value those of its own settings, ``outer__inner``."""
    plain, inner = {}, dict[str, dict[str, Any]]()
    for name, value in changes.items():
        outer, parted, rest = name.partition("__")
        if parted:
            inner.setdefault(outer, {})[rest] = value
        else:
            plain[name] = value
    return plain, inner


def _changed(name: str, value: Any, changes: Mapping[str, Any]) -> Any:
    """Change the settings of a value; of a list of values those of the kind that stands first in the name."""
    if isinstance(value, Spec):
        return value.set_params(**changes)
    if not isinstance(value, tuple):
        raise InputError(f"changes of {', '.join(changes)} inside {name}={value!r}", "settings with parts")
    known = {getattr(each, "name", each.kind): each for each in value if isinstance(each, Value)}
    for kind, own in nested(changes)[1].items():
        if kind not in known:
            raise InputError(*unknown([kind], known, of=name))
        known[kind] = known[kind].set_params(**own)
    return tuple(known.values())


class Value(Spec):
    """A value of an axis. A direct subclass is an axis; what is derived from it is a value, known by its `kind`.

    Attributes
    ----------
    kind
        Name of the value on its axis.
    axis
        Name of the axis, for messages.
    """

    kind: ClassVar[str] = ""
    axis: ClassVar[str] = ""
    short: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # further names of the value: name → settings
    _kinds: ClassVar[dict[str, type[Value]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Start an axis, or join one; a class between the two has no kind."""
        if Value in cls.__bases__:
            cls._kinds = {}
        elif cls.kind:
            cls._kinds[cls.kind] = cls
            cls._kinds.update(dict.fromkeys(cls.short, cls))

    @classmethod
    def kinds(cls) -> dict[str, type[Self]]:
        """Name → class of every value of the axis, by further names too."""
        return cast("dict[str, type[Self]]", dict(cls._kinds))

    @classmethod
    def of(cls, value: object) -> Self:
        """Return the value that a name, a call as text or a mapping stands for; a value stands for itself.

        Raises
        ------
        InputError
            There is none of this name, or its settings do not fit.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls._from_text(value)
        if isinstance(value, Mapping) and isinstance(value.get("kind"), str):
            own = {str(name): each for name, each in value.items() if name != "kind"}
            return cast("Self", cls._named(str(value["kind"]))(own))
        shown = ", ".join(cls._kinds)
        raise InputError(f"{cls.axis}={value!r}", f"one of {shown}, or their settings", "")

    @classmethod
    def _named(cls, kind: str) -> Any:
        if kind not in cls._kinds:
            close = difflib.get_close_matches(kind, cls._kinds, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else ""
            raise InputError(f"{cls.axis}={kind!r}", f"one of {', '.join(cls._kinds)}", hint)
        found = cls._kinds[kind]
        return lambda given: parse(found, {**found.short.get(kind, {}), **given})

    @classmethod
    def _from_text(cls, text: str) -> Self:
        call = _CALL.fullmatch(text)
        if call is None:
            raise InputError(f"{cls.axis}={text!r}", f"one of {', '.join(cls._kinds)}", "")
        return cast("Self", cls._named(call[1])(arguments(cls._kinds[call[1]], call[2] or "")))

    @model_validator(mode="wrap")
    @classmethod
    def _chosen(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if cls.kind:
            return handler(value)
        try:
            return cls.of(value)
        except InputError as error:
            raise ValueError(str(error)) from error  # which `explain` finds again

    @model_serializer(mode="plain")
    def _dumped(self) -> dict[str, Any]:
        fields = type(self).model_fields.items()
        return {"kind": self.kind, **{name: getattr(self, name) for name, field in fields if not field.exclude}}


def arguments(kind: type[Spec], text: str) -> dict[str, Any]:
    """Read what stands between the brackets of a call: values by position or by name, in YAML's form.

    Raises
    ------
    InputError
        There are more values than settings.
    """
    fields = list(kind.model_fields)
    given: dict[str, Any] = {}
    for place, part in enumerate(_parts(text)):
        named = _NAMED.fullmatch(part)
        if named is None and place >= len(fields):
            raise InputError(f"({text})", f"at most {len(fields)} settings")
        given[fields[place] if named is None else named[1]] = plain_value(part if named is None else named[2])
    return given


def plain_value(text: str) -> Any:
    """Read a number, a word, a list and so on, in YAML's form.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        return from_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"{text!r}", "a value, such as 0.5, relu or [64, 64]", "Are brackets closed?") from error


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, as YAML 1.2 does; to YAML 1.1 it is text without a point."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def from_yaml(text: str) -> Any:
    """Read settings that somebody wrote as YAML; nothing in it can run code."""
    return yaml.load(text, _Loader)


def _parts(text: str) -> Iterable[str]:
    """Split at commas that stand in no brackets."""
    depth, start = 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            yield text[start:place]
            start = place + 1
    if text[start:].strip():
        yield text[start:]


def parse(kind: type[S], values: object) -> S:
    """Check settings that come from a file or from keyword arguments.

    Raises
    ------
    InputError
        An unknown name (with the nearest known one), a wrong value, or a contradiction; all of them at once.
    """
    with _explained(kind):
        return kind.model_validate(dict(values) if isinstance(values, Mapping) else values)


@contextmanager
def _explained(kind: Any) -> Iterator[None]:
    """Let a record be made; what is wrong with it becomes one message."""
    before = _INSIDE.set(True)
    try:
        yield
    except ValidationError as error:
        raise explain(error, kind) from None
    finally:
        _INSIDE.reset(before)


def explain(error: ValidationError, kind: type[BaseModel]) -> InputError:
    """Turn a validation error into one message for people, with the nearest known name for each unknown one."""
    problems = []
    for item in error.errors():
        inner = item.get("ctx", {}).get("error")
        inner = inner if isinstance(inner, InputError) else getattr(inner, "__cause__", None)
        if isinstance(inner, InputError):
            if error.error_count() == 1:
                return inner
            problems.append(f"{inner.got} (wanted {inner.wanted})")
            continue
        name = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(item["loc"][-1]), _field_names(kind), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"no setting is called {name!r}{hint}")
        elif not name or (item["type"] == "value_error" and not isinstance(item["input"], str | int | float | None)):
            problems.append(f"{name}: {message}" if name else message)
        else:
            problems.append(f"{name}={item['input']!r}: {message}")
    return InputError("; ".join(problems), "settings that fit together", "See `vaelab train --help`.")


def _field_names(kind: type[BaseModel]) -> set[str]:
    """Names of the settings of a record and of the records in it."""
    inner = (field.annotation for field in kind.model_fields.values())
    return set(kind.model_fields).union(
        *(_field_names(each) for each in inner if isinstance(each, type) and issubclass(each, BaseModel))
    )


def unknown(names: Iterable[str], known: Iterable[str], *, of: str) -> tuple[str, str, str]:
    """Return got, wanted and remedy of an error about names that are none."""
    known = sorted(known)
    close = [each for name in names for each in difflib.get_close_matches(name, known, n=1)]
    remedy = f"Did you mean {', '.join(close)}?" if close else ""
    return f"{', '.join(names)}, which {of} does not have", f"some of {', '.join(known)}", remedy


def place_of(function: Callable[..., Any]) -> str:
    """Return where a function can be imported from; empty for one that cannot, as a lambda."""
    import sys

    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if module in ("", "__main__") or getattr(sys.modules.get(module), name, None) is not function:
        return ""
    return f"{module}:{name}"
