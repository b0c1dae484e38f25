"""A small classifier of the data at hand, whose last hidden layer gives features for distances between samples.

Nothing is downloaded, and it works for any size of image and for tables. Distances in its features compare samples of
one data set with one another. They are not comparable with published numbers, which come from other extractors.

The recipe is fixed: a distance is only as comparable as its extractor. `Classifier.fingerprint` says which one it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self, final

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor, nn

from vaelab import storage
from vaelab.data import Rows, Scaling, as_batches, content_hash
from vaelab.errors import InputError, VaelabError
from vaelab.training import FitSettings, Hook, fit, forked
from vaelab.types import Objective, Trainable

VERSION: Final = 1
"""Of architecture and recipe together; to be raised whenever either changes, so that old files are not used."""

CLASSIFIER_SETTINGS: Final = FitSettings(batch_size=128, lr=2e-3, schedule="one_cycle")
"""The recipe; seed and epochs are set for each training, the epochs by the number of rows."""

_CHANNELS: Final = (32, 64, 128)  # of the convolutions; any further ones have the last number
_HIDDEN: Final = 128  # of the dense layers for tables
_LEAST_STEPS: Final = 400
_ROWS_PER_STEP: Final = 40  # of the data, for every step beyond those


@final
class Classifier(Trainable):
    """p(class | x) as a convolutional net for images, or a multilayer perceptron for tables.

    Images pass through 3×3 convolutions of stride 2, each with batch norm and ReLU, until at most 4 pixels are left
    along the longer side, at least three of them; below 16 pixels the first one keeps the size. The mean over the
    pixels, or two dense layers for tables, then go through a dense layer to the features: batch norm without a scale of
    its own, so that features have unit scale, and a leaky ReLU of slope 0.2, so that few of them are zero.

    Parameters
    ----------
    event_shape
        (C, H, W) with H, W ≥ 4, or (d,).
    classes
        How many, at least 2.
    width
        Number of features.

    Raises
    ------
    InputError
        Another shape, or fewer than 2 classes.

    Examples
    --------
    >>> Classifier((1, 8, 8), classes=10).features(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 64])
    """

    def __init__(self, event_shape: Sequence[int], classes: int, *, width: int = 64) -> None:
        super().__init__()
        self.event_shape, self.classes, self.width = tuple(event_shape), classes, width
        self._frozen = False
        if len(self.event_shape) not in (1, 3) or min(self.event_shape) < 1 or min((4, *self.event_shape[1:])) < 4:
            raise InputError(f"rows of shape {self.event_shape}", "a table (d,), or images (C, H, W) with H, W ≥ 4")
        if classes < 2 or width < 1:
            raise InputError(f"classes={classes} and width={width}", "at least 2 classes and 1 feature")
        body, reached = _body(self.event_shape)
        self.body = nn.Sequential(
            *body, nn.Linear(reached, width, bias=False), nn.BatchNorm1d(width, affine=False), nn.LeakyReLU(0.2)
        )
        self.head = nn.Linear(width, classes)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(0,): nothing is random."""
        return (0,)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer.

        Parameters
        ----------
        x
            (n, *event_shape) in the network's units (images in [0, 1], standardised columns), floating, on the
            classifier's device.

        Returns
        -------
        Tensor
            (n, width).

        Raises
        ------
        InputError
            Rows of another shape.
        """
        if tuple(x.shape[1:]) != self.event_shape:
            raise InputError(
                f"rows of shape {tuple(x.shape[1:])}", f"{self.event_shape}, the shape that the classifier is for"
            )
        h: Tensor = self.body(x)
        return h

    def forward(self, x: Tensor, c: Tensor | None = None, *, noise: Tensor | None = None) -> Objective:
        """Return the cross-entropy of every row in nats, and whether its class was found.

        Parameters
        ----------
        x
            (B, *event_shape) in the network's units.
        c
            (B,) int64 classes in [0, classes).
        noise
            Not used.
        """
        if c is None:
            raise InputError("no classes", "c of shape (B,), int64", "Pass c=labels.")
        logits: Tensor = self.head(self.features(x))
        right = (logits.detach().argmax(1) == c).to(logits.dtype)
        return Objective(F.cross_entropy(logits, c, reduction="none"), {}, {"accuracy": right})

    def freeze(self) -> Self:
        """End training for good: evaluation mode whatever `train` is told, and weights without gradient."""
        self._frozen = True
        self.requires_grad_(requires_grad=False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        """Choose training or evaluation mode; once frozen, it is always evaluation.

        In training mode the features of a row would depend on the other rows of its batch.
        """
        return super().train(mode and not self._frozen)

    @property
    def fingerprint(self) -> str:
        """A sha256 over names, shapes and values of the weights; the same on every device and in float64."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(value.shape)} ".encode())
            digest.update(value.detach().cpu().double().contiguous().numpy().tobytes())
        return digest.hexdigest()


