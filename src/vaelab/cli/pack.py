"""``vaelab pack``."""

from __future__ import annotations

from pathlib import Path

import tyro


def pack(run: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]) -> None:
    """Write a run as one file, or such a file as a run.

    Args:
        run: folder of a finished run; or a .zip that this verb wrote.
        out: the .zip to write; or the new folder of the run that a .zip holds.
    """
    from vaelab.errors import InputError
    from vaelab.runs import archive

    if run.suffix == ".zip" and out.suffix != ".zip":
        archive.unpack(run, out)
    elif out.suffix == ".zip" and run.suffix != ".zip":
        archive.pack(run, out)
    else:
        raise InputError(f"{run} and {out}", "a run and a .zip, or a .zip and a new folder")
    print(f"wrote {out}")


def run(argv: list[str]) -> None:
    """Parse, and write."""
    tyro.cli(pack, args=argv, prog="vaelab pack")
