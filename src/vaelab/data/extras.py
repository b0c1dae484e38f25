"""Optional packages, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from vaelab.errors import MissingExtraError


def require(module: str, extra: Literal["containers", "download", "export"], purpose: str) -> Any:
    """Import an optional module.

    Parameters
    ----------
    module
        Dotted name; its first part is the package.
    extra
        Which extra of vaelab installs it.
    purpose
        What needs it, as the subject of a sentence.

    Raises
    ------
    MissingExtraError
        The package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # a broken installation of the package itself must not be reported as an absent one
        if error.name is not None and error.name.partition(".")[0] != package:
            raise
        raise MissingExtraError(package, extra, purpose) from error
