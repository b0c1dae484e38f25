"""The explorer: one page in which a trained model is moved about, that needs no server and fetches nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vaelab import storage
from vaelab.diagnostics.report.page import environment
from vaelab.errors import InputError


@dataclass(frozen=True)
class Exploration:
    """A page about one model; `save` writes it.

    Attributes
    ----------
    content
        What it shows, as plain values; see `content_of`.
    """

    content: dict[str, Any] = field(repr=False)

    @property
    def live(self) -> bool:
        """Whether the decoder runs in the page; else outputs along each axis were computed beforehand."""
        return self.content["program"] is not None

    def __str__(self) -> str:
        """Say what is in it."""
        rows, laws = self.content["rows"]["n"], ", ".join(each["name"] for each in self.content["draws"])
        how = "the decoder runs in the page" if self.live else f"the decoder is not in the page: {self._reason}"
        return f"{rows:,} rows; draws from {laws}; {how}"

    @property
    def _reason(self) -> str:
        return str(self.content["reason"])

    def html(self) -> str:
        """Return the page, with its styles, scripts, rows and decoder."""
        folder = resources.files(__package__)
        text = {name: (folder / name).read_text(encoding="utf-8") for name in _FILES}
        # within a script element only `<` could end it; JSON has it nowhere but in strings
        content = json.dumps(self.content, allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
        template = environment().from_string(text["explorer.html"])
        scripts = [text[name] for name in _FILES if name.endswith(".js")]
        return template.render(
            name=self.content["name"],
            about=self.content["about"],
            style=text["explorer.css"],
            scripts=scripts,
            content=content,
            version=version("vaelab"),
        )

    def save(self, path: Path | str) -> Path:
        """Write the page, whole or not at all.

        Raises
        ------
        InputError
            A name that does not end in .html.
        """
        path = Path(path)
        if path.suffix != ".html":
            raise InputError(f"a page called {path.name}", "a name that ends in .html")
        storage.write_text(path, self.html())
        return path


_FILES = ("explorer.html", "explorer.css", "interpreter.js", "formats.js", "drawing.js", "samples.js", "explorer.js")
