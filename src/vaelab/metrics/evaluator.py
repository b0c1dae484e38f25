"""From rows to numbers under a protocol: preparation, features, measures, intervals and the floor."""

from __future__ import annotations

import hashlib
import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaelab.errors import InputError, VaelabWarning
from vaelab.metrics import pixels
from vaelab.metrics.distances import energy_distance, frechet_distance, kernel_distance, sliced_wasserstein
from vaelab.metrics.features import Extractor, FeatureStore, extract, fingerprint_of
from vaelab.metrics.moments import Moments
from vaelab.metrics.neighbours import neighbour_measures
from vaelab.metrics.protocols import Protocol
from vaelab.metrics.report import TITLES, Reading
from vaelab.metrics.two_sample import two_sample_accuracy
from vaelab.training import stream

Blocks = Callable[[], Iterable[Tensor]]
"""Yields (n, …) rows anew at each call: images as uint8 or in [0, 1], table rows in the network's units."""

Role = Literal["reference", "generated"]

_GROUPS = 10  # of the jackknife
_NEIGHBOURS = ("precision", "recall", "density", "coverage")


def prepared(protocol: Protocol, blocks: Iterable[Tensor], role: Role) -> Iterator[Tensor]:
    """Treat rows as the protocol says; images come out as float32 pixel values 0 … 255.

    Raises
    ------
    InputError
        Images in a range that the protocol cannot know, or rows of the wrong kind.
    """
    brightest = 0.0
    for block in blocks:
        if protocol.kind == "table":
            if block.ndim != 2:
                raise InputError(f"rows of shape {tuple(block.shape[1:])}", "table rows", "Use a protocol for images.")
            yield block
            continue
        if block.ndim == 2:
            remedy = "Use a protocol for tables, such as tabular."
            raise InputError(f"table rows for protocol {protocol.name}", "images (n, C, H, W)", remedy)
        images = pixels.pixel_values(block, name=f"{role} images")
        brightest = max(brightest, float(images.max()))
        if protocol.stretch and role == "generated":
            images = pixels.stretch(images)
        images = pixels.quantise(images, protocol.quantise)
        if protocol.jpeg == "both" or (protocol.jpeg == "reference" and role == "reference"):
            images = pixels.jpeg(pixels.quantise(images, "round"), quality=75)  # a file holds whole grey levels
        yield images
    if protocol.kind == "image" and brightest <= 1.0:
        found = f"{role} images whose largest pixel value is {brightest:g} of 255"
        remedy = "Were they divided by 255 twice, or are they 0 and 1 as uint8? Give those as floats."
        if role == "reference":
            raise InputError(found, "images that use the range 0 … 255 (uint8) or 0 … 1 (floats)", remedy)
        warnings.warn(f"{found}. {remedy}", VaelabWarning, stacklevel=2)  # a collapsed decoder may draw black


def _matched(protocol: Protocol, extractor: Extractor) -> Protocol:
    """Refuse an extractor of the house that the protocol does not name; a stranger's makes it another protocol."""
    kind = getattr(extractor, "kind", "own")
    if kind == "own":
        return protocol.model_copy(update={"name": f"{protocol.name}+extractor=own", "extractor": "own"})
    preparation = getattr(extractor, "preprocessing", "network")
    weights = getattr(extractor, "sha256", "")
    if (kind, preparation) != (protocol.extractor, protocol.preparation) or not weights.startswith(protocol.weights):
        got = f"features of kind {kind}, preparation {preparation} and weights {weights[:8] or 'of the data'}"
        wanted = f"{protocol.extractor}, {protocol.preparation}, {protocol.weights or 'of the data'}"
        raise InputError(got, f"{wanted}, as protocol {protocol.name} says")
    return protocol


@dataclass(frozen=True)
class _Sample:
    """Features of one set of rows: moments of each group of rows, and the features themselves where needed."""

    groups: list[Moments]
    rows: Tensor | None

    @property
    def n(self) -> int:
        return sum(group.n for group in self.groups)

    def whole(self) -> Moments:
        return _total(self.groups)

    def without(self, group: int) -> _Sample:
        """Leave a group out: rows i with i mod groups = group."""
        rows = self.rows
        if rows is not None:
            rows = rows[torch.arange(len(rows)) % len(self.groups) != group]
        return _Sample([part for i, part in enumerate(self.groups) if i != group], rows)


