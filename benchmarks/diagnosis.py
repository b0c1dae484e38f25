"""Time and memory of a full diagnosis in an interpreter of its own: an untrained InfoGAN VAE, 28 × 28 images, κ = 64.

Random images stand for data: nothing that is measured takes more or less time for them.
"""

from __future__ import annotations

import subprocess
import sys

_DIAGNOSE = """
import sys, time
import torch
from vaelab import diagnose
from vaelab.specs import Settings, build_vae
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
x = torch.rand(int(sys.argv[1]), 1, 28, 28)
vae = build_vae(Settings(latent_dim=64).resolve(len(x), (1, 28, 28)), (1, 28, 28), data_variance=0.1)
before, start = peak(), time.perf_counter()
diagnose(vae, x, held_out=x[:10_000])
print(time.perf_counter() - start, peak() - before)
"""


def cost(images: int) -> tuple[float, float]:
    """Seconds, and MB above what the process and its images take, of a diagnosis of so many images with its report."""
    done = subprocess.run([sys.executable, "-c", _DIAGNOSE, str(images)], check=True, stdout=subprocess.PIPE, text=True)
    seconds, megabytes = map(float, done.stdout.split()[-2:])
    return seconds, megabytes
