"""Features: what distances between samples are computed on, and how they are extracted.

An extractor is any callable of images (n, C, H, W) in pixel values 0 … 255, or of table rows (n, d), that returns
(n, features). It runs in evaluation mode and without gradients whatever state it is found in.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import torch
from torch import Tensor, nn

from vaelab import storage
from vaelab.errors import InputError, VaelabError
from vaelab.metrics.classifier import Classifier
from vaelab.metrics.moments import Moments, principal_axes
from vaelab.model.contexts import evaluating
from vaelab.training.devices import gathered, rank_and_count

Extractor = Callable[[Tensor], Tensor]

_WIDE = 2048  # columns up to which principal components come from the covariance of all rows
_MOST_NUMBERS = 50_000_000
_LARGEST = 1e20


def fingerprint_of(extractor: Extractor) -> str:
    """Return what tells two extractors apart: their ``fingerprint`` if they have one, or else their name."""
    given = getattr(extractor, "fingerprint", None)
    return (
        str(given) if given else f"{getattr(extractor, '__qualname__', type(extractor).__qualname__)} (no fingerprint)"
    )


def hash_of(*tensors: Tensor) -> str:
    """Return the sha256 of the shapes, dtypes and values of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def streamed(blocks: Iterable[Tensor]) -> Moments:
    """Return the moments of features that come in blocks; one block is held at a time.

    Raises
    ------
    InputError
        There is no block.
    """
    parts = (Moments.of(block) for block in blocks)
    total = next(parts, None)
    if total is None:
        raise InputError("no rows", "at least one block of rows")
    for part in parts:
        total = total.merge(part)
    return total


@final
class Identity:
    """Rows as they are, flattened."""

    kind = fingerprint = "identity"

    def __call__(self, x: Tensor) -> Tensor:
        """(n, …) → (n, d)."""
        return x.flatten(1)


