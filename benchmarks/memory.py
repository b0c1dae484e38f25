"""Peak memory of training on an array that does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

_SCRIPT = """
import resource, sys, warnings
from vaelab import config, data, runs
import lightning_fabric
warnings.simplefilter("ignore")
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = data.load(sys.argv[1])
settings = config.Settings(latent_dim=16, hidden=(64,), epochs=1, batch_size=500, densities=(), keep_best=False)
runs.train(rows, settings)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024)
"""


def growth(gigabytes: float = 4.0) -> float:
    """MB above the start of the process after one epoch on a memory-mapped array of this size."""
    columns = 1024
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        path = Path(folder) / "rows.npy"
        rows = int(gigabytes * 1e9 / columns / 4)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, columns))
        generator = np.random.default_rng(0)
        for first in range(0, rows, 50_000):
            size = min(50_000, rows - first)
            array[first : first + size] = generator.standard_normal((size, columns), dtype=np.float32)
        array.flush()
        del array
        out = subprocess.run([sys.executable, "-c", _SCRIPT, str(path)], check=True, capture_output=True, text=True)
    return float(out.stdout)
