"""A table with text, dates and gaps, and rows drawn like it.

Columns keep their kinds: whole visits, a share of exact zeros, levels by name. A classifier of trees is asked
whether it can tell drawn rows from rows that the model has not seen.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import vaelab

rng = np.random.default_rng(0)
size = rng.normal(size=1500)
frame = pd.DataFrame(
    {
        "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.round(300 + 100 * size), unit="D"),
        "visits": rng.poisson(np.exp(1 + size / 2)),
        "spent": np.where(size < -0.8, 0.0, np.round(np.exp(3 + size + 0.3 * rng.normal(size=1500)), 2)),
        "class": np.where(size > 0.3, "large", np.where(size > -0.5, "medium", "small")),
    }
)
frame["class"] = frame["class"].mask(rng.random(1500) < 0.1)
train, test = frame[:1000], frame[1000:]

model = vaelab.GaussianVAE(4, network="mlp(hidden=[64])", likelihood="mixed", epochs=60, lr=3e-3, random_state=0)
drawn = model.fit(train).sample(500, missing=True, random_state=1)
print(drawn.head(4))
print(vaelab.compare_tables(test, drawn, train=train))

figure, (left, right) = plt.subplots(1, 2)
sets = ("unseen rows", test), ("drawn rows", drawn)
for name, rows in sets:
    left.scatter(rows["visits"], rows["spent"] + 1, s=8, alpha=0.6, label=name)
left.set(yscale="log", xlabel="visits", ylabel="spent + 1")
left.legend()
shares = {name: rows["class"].fillna("missing").value_counts(normalize=True) for name, rows in sets}
pd.DataFrame(shares).plot.bar(ax=right, rot=0, title="share of each class", xlabel="")
figure.savefig("tables.png")
