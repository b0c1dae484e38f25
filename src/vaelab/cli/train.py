"""``vaelab train``: settings from a preset, a file and flags, in this order; then a run."""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from typing import Any, Self

import tyro
import yaml
from pydantic import Field, ValidationError, model_validator

from vaelab import presets
from vaelab.config import Settings, parse_settings
from vaelab.errors import InputError


class Arguments(Settings):
    """Train a two-stage VAE.

    Beside the arguments below: --preset NAME starts from a paper's settings (see `vaelab info --presets`), --config
    FILE from a YAML file or from a run's config.yaml, and --resume RUN goes on with a run that was interrupted.
    """

    data: tyro.conf.Positional[str] = Field("", description="a name (vaelab datasets), a folder of images, or a file")
    name: str | None = Field(None, description="of the run; default: that of the data")
    out: Path = Field(Path("runs"), description="folder of all runs")
    home: Path | None = Field(None, description="folder of named data sets; default: VAELAB_DATA, then a cache")
    download: bool = Field(False, description="fetch a named data set that is not there")
    image_size: int | None = Field(None, ge=8, description="resize and crop images to this many pixels")
    grey: bool | None = Field(None, description="make images grey, or colour")
    test_fraction: float = Field(0.1, gt=0, lt=1, description="share of the rows to test on, where there is no split")
    label_column: str | None = Field(None, description="column of a table that holds labels, not data")
    tensorboard: bool = Field(False, description="write TensorBoard events into the run's folder")
    quiet: bool = Field(False, description="print the run's folder only")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Leave contradictions to `parse_settings`, whose message is for people."""
        return self


_DATA = ("data", "home", "image_size", "grey", "test_fraction", "label_column")


def run(argv: list[str]) -> None:
    """Parse, train, and say what was found."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("preset", "config", "resume"):
        first.add_argument(f"--{name}")
    chosen, rest = first.parse_known_args(argv)
    if chosen.resume is not None:
        if chosen.preset or chosen.config or [flag for flag in rest if flag not in {"--quiet", "--help", "-h"}]:
            raise InputError("--resume with other arguments", "--resume RUN alone", "A run keeps its settings.")
        _resume(Path(chosen.resume), quiet="--quiet" in rest)
        return
    arguments = tyro.cli(Arguments, args=rest, default=_defaults(chosen.preset, chosen.config), prog="vaelab train")
    if not arguments.data:
        raise InputError("no data", "a name, a folder or a file", "Try `vaelab train digits`; see `vaelab datasets`.")
    _start(arguments)


def _defaults(preset: str | None, config: str | None) -> Arguments:
    values: dict[str, Any] = {}
    if preset is not None:
        values |= presets.load(preset).model_dump(exclude_unset=True)
    if config is not None:
        values |= _read(Path(config))
    try:
        return Arguments.model_validate(values)
    except ValidationError:
        parse_settings(
            {k: v for k, v in values.items() if k not in set(Arguments.model_fields) - set(Settings.model_fields)}
        )
        raise


