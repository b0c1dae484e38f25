"""Two processes train one model.

`torchrun` starts them, here on one machine; `srun` does on many. Each takes its share of every batch; profiled
variances are those of the whole batch, so the steps are those of one process. The run is a folder like any other.
"""

import os
import subprocess
import sys

import matplotlib.pyplot as plt
import pandas as pd

import vaelab

command = (
    "-m torch.distributed.run --nproc-per-node=2 --standalone -m vaelab train digits --latent-dim 16 --network mlp"
)
options = "--densities gaussian mixture --epochs=60 --quiet"
threads = {**os.environ, "OMP_NUM_THREADS": "1"}
subprocess.run([sys.executable, *command.split(), *options.split()], check=True, env=threads, stdout=subprocess.DEVNULL)

model = vaelab.load("runs/digits")
epochs = pd.read_json("runs/digits/metrics.jsonl", lines=True).drop_duplicates("epoch")
print(f"{model.active_dimensions_} dimensions in use after {int(epochs['step'].max())} steps of two processes each")
figure = plt.figure()
left, right = figure.subfigures(1, 2)
curve = left.subplots()
curve.plot(epochs["epoch"], epochs["loss"], label="training rows")
curve.plot(epochs["epoch"], epochs["held_out_loss"], label="unseen rows")
curve.set(xlabel="epoch", ylabel="nats per row")
curve.legend()
for place, image in zip(right.subplots(4, 8).flat, model.sample(32, random_state=0), strict=True):
    place.imshow(image[0])
    place.set(xticks=[], yticks=[])
figure.savefig("cluster.png")
