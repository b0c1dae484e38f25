"""Text on its way to a terminal: what names in data cannot do to it, and what it cannot show."""

from __future__ import annotations

import contextlib
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from typing import Any


def plain(text: str) -> str:
    r"""Replace control characters but line ends and tabs, so that no name moves a cursor: ESC becomes ``\x1b``."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(sign: str) -> str:
    if sign in "\n\t" or unicodedata.category(sign) not in ("Cc", "Cs"):
        return sign
    return sign.encode("unicode_escape").decode()


class _Plain:
    """A text stream that writes plain text."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(plain(text)))

    def isatty(self) -> bool:
        """No, so that nobody writes colours, whose codes would be shown."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Print plain text inside the block, with ``?`` for what the terminal's encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="replace")
    with contextlib.redirect_stdout(_Plain(sys.stdout)):
        yield


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Print warnings when they come, without the file and the line of Python; settings are named by their flags."""
    with warnings.catch_warnings():
        usual = warnings.formatwarning
        warnings.formatwarning = _formatted
        try:
            yield
        finally:
            warnings.formatwarning = usual


def _formatted(message: object, *place: object, **line: object) -> str:
    from vaelab.cli.flags import in_flags  # slow to import, and rarely needed

    return plain(f"! {in_flags(str(message))}\n")
