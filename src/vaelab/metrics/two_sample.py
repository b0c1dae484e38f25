"""Whether a classifier can tell generated rows from real ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaelab.arguments import short_seed
from vaelab.metrics.moments import comparable

_FEWEST = 50  # rows of each kind: half of them still make two leaves


class TwoSample(NamedTuple):
    """What `two_sample_accuracy` finds.

    Attributes
    ----------
    accuracy
        On held-out rows, half of them real: 0.5 cannot be told apart, 1 always.
    standard_error
        Binomial, √(accuracy (1 − accuracy) / held-out rows).
    """

    accuracy: float
    standard_error: float


def two_sample_accuracy(real: Tensor, fake: Tensor, *, seed: int = 0) -> TwoSample:
    """Held-out accuracy of gradient-boosted trees that tell real from generated rows.

    Lopez-Paz & Oquab 2017, section 3, with trees in place of a network. As many rows of either kind as the smaller set
    has, drawn at random; half train, half are held out.

    Well below 0.5 means that rows of one set are copies of rows of the other: a held-out row then has a twin of the
    other kind in training.

    Parameters
    ----------
    real, fake
        (n, d) and (m, d) features, at least 50 rows each.
    seed
        Draws and splits the rows, and seeds the trees; the same seed gives the same result.

    Raises
    ------
    InputError
        See `vaelab.metrics.moments.comparable`.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to import

    real, fake = comparable(real, fake, names=("real", "fake"), min_rows=_FEWEST)
    generator = torch.Generator().manual_seed(seed)
    size = min(len(real), len(fake))
    drawn = [x[torch.randperm(len(x), generator=generator)[:size].to(x.device)].double().cpu() for x in (real, fake)]
    train = torch.cat([x[: size // 2] for x in drawn]).numpy()
    held_out = torch.cat([x[size // 2 :] for x in drawn]).numpy()
    trees = HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=15, early_stopping=False, random_state=short_seed(seed)
    ).fit(train, np.repeat([0, 1], size // 2))
    right = trees.predict(held_out) == np.repeat([0, 1], size - size // 2)
    accuracy = float(right.mean())
    return TwoSample(accuracy, float((accuracy * (1 - accuracy) / len(right)) ** 0.5))