def _read(path: Path) -> dict[str, Any]:
    """Read a flat YAML file, or a run's config.yaml with its sections."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"--config {path} ({error})", "a readable YAML file") from None
    if not isinstance(content, dict):
        raise InputError(f"--config {path} that holds no names", "lines such as `latent_dim: 16`")
    if "settings" in content:
        content = {**content["settings"], **{k: v for k, v in content.get("data", {}).items() if k in _DATA}}
    return dict(content)


def _load(source: dict[str, Any], *, download: bool = False) -> Any:
    from vaelab import data

    return data.load(
        source["data"],
        home=source["home"],
        download=download,
        image_size=source["image_size"],
        grey=source["grey"],
        test_fraction=source["test_fraction"],
        label_column=source["label_column"],
    )


def _start(arguments: Arguments) -> None:
    from vaelab import runs

    settings = parse_settings({name: getattr(arguments, name) for name in Settings.model_fields})
    source = {name: getattr(arguments, name) for name in _DATA}
    source["home"] = None if arguments.home is None else str(arguments.home)
    if not arguments.quiet and runs.first_process():
        _say(f"Reading {arguments.data}")
    data = _load(source, download=arguments.download)
    folder = _folder(arguments)
    if runs.first_process():
        runs.prepare(folder, data, settings, source)
    else:
        _wait_for(folder)
    _execute(folder, data, quiet=arguments.quiet, tensorboard=arguments.tensorboard)


def _folder(arguments: Arguments) -> Path:
    """Return ``out/name``, or ``out/name-2`` and so on where no name was asked for and the first is taken."""
    if arguments.name is not None:
        return arguments.out / arguments.name
    stem = Path(arguments.data).resolve().stem if "/" in arguments.data or "." in arguments.data else arguments.data
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run is not None:  # all processes must find the same folder, whichever looks first
        return arguments.out / f"{stem}-{run}"
    folder, number = arguments.out / stem, 1
    while folder.exists():
        number += 1
        folder = arguments.out / f"{stem}-{number}"
    return folder


def _wait_for(folder: Path) -> None:
    """Let the first process write the run's settings."""
    import time

    for _ in range(600):
        if (folder / "config.yaml").exists():
            return
        time.sleep(0.1)
    raise InputError(f"no {folder}/config.yaml after a minute", "the first process to write it")


def _resume(folder: Path, *, quiet: bool) -> None:
    from vaelab import runs

    _, source = runs.source_of(folder)
    _execute(folder, _load(source), quiet=quiet, resume=True)


def _execute(folder: Path, data: Any, *, quiet: bool, resume: bool = False, tensorboard: bool = False) -> None:
    from vaelab import runs
    from vaelab.training import Hook, Progress, TensorBoard

    speak = not quiet and runs.first_process()
    hooks: list[Hook] = [Progress()] if speak else []
    if tensorboard and runs.first_process():
        hooks.append(TensorBoard(folder / "tensorboard"))
    if speak:
        shape = "×".join(str(size) for size in data.event_shape)
        what = "images" if data.kind == "image" else "rows"
        _say(f"{len(data.train):,} training and {len(data.test):,} test {what} of {shape}; writing {folder}/")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        trained, found = runs.execute(folder, data, hooks=hooks, resume=resume)
    if speak:
        _report(
            folder,
            trained,
            found,
            [str(item.message) for item in caught if item.category.__module__ == "vaelab.errors"],
        )
    elif runs.first_process():
        _say(str(folder))


def _report(folder: Path, trained: Any, found: Any, notes: list[str]) -> None:
    from vaelab import runs

    _say("")
    for line in runs.findings(trained, found):
        _say(f"• {line}")
    for note in notes:
        _say(f"! {note}")
    _say("")
    _say(densities_table(found.code_log_density, found.code_distance, trained.facts.best_density))
    grid = "samples.png" if trained.facts.kind == "image" else "samples.csv"
    _say(f"\nPictures: {folder}/samples.png, reconstructions.png, curves.png, posterior-variances.png\nNext:")
    _say(f"  vaelab sample {folder} -n 64 -o {grid}")
    _say(f"  vaelab info {folder}")
    _say(f"  python -c \"import vaelab; print(vaelab.load('{folder}').sample(3).shape)\"")


def densities_table(log_density: dict[str, float], distance: dict[str, float], best: str) -> str:
    """Lay out how well each density explains unseen codes."""
    lines = [f"{'codes drawn from':<18}{'nats per unseen code':>22}{'distance to codes':>20}"]
    for name, value in log_density.items():
        bound = "≥ " if name == "second_stage" else ""
        mark = "  ← used" if name == best else ""
        lines.append(f"{name:<18}{bound + format(value, '.1f'):>22}{distance.get(name, float('nan')):>20.4f}{mark}")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, flush=True)
