"""On how many dimensions data live.

Three numbers, bent into ten columns with a little noise. Around each row the decoder moves in as many directions as the
manifold has there; estimates from neighbours stand beside.
"""

import matplotlib.pyplot as plt
import numpy as np

import vaelab
from vaelab.specs import MLP, FitSettings, Settings

rng = np.random.default_rng(0)
hidden = rng.normal(size=(3000, 3))
X = np.tanh(hidden @ rng.normal(size=(3, 10))) + 0.01 * rng.normal(size=(3000, 10))

training = FitSettings(epochs=80, batch_size=200, lr=5e-3, schedule="one_cycle")
found = vaelab.estimate_dimension(X, settings=Settings(latent_dim=8, network=MLP((64,)), training=training))
print(found)

model = vaelab.GaussianVAE(8, network=MLP((64,)), training=training, random_state=0).fit(X)
ratios = np.sort(vaelab.manifold_dimension(model, X).all.ratios)
figure, (left, right) = plt.subplots(1, 2)
left.scatter(X[:, 0], X[:, 1], c=X[:, 2], s=3, cmap="viridis")
left.set(title="three of the ten columns", xticks=[], yticks=[])
right.bar(range(1, 9), ratios)
right.axhline(0.05, color="0.7", lw=0.8)
right.set(title="posterior variance of each dimension of the code", xlabel="dimension", yscale="log")
figure.savefig("dimension.png")
