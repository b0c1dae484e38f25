"""Files that are whole or absent, and that run no code when loaded."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from vaelab.errors import InputError, RunFolderError, VaelabError

_UNFINISHED = ".vaelab-unfinished-"  # how names begin that a process left behind which was killed while it wrote


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; no name that a system refuses is one."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


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
        handle, name = tempfile.mkstemp(prefix=f"{_UNFINISHED}{path.stem[:80]}-", suffix=path.suffix, dir=path.parent)
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


def unfinished(folder: Path, *inside: str) -> list[Path]:
    """Return files that a killed process left under temporary names in a folder, and in some folders inside."""
    places = [folder, *(folder / name for name in inside)]
    return [path for place in places for path in place.glob(f"{_UNFINISHED}*") if path.is_file()]


def is_unfinished(path: Path) -> bool:
    """Whether a path has a temporary name."""
    return path.name.startswith(_UNFINISHED)


def sweep(folder: Path, *inside: str) -> None:
    """Remove what `unfinished` returns; only while the folder is `held`."""
    for path in unfinished(folder, *inside):
        path.unlink(missing_ok=True)


@contextmanager
def held(folder: Path, *, name: Path | None = None) -> Iterator[None]:
    """Keep other processes from writing into a folder, which is made; a process that dies lets go of it.

    Parameters
    ----------
    folder
        Which.
    name
        What messages call it, if not by its own path.

    Raises
    ------
    RunFolderError
        Another process holds it, or it cannot be made.
    """
    name = folder if name is None else name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{name}, which cannot be made ({error.strerror})", "a folder to write into") from error
    try:
        import fcntl
    except ImportError:  # Windows
        with _held_by_file(folder, name):
            yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # its holder removes it just now
        raise _busy(name) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(handle), folder.stat()):
                raise _busy(name)
        except (BlockingIOError, FileNotFoundError):
            raise _busy(name) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


@contextmanager
def _held_by_file(folder: Path, name: Path) -> Iterator[None]:
    """Lock a file beside a folder, where folders cannot be locked; the system unlocks what a dead process held."""
    import filelock

    lock = filelock.FileLock(_beside(folder, ".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise _busy(name) from None
    try:
        yield
    finally:
        lock.release()


def _busy(folder: Path) -> RunFolderError:
    remedy = "Wait for its end, or choose another name."
    return RunFolderError(f"{folder}, into which another process writes", "a folder of its own", remedy)


def _beside(folder: Path, suffix: str = "") -> Path:
    """Return the one temporary name beside a folder that is this folder's; of names that are cut the digits differ."""
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve would follow a link, which is what is replaced
    digits = hashlib.sha256(folder.name.encode(errors="surrogateescape")).hexdigest()[:12]
    return folder.with_name(f"{_UNFINISHED}{folder.name[:40]}-{digits}{suffix}")


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder beside `folder`, and put it in its place, with all that it holds.

    What an earlier process left that was killed meanwhile is mended and swept first; see `recover`.

    Raises
    ------
    RunFolderError
        Another process is replacing it.
    VaelabError
        It cannot be written; the old one is untouched.
    """
    swap = _beside(folder)
    new, old = swap / "new", swap / "old"
    with held(swap, name=folder):
        try:
            _put_back(folder)
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            write(new)
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            except BaseException:  # an interrupt too
                _put_back(folder)
                raise
        except OSError as error:
            raise VaelabError(f"Could not write {folder}: {error}. What was there before is untouched.") from error
        finally:
            if folder.exists() or not old.exists():
                shutil.rmtree(swap, ignore_errors=True)


def recover(folder: Path) -> None:
    """Mend what a process left that was killed in `replace_folder`: the old folder is put back, and the rest swept.

    A process that lives is left alone, and waited for where it is between the two renames.

    Raises
    ------
    RunFolderError
        The old folder cannot be put back.
    """
    swap = _beside(folder)
    for _ in range(40):
        if not swap.exists():
            return
        try:
            with held(swap, name=folder):
                _put_back(folder)
                shutil.rmtree(swap, ignore_errors=True)
            return
        except RunFolderError:  # held
            if folder.exists() or not (swap / "old").exists():
                return
            time.sleep(0.05)
        except OSError as error:
            if folder.exists():
                return
            got = f"{folder}, which an interrupted save left as {swap / 'old'} ({error.strerror})"
            raise RunFolderError(got, "a folder that can be put back", "Rename it yourself.") from error


def _put_back(folder: Path) -> None:
    """Undo the first of two renames; what another process put there since stays, and is newer."""
    old = _beside(folder) / "old"
    if old.exists():
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write text atomically."""
    replace_file(path, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def save_tensors(path: Path, tensors: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> str:
    """Save named tensors, and JSON-able metadata in the header, as one safetensors file; return the hash of both."""
    from safetensors.torch import save_file  # here, so that the command line starts without torch

    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(dict(meta or {}))
    digest = _digest(ready, text)
    header = {"vaelab": json.dumps({"sha256": digest, "meta": text})}

    def write(temporary: Path) -> None:
        try:
            save_file(ready, temporary, metadata=header)
        except Exception as error:  # safetensors wraps an OSError in a type of its own
            if found := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
            raise

    replace_file(path, write)
    return digest


def _digest(tensors: Mapping[str, Any], meta: str) -> str:
    """Hash names, shapes, dtypes and bytes of tensors, and the metadata."""
    import torch

    found = hashlib.sha256(meta.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors on the CPU, and the metadata.

    Raises
    ------
    InputError
        As `load_hashed`.
    """
    return load_hashed(path)[:2]


def load_hashed(path: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Read what `save_tensors` wrote, and the hash that it returned.

    Raises
    ------
    InputError
        The file is missing, cut off, damaged, or was not written by vaelab.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"no file {path}", "a file written by vaelab", "Check the path.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        got = f"an unreadable file {path} ({error})"
        raise InputError(got, "a whole safetensors file", _RESTORE) from error
    if "vaelab" not in header:
        raise InputError(f"{path}, which vaelab did not write", "a file with vaelab's header", _RESTORE)
    try:
        said = json.loads(header["vaelab"])
        if said["sha256"] == _digest(tensors, said["meta"]):
            return tensors, json.loads(said["meta"]), said["sha256"]
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):  # what is said is no longer what was
        pass
    raise InputError(f"{path}, which was damaged or changed since it was written", "the file as it was", _RESTORE)


_RESTORE = "Restore it from a copy, or train again."


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
