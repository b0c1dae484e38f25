"""Files and folders that are wrong: name → what writes one into a folder, and whether it may also be read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tests.wrong_inputs.values import MAY, REFUSE, X

Written = Mapping[str, tuple[Callable[[Path], Path], bool]]


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _npy(name: str, array: Any, *, cut: int | None = None) -> Callable[[Path], Path]:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return _bytes(name, buffer.getvalue()[:cut])


def _npz(name: str, **arrays: Any) -> Callable[[Path], Path]:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return _bytes(name, buffer.getvalue())


def _parquet(frame: pd.DataFrame, *, cut: int | None = None) -> Callable[[Path], Path]:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return _bytes("x.parquet", buffer.getvalue()[:cut])


def _csv(text: str | bytes) -> Callable[[Path], Path]:
    return _bytes("x.csv", text if isinstance(text, bytes) else text.encode())


def _png(*, size: tuple[int, int] = (16, 16), mode: str = "L", cut: int | None = None) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "png")
    return buffer.getvalue()[:cut]


def _bomb() -> bytes:
    """A PNG whose header promises ten thousand million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk


def _folder(**files: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_bytes(content)
        return folder

    return write


_LINES = "a,b,c\n" + "\n".join(",".join(f"{v:.4f}" for v in row) for row in X) + "\n"

FILES: Written = {
    "an empty .npy": (_bytes("x.npy", b""), REFUSE),
    "text as .npy": (_bytes("x.npy", b"1,2,3\n"), REFUSE),
    "half of an .npy": (_npy("x.npy", X, cut=500), REFUSE),
    "an .npy of objects": (_npy("x.npy", np.array([{}, None], dtype=object)), REFUSE),
    "an .npy of text": (_npy("x.npy", np.array([["a", "b"]] * 50)), REFUSE),
    "an .npy of complex numbers": (_npy("x.npy", X + 1j), REFUSE),
    "an .npy of one number": (_npy("x.npy", np.float64(1)), REFUSE),
    "an .npy of one dimension": (_npy("x.npy", X[:, 0]), REFUSE),
    "an .npy of no rows": (_npy("x.npy", X[:0]), REFUSE),
    "an .npy of no columns": (_npy("x.npy", X[:, :0]), REFUSE),
    "an .npy with NaN": (_npy("x.npy", np.full((50, 3), np.nan)), REFUSE),
    "an .npy of records": (_npy("x.npy", np.zeros(50, dtype=[("a", float)])), REFUSE),
    "an .npy of times": (_npy("x.npy", np.full((50, 3), np.datetime64("2020"))), REFUSE),
    "an empty .npz": (_bytes("x.npz", b""), REFUSE),
    "an .npz of nothing": (_npz("x.npz"), REFUSE),
    "an .npz of other names": (_npz("x.npz", one=X, other=X), REFUSE),
    "an .npz of objects": (_npz("x.npz", x=np.array([{}, None], dtype=object)), REFUSE),
    "text as .npz": (_bytes("x.npz", b"PK\x03\x04nothing"), REFUSE),
    "a file of no known kind": (_bytes("x.docx", b"PK"), REFUSE),
    "a file without ending": (_bytes("x", b"1,2\n"), REFUSE),
    "a pickle": (_bytes("x.pkl", b"\x80\x04N."), REFUSE),
}

TABLES: Written = {
    "an empty .csv": (_csv(""), REFUSE),
    "a .csv of blanks": (_csv("\n\n  \n"), REFUSE),
    "a header alone": (_csv("a,b,c\n"), REFUSE),
    "one line": (_csv("a,b,c\n1,2,3\n"), MAY),
    "lines of different lengths": (_csv(_LINES + "1,2\n"), REFUSE),
    "a line with one more": (_csv(_LINES + "1,2,3,4\n"), REFUSE),
    "a header with one fewer": (_csv(_LINES.replace("a,b,c", "a,b")), REFUSE),
    "bytes of nothing": (_csv(bytes(range(256)) * 20), REFUSE),
    "NUL bytes": (_csv(b"a,b\n" + b"\0" * 500), REFUSE),
    "UTF-16": (_csv(_LINES.encode("utf-16")), MAY),
    "Latin-1": (_csv("größe,höhe\n1,2\n3,4\n5,6\n".encode("latin-1")), MAY),
    "an open quote": (_csv(_LINES + '"1,2,3\n'), REFUSE),
    "a header twice": (_csv(_LINES.replace("a,b,c", "a,b,b")), REFUSE),
    "a column of text": (_csv("a,b\n" + "1,x\n2,y\n" * 30), MAY),
    "all text": (_csv("a,b\n" + "u,x\nv,y\n" * 30), MAY),
    "a column of nothing": (_csv("a,b\n" + "1,\n2,\n" * 30), MAY),
    "an infinity in a table": (_csv(_LINES + "inf,1,2\n"), REFUSE),
    "numbers beyond any": (_csv(_LINES + "1e999,1,2\n"), REFUSE),
    "a picture as .csv": (_csv(_png()), REFUSE),
    "JSON as .csv": (_csv('{"a": [1, 2, 3],\n "b": [4, 5, 6]}\n'), REFUSE),
    "HTML as .csv": (_csv("<!DOCTYPE html>\n<html><body>404</body></html>\n"), REFUSE),
    "an empty .parquet": (_bytes("x.parquet", b""), REFUSE),
    "text as .parquet": (_bytes("x.parquet", b"a,b\n1,2\n"), REFUSE),
    "half of a .parquet": (_parquet(pd.DataFrame(X, columns=list("abc")), cut=600), REFUSE),
    "a .parquet of text": (_parquet(pd.DataFrame({"a": list("xyz") * 20})), MAY),
    "a .parquet of lists": (_parquet(pd.DataFrame({"a": [[1.0], [1.0, 2.0]] * 20})), REFUSE),
    "a .parquet of no rows": (_parquet(pd.DataFrame(X[:0], columns=list("abc"))), REFUSE),
    "a .parquet of no columns": (_parquet(pd.DataFrame(index=range(9))), REFUSE),
    "a .parquet of bytes": (_parquet(pd.DataFrame({"a": [b"\x00", b"\x01"] * 20})), REFUSE),
    "a .parquet of times": (_parquet(pd.DataFrame({"a": pd.date_range("2020", periods=40)})), MAY),
    "a .parquet of NaN": (_parquet(pd.DataFrame({"a": np.full(40, np.nan), "b": np.arange(40.0)})), REFUSE),
}

IMAGES: Written = {
    "an empty folder": (_folder(), REFUSE),
    "a folder of text": (_folder(a_txt=b"text", b_txt=b"text"), REFUSE),
    "an empty picture": (_folder(a_png=_png(), b_png=b""), REFUSE),
    "half of a picture": (_folder(a_png=_png(), b_png=_png(cut=40)), REFUSE),
    "text as a picture": (_folder(a_png=_png(), b_png=b"not a picture"), REFUSE),
    "one picture": (_folder(a_png=_png()), MAY),
    "pictures of two sizes": (_folder(a_png=_png(), b_png=_png(size=(20, 16))), REFUSE),
    "pictures of one pixel": (_folder(a_png=_png(size=(1, 1)), b_png=_png(size=(1, 1))), MAY),
    "a picture of too many pixels": (_folder(a_png=_png(), b_png=_bomb()), REFUSE),
    "pictures and tables": (_folder(a_png=_png(), b_parquet=b"nothing"), REFUSE),
    "grey and colour": (_folder(a_png=_png(), b_png=_png(mode="RGB")), MAY),
}
