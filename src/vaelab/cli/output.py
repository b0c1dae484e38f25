"""What several verbs share: rows to work on, and files to write."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaelab import storage
from vaelab.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaelab.runs import Trained


def rows_for(run: Path, trained: Trained, data: str, n: int | None) -> Tensor:
    """Return the rows a verb was asked for: of the data named, or the run's test rows.

    Raises
    ------
    InputError
        They have another shape than the run's.
    """
    import torch

    from vaelab import runs
    from vaelab.data import MappedArray, load

    _, source = runs.source_of(run)
    keys = ("home", "image_size", "grey", "test_fraction", "label_column")
    found = load(data or source["data"], **{key: source[key] for key in keys})
    if found.event_shape != trained.facts.event_shape:
        raise InputError(
            f"rows of shape {found.event_shape} from {data or source['data']}",
            f"{trained.facts.event_shape} as in {run}",
        )
    splits = (found.train.x, found.test.x) if data else (found.test.x,)
    wanted = sum(len(x) for x in splits) if n is None else n
    parts: list[torch.Tensor] = []
    for x in splits:
        index = torch.arange(min(len(x), wanted - sum(len(part) for part in parts)))
        parts.append(x.rows(index) if isinstance(x, MappedArray) else x[index])
    return torch.cat(parts)


def write_rows(out: Path, trained: Trained, rows: Tensor, *, above: Tensor | None = None) -> None:
    """Write data in the run's own units to the kind of file that the name asks for."""
    net = trained.scaling.to_net(rows.cpu())
    values = trained.scaling.restore(net)
    if trained.facts.kind == "table":
        names = trained.facts.columns or [f"x{i}" for i in range(values.shape[1])]
        write_table(out, values, names)
        return
    shown = (net.clamp(0, 1) * 255).round().byte().numpy()
    if out.suffix == ".png":
        from vaelab.diagnostics import pictures

        if above is None:
            picture = pictures.side_by_side({f"{len(shown)} samples": shown}, columns=max(1, round(len(shown) ** 0.5)))
        else:
            first = trained.scaling.to_net(above[:16]).clamp(0, 1)
            picture = pictures.reconstructions((first * 255).round().byte().numpy(), shown[:16])
        pictures.save(picture, out)
    elif out.suffix == ".npy":
        write_array(out, values)
    elif not out.suffix:
        from PIL import Image

        for i, image in enumerate(shown):
            pixels = image[0] if len(image) == 1 else image[:3].transpose(1, 2, 0)
            storage.replace_file(out / f"{i:05d}.png", Image.fromarray(pixels).save)
        _say(out)
        return
    else:
        raise InputError(f"--out {out}", "a .png or .npy file, or a folder")
    _say(out)


def write_table(out: Path, values: NDArray[Any], names: Sequence[str]) -> None:
    """Write rows and columns as .npy or .csv."""
    if out.suffix == ".npy":
        write_array(out, values)
    elif out.suffix == ".csv":

        def write(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(names)
                writer.writerows(values.tolist())

        storage.replace_file(out, write)
    else:
        raise InputError(f"--out {out}", "a .npy or .csv file")
    _say(out)


def write_array(out: Path, values: NDArray[Any]) -> None:
    """Write one array."""
    storage.replace_file(out, lambda path: np.save(path, values, allow_pickle=False))


def _say(out: Path) -> None:
    print(out)
