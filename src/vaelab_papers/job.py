"""What a table builds for each of its trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vaelab.baselines import GAN
from vaelab.data import ArrayBatches, Dataset, Scaling
from vaelab.model import VAE
from vaelab.runs.generators import SampleDistance, rows_of
from vaelab.specs import FitSettings, Settings
from vaelab.types import Trainable
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
    """

    data: Dataset
    settings: Settings
    options: Options
    protocol: str


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
    length
        How it is trained, where that is not the scale's.
    folder
        Where its model is kept, and the training states of its densities; None keeps nothing.
    gan
        What is trained in the model's place, which is its generator; None for a VAE.
    held_out
        Rows by which the weights of a GAN are chosen.
    """

    model: VAE
    batches: ArrayBatches
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    sampling: Sampling | None = None
    length: FitSettings | None = None
    folder: Path | None = None
    gan: GAN | None = None
    held_out: ArrayBatches | None = None

    @property
    def trained(self) -> Trainable:
        """What is trained: the model, or the GAN that it is the generator of."""
        return self.model if self.gan is None else self.gan

    def placed(self, folder: Path, inception: Path | None) -> Job:
        """Return the job with a folder of its own, and with Inception's weights."""
        sampling = self.sampling
        if sampling is not None:
            sampling = sampling._replace(options=replace(sampling.options, inception=inception))
        if self.gan is not None and sampling is not None and self.held_out is not None:
            rest, data = self.held_out, sampling.data
            self.gan.judge = SampleDistance(
                data,
                Scaling.fit(data.train.x, data.kind),
                lambda: rows_of(rest),
                len(rest),
                seed=sampling.settings.seed,
                protocol=sampling.protocol,
                options=sampling.options,
            )
        return self._replace(folder=folder, sampling=sampling)
