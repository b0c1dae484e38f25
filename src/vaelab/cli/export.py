"""``vaelab export``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro


def export(
    run: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    what: Literal["sample", "encode", "decode", "reconstruct", "score"] = "sample",
    density: str = "auto",
) -> None:
    """Write one function of a run as a file that is run without vaelab, and say what it takes and gives.

    Args:
        run: folder of the run.
        out: file to write: .onnx for onnxruntime and its kin, .pt2 for torch.export.load.
        what: the function: sample takes standard normals, the others rows or codes, in the units of the run's data.
        density: where codes come from, for sample: auto (the best on held-out codes), prior, gaussian, mixture,
            flow_matching, second_stage.
    """
    from vaelab import runs

    print(f"wrote {out}: {runs.read_run(run).export(out, what, density=density)}")


def run(argv: list[str]) -> None:
    """Parse and export."""
    tyro.cli(export, args=argv, prog="vaelab export")
