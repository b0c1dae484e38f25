"""Peak memory of a whole training on an array that does not fit, measured from a bare interpreter.

What a process starts with and its peak are read from /proc, in a fresh interpreter: `getrusage` would hand the peak of
its parent on to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_WRITE = """
import sys
import numpy as np
path, rows, columns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
generator = np.random.default_rng(0)
with open(path, "wb") as file:
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
    np.lib.format.write_array_header_1_0(file, header)
    for first in range(0, rows, 10_000):
        size = min(10_000, rows - first)
        file.write(generator.standard_normal((size, columns), dtype=np.float32).data)
"""

_TRAIN = """
def read(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
start = read("VmRSS")
import sys
from vaelab import data, runs, specs
rows = data.load(sys.argv[1])
assert isinstance(rows.train.x, data.MappedArray)
brief = specs.FitSettings(epochs=1)
laws = ('gaussian', 'mixture', specs.SecondStage(hidden=(64,), training=brief))
settings = specs.Settings(latent_dim=16, training=brief, densities=laws)
runs.train(rows, settings)
print((read("VmHWM") - start) / 1024)
"""


def growth(gigabytes: float = 4.0) -> float:
    """MB above a bare interpreter at the peak of both stages and all densities, one epoch each, default settings.

    The array has float32 rows of 1024 columns and lies in ``$TMPDIR``.
    """
    columns = 1024
    rows = int(gigabytes * 1e9 / columns / 4)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        path = str(Path(folder) / "rows.npy")
        subprocess.run([sys.executable, "-c", _WRITE, path, str(rows), str(columns)], check=True)
        done = subprocess.run([sys.executable, "-c", _TRAIN, path], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])
