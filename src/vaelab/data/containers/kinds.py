"""The registry of containers: a row for each kind, of which the first that fits is taken."""

from __future__ import annotations

from torch.utils.data import DataLoader, Dataset, TensorDataset

from vaelab.data.containers import hub, stores, streams, torch_sets
from vaelab.data.containers.record import Container, of_module

KINDS: tuple[Container, ...] = (
    Container("a Hugging Face data set", of_module("datasets", "Dataset"), hub.open_table),
    Container(
        "a Hugging Face stream", of_module("datasets", "IterableDataset"), hub.open_streaming, endless=lambda _: True
    ),
    Container("Hugging Face splits", of_module("datasets", "DatasetDict", "IterableDatasetDict"), hub.refuse_several),
    Container("an AnnData", of_module("anndata", "AnnData"), stores.open_anndata),
    Container("an HDF5 array", of_module("h5py", "Dataset"), stores.open_array),
    Container("an HDF5 file", of_module("h5py", "File", "Group"), stores.open_group),
    Container("a Zarr array", of_module("zarr", "Array"), stores.open_array),
    Container("a Zarr group", of_module("zarr", "Group"), stores.open_group),
    Container("a TensorDataset", lambda x: type(x) is TensorDataset, torch_sets.open_tensors, framework="torch"),
    Container(
        "a DataLoader",
        lambda x: isinstance(x, DataLoader),
        torch_sets.open_loader,
        endless=torch_sets.may_be_endless,
        framework="torch",
    ),
    Container(
        "a torch Dataset",
        lambda x: isinstance(x, Dataset),
        torch_sets.open_set,
        endless=torch_sets.may_be_endless,
        framework="torch",
    ),
    Container("an iterator", streams.is_stream, streams.open_stream, endless=lambda _: True),
)


def kind_of(x: object) -> Container | None:
    """Return what kind of container x is, or None if it is none."""
    return next((kind for kind in KINDS if kind.recognises(x)), None)
