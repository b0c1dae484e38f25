"""Images: why draws from the prior are bad, and draws from a density of the codes are not.

Both rows are of one decoder. A VAE fills only part of the space of its codes, so many draws from N(0, I) are where no
image was; a density that is fitted to the codes draws from where they are.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

import vaelab

X = load_digits().images[:, None] / 16  # (n, 1, 8, 8), in [0, 1]
model = vaelab.TwoStageVAE(16, network="mlp", densities=("gaussian", "mixture"), epochs=60, random_state=0).fit(X)
print(f"{model.active_dimensions_} of 16 dimensions in use; noise {model.gamma_**0.5:.3f}")
print({name: round(score, 2) for name, score in model.code_scores_.items()}, "nats per unseen code")

rows = {
    "real": X[:14],
    "rebuilt": model.reconstruct(X[:14]),
    "from the prior": model.sample(14, density="prior", random_state=0),
    "from the mixture": model.sample(14, density="mixture", random_state=0),
}
figure, axes = plt.subplots(4, 14, figsize=(7.2, 2.4))
for line, (name, images) in zip(axes, rows.items(), strict=True):
    for place, image in zip(line, images, strict=True):
        place.imshow(image[0], vmin=0, vmax=1)
        place.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.savefig("images.png")
