"""Run the gallery's scripts, and write each a page with its picture and what it printed: ``make gallery``.

``python docs/gallery/make.py tables images`` runs these alone. A script may use its own name for its picture, and has
the rest of its temporary folder to itself.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MOST = 60_000  # bytes of a picture


def names() -> list[str]:
    """Return the scripts' names, sorted."""
    return sorted(path.stem for path in HERE.glob("*.py") if path != Path(__file__))


def heading(source: str) -> tuple[str, str]:
    """Split a script's docstring into its first sentence, without the full stop, and the rest."""
    title, _, text = source.split('"""')[1].partition("\n")
    return title.rstrip("."), text.strip()


def page_of(name: str, source: str, printed: str) -> str:
    """Lay out a page: what the script is about, its picture, its source and what it printed."""
    title, text = heading(source)
    parts = [f"# {title}", text, f"![{title}]({name}.png)", f"```{{literalinclude}} {name}.py\n:language: python\n```"]
    if printed.strip():
        parts.append(f"It prints\n\n```text\n{printed.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def run(name: str, source: str, folder: Path) -> str:
    """Run a script's source in a folder, where it leaves its picture; return what it printed."""
    shutil.copy(HERE / "matplotlibrc", folder)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "100"}
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return done.stdout


def reduced(picture: Path) -> bytes:
    """Return a picture with as many colours as it takes to stay small."""
    from PIL import Image

    image = Image.open(picture).convert("RGB")
    for colours in (256, 64, 32, 16):
        file = io.BytesIO()
        image.quantize(colours).save(file, "PNG", optimize=True)
        if len(file.getvalue()) < MOST:
            return file.getvalue()
    raise SystemExit(f"{picture.name} has more than {MOST:,} bytes")


def main(wanted: list[str]) -> None:
    """Run the scripts that are named, or all, and write their pages and pictures."""
    for name in wanted or names():
        source = (HERE / f"{name}.py").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            printed = run(name, source, Path(folder))
            (HERE / f"{name}.png").write_bytes(reduced(Path(folder) / f"{name}.png"))
        (HERE / f"{name}.md").write_text(page_of(name, source, printed), encoding="utf-8")
        print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
