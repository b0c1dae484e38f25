"""Decoded images, kept as ``.npy`` in the user's cache folder, named after what they were decoded from."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vaelab.data.images import Pixels
from vaelab.errors import VaelabError
from vaelab.storage import replace_file

_VERSION = "1"  # changes when decoding does
_WHOLE_FILES = 64  # more files than this are known by size and time, since reading them all costs as much as decoding


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/vaelab``, or ``~/.cache/vaelab``; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "vaelab"


def decoded(files: Sequence[Path], recipe: str, decode: Callable[[], Pixels]) -> Pixels:
    """Return `decode()`, or what it returned last time for the same files.

    Parameters
    ----------
    files
        What is decoded.
    recipe
        Everything else that the result depends on.
    decode
        Returns (n, C, H, W) uint8.
    """
    path = cache_folder() / "decoded" / f"{_key(files, recipe)}.npy"
    if path.is_file():
        try:
            array: Pixels = np.load(path, allow_pickle=False)
            return array
        except (ValueError, OSError):
            pass  # spoilt from outside; decoded again and replaced below
    array = decode()
    with contextlib.suppress(VaelabError):  # a cache that cannot be written costs time, not the result
        replace_file(path, lambda temporary: np.save(temporary, array, allow_pickle=False))
    return array


def decoded_path(files: Sequence[Path], recipe: str) -> Path:
    """Return where the rows of files that are too many for memory are kept; the files are known by size and time."""
    digest = hashlib.sha256(f"{_VERSION} {recipe}".encode())
    for path in files:
        state = path.stat()
        digest.update(f"{path.resolve()} {state.st_size} {state.st_mtime_ns} ".encode())
    return cache_folder() / "decoded" / f"{digest.hexdigest()}.npy"


def _key(files: Sequence[Path], recipe: str) -> str:
    digest = hashlib.sha256(f"{_VERSION} {recipe}".encode())
    for path in files:
        if len(files) <= _WHOLE_FILES:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            state = path.stat()
            digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns} ".encode())
    return digest.hexdigest()
