"""A run as one file: a zip of what is needed to load it and of what it found, with the checksum of each file.

Entries are stored as they are, flat, and listed in a manifest; a file of any other form is refused before anything is
written, so that nothing leaves the folder it is unpacked into or grows beyond the size of the file.
"""

from __future__ import annotations

import hashlib
import json
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaelab import storage
from vaelab.errors import RunFolderError
from vaelab.runs.folder import CONFIG, METRICS, MODEL, RESULTS, VERSIONS, read_config, read_results, read_weights

MANIFEST = "manifest.json"
_LONGEST_MANIFEST = 1_000_000  # bytes
_BLOCK = 1 << 20
_WANTED, _RESTORE = "a file that `vaelab pack` wrote", "Take it from where it came once more."


def contents(folder: Path) -> list[Path]:
    """Return the files of a finished run that somebody else needs: the model, what was found, and pictures."""
    named = [folder / name for name in (CONFIG, MODEL, RESULTS, VERSIONS, METRICS, "evaluation.json", "evaluation.txt")]
    return [path for path in (*named, *sorted(folder.glob("*.png"))) if path.is_file() and not path.is_symlink()]


def pack(folder: Path, path: Path) -> None:
    """Write a finished run as one file; states of the training and what trackers wrote are left out.

    Parameters
    ----------
    folder
        Of the run.
    path
        The file, ``.zip``; one that is there is replaced.

    Raises
    ------
    RunFolderError
        The run is not finished, or damaged.
    VaelabError
        The file cannot be written; one that was there is untouched.
    """
    if "facts" not in read_config(folder):
        remedy = f"Finish it with `vaelab train --resume {folder}`."
        raise RunFolderError(f"{folder} that is not finished", "a finished run", remedy)
    read_weights(folder)
    read_results(folder)
    files = contents(folder)

    def write(temporary: Path) -> None:
        manifest = {each.name: storage.hash_of(each) for each in files}
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest, indent=2) + "\n")
            for each in files:  # without times and owners: the same run is the same file
                with each.open("rb") as source, archive.open(zipfile.ZipInfo(each.name), "w", force_zip64=True) as out:
                    while block := source.read(_BLOCK):
                        out.write(block)

    storage.replace_file(path, write)


def unpack(path: Path, folder: Path) -> None:
    """Write the run in a file as a folder that is there whole or not at all.

    Parameters
    ----------
    path
        What `pack` wrote.
    folder
        A new folder.

    Raises
    ------
    RunFolderError
        The folder is there already; the file is none of `pack`'s, or damaged.
    """
    if storage.exists(folder):
        raise RunFolderError(f"{folder}, which is there already", "a new folder", "Choose another name.")
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _checked(archive, path)
            storage.replace_folder(folder, lambda temporary: _extract(archive, manifest, temporary, path))
    except FileNotFoundError as error:
        raise RunFolderError(f"no file {path}", _WANTED, "Check the path.") from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:  # OSError: a place before the file
        raise RunFolderError(f"{path}, which is no whole zip file ({error})", _WANTED, _RESTORE) from error


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the folder of a run: itself, or, of a file, a temporary one."""
    if not (storage.exists(path) and path.is_file()):
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / path.stem
        unpack(path, folder)
        yield folder


def _checked(archive: zipfile.ZipFile, path: Path) -> dict[str, str]:
    """Return the manifest, of an archive whose entries are what it says."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    for entry in entries:
        plain = Path(entry.filename).name == entry.filename and not set(entry.filename) & set("\\/:\0")
        link = stat.S_ISLNK(entry.external_attr >> 16)
        if not plain or entry.filename.startswith(".") or link or entry.is_dir():
            raise RunFolderError(f"{path} with an entry {entry.filename!r}", _WANTED)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
            raise RunFolderError(f"{path}, in which {entry.filename!r} is compressed or encrypted", _WANTED)
    if len(set(map(str.lower, names))) < len(names) or MANIFEST not in names:
        raise RunFolderError(f"{path} without a manifest, or with an entry twice", _WANTED)
    if archive.getinfo(MANIFEST).file_size > _LONGEST_MANIFEST:
        raise RunFolderError(f"{path} with a manifest that is too long", _WANTED)
    try:
        manifest = json.loads(archive.read(MANIFEST))
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} with an unreadable manifest ({error})", _WANTED, _RESTORE) from error
    if not isinstance(manifest, dict) or set(manifest) != set(names) - {MANIFEST} or CONFIG not in manifest:
        raise RunFolderError(f"{path}, whose manifest lists other files than it has", _WANTED, _RESTORE)
    return manifest


def _extract(archive: zipfile.ZipFile, manifest: dict[str, str], folder: Path, path: Path) -> None:
    """Write the entries into a folder, each with the checksum that the manifest says."""
    for name, known in manifest.items():
        digest = hashlib.sha256()
        with archive.open(name) as source, (folder / name).open("wb") as out:
            while block := source.read(_BLOCK):
                digest.update(block)
                out.write(block)
        if digest.hexdigest() != known:
            raise RunFolderError(f"{path}, in which {name} was damaged or changed", "the file as it was", _RESTORE)
