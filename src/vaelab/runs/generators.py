"""GANs as runs: trained, judged by how far their samples are from rows that they have not seen, and assessed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from vaelab.baselines import build_gan
from vaelab.data import ArrayBatches, Dataset, MappedBatches, Scaling
from vaelab.metrics import Moments, extract, frechet_distance
from vaelab.metrics.evaluator import Role, prepared
from vaelab.metrics.extractors import extractor_for
from vaelab.metrics.options import Options
from vaelab.metrics.rows import BLOCK, blocks_of, quarter
from vaelab.model import VAE
from vaelab.rows import blocks
from vaelab.runs.first_stage import fit_stage
from vaelab.runs.trained import Trained
from vaelab.specs import Settings, build_vae
from vaelab.training import Hook, stream

ADVERSARIAL = "generator and critic"
"""The training's name in records."""


class SampleDistance:
    """The Fréchet distance of a generator's draws from given rows, under a protocol.

    Parameters
    ----------
    data
        Features are made from three quarters of its training rows, as for `evaluate`.
    scaling
        To the network's units.
    real
        The rows, a block after the other: images as uint8 or in [0, 1], tables in the network's units.
    rows
        How many there are; as many are drawn, if the protocol wants no fewer.
    seed
        Of the draws, which are the same at every call.
    protocol, options
        Which, and where Inception's weights are; those that `evaluate` takes by default.
    """

    def __init__(
        self,
        data: Dataset,
        scaling: Scaling,
        real: Callable[[], Iterable[Tensor]],
        rows: int,
        *,
        seed: int,
        protocol: str | None = None,
        options: Options | None = None,
    ) -> None:
        options = options or Options()
        named = () if protocol is None else (protocol,)
        (self.protocol,) = options.protocols(named, data.kind, labels=data.train.labels is not None)
        self._extractor = extractor_for(self.protocol, quarter(data.train)[0], scaling, options)
        self.rows, self._seed = min(rows, self.protocol.generated_count), seed
        self._real = self._moments(real(), "reference")

    @torch.no_grad()
    def __call__(self, vae: VAE) -> float:
        """Measure; the model is in evaluation mode."""
        return frechet_distance(self._real, self._moments(self._drawn(vae), "generated"))

    def _drawn(self, vae: VAE) -> Iterator[Tensor]:
        device = next(vae.parameters()).device
        for start in range(0, self.rows, BLOCK):
            generator = stream(device, self._seed, "judged", start)
            yield vae.sample(min(BLOCK, self.rows - start), generator=generator).cpu()

    def _moments(self, rows: Iterable[Tensor], role: Role) -> Moments:
        parts = [Moments.of(own) for own in extract(self._extractor, prepared(self.protocol, rows, role))]
        total = parts[0]
        for part in parts[1:]:
            total = total.merge(part)
        return total


def fit_generator(
    data: Dataset,
    scaling: Scaling,
    batches: ArrayBatches | MappedBatches,
    rest: ArrayBatches | MappedBatches | None,
    settings: Settings,
    data_variance: float,
    *,
    hooks: Sequence[Hook] = (),
    states: Path | None = None,
    resume: bool = False,
) -> VAE:
    """Train a generator against its adversary; return it as a VAE without an encoder.

    Where rows were set aside, the weights are those whose draws came nearest to them at the end of any epoch; Lucic et
    al. take the nearest to the test rows.

    Parameters
    ----------
    data, scaling
        Units, and rows to make features from.
    batches, rest
        Training rows, and those set aside.
    settings
        Resolved, with an adversary.
    data_variance
        As for `build_vae`.
    hooks, states, resume
        As for `vaelab.runs.train`.
    """
    judge = None
    if rest is not None:
        judge = SampleDistance(data, scaling, lambda: rows_of(rest), len(rest), seed=settings.seed)
    vae = build_vae(settings, data.event_shape, data_variance=data_variance)
    gan = build_gan(settings, vae, data.event_shape, judge)
    fit_stage(gan, batches, rest, settings, settings.training, ADVERSARIAL, hooks, states, resume=resume)
    return vae.eval()


def rows_of(batches: ArrayBatches | MappedBatches) -> Iterator[Tensor]:
    """Yield rows in the network's units, a block after the other."""
    return (x for _, x, _, _ in blocks(batches.to("cpu"), torch.device("cpu"), size=BLOCK))


@dataclass(frozen=True)
class SampleAssessment:
    """How far draws of a GAN are from test rows.

    Attributes
    ----------
    rows
        Test rows, and draws.
    distance
        Fréchet distance.
    protocol
        Under which.
    """

    rows: int
    distance: float
    protocol: str

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return asdict(self)

    @property
    def text(self) -> str:
        """The same in a line."""
        return f"Fréchet distance {self.distance:.3g} of {self.rows:,} samples from test rows ({self.protocol})"


def assess_generator(trained: Trained, data: Dataset, *, seed: int = 0) -> SampleAssessment:
    """Measure draws of a GAN beside the test split."""
    real = blocks_of(data.test.x, trained.scaling)
    judge = SampleDistance(data, trained.scaling, real, len(data.test), seed=seed)
    return SampleAssessment(judge.rows, judge(trained.vae), judge.protocol.name)
