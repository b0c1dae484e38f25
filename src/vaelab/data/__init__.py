"""Data: by name, from files and folders, in memory or on disk, and on their way to the network."""

from vaelab.data.arrays import from_arrays
from vaelab.data.batches import ArrayBatches, MappedBatches, as_batches, split
from vaelab.data.checks import check_array
from vaelab.data.dataset import Dataset, Split, TestSplit, TrainSplit
from vaelab.data.mapped import MappedArray, Rows, blocks, content_hash
from vaelab.data.named import CatalogueEntry, catalogue, names
from vaelab.data.scaling import Kind, Scaling
from vaelab.data.sources import load, load_rows

__all__ = [
    "ArrayBatches",
    "CatalogueEntry",
    "Dataset",
    "Kind",
    "MappedArray",
    "MappedBatches",
    "Rows",
    "Scaling",
    "Split",
    "TestSplit",
    "TrainSplit",
    "as_batches",
    "blocks",
    "catalogue",
    "check_array",
    "content_hash",
    "from_arrays",
    "load",
    "load_rows",
    "names",
    "split",
]
