"""The lower half of an image is hidden: what may be there.

One model of whole rows answers any question about a part given the rest. Draws differ where the rest does not say.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import vaelab

X = load_digits().images[:, None] / 16
train, test = X[:-200], X[-200:]
model = vaelab.GaussianVAE(16, network="mlp", epochs=100, random_state=0).fit(train)

seen = test[:12].copy()
seen[:, :, 4:] = np.nan
means = model.impute(seen, random_state=0)
draws = model.impute(seen, draws=3, random_state=0)
lower, upper = model.impute_interval(seen, coverage=0.9, random_state=0)
hidden = np.isnan(seen)
inside = (test[:12] >= lower) & (test[:12] <= upper)
print(f"{inside[hidden].mean():.0%} of the hidden pixels lie in their intervals of 90 %")
print(f"root mean squared error {np.sqrt(np.mean((means - test[:12])[hidden] ** 2)):.3f}")

rows = {"seen": seen, "mean": means, "draw 1": draws[0], "draw 2": draws[1], "draw 3": draws[2], "truth": test[:12]}
figure, axes = plt.subplots(6, 12, figsize=(7.2, 3.9))
for line, (name, images) in zip(axes, rows.items(), strict=True):
    for place, image in zip(line, images, strict=True):
        place.imshow(image[0], vmin=0, vmax=1)
        place.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.savefig("imputation.png")