def train_classifier(
    x: Rows,
    labels: Tensor | None,
    scaling: Scaling,
    *,
    classes: int,
    seed: int = 0,
    hooks: Sequence[Hook] = (),
    cache: Path | None = None,
) -> Classifier:
    """Train a classifier with the fixed recipe, or load the one that was trained on the same rows before.

    Parameters
    ----------
    x
        (n, *event_shape) training rows in the user's units.
    labels
        (n,) whole numbers in [0, classes).
    scaling
        Map to the network's units.
    classes
        How many.
    seed
        Of initial weights and order of the rows.
    hooks
        Onlookers of the training; none is called where a cached file is loaded.
    cache
        Folder for the trained weights, one file for each data set, seed and recipe; None keeps nothing.

    Returns
    -------
    Classifier
        In evaluation mode for good, without gradients, on the first CUDA device if there is one, else on the CPU.

    Raises
    ------
    InputError
        Labels are missing, of another number than the rows, no whole numbers or outside the range, or all the same.

    Notes
    -----
    Training takes 400 steps and one more for every 40 rows, of 128 rows each: about 4 epochs of 60,000 rows. A cached
    file that is damaged, or of another version, is replaced; where none can be written, the result is returned all the
    same.
    """
    labels = _checked(labels, len(x), classes)
    event_shape = tuple(x.shape[1:])
    settings = _settings(len(x))
    file, key = None, ""
    if cache is not None:
        key = _key(x, labels, scaling, settings, seed, classes)
        file = cache / f"classifier-{key[:32]}.safetensors"
        found = _restored(file, key, event_shape, classes)
        if found is not None:
            return found.to("cuda" if torch.cuda.is_available() else "cpu").freeze()
    classifier = _untrained(event_shape, classes, seed)
    fit(classifier, as_batches(x, labels, scaling), settings, seed=seed, hooks=hooks, stage="classifier")
    classifier.freeze()
    if file is not None:
        meta = {"key": key, "fingerprint": classifier.fingerprint}
        with contextlib.suppress(VaelabError):  # a file that cannot be written costs time, not the result
            storage.save_tensors(file, classifier.state_dict(), meta)
    return classifier


def _body(event_shape: tuple[int, ...]) -> tuple[list[nn.Module], int]:
    """Return the layers below the features, and how many numbers per row leave them."""
    layers: list[nn.Module] = []
    if len(event_shape) == 1:
        for before in (event_shape[0], _HIDDEN):
            layers += [nn.Linear(before, _HIDDEN, bias=False), nn.BatchNorm1d(_HIDDEN), nn.ReLU(inplace=True)]
        return layers, _HIDDEN
    before, *sides = event_shape
    longer, small = max(sides), min(sides) < 16
    count = 0
    while count < len(_CHANNELS) or longer > 4:
        after, stride = _CHANNELS[min(count, len(_CHANNELS) - 1)], 1 if small and count == 0 else 2
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        before, longer, count = after, -(-longer // stride), count + 1
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()], before


def _untrained(event_shape: tuple[int, ...], classes: int, seed: int) -> Classifier:
    with forked("cpu", seed, "classifier"):
        return Classifier(event_shape, classes)


def _settings(rows: int) -> FitSettings:
    """Return the recipe for so many rows."""
    per_epoch = max(1, rows // CLASSIFIER_SETTINGS.batch_size)
    epochs = max(1, round((_LEAST_STEPS + rows / _ROWS_PER_STEP) / per_epoch))
    return CLASSIFIER_SETTINGS.model_copy(update={"epochs": epochs})


def _checked(labels: Tensor | None, rows: int, classes: int) -> Tensor:
    """Return the labels as (n,) int64, or say what is wrong with them."""
    if labels is None:
        raise InputError(
            "rows without labels",
            "a class for every row, to train a classifier on",
            "Name the column that holds the labels when loading the data, or use features that need none.",
        )
    if labels.shape != (rows,):
        raise InputError(f"labels of shape {tuple(labels.shape)} for {rows} rows", f"shape ({rows},), one per row")
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(f"labels of dtype {labels.dtype}", "whole numbers that count the classes, int64")
    found = labels.unique()
    if classes < 2 or len(found) < 2:
        raise InputError(
            f"{len(found)} different label(s) and classes={classes}",
            "at least 2 classes",
            "Use features that need no labels.",
        )
    low, high = int(found[0]), int(found[-1])
    if low < 0 or high >= classes:
        raise InputError(f"labels in [{low}, {high}]", f"labels in [0, {classes - 1}], as classes={classes}")
    return labels.to(torch.int64)


def _key(x: Rows, labels: Tensor, scaling: Scaling, settings: FitSettings, seed: int, classes: int) -> str:
    """Hash all that the trained weights depend on, other than the machine."""
    parts: dict[str, Any] = {
        "version": VERSION,
        "data": f"{x.dtype} {content_hash(x)}",
        "shape": list(x.shape),
        "labels": hashlib.sha256(labels.cpu().contiguous().numpy().tobytes()).hexdigest(),
        "classes": classes,
        "scaling": {name: value.double().tolist() for name, value in scaling.state().items()},
        "recipe": {**settings.model_dump(mode="json"), "seed": seed},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _restored(file: Path, key: str, event_shape: tuple[int, ...], classes: int) -> Classifier | None:
    """Return the classifier of a cached file; None where the file is absent, damaged or another's."""
    if not file.is_file():
        return None
    classifier = _untrained(event_shape, classes, 0)
    try:
        tensors, meta = storage.load_tensors(file)
        classifier.load_state_dict(tensors)
        whole = meta["key"] == key and meta["fingerprint"] == classifier.fingerprint
    except (ValueError, KeyError, RuntimeError):  # cut off, other contents, other tensors
        return None
    return classifier if whole else None
