"""What a table needs beside itself, looked up before anything is trained: data, and Inception's weights."""

from __future__ import annotations

import os
from pathlib import Path

from vaelab.data import catalogue, load
from vaelab.errors import InputError
from vaelab.metrics.inception import PUBLISHED_FILE, load_inception
from vaelab.metrics.options import INCEPTION
from vaelab.metrics.protocols import protocol
from vaelab_papers.sampling import folder_of
from vaelab_papers.table import Scale, Table

_SMALLER = "or take a smaller --scale."


def check_needs(table: Table, scale: str, *, inception: Path | None = None, download: bool = False) -> None:
    """Refuse a table at a scale that lacks something; no data are read where all is there.

    Parameters
    ----------
    table, scale
        Which.
    inception
        Inception's published weights; ``$VAELAB_INCEPTION`` if None.
    download
        Fetch data sets that are absent.

    Raises
    ------
    InputError
        Says all that is missing at once, and the flags of ``vaelab reproduce`` that give it.
    """
    budget = table.scale(scale)
    missing = [*_data(table, budget, download=download), *_weights(budget, inception)]
    if missing:
        got = f"{table.name} at scale {scale} without " + ", nor ".join(what for what, _, _ in missing)
        wanted = "; ".join(wanted for _, wanted, _ in missing)
        raise InputError(got, wanted, " ".join(dict.fromkeys(remedy for _, _, remedy in missing)))


def _data(table: Table, scale: Scale, *, download: bool) -> list[tuple[str, str, str]]:
    if scale.stand_in:
        return []
    present = {entry.name: entry.present for entry in catalogue()}
    missing = []
    for name in table.data:
        if present.get(name) or (name not in present and folder_of(name) is not None):
            continue
        if download and name in present:
            load(name, download=True)
            continue
        fetch = "give --download, " if name in present else ""
        remedy = f"Set VAELAB_DATA to the folder that holds {name}, {fetch}{_SMALLER}"
        missing.append((f"the data set {name}", "its files" if fetch else "a folder of its images", remedy))
    return missing


def _weights(scale: Scale, inception: Path | None) -> list[tuple[str, str, str]]:
    effort = scale.effort
    if effort is None or protocol(effort.protocol).extractor != "inception":
        return []
    given = os.environ.get(INCEPTION)
    path = inception or (Path(given) if given else None)
    remedy = f"Give the path of the weights with --inception or {INCEPTION}, {_SMALLER}"
    if path is None:
        return [("Inception's weights", f"the published file {PUBLISHED_FILE} of pytorch-fid", remedy)]
    found = load_inception(path, preprocessing="pytorch-fid")
    if not found.published:
        return [(f"Inception's published weights, which {path} is not", f"the file {PUBLISHED_FILE}", remedy)]
    return []
