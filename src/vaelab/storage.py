"""Files that are whole or absent, and that run no code when loaded."""

from __future__ import annotations

import errno
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from vaelab.errors import InputError, VaelabError


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, and rename it over `path`.

    A reader, or a process that starts after a crash, sees the old file or the new one, never a part.

    Raises
    ------
    VaelabError
        The disk is full or not writable; the old file is untouched.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # the suffix stays last, since matplotlib and safetensors read it
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise VaelabError(f"Could not write {path}: {reason}. The file that was there before is untouched.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    replace_file(path, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def save_tensors(path: Path, tensors: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
    """Save named tensors, and JSON-able metadata in the header, as one safetensors file."""
    from safetensors.torch import save_file  # here, so that the command line starts without torch

    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    header = {"vaelab": json.dumps(dict(meta or {}))}

    def write(temporary: Path) -> None:
        try:
            save_file(ready, temporary, metadata=header)
        except Exception as error:  # safetensors wraps an OSError in a type of its own
            if "No space left" in str(error):
                raise OSError(errno.ENOSPC, str(error)) from error
            raise

    replace_file(path, write)


def load_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors on the CPU, and the metadata.

    Raises
    ------
    InputError
        The file is missing, cut off, or was not written by vaelab.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"no file {path}", "a file written by vaelab", "Check the path.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise InputError(
            f"an unreadable file {path} ({error})",
            "a whole safetensors file",
            "Restore it from a copy, or train again.",
        ) from error
    if "vaelab" not in header:
        raise InputError(f"{path}, which vaelab did not write", "a file with vaelab's header")
    return tensors, json.loads(header["vaelab"])


def json_value(value: Any) -> Any:
    """Turn records, tuples, arrays and tensors into what JSON has; a number that is not finite becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_value(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return json_value(value._asdict())
    if hasattr(value, "tolist"):
        return json_value(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): json_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
