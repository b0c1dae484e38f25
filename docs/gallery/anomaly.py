"""Which rows are odd, with p-values that hold whatever the model is worth.

Trained on all digits but 2; a fifth of them is set aside, and says how low a usual score can be.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import vaelab

digits = load_digits()
X, label = digits.data, digits.target
rng = np.random.default_rng(0)
held = rng.random(len(X)) < 0.2
train, new = X[~held & (label != 2)], held | (label == 2)

watch = vaelab.VAEDetector(vaelab.GaussianVAE(16, epochs=100, random_state=0), false_alarms=0.05, random_state=0)
watch.fit(train)
p, odd = watch.p_values(X[new]), label[new] == 2
alarm = watch.predict(X[new]) == -1
print(f"alarms: {alarm[odd].mean():.0%} of the twos, {alarm[~odd].mean():.0%} of the others (5 % asked for)")
print(f"area under the curve {roc_auc_score(odd, -watch.score_samples(X[new])):.3f}")

figure = plt.figure()
left, right = figure.subfigures(1, 2)
place = left.subplots()
place.hist([p[~odd], p[odd]], np.linspace(0, 1, 21), label=["other digits", "twos"], density=True)
place.set(xlabel="p-value", title="p-values of new rows", yticks=[])
place.legend()
order = np.argsort(p, kind="stable")[:12]
for spot, row in zip(right.subplots(2, 6).flat, order, strict=True):
    spot.imshow(X[new][row].reshape(8, 8))
    spot.set(xticks=[], yticks=[], title=str(label[new][row]))
right.suptitle("the oddest, with their labels", fontsize=9)
figure.savefig("anomaly.png")
