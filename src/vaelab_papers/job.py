"""What a table builds for each of its trainings."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from vaelab.data import Dataset
from vaelab.model import VAE
from vaelab.specs import Settings
from vaelab.types import Batches
from vaelab.verbs import Options


class Sampling(NamedTuple):
    """How samples of a trained model are made and measured.

    Attributes
    ----------
    data
        The whole data set; samples are compared with its test split.
    settings
        What the model was built from, and which latent densities are fitted on its codes.
    options
        What to measure, and how much of it.
    protocol
        How; see `vaelab.metrics.protocols`.
    mixtures
        Numbers of components of further mixtures.
    """

    data: Dataset
    settings: Settings
    options: Options
    protocol: str
    mixtures: tuple[int, ...] = ()


class Job(NamedTuple):
    """A model, what it is trained on, and what its measuring needs beside.

    Attributes
    ----------
    model
        Untrained; the runner trains it in place.
    batches
        Its training rows.
    labels
        (n,) int64 classes of these rows, to measure apart; None for none.
    classes
        Their names.
    sampling
        How its samples are measured; None where nothing is sampled.
    """

    model: VAE
    batches: Batches
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    sampling: Sampling | None = None
