"""Data: by name, from files and folders, in memory or on disk, and on their way to the network."""

from vaelab.data.arrays import from_arrays
from vaelab.data.batches import ArrayBatches, Conditions, MappedBatches, as_batches, split
from vaelab.data.checks import check_array
from vaelab.data.column import TableColumn
from vaelab.data.columns import ColumnReader, Schema
from vaelab.data.conditions import Conditioning
from vaelab.data.containers import gather
from vaelab.data.dataset import Dataset, Split, TestSplit, TrainSplit
from vaelab.data.manifolds import MANIFOLDS, Manifold, circles, s_curve, sphere, swiss_roll, torus
from vaelab.data.mapped import MappedArray, Rows, blocks, content_hash
from vaelab.data.named import CatalogueEntry, catalogue, names
from vaelab.data.scaling import Kind, Scaling
from vaelab.data.sequences import Ragged, Windows
from vaelab.data.sources import load, load_rows

__all__ = [
    "MANIFOLDS",
    "ArrayBatches",
    "CatalogueEntry",
    "ColumnReader",
    "Conditioning",
    "Conditions",
    "Dataset",
    "Kind",
    "Manifold",
    "MappedArray",
    "MappedBatches",
    "Ragged",
    "Rows",
    "Scaling",
    "Schema",
    "Split",
    "TableColumn",
    "TestSplit",
    "TrainSplit",
    "Windows",
    "as_batches",
    "blocks",
    "catalogue",
    "check_array",
    "circles",
    "content_hash",
    "from_arrays",
    "gather",
    "load",
    "load_rows",
    "names",
    "s_curve",
    "sphere",
    "split",
    "swiss_roll",
    "torus",
]
