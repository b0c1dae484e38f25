"""Counts of genes in single cells: four kinds, many zeros, and codes that tell the kinds apart.

log(1 + count) is modelled with one variance per gene; kinds are shown, and never told to the model.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

import vaelab

rng = np.random.default_rng(0)
kind = rng.integers(0, 4, 1200)
level = np.exp(rng.normal(0, 1, (4, 60)))[kind] * np.exp(0.3 * rng.normal(size=(1200, 1)))  # and cells differ in depth
counts = rng.negative_binomial(2, 2 / (2 + level))
X = np.log1p(counts)

model = vaelab.TwoStageVAE(8, likelihood="gaussian(shape=diag-i)", epochs=80, random_state=0).fit(X)
codes = model.transform(X)  # posterior means
found = GaussianMixture(4, n_init=3, random_state=0).fit_predict(codes)
same = sum(np.bincount(kind[found == group]).max() for group in range(4))
print(
    f"{(counts == 0).mean():.0%} of the counts are zero; {same / len(kind):.1%} of the cells are grouped by their kind"
)
drawn = np.expm1(model.sample(1200, random_state=0)).clip(0)

figure, (left, right) = plt.subplots(1, 2)
flat = PCA(2).fit_transform(codes)
left.scatter(*flat.T, c=kind, s=5, cmap="tab10")
left.set(title="codes, coloured by kind", xticks=[], yticks=[])
right.plot(counts.mean(0), drawn.mean(0), ".")
right.axline((0, 0), slope=1, color="0.7", lw=0.8)
right.set(title="mean count of each gene", xlabel="real", ylabel="drawn")
figure.savefig("cells.png")
