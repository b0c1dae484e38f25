"""Torch's data sets and loaders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, cast

from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from vaelab.data.containers.batches import block_of
from vaelab.data.containers.record import Block, Opened, Wanted, Whole
from vaelab.data.containers.samples import blocks_of, check_unnamed, unlabelled


def open_tensors(x: TensorDataset, wanted: Wanted) -> Whole:
    """Take the first tensor for the rows, and the second for the labels."""
    check_unnamed(wanted)
    if wanted.y and len(x.tensors) < 2:
        raise unlabelled(wanted.name)
    return Whole(x.tensors[0], x.tensors[1].cpu().numpy() if wanted.y else None)


def open_set(x: Dataset[Any], wanted: Wanted) -> Opened:
    """Read a data set in its own order; samples are rows, or tuples of a row and its label."""
    rows = rows_of(x)
    if isinstance(x, IterableDataset):
        return Opened(lambda: blocks_of(x, wanted), rows)

    def samples() -> Iterator[Any]:
        for place in count() if rows is None else range(rows):
            try:
                yield x[place]
            except IndexError:
                if rows is None:  # as sequences say that they end
                    return
                raise

    return Opened(lambda: blocks_of(samples(), wanted), rows)


def open_loader(x: DataLoader[Any], wanted: Wanted) -> Opened:
    """Read what a loader yields, with its own workers and batches.

    One that only shuffles is read in the order of its data set, and to the last row: a training shuffles by itself.
    """
    loader, rows = _in_order(x), None
    collated = x.collate_fn is default_collate
    if loader is not x and collated:  # a user's function may leave samples out
        rows = rows_of(x.dataset)
    if loader.batch_size is None and loader.batch_sampler is None:  # single samples
        return Opened(lambda: blocks_of(loader, wanted))

    full = getattr(loader.batch_sampler, "batch_size", None)
    if full is not None:
        full = min(full, rows_of(loader.dataset) or full)

    def blocks() -> Iterator[Block]:
        for batch in loader:
            yield block_of(batch, wanted, collated=collated, samples=full)

    return Opened(blocks, rows)


def _in_order(loader: DataLoader[Any]) -> DataLoader[Any]:
    sampler = loader.sampler
    shuffled = isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(sampler)
    plain = type(sampler) is SequentialSampler or (type(sampler) is RandomSampler and shuffled)
    if not plain or loader.batch_size is None or isinstance(loader.dataset, IterableDataset):
        return loader
    if rows_of(loader.dataset) != len(cast("Any", sampler)):
        return loader
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )


def rows_of(x: Any) -> int | None:
    """Return the length of a data set; None where it has none."""
    try:
        return len(x)
    except (TypeError, NotImplementedError):
        return None


def may_be_endless(x: Any) -> bool:
    """Whether a data set, or that of a loader, does not say how many rows it has."""
    return rows_of(x.dataset if isinstance(x, DataLoader) else x) is None
