"""Data: by name, from files and folders, in memory or on disk, and on their way to the network."""

from vaelab.data.arrays import from_arrays
from vaelab.data.batches import ArrayBatches, Conditions, MappedBatches, as_batches, split
from vaelab.data.checks import check_array
from vaelab.data.conditions import Conditioning
from vaelab.data.dataset import Dataset, Split, TestSplit, TrainSplit
from vaelab.data.mapped import MappedArray, Rows, blocks, content_hash
from vaelab.data.named import CatalogueEntry, catalogue, names
from vaelab.data.scaling import Kind, Scaling
from vaelab.data.sequences import Ragged, Windows
from vaelab.data.sources import load, load_rows

__all__ = [
    "ArrayBatches",
    "CatalogueEntry",
    "Conditioning",
    "Conditions",
    "Dataset",
    "Kind",
    "MappedArray",
    "MappedBatches",
    "Ragged",
    "Rows",
    "Scaling",
    "Split",
    "TestSplit",
    "TrainSplit",
    "Windows",
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
