"""A run on disk: config.yaml, model.safetensors, train_state/, metrics.jsonl, results.json, versions.json, pictures.

Every file is written under a temporary name and renamed. Loading reads tensors and plain values; it runs no code.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from torch import Tensor

from vaelab import storage
from vaelab.config import Settings, build_second_stage, build_vae, parse_settings
from vaelab.data import Conditioning, Scaling, Schema
from vaelab.errors import InputError, RunFolderError
from vaelab.latent import LatentDensity, PriorDensity, SecondStage, build_flow, density_from_state
from vaelab.runs.trained import Facts, Trained

FORMAT = 1
"""Version of the folder's layout; a folder with a higher one is refused."""

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
    storage.write_text(folder / CONFIG, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.yaml``.

    Raises
    ------
    RunFolderError
        No folder, no such file, not vaelab's, or from a newer version.
    """
    path = folder / CONFIG
    if not path.is_file():
        what = "a folder without config.yaml" if folder.is_dir() else "no such folder"
        raise RunFolderError(f"{folder}: {what}", "the folder of a vaelab run", "Runs are made by `vaelab train`.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunFolderError(f"an unreadable {path} ({error})", "YAML", "Restore it from a copy.") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int) or "settings" not in content:
        raise RunFolderError(f"{path}, which vaelab did not write", "the config.yaml of a vaelab run")
    if content["format"] > FORMAT:
        raise RunFolderError(
            f"{path} in format {content['format']}", f"format {FORMAT} or older", "It is from a newer vaelab: upgrade."
        )
    return content


def save(trained: Trained, folder: Path, extra: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write what `load` needs, and the versions it was made with; `extra` are further sections of the config."""
    tensors: dict[str, Tensor] = {f"vae/{name}": value for name, value in trained.vae.state_dict().items()}
    for name, density in trained.densities.items():
        tensors |= {f"density/{name}/{key}": value for key, value in density.state_dict().items()}
    tensors |= {f"scaling/{name}": value for name, value in trained.scaling.state().items()}
    storage.save_tensors(folder / MODEL, tensors, {"format": FORMAT})
    sections = {"facts": trained.facts.model_dump(mode="json"), "scaling": trained.scaling.meta(), **(extra or {})}
    if trained.conditioning is not None:
        sections["conditioning"] = trained.conditioning.meta()
    if trained.schema is not None:
        sections["schema"] = {"columns": trained.schema.meta()}
    write_config(folder, trained.settings, **sections)
    storage.write_text(folder / VERSIONS, json.dumps(versions(), indent=2) + "\n")


def load(folder: Path) -> Trained:
    """Read a finished run, onto the CPU.

    Raises
    ------
    RunFolderError
        The folder is missing, unfinished, foreign, corrupt or from a newer version.
    """
    content = read_config(folder)
    if not (folder / MODEL).is_file():
        raise RunFolderError(
            f"{folder} without {MODEL}", "a finished run", f"Finish it with `vaelab train --resume {folder}`."
        )
    try:
        tensors, _ = storage.load_tensors(folder / MODEL)
        settings = parse_settings(content["settings"])
        facts = Facts.model_validate(content["facts"])
        parts = _split(tensors)
        scaling = Scaling.from_state(parts.pop("scaling"), content["scaling"])
        conditioning = Conditioning.from_meta(content["conditioning"]) if settings.conditional else None
        shape = () if conditioning is None else conditioning.shape
        schema = Schema.from_meta(content["schema"]["columns"]) if settings.likelihood == "mixed" else None
        vae = build_vae(
            settings,
            facts.event_shape,
            data_variance=facts.data_variance,
            condition_shape=shape,
            levels=() if schema is None else schema.levels,
        )
        vae.load_state_dict(parts.pop("vae"))
        densities: dict[str, LatentDensity] = {"prior": PriorDensity(vae.prior)}
        for name in settings.densities:
            densities[name] = _density(name, parts[f"density/{name}"], settings, facts, shape)
    except (InputError, KeyError, RuntimeError, ValidationError) as error:
        raise RunFolderError(
            f"{folder} whose files do not fit together ({error})", "a whole run", "Restore it from a copy."
        ) from error
    for module in (vae, *densities.values()):
        module.eval()
    return Trained(settings, facts, scaling, vae, densities, conditioning, schema)


def _split(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group by owner: ``vae/…``, ``scaling/…``, ``density/<name>/…``."""
    parts: dict[str, dict[str, Tensor]] = {}
    for full, tensor in tensors.items():
        owner, _, name = full.rpartition("/")
        parts.setdefault(owner, {})[name] = tensor
    return parts


def _density(
    name: str, state: dict[str, Tensor], settings: Settings, facts: Facts, condition_shape: tuple[int, ...]
) -> LatentDensity:
    """Rebuild a density: those that were trained from the settings, mixtures from their tensors alone."""
    density: LatentDensity
    if name == "second_stage":
        second = build_second_stage(settings, code_variance=facts.code_variance, condition_shape=condition_shape)
        density = SecondStage(second)
    elif name == "flow":
        density = build_flow(settings.latent_dim, condition_shape=condition_shape)
    else:
        return density_from_state(name, state)
    density.load_state_dict(state)
    return density


def versions() -> dict[str, str]:
    """Versions of what a number depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("vaelab", "numpy", "scikit-learn", "lightning-fabric", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
