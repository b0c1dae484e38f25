"""Images of the class that you ask for.

The label goes into encoder and decoder, so the code holds what the label does not say: slant, width, style.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import vaelab

digits = load_digits()
X, label = digits.images[:, None] / 16, digits.target
model = vaelab.ConditionalVAE(16, network="mlp", epochs=80, random_state=0).fit(X, label)

judge = LogisticRegression(max_iter=2000).fit(X.reshape(len(X), -1), label)
figure, axes = plt.subplots(4, 10, figsize=(7.2, 3))
right = 0.0
for digit, column in enumerate(axes.T):
    drawn = model.sample(100, y=digit, random_state=digit)
    right += (judge.predict(drawn.reshape(100, -1)) == digit).mean() / 10
    for place, image in zip(column, drawn[:4], strict=True):
        place.imshow(image[0], vmin=0, vmax=1)
        place.set(xticks=[], yticks=[])
    column[0].set_title(str(digit))
print(f"a classifier of real digits reads {right:.0%} of the drawn ones as what was asked for")
codes = model.transform(X, label)
plain = vaelab.GaussianVAE(16, network="mlp", epochs=80, random_state=0).fit(X).transform(X)
known, all_in = (LogisticRegression(max_iter=2000).fit(z, label).score(z, label) for z in (codes, plain))
print(f"the code alone says the label of {known:.0%}; that of a VAE without labels, of {all_in:.0%}")
figure.savefig("conditional.png")
