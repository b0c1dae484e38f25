"""On how many dimensions data live.

Two numbers, bent into eight columns. Around each row the decoder moves in as many directions as the manifold has there;
estimates from neighbours stand beside.
"""

import matplotlib.pyplot as plt
import numpy as np

import vaelab
from vaelab.specs import MLP, FitSettings, Settings
from vaelab_papers.synthetic import sigmoid_manifold

X = sigmoid_manifold(3000, d=8, r=2, seed=1).x.numpy()
training = FitSettings(epochs=60, batch_size=200, lr=5e-3, schedule="one_cycle")
network = MLP((32,), "relu")
print(vaelab.estimate_dimension(X, settings=Settings(latent_dim=4, network=network, training=training)))

model = vaelab.GaussianVAE(6, network=network, training=training, random_state=0).fit(X)
ratios = np.sort(vaelab.manifold_dimension(model, X).all.ratios)
figure, (left, right) = plt.subplots(1, 2)
left.scatter(X[:, 0], X[:, 1], c=X[:, 2], s=3, cmap="viridis")
left.set(title="three of the eight columns", xticks=[], yticks=[])
right.bar(range(1, 7), ratios)
right.axhline(0.05, color="0.7", lw=0.8)
right.set(title="posterior variance of each dimension of the code", xlabel="dimension", yscale="log")
figure.savefig("dimension.png")