@final
@dataclass(frozen=True, eq=False)
class Pca:
    """Leading principal components of training rows, divided by one number so that their mean variance is 1.

    They are not whitened: components keep their weight relative to each other.

    Attributes
    ----------
    mean
        (d,) float64.
    axes
        (d, components) float64, orthogonal, of one length.
    """

    kind = "pca"
    mean: Tensor
    axes: Tensor

    @classmethod
    def fit(cls, blocks: Iterable[Tensor], components: int) -> Self:
        """Fit on (n, …) rows that come in blocks; at most `components` axes, fewer where the rows have fewer.

        Of rows with more than 2,048 numbers, so many are used as 400 MB hold.

        Raises
        ------
        InputError
            No rows vary.
        """
        mean, values, vectors = _principal(block.flatten(1) for block in blocks)
        alive = int((values > 1e-12 * values[0]).sum()) if len(values) and values[0] > 0 else 0
        if not alive:
            raise InputError("rows that do not vary", "rows with principal components")
        kept = min(components, alive)
        axes = vectors[:, :kept]
        # an axis and its opposite are the same: the largest entry is made positive
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        return cls(mean, axes * largest.sign() / values[:kept].mean().sqrt())

    @property
    def fingerprint(self) -> str:
        """Hash of mean and axes."""
        return hash_of(self.mean, self.axes)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, …) → (n, components), float64."""
        return (x.flatten(1).double() - self.mean.to(x.device)) @ self.axes.to(x.device)


def _principal(blocks: Iterator[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variances in descending order, and directions (d, r)."""
    first = next(blocks)
    if first.shape[1] <= _WIDE:
        moments = streamed(itertools.chain([first], blocks))
        values, vectors = torch.linalg.eigh(moments.covariance)
        return moments.mean, values.flip(0), vectors.flip(1)
    rows = _enough(itertools.chain([first], blocks), max(2, _MOST_NUMBERS // first.shape[1]))
    return principal_axes(rows)


def _enough(blocks: Iterable[Tensor], most: int) -> Tensor:
    parts, n = [], 0
    for block in blocks:
        parts.append(block[: most - n].double())
        n += len(parts[-1])
        if n == most:
            break
    return torch.cat(parts)


@final
@dataclass(frozen=True, eq=False)
class ClassifierFeatures:
    """The layer below the logits of a `Classifier`, as an extractor of pixel values."""

    kind = "classifier"
    classifier: Classifier
    scale: float = 255.0

    @property
    def fingerprint(self) -> str:
        """That of the classifier's weights, and the scale."""
        return f"{self.classifier.fingerprint} /{self.scale:g}"

    def __call__(self, x: Tensor) -> Tensor:
        """(n, …) in the caller's units → (n, width)."""
        device = next(self.classifier.parameters()).device
        return self.classifier.features((x / self.scale).to(device, torch.float32))


@contextlib.contextmanager
def _evaluating(extractor: Extractor) -> Iterator[None]:
    """Put every network an extractor is or holds into evaluation mode, and back."""
    held = [extractor, *vars(extractor).values()] if hasattr(extractor, "__dict__") else [extractor]
    with torch.no_grad(), evaluating(*(part for part in held if isinstance(part, nn.Module))):
        yield


@dataclass(frozen=True)
class FeatureStore:
    """Features on disk, one file per block, named by the content of the block and the extractor.

    So the statistics of a reference set are computed once, and an interrupted extraction goes on where it stopped.

    Attributes
    ----------
    folder
        Where; made when first written to.
    """

    folder: Path

    @classmethod
    @contextlib.contextmanager
    def passing(cls, folder: Path) -> Iterator[Self]:
        """Keep features until the block ends; after an interruption they stay, so that the next attempt is shorter."""
        yield cls(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def get(self, extractor: Extractor, block: Tensor) -> Tensor:
        """Return the features of a block: from disk, or computed and written."""
        key = hashlib.sha256(f"{fingerprint_of(extractor)} {hash_of(block)}".encode()).hexdigest()
        path = self.folder / f"{key}.safetensors"
        if path.is_file():
            with contextlib.suppress(InputError):  # a spoilt file is computed again and replaced
                return storage.load_tensors(path)[0]["features"]  # type: ignore[no-any-return]
        features = _checked(extractor(block), len(block))
        with contextlib.suppress(VaelabError):  # a cache that cannot be written costs time, not the result
            storage.save_tensors(path, {"features": features})
        return features


def extract(extractor: Extractor, blocks: Iterable[Tensor], *, store: FeatureStore | None = None) -> Iterator[Tensor]:
    """Yield features block by block, on the CPU.

    Of several processes each extracts every so many blocks, and all get the features of all blocks, in order: what is
    measured on them is what one process measures.

    Parameters
    ----------
    extractor
        See the module's docstring.
    blocks
        (n, …) each; one is in memory at a time.
    store
        Where features are kept and looked up; None keeps none. An extractor without a ``fingerprint`` is not trusted
        to be the one of last time, and computes anew.

    Raises
    ------
    InputError
        The extractor returned something other than one finite row per row.
    """
    rank, count = rank_and_count()
    mine, waiting = None, 0  # blocks
    for i, block in enumerate(blocks):
        if i % count == rank:
            mine = _extracted(extractor, block, store)
        waiting = i % count + 1
        if waiting == count:
            yield from (found for found in gathered(mine) if found is not None)
            mine, waiting = None, 0
    if waiting:
        yield from (found for found in gathered(mine) if found is not None)


def _extracted(extractor: Extractor, block: Tensor, store: FeatureStore | None) -> Tensor:
    with _evaluating(extractor):
        if store is not None and getattr(extractor, "fingerprint", None):
            return store.get(extractor, block)
        return _checked(extractor(block), len(block))


def _checked(features: object, rows: int) -> Tensor:
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != rows:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"an extractor that returned {shape} for {rows} rows", f"a tensor ({rows}, features)")
    bad = int((~torch.isfinite(features).all(1)).sum())
    if bad:
        raise InputError(f"features of {bad} of {rows} rows that are not finite", "finite features")
    if features.numel() and float(features.detach().abs().max()) > _LARGEST:  # powers of distances would not be finite
        got = f"features up to {float(features.detach().abs().max()):.1g} in size"
        raise InputError(got, f"at most {_LARGEST:g}", "Are both sets in the same units?")
    return features.detach().cpu()
