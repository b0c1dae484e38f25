"""Windows of two sensors, of different lengths, and several ways in which one may go on.

A `SequenceVAE` scores every point given those before it, and draws what follows a prefix.
"""

import matplotlib.pyplot as plt
import numpy as np

import vaelab

rng = np.random.default_rng(0)


def window(steps: int) -> np.ndarray:
    """A machine that turns at its own pace: where it is, in two coordinates."""
    angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0.3, 0.7) * np.arange(steps)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.02 * rng.normal(size=(steps, 2))


windows = [window(int(steps)) for steps in rng.integers(12, 21, 400)]
model = vaelab.SequenceVAE(latent_dim=2, units=24, epochs=60, lr=5e-3, random_state=0).fit(windows)
odd = window(16)
odd[8:] = odd[8]  # the machine stops
print("usual:", model.score_samples(windows[:4]).round(), "stopped:", model.score_samples([odd]).round(), "nats")

whole = window(20)
ways = model.sample(6, steps=12, prefix=whole[:8], random_state=0)
figure, axes = plt.subplots(2, 1, sharex=True)
for sensor, place in enumerate(axes):
    for way in ways:
        place.plot(np.arange(8, 20), way[-12:, sensor], "C1", alpha=0.5, lw=0.9)
    place.plot(whole[:, sensor], "k.", ms=3)
    place.axvline(7.5, color="0.7", lw=0.8)
    place.set_ylabel(f"sensor {sensor + 1}")
axes[0].set_title("what was seen up to the line, and six ways to go on; dots are what happened")
figure.savefig("sensor_windows.png")
