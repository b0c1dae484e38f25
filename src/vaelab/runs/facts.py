"""What a run remembers of its data and of what was compared."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from vaelab.data.cells import Container
from vaelab.runs.baseline import Gain, Rival


class Facts(BaseModel):
    """What is known of the data and of how the densities compare; saved with the run.

    Attributes
    ----------
    kind, event_shape, columns, classes
        Of the data.
    container, dtypes
        That rows came in, and go back in; and dtypes of the columns, where it is a frame of polars.
    rows
        Training rows, held-out ones left out.
    fingerprint
        Of the training data, so that a resume on other data is refused.
    data_variance, code_variance
        Mean variance of a dimension, of the data in the network's units and of the codes.
    variance_ratios
        Posterior variance of every latent dimension, mean over the training rows.
    code_scores
        Density → mean log-density of held-out codes in nats per code (a lower bound for the second stage).
    best_density
        The simplest density that no other clearly beats by likelihood; see `vaelab.latent.compare_on_codes`. Or one
        whose decoded draws are clearly nearer to held-out rows.
    nearer_than
        In that case, the density that likelihood chooses; None where it has the last word.
    lossless
        Whether stage one is no training's: unseen rows preferred the whitening of the rows, as many dimensions as
        there are columns with next to no noise, below the law of its codes. It says nothing of how many dimensions
        the data have.
    gaussian_gain
        Nats per unseen row that the VAE has over a Gaussian of the data's covariance, or over independent columns of a
        mixed table, and their standard error; None where this was not compared.
    mixture
        A Gaussian mixture of the rows, and how far unseen rows prefer it; None where this was not compared.
    trained_latent_dim
        Of the training, where idle dimensions were dropped after it.
    stage
        The training that the VAE is of, as records name it; several are tried where unseen rows may prefer another.
    gaps
        Pattern of each column's gaps in the training rows, 0 for none; None for what is no mixed table, or was trained
        before gaps were learned.
    scored_on_training
        Whether there were no held-out rows, and the scores are those of fresh draws of training codes.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["image", "table"]
    event_shape: tuple[int, ...]
    rows: int
    fingerprint: str = ""
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    container: Container = "numpy"
    dtypes: dict[str, str] = {}
    data_variance: float
    code_variance: float = 1.0
    variance_ratios: tuple[float, ...] = ()
    code_scores: dict[str, float] = {}
    best_density: str = "prior"
    nearer_than: str | None = None
    lossless: bool = False
    gaussian_gain: Gain | None = None
    mixture: Rival | None = None
    stage: str = "stage one"
    trained_latent_dim: int | None = None
    scored_on_training: bool = False
    gaps: tuple[int, ...] | None = None
