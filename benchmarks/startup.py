"""What it costs to start."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def _seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def ratio(rounds: int) -> float:
    """``import vaelab`` with its main names, over ``import torch``; fresh processes, in turns."""
    ratios = []
    for _ in range(max(rounds, 5)):
        torch = _seconds(sys.executable, "-c", "import torch")
        ours = _seconds(sys.executable, "-c", "import vaelab; vaelab.VAE, vaelab.fit")
        ratios.append(ours / torch)
    return statistics.median(ratios)


def help_seconds(rounds: int) -> float:
    """``vaelab train --help``, the slowest of the help pages."""
    times = [_seconds(sys.executable, "-m", "vaelab", "train", "--help") for _ in range(rounds)]
    return statistics.median(times)
