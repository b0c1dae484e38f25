"""A run from data to folder: train, assess, draw; or go on where a killed one stopped."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

from vaelab import storage
from vaelab.data import Dataset, load
from vaelab.errors import InputError, RunFolderError, VaelabWarning
from vaelab.runs import folder as files
from vaelab.runs.assessment import Assessment, assess
from vaelab.runs.gallery import draw_pictures, draw_samples
from vaelab.runs.generators import SampleAssessment, assess_generator
from vaelab.runs.stages import check_densities, held_out_rows, schema_of, train
from vaelab.runs.trained import Trained
from vaelab.specs import Column, Fixed, Gaussian, Mixed, Settings, build_vae
from vaelab.training import Hook, JsonLines, Tracker


def first_process() -> bool:
    """Whether this process prints and writes; under torchrun only the first does."""
    return int(os.environ.get("RANK", "0")) == 0


def prepare(folder: Path, data: Dataset, settings: Settings, source: Mapping[str, Any]) -> None:
    """Start a run folder: settings and where the data come from, before anything is trained.

    Raises
    ------
    RunFolderError
        The folder already holds something.
    InputError
        The settings do not suit the data.
    """
    storage.recover(folder)
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder}, which is a file", "a new folder", "Choose another name.")
    if source.get("plain") and settings.adversary is not None:
        raise InputError("plain=True for a GAN", "it for a VAE", "Leave --plain out, or train a VAE beside the GAN.")
    settings = settings.suited(mixed=data.schema is not None)
    source = {**source, **reading_of(settings)}
    n = len(data.train)
    resolved = settings.resolve(n - held_out_rows(n, settings), data.event_shape)
    conditioning = data.conditioned().conditioning if settings.conditional else None
    shape = () if conditioning is None else conditioning.shape
    check_densities(settings.densities, shape)
    schema = schema_of(data, settings)
    levels, ordered = ((), ()) if schema is None else (schema.levels, schema.ordered)
    # refuses what it cannot take
    sized = resolved.model_copy(update={"latent_dim": 2}) if resolved.latent_dim == "auto" else resolved
    build_vae(sized, data.event_shape, data_variance=1.0, condition_shape=shape, levels=levels, ordered=ordered)
    with storage.held(folder):
        if any(not storage.is_unfinished(path) for path in folder.iterdir()):
            known = (folder / files.CONFIG).is_file()
            remedy = f"Choose another name, or go on with `vaelab train --resume {folder}`." if known else ""
            raise RunFolderError(f"{folder}, which is not empty", "a new folder", remedy or "Choose another name.")
        storage.sweep(folder)  # what a process left that was killed before its first file
        files.write_config(folder, resolved, data={**source, "fingerprint": data.fingerprint()})


def source_of(folder: Path) -> tuple[Settings, dict[str, Any]]:
    """Read what `prepare` wrote: the settings, and where the data come from."""
    content = files.read_config(folder)
    if "data" not in content:
        remedy = "Runs saved by an estimator keep no data; train again from Python."
        raise RunFolderError(f"{folder} without a note of its data", "a run of `vaelab train`", remedy)
    return files.settings_of(content, folder), dict(content["data"])


def data_of(source: Mapping[str, Any], *, home: Path | None = None, download: bool = False) -> Dataset:
    """Load the data that a run names, as the run reads them.

    Parameters
    ----------
    source
        What `source_of` returns beside the settings.
    home
        Where named data sets lie; what the run says if None.
    download
        Fetch a named data set that is absent.
    """
    keys = ("image_size", "grey", "test_fraction", "label_column")
    options = {key: source[key] for key in keys} | {"mixed": source.get("mixed", False)}
    options["columns"] = {name: Column.of(value) for name, value in source.get("columns", {}).items()}
    options |= {key: source[key] for key in ("key", "separator", "missing") if source.get(key)}
    return load(source["data"], home=home or source["home"], download=download, **options)


def data_of_run(folder: Path, *, home: Path | None = None, strict: bool = False) -> Dataset:
    """Load the data that a run was trained on, from where they were.

    Parameters
    ----------
    folder
        Of the run.
    home
        Where named data sets lie; what the run says if None.
    strict
        Whether other rows in that place are refused, or warned of.

    Raises
    ------
    RunFolderError
        `strict`, and these are other rows.
    """
    source = source_of(folder)[1]
    data = data_of(source, home=home)
    if source.get("fingerprint", "") in ("", data.fingerprint()):
        return data
    got = f"{source['data']}, whose rows are not those that {folder} was trained on"
    if strict:
        raise RunFolderError(got, "the rows of its training", "Put the file back, or train again.")
    warnings.warn(f"{got}: the data were changed since.", VaelabWarning, stacklevel=4)
    return data


def reading_of(settings: Settings) -> dict[str, Any]:
    """Return how settings want a table read, as plain values: with categories and gaps or not, and columns as what.

    None says that the data decide.
    """
    likelihood = settings.likelihood
    if likelihood.kind == "auto":
        return {"mixed": None}
    columns = likelihood.model_dump(mode="json")["columns"] if isinstance(likelihood, Mixed) else {}
    return {"mixed": likelihood.takes == "columns", **({"columns": columns} if columns else {})}


def execute(
    folder: Path, data: Dataset, *, network: object = None, hooks: Sequence[Hook] = (), resume: bool = False
) -> tuple[Trained, Assessment | SampleAssessment]:
    """Train what ``folder/config.yaml`` says; leave model, metrics, results and pictures there.

    Parameters
    ----------
    folder
        Started by `prepare`.
    data
        The same data.
    network
        The function that makes networks of your own.
    hooks
        Onlookers beside the metrics file.
    resume
        Go on from the training states in the folder.

    Raises
    ------
    RunFolderError
        The data are not those the run was started with.
    """
    settings, source = source_of(folder)
    settings = files.with_network(settings, network)
    if source.get("fingerprint") != data.fingerprint():
        raise RunFolderError(f"data that differ from those {folder} was started with", "the same data")
    main = first_process()
    with storage.held(folder) if main else nullcontext():
        if main:
            storage.sweep(folder, files.STATES)
        return _executed(folder, data, settings, source, hooks, main=main, resume=resume)


def _executed(
    folder: Path,
    data: Dataset,
    settings: Settings,
    source: Mapping[str, Any],
    hooks: Sequence[Hook],
    *,
    main: bool,
    resume: bool,
) -> tuple[Trained, Assessment | SampleAssessment]:
    """Train in a folder that nobody else writes into."""
    watching = [JsonLines(folder / files.METRICS), *hooks] if main else []
    trained = train(data, settings, hooks=watching, states=folder / files.STATES, resume=resume)
    data = trained.conditioned(data)
    found: Assessment | SampleAssessment
    if trained.encodes:
        found = assess(trained, data.test, seed=settings.seed)
    else:
        found = assess_generator(trained, data, seed=settings.seed)
    untracked = [hook for hook in hooks if not isinstance(hook, Tracker)]  # its stage has the name of the other's
    plain = train(data, _plain_vae(settings), hooks=untracked) if source.get("plain") else None
    if main:
        for hook in hooks:
            hook.note("drawing pictures")
        storage.write_text(folder / files.RESULTS, json.dumps(found.as_dict(), indent=2) + "\n")
        files.save(trained, folder, {"data": source})  # last, with the checksums of the others
        if isinstance(found, Assessment):
            draw_pictures(trained, data, found, folder, plain=plain)
        else:
            draw_samples(trained, data, folder, plain=plain)
        for hook, path in product(hooks, sorted(folder.glob("*.png"))):
            hook.picture(path)
    return trained, found


def _plain_vae(settings: Settings) -> Settings:
    """Return the settings of what most programs call a VAE: a squared-error loss, which is γ = 1; one stage."""
    likelihood = settings.likelihood
    plain = likelihood.set_params(variance=Fixed(value=1.0), shape="iso-i") if isinstance(likelihood, Mixed) else None
    return settings.set_params(likelihood=plain or Gaussian(variance=Fixed(value=1.0)), densities=(), condition=None)
