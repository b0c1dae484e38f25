"""Modules with methods ``encode`` and ``decode``, or with modules ``encoder`` and ``decoder``."""

from __future__ import annotations

from typing import Any

from torch import nn

from vaelab.diagnostics.adapters.wrapping import Wrapped


def of_modules(model: object) -> Wrapped | None:
    """Read a module that encodes and decodes; None for anything else.

    What `encode` returns may be all that `vaelab.wrap` allows; the second entry of a pair is the logarithm of the
    variance. Nothing is known of the loss.
    """
    if not isinstance(model, nn.Module):
        return None
    source: Any = model
    for encode, decode in (("encode", "decode"), ("encoder", "decoder")):
        if callable(getattr(source, encode, None)) and callable(getattr(source, decode, None)):
            return Wrapped(
                getattr(source, encode), getattr(source, decode), name=f"an nn.Module ({type(model).__name__})"
            )
    return None
