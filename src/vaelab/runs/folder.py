"""A run on disk: config.yaml, model.safetensors, train_state/, metrics.jsonl, results.json, versions.json, pictures.

Every file is written under a temporary name and renamed. Loading reads tensors and plain values; it runs no code.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from vaelab import storage
from vaelab.data import Conditioning, Scaling, Schema
from vaelab.errors import InputError, RunFolderError
from vaelab.latent import LatentDensity, PriorDensity, law_of
from vaelab.model import VAE
from vaelab.runs.facts import Facts
from vaelab.runs.stages import site_of
from vaelab.runs.trained import Trained
from vaelab.spec import parse
from vaelab.specs import Own, Settings, build_vae

FORMAT = 2
"""Version of the folder's layout; a folder with another one is refused."""

CHECKSUM = "checksum"
"""The line of ``config.yaml`` that says what the others were when they were written."""

CONFIG, MODEL, METRICS, STATES, VERSIONS, RESULTS = (
    "config.yaml",
    "model.safetensors",
    "metrics.jsonl",
    "train_state",
    "versions.json",
    "results.json",
)


def write_config(folder: Path, settings: Settings, **sections: Mapping[str, Any]) -> None:
    """Write the settings, and further sections of plain values."""
    content = {
        "format": FORMAT,
        "settings": settings.model_dump(mode="json"),
        **{k: dict(v) for k, v in sections.items()},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    content = yaml.safe_load(text)  # as it will be read
    storage.write_text(folder / CONFIG, f"{text}{CHECKSUM}: {_checksum(content)}\n")


def _checksum(content: Mapping[str, Any]) -> str:
    """Hash what a config says, not how it is laid out, so that comments may be written into it."""
    rest = {name: value for name, value in content.items() if name != CHECKSUM}
    return hashlib.sha256(yaml.safe_dump(rest, sort_keys=True, allow_unicode=True).encode()).hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.yaml``.

    Raises
    ------
    RunFolderError
        No folder, no such file, not vaelab's, or from a newer version.
    """
    path = folder / CONFIG
    if not storage.exists(folder):
        storage.recover(folder)
    if folder.suffix == ".zip" and storage.exists(folder) and folder.is_file():
        remedy = f"Unpack it first: vaelab pack {folder} FOLDER."
        raise RunFolderError(f"{folder}, a packed run", "the folder of a run", remedy)
    if not storage.exists(path):
        what = "a folder without config.yaml" if storage.exists(folder) else "no such folder"
        raise RunFolderError(f"{folder}: {what}", "the folder of a vaelab run", "Runs are made by `vaelab train`.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, TypeError, OSError, RecursionError) as error:
        raise RunFolderError(f"an unreadable {path} ({error})", "YAML", "Restore it from a copy.") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int) or "settings" not in content:
        raise RunFolderError(f"{path}, which vaelab did not write", "the config.yaml of a vaelab run")
    if content["format"] != FORMAT:
        remedy = "It is from a newer vaelab: upgrade." if content["format"] > FORMAT else "Train it again."
        raise RunFolderError(f"{path} in format {content['format']}", f"format {FORMAT}", remedy)
    if content.pop(CHECKSUM, None) != _checksum(content):
        remedy = f"Restore it from a copy; to train with other settings, pass the file as --config {path}."
        raise RunFolderError(f"{path}, which was changed since it was written", "the file as it was", remedy)
    if not isinstance(content["settings"], dict):
        raise RunFolderError(f"{path} with settings of type {type(content['settings']).__name__}", "names and values")
    return content


def settings_of(content: Mapping[str, Any], folder: Path) -> Settings:
    """Return the settings in what `read_config` has read.

    Raises
    ------
    RunFolderError
        They are none of this vaelab's.
    """
    try:
        return parse(Settings, content["settings"])
    except InputError as error:
        raise RunFolderError(f"{folder} with settings that do not fit ({error})", "those of a vaelab run") from error


def save(trained: Trained, folder: Path, extra: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write what `read_run` needs, and the versions it was made with; `extra` are further sections of the config."""
    tensors: dict[str, Tensor] = {f"vae/{name}": value for name, value in trained.vae.state_dict().items()}
    for name, density in trained.densities.items():
        tensors |= {f"density/{name}/{key}": value for key, value in density.state_dict().items()}
    if trained.calibration is not None:
        tensors["calibration/scores"] = trained.calibration
    tensors |= {f"scaling/{name}": value for name, value in trained.scaling.state().items()}
    files = {MODEL: storage.save_tensors(folder / MODEL, tensors, {"format": FORMAT})}
    if (folder / RESULTS).is_file():
        files[RESULTS] = storage.hash_of(folder / RESULTS)
    sections: dict[str, Mapping[str, Any]] = {"files": files, **(extra or {})}
    sections |= {"facts": trained.facts.model_dump(mode="json"), "scaling": trained.scaling.meta()}
    if trained.conditioning is not None:
        sections["conditioning"] = trained.conditioning.meta()
    if trained.schema is not None:
        sections["schema"] = {"columns": trained.schema.meta()}
    write_config(folder, trained.settings, **sections)
    storage.write_text(folder / VERSIONS, json.dumps(versions(), indent=2) + "\n")


def read_results(folder: Path) -> dict[str, Any] | None:
    """Read ``results.json`` of a finished run; None where there is none.

    Raises
    ------
    RunFolderError
        It was damaged or changed since it was written.
    """
    path, known = folder / RESULTS, read_config(folder).get("files", {})
    if RESULTS not in known:
        return None
    if not path.is_file() or storage.hash_of(path) != known[RESULTS]:
        got = f"{path}, which was damaged or changed since it was written"
        remedy = f"Restore it, or write it anew: vaelab train --resume {folder}."
        raise RunFolderError(got, "the file as it was", remedy)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a finished run, as they were written.

    Raises
    ------
    InputError
        They were damaged, or are of another run.
    """
    tensors, _, found = storage.load_hashed(folder / MODEL)
    known = read_config(folder)["files"][MODEL]
    if known != found and known != storage.hash_of(folder / MODEL):  # older runs say the hash of the file
        got = f"{folder / MODEL}, which is not the one that {CONFIG} is of"
        raise RunFolderError(got, "the files of one run", "Restore both from one copy.")
    if wrong := [name for name, value in tensors.items() if not _finite(value)]:
        raise RunFolderError(f"{folder / MODEL} with {wrong[0]} that is not finite", "finite numbers")
    return tensors


def save_new(
    trained: Trained, folder: Path, extra: Mapping[str, Mapping[str, Any]] | None = None, *, overwrite: bool = False
) -> None:
    """Write what `save` does as a folder that is there whole or not at all.

    Raises
    ------
    RunFolderError
        There is something there already, or, with `overwrite`, something that is no run.
    """

    def write(temporary: Path) -> None:
        _taken(folder, overwrite=overwrite)  # again: another process may have been faster
        save(trained, temporary, extra)

    storage.recover(folder)
    with storage.held(folder) if _taken(folder, overwrite=overwrite) else nullcontext():  # nobody trains into it
        storage.replace_folder(folder, write)


def _taken(folder: Path, *, overwrite: bool) -> bool:
    """Whether there is a run already, which may be overwritten; anything else is refused."""
    taken = folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    if taken and not overwrite:
        raise RunFolderError(f"{folder}, which is there already", "a new folder", "Pass overwrite=True to replace it.")
    if taken and not (folder / CONFIG).is_file():
        raise RunFolderError(f"{folder}, which is no run's", "a run, or a new folder", "Choose another name.")
    return taken


def read_run(folder: Path, *, network: object = None) -> Trained:
    """Read a finished run, onto the CPU.

    Parameters
    ----------
    folder
        The run.
    network
        The function that makes the networks, or its place, of a run with networks of your own; nothing is imported that
        the folder names by itself.

    Raises
    ------
    RunFolderError
        The folder is missing, unfinished, foreign, corrupt or from a newer version.
    """
    content = read_config(folder)
    if not (folder / MODEL).is_file() or "facts" not in content:
        raise RunFolderError(
            f"{folder} that is not finished", "a finished run", f"Finish it with `vaelab train --resume {folder}`."
        )
    settings = with_network(settings_of(content, folder), network)
    try:
        tensors = read_weights(folder)
        facts = Facts.model_validate(content["facts"])
        parts = _split(tensors)
        scaling = Scaling.from_state(parts.pop("scaling"), content["scaling"])
        conditioning = Conditioning.from_meta(content["conditioning"]) if settings.conditional else None
        shape = () if conditioning is None else conditioning.shape
        schema = Schema.from_meta(content["schema"]["columns"]) if settings.likelihood.takes == "columns" else None
        levels, ordered = ((), ()) if schema is None else (schema.levels, schema.ordered)
        weights = parts.pop("vae")
        calibration = parts.pop("calibration", {}).get("scores")
        build = partial(
            build_vae,
            settings,
            facts.event_shape,
            data_variance=facts.data_variance,
            condition_shape=shape,
            levels=levels,
            ordered=ordered,
            gaps=facts.gaps or (),
        )
        _compare_sizes(build, weights, folder)
        vae = build()
        vae.load_state_dict(weights)
        densities: dict[str, LatentDensity] = {"prior": PriorDensity(vae.prior)}
        trained = Trained(settings, facts, scaling, vae, densities, conditioning, schema, calibration)
        for law in settings.densities:
            densities[law.name] = law_of(law).rebuild(law, parts[f"density/{law.name}"], site_of(trained))
    except RunFolderError:
        raise
    except Exception as error:  # whatever a damaged file makes of us
        raise RunFolderError(
            f"{folder} whose files do not fit together ({error})", "a whole run", "Restore it from a copy."
        ) from error
    for module in (vae, *densities.values()):
        module.eval()
    return trained


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _compare_sizes(build: Callable[[], VAE], weights: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse weights that are not those of the networks, before these are built: they may be of any size.

    Raises
    ------
    RunFolderError
        Names, or shapes, differ.
    """
    try:
        with torch.device("meta"):
            wanted = {name: tuple(value.shape) for name, value in build().named_parameters()}
    except (NotImplementedError, RuntimeError):  # networks that cannot be built without numbers
        return
    found = {name: tuple(value.shape) for name, value in weights.items()}
    differing = [name for name, shape in wanted.items() if found.get(name) != shape]
    if differing:
        name = min(differing)
        shapes = f"{found.get(name, 'none')} and {wanted[name]}"
        got = f"{folder / MODEL} and {CONFIG} that differ in {len(differing)} weights ({name}: {shapes})"
        raise RunFolderError(got, "the files of one run", "Restore both from one copy.")


def with_network(settings: Settings, network: object) -> Settings:
    """Return settings with the function of networks of your own, which a folder does not hold.

    Raises
    ------
    InputError
        It is missing, or given for other networks.
    """
    if not isinstance(settings.network, Own):
        if network is not None:
            raise InputError("networks for a run that knows its own", "none", "Leave network out.")
        return settings
    if network is None:
        place = settings.network.place
        known = f"network={place!r}" if place else "network=..., the function that made them"
        raise RunFolderError("a run with networks of your own, without their code", "their function", f"Pass {known}.")
    own = Own(place=network).imported() if isinstance(network, str) else Own.around(network)
    return settings.model_copy(update={"network": own})


def _split(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group by owner: ``vae/…``, ``scaling/…``, ``density/<name>/…``."""
    parts: dict[str, dict[str, Tensor]] = {}
    for full, tensor in tensors.items():
        owner, _, name = full.rpartition("/")
        parts.setdefault(owner, {})[name] = tensor
    return parts


def versions() -> dict[str, str]:
    """Versions of what a number depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("vaelab", "numpy", "scikit-learn", "lightning-fabric", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
