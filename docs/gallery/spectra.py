"""Spectra whose noise differs between channels.

One variance per channel (`shape=diag-i`) finds where the instrument is noisy, and the code is not spent on it.
"""

import matplotlib.pyplot as plt
import numpy as np

import vaelab

rng = np.random.default_rng(0)
channel = np.linspace(0, 1, 80)
place, height, width = (rng.uniform(low, high, (2000, 1)) for low, high in ((0.3, 0.7), (0.5, 1.5), (0.05, 0.1)))
clean = height / (1 + ((channel - place) / width) ** 2)
noise = 0.02 + 0.25 * (channel > 0.7)  # the last channels are bad
X = clean + noise * rng.normal(size=clean.shape)

model = vaelab.GaussianVAE(8, likelihood="gaussian(shape=diag-i)", epochs=100, random_state=0).fit(X)
found = model.gamma_**0.5  # of standardised channels
scale = X.std(axis=0)
print(f"noise of good channels {(found * scale)[:50].mean():.3f} (0.02), of bad ones {(found * scale)[60:].mean():.3f}")

figure, (left, right) = plt.subplots(1, 2)
for offset, (seen, rebuilt, true) in enumerate(zip(X[:3], model.reconstruct(X[:3]), clean[:3], strict=True)):
    left.plot(channel, seen + 1.6 * offset, color="0.75", lw=0.8)
    left.plot(channel, true + 1.6 * offset, "k", lw=0.8)
    left.plot(channel, rebuilt + 1.6 * offset, "C1", lw=1.2)
left.set(title="seen (grey), true (black), rebuilt (orange)", xlabel="channel", yticks=[])
right.plot(channel, noise, "k", label="true")
right.plot(channel, found * scale, "C1", label="found")
right.set(title="noise of each channel", xlabel="channel", ylim=(0, None))
right.legend()
figure.savefig("spectra.png")