def _total(parts: Sequence[Moments]) -> Moments:
    total = parts[0]
    for part in parts[1:]:
        total = total.merge(part)
    return total


class Evaluator:
    """A protocol joined with an extractor and a reference set; scores samples against it.

    Parameters
    ----------
    protocol
        What is done to rows, and how many there should be.
    extractor
        Features; see `vaelab.metrics.features`.
    reference
        The rows to compare with.
    measures
        Names out of `TITLES`.
    floor
        Other real rows, as many as will be generated: what a perfect sampler would score. None for none.
    store
        Where features of real rows are kept on disk.

    Raises
    ------
    InputError
        An unknown measure, or rows that the protocol refuses.
    """

    def __init__(
        self,
        protocol: Protocol,
        extractor: Extractor,
        reference: Blocks,
        *,
        measures: Sequence[str],
        floor: Blocks | None = None,
        store: FeatureStore | None = None,
    ) -> None:
        unknown = [name for name in measures if name not in TITLES]
        if unknown or not measures:
            raise InputError(f"measures {', '.join(unknown) or 'none'}", f"some of {', '.join(TITLES)}")
        self.protocol, self.extractor, self.measures = _matched(protocol, extractor), extractor, tuple(measures)
        content = hashlib.sha256()
        self._reference = self._sample(lambda: _digested(reference(), content), "reference", store)
        self.reference = content.hexdigest()
        self._floor: dict[str, float] = {}
        self._floor_n = 0
        if floor is not None:
            sample = self._sample(floor, "reference", store, 1)
            self._floor, self._floor_n = self._measure(self._reference, sample, self.measures), sample.n

    @property
    def n(self) -> int:
        """Rows in the reference."""
        return self._reference.n

    def score(
        self,
        row: str,
        draws: Sequence[Blocks],
        *,
        measures: Sequence[str] | None = None,
        store: FeatureStore | None = None,
    ) -> list[Reading]:
        """Measure one kind of generated rows.

        Parameters
        ----------
        row
            Its name.
        draws
            Independent draws of it. From two on, the value is their mean and the interval that of Student's t; a
            single set gets its interval from a jackknife over groups of rows, on both sides.
        measures
            Those of the evaluator if None.
        store
            Where features of these rows are kept until the caller removes them.
        """
        wanted = [name for name in self.measures if measures is None or name in measures]
        if not wanted or not draws:
            return []
        groups = 1 if len(draws) > 1 else _GROUPS
        samples = (self._sample(draw, "generated", store, groups) for draw in draws)
        if len(draws) > 1:
            found, n = [], 0
            for sample in samples:
                found.append(self._measure(self._reference, sample, wanted))
                n = sample.n
            how = f"{len(draws)} draws"
            means = {name: statistics.fmean(one[name] for one in found) for name in wanted}
            halves: dict[str, float | None] = {name: _half_width([one[name] for one in found]) for name in wanted}
        else:
            sample = next(samples)
            n, how = sample.n, f"jackknife over {_GROUPS} groups of rows"
            means = self._measure(self._reference, sample, wanted)
            halves = self._jackknife(sample, wanted)
        return [self._reading(row, name, means[name], halves[name], how, n) for name in wanted]

    def _reading(self, row: str, name: str, value: float, half: float | None, how: str, n: int) -> Reading:
        return Reading(
            row=row,
            measure=name,
            value=value,
            low=None if half is None else value - half,
            high=None if half is None else value + half,
            interval="" if half is None else how,
            n=n,
            n_reference=self.n,
            floor=self._floor.get(name),
            floor_n=self._floor_n,
            protocol=self.protocol.name,
            version=self.protocol.version,
            hash=self.protocol.hash,
            extractor=fingerprint_of(self.extractor),
            reference=self.reference,
        )

    def _sample(self, blocks: Blocks, role: Role, store: FeatureStore | None, count: int = _GROUPS) -> _Sample:
        keep = any(name != "frechet" for name in self.measures)
        groups: list[Moments | None] = [None] * count
        kept: list[Tensor] = []
        n = 0
        for features in extract(self.extractor, prepared(self.protocol, blocks(), role), store=store):
            for i in range(count):
                part = features[(i - n) % count :: count]
                if len(part):
                    moments, before = Moments.of(part), groups[i]
                    groups[i] = moments if before is None else before.merge(moments)
            n += len(features)
            if keep:
                kept.append(features)
        if n < 2:
            raise InputError(f"{n} {role} row(s)", "at least 2")
        return _Sample([group for group in groups if group is not None], torch.cat(kept) if keep else None)

    def _measure(self, reference: _Sample, sample: _Sample, wanted: Sequence[str]) -> dict[str, float]:
        """Score one sample; random choices are the same for every sample, which makes differences sharper."""
        p, found = self.protocol, dict[str, float]()
        if "frechet" in wanted:
            found["frechet"] = frechet_distance(reference.whole(), sample.whole())
        if reference.rows is None or sample.rows is None:
            return found
        real, fake = reference.rows, sample.rows
        if "kernel" in wanted:
            subsets = {"subsets": p.kernel_subsets, "subset_size": p.kernel_subset_size}
            found["kernel"] = kernel_distance(real, fake, **subsets, generator=stream("cpu", p.seed, "kernel")).mean
        if "sliced_wasserstein" in wanted:
            directions = stream("cpu", p.seed, "sliced")
            found["sliced_wasserstein"] = sliced_wasserstein(
                real, fake, projections=p.projections, generator=directions
            )
        if "energy" in wanted:
            found["energy"] = energy_distance(real, fake)
        if "two_sample" in wanted:
            found["two_sample"] = two_sample_accuracy(real, fake, seed=p.seed).accuracy
        if any(name in wanted for name in _NEIGHBOURS):
            measured = neighbour_measures(
                real, fake, k_precision=p.neighbours_precision, k_density=p.neighbours_density
            )._asdict()
            found |= {name: measured[name] for name in _NEIGHBOURS if name in wanted}
        return found

    def _jackknife(self, sample: _Sample, wanted: Sequence[str]) -> dict[str, float | None]:
        """Return 95 % half-widths by leaving out one group of rows at a time.

        Efron & Stein 1981; groups in place of single rows.
        """
        groups = min(len(sample.groups), len(self._reference.groups))
        if groups < 2 or min(sample.n, self.n) < 2 * _GROUPS * (1 + self.protocol.neighbours_density):
            return dict.fromkeys(wanted)
        # accuracies are means over rows of one fit; refitting ten times would cost more than it tells
        repeated = [name for name in wanted if name != "two_sample"]
        found = [self._measure(self._reference.without(i), sample.without(i), repeated) for i in range(groups)]
        halves: dict[str, float | None] = dict.fromkeys(wanted)
        for name in repeated:
            values = [one[name] for one in found]
            halves[name] = _t(groups - 1) * (statistics.pvariance(values) * (groups - 1)) ** 0.5
        if "two_sample" in wanted:
            rows = min(sample.n, self.n)
            halves["two_sample"] = 1.96 * 0.5 / rows**0.5
        return halves


def _digested(blocks: Iterable[Tensor], digest: hashlib._Hash) -> Iterator[Tensor]:
    """Pass blocks on, and their content to the digest; how rows are cut into blocks does not matter."""
    for block in blocks:
        digest.update(block.detach().cpu().contiguous().numpy().tobytes())
        yield block


def _half_width(values: Sequence[float]) -> float:
    """95 % half-width of the mean of independent values."""
    return _t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def _t(freedom: int) -> float:
    """97.5 % quantile of Student's t."""
    from scipy.special import stdtrit  # over a tenth of a second to import

    quantile: float = stdtrit(freedom, 0.975)
    return quantile
