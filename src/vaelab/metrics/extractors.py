"""The features that a protocol names, made for the data at hand."""

from __future__ import annotations

import torch

from vaelab.data import Scaling, TrainSplit
from vaelab.errors import InputError
from vaelab.metrics.classifier import train_classifier
from vaelab.metrics.evaluator import prepared
from vaelab.metrics.features import ClassifierFeatures, Extractor, Identity, Pca
from vaelab.metrics.inception import PUBLISHED_FILE, load_inception
from vaelab.metrics.options import INCEPTION, Options
from vaelab.metrics.protocols import Protocol
from vaelab.metrics.rows import Watch, blocks_of, chosen_rows
from vaelab.training.hooks import Hook, Record, Start

_MOST_FOR_PCA = 50_000


class _Watching(Hook):
    """Reports the steps of a training."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.steps = watch, 0

    def start(self, start: Start) -> None:
        self.steps = start.epochs * start.steps_per_epoch

    def update(self, step: int, record: Record) -> None:
        self.watch("training the classifier whose features are compared", step, self.steps)


def extractor_for(chosen: Protocol, train: TrainSplit, scaling: Scaling, options: Options) -> Extractor:
    """Build the features that a protocol names.

    Parameters
    ----------
    chosen
        The protocol.
    train
        Rows to learn from: labelled ones for ``classifier``, any for ``pca``.
    scaling
        Of the training data.
    options
        For the path of Inception's weights and the cache.

    Raises
    ------
    InputError
        There are no labels or weights, or the weights are not the published ones.
    """
    if options.extractor is not None:
        return options.extractor
    if chosen.extractor == "identity":
        return Identity()
    if chosen.extractor == "pca":
        return Pca.fit(
            prepared(chosen, blocks_of(chosen_rows(train.x, _MOST_FOR_PCA, chosen, "pca"), scaling)(), "reference"),
            chosen.components,
        )
    if chosen.extractor == "classifier":
        if train.labels is None:
            remedy = "Use pca-10k, or name a labelled data set (--train) or the column of the labels (--label-column)."
            raise InputError(f"protocol {chosen.name} without labels", "labelled training data", remedy)
        options.watch("training the classifier whose features are compared", 0, 0)
        classifier = train_classifier(
            train.x,
            train.labels,
            scaling,
            classes=int(train.labels.max()) + 1,
            cache=options.folder / "classifiers",
            hooks=[_Watching(options.watch)],
        )
        return ClassifierFeatures(classifier, 255.0 if chosen.kind == "image" else 1.0)
    if options.weights is None:
        raise InputError(
            f"protocol {chosen.name} without Inception's weights",
            f"the published file {PUBLISHED_FILE}",
            f"Give its path with --inception or {INCEPTION}; without it, use classifier-10k or pca-10k.",
        )
    inception = load_inception(options.weights, preprocessing="ttur" if chosen.preparation == "ttur" else "pytorch-fid")
    if not inception.fingerprint.startswith(chosen.weights):
        raise InputError(
            f"Inception weights with sha256 {inception.fingerprint[:8]}…",
            f"the published ones, {chosen.weights}…",
            f"For other weights say so: --protocol {chosen.name}+weights={inception.fingerprint[:8]}.",
        )
    inception.to("cuda" if torch.cuda.is_available() else "cpu")
    return inception
