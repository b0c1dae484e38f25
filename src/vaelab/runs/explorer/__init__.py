"""The explorer of a model: a page that decodes by itself."""

from typing import TYPE_CHECKING

from vaelab.lazy import attach

if TYPE_CHECKING:
    from vaelab.runs.explorer.page import Exploration

__all__ = ["Exploration"]

__getattr__, __dir__ = attach(__name__, {"Exploration": "vaelab.runs.explorer.page"})
