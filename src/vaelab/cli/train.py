"""``vaelab train``: settings from a preset, a file and flags, in this order; then a run."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from vaelab import presets
from vaelab.cli.flags import parser_of, refuse_unknown, settings_of
from vaelab.errors import InputError
from vaelab.spec import from_yaml, parse
from vaelab.specs import Mixed, Own, Settings
from vaelab.specs.densities import named

if TYPE_CHECKING:
    from vaelab.training import Tracker


class Source(BaseModel):
    """What to train on, and where to write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field("", description="a name (vaelab datasets), a folder of images, or a file")
    name: str | None = Field(None, description="of the run; default: that of the data")
    out: Path = Field(Path("runs"), description="folder of all runs")
    home: Path | None = Field(None, description="folder of named data sets; default: VAELAB_DATA, then a cache")
    download: bool = Field(False, description="fetch a named data set that is not there")
    image_size: int | None = Field(None, ge=8, description="resize and crop images to this many pixels")
    grey: bool | None = Field(None, description="make images grey, or colour")
    test_fraction: float = Field(0.1, gt=0, lt=1, description="share of the rows to test on, where there is no split")
    label_column: str | None = Field(None, description="column of a table that holds labels, not data")
    key: str | None = Field(None, description="which array of a store, or entry of tars, holds the rows")
    separator: str | None = Field(None, description="of the columns of a CSV file; left out: found out")
    missing: tuple[str, ...] = Field((), description="what stands for a missing entry of a CSV file, beside NA and ?")
    plain: bool = Field(False, description="also train a plain VAE (variance fixed at 1) and show its samples")
    track: tuple[str, ...] = Field(
        (), description="tell tensorboard, csv, wandb (offline) or mlflow; they write into the run's folder"
    )
    quiet: bool = Field(False, description="print the run's folder only")


_DATA = ("data", "home", "image_size", "grey", "test_fraction", "label_column", "key", "separator", "missing")
_KEPT = (*_DATA, "plain", "track")
_FIRST = ("preset", "baseline", "config", "schema", "resume")
_GANS = "gan/"  # presets of baselines
_ABOUT = """\
Train a two-stage VAE.

Settings come from a preset, then a file, then flags:
  --preset NAME  a paper's (see `vaelab info --presets`)
  --config FILE  a YAML file or a run's config.yaml
  --schema FILE  a YAML file of lines such as `age: ordered`: what columns of a mixed table are taken for; `vaelab info
                 RUN --schema` writes one
  --baseline NAME  a GAN instead: minimax, non-saturating, least-squares, wasserstein, wgan-gp, dragan or began
  --resume RUN   go on with a run that was interrupted
"""


def run(argv: list[str]) -> None:
    """Parse, train, and say what was found."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in _FIRST:
        first.add_argument(f"--{name}")
    chosen, rest = first.parse_known_args(argv)
    if chosen.resume is not None:
        network = _place(rest)
        if (
            chosen.preset
            or chosen.baseline
            or chosen.config
            or chosen.schema
            or [word for word in rest if word not in {"--quiet", "--network", network}]
        ):
            raise InputError("--resume with other arguments", "--resume RUN alone", "A run keeps its settings.")
        _resume(Path(chosen.resume), network, quiet="--quiet" in rest)
        return
    start, given = _defaults(_preset(chosen.preset, chosen.baseline), chosen.config)
    settings, rest = settings_of(rest, start)
    settings = settings if chosen.schema is None else _with_schema(settings, Path(chosen.schema))
    network = _place(argv)
    if network is not None:
        settings = settings.model_copy(update={"network": Own(place=network).imported()})
    found, unread = parser_of(Source, prog="vaelab train", text=_ABOUT).parse_known_args(rest)
    refuse_unknown(unread, Source.model_fields)
    if unread:
        raise InputError(f"{' '.join(unread)} beside the data", "one name, folder or file")
    source = parse(Source, {**given, **vars(found)})
    if not source.data:
        raise InputError("no data", "a name, a folder or a file", "Try `vaelab train digits`; see `vaelab datasets`.")
    _start(source, settings, network)


def _preset(preset: str | None, baseline: str | None) -> str | None:
    """Return the preset's name, which is that of a baseline if one is given."""
    if baseline is None:
        return preset
    if preset is not None:
        raise InputError("--preset and --baseline", "one of them", "A baseline is a preset of its own.")
    known = [name.removeprefix(_GANS) for name in presets.names() if name.startswith(_GANS)]
    if baseline not in known:
        close = difflib.get_close_matches(baseline, known, n=1)
        raise InputError(
            f"--baseline {baseline}", f"one of {', '.join(known)}", f"Did you mean {close[0]}?" if close else ""
        )
    return _GANS + baseline


def _place(words: list[str]) -> str | None:
    """Return the place of networks of your own, where the command names one; nothing that a file names is imported."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--network")
    named = flags.parse_known_args(words)[0].network
    return named if named is not None and ":" in named else None


def _defaults(preset: str | None, config: str | None) -> tuple[Settings, dict[str, Any]]:
    """Return the settings that flags change, and what is known of the data."""
    settings = Settings() if preset is None else presets.preset(preset)
    if config is None:
        return settings, {}
    content = _read(Path(config), read=from_yaml)
    if "settings" in content:  # a run's, where 1e5 may be the name of a column
        if preset is not None:
            flag = "--baseline" if preset.startswith(_GANS) else "--preset"
            got = f"{flag} and --config {config}, the settings of a run"
            raise InputError(got, "one of them", "A run's settings are whole; flags change them.")
        content = _read(Path(config))
        return parse(Settings, content["settings"]), {k: v for k, v in content.get("data", {}).items() if k in _KEPT}
    own = {name: value for name, value in content.items() if name in Settings.model_fields}
    given = {name: getattr(settings, name) for name in Settings.model_fields}
    return parse(Settings, given | own), {name: value for name, value in content.items() if name not in own}


def _with_schema(settings: Settings, path: Path) -> Settings:
    """Return settings with what a file says of columns, over what they say themselves."""
    settings = settings.suited(mixed=True)
    if not isinstance(settings.likelihood, Mixed):
        got = f"--schema for likelihood={settings.likelihood.kind!r}"
        raise InputError(got, "a mixed table", "Add --likelihood mixed.")
    columns = {str(name): kind for name, kind in _read(path, "schema", "age: ordered").items()}
    return settings.set_params(likelihood__columns={**settings.likelihood.columns, **columns})


def _read(
    path: Path,
    flag: str = "config",
    line: str = "latent_dim: 16",
    *,
    read: Callable[[str], Any] = yaml.safe_load,
) -> dict[str, Any]:
    """Read a YAML file of settings, a run's config.yaml with its sections, or a schema."""
    try:
        content = read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"--{flag} {path} ({error})", "a readable YAML file") from None
    if not isinstance(content, dict):
        raise InputError(f"--{flag} {path} that holds no names", f"lines such as `{line}`")
    return dict(content)


def _start(arguments: Source, settings: Settings, network: str | None) -> None:
    from vaelab import runs

    source = {name: getattr(arguments, name) for name in _KEPT}
    _trackers(source)  # refuses what there is not
    source |= runs.reading_of(settings)
    for name in ("data", "home"):  # a resume may come from another folder
        if source[name] is not None and Path(source[name]).exists() and not _is_named(str(source[name])):
            source[name] = str(Path(source[name]).resolve())
    source["home"] = None if source["home"] is None else str(source["home"])
    speak = not arguments.quiet and runs.first_process()
    if speak:
        _say(f"Reading {arguments.data}")

    loaded = []

    def begin() -> str:
        loaded.append(runs.data_of(source, download=arguments.download))
        folder = _folder(arguments)
        runs.prepare(folder, loaded[0], settings, source)
        if speak and source["mixed"] is None and loaded[0].schema is not None:
            _say("With gaps or columns of no numbers: taken column by column (--likelihood mixed)")
        return str(folder)

    folder = Path(_from_first_process(begin))
    _execute(folder, loaded[0] if loaded else runs.data_of(source), network, quiet=arguments.quiet)


def _trackers(source: Mapping[str, Any]) -> list[type[Tracker]]:
    """Return the trackers that a run names; one of an older vaelab may say ``tensorboard: true``."""
    from vaelab.training.trackers import tracker_named

    return [
        tracker_named(name) for name in source.get("track") or (["tensorboard"] if source.get("tensorboard") else [])
    ]


def _is_named(data: str) -> bool:
    from vaelab.data import names

    return data in names()


def _folder(arguments: Source) -> Path:
    """Return ``out/name``, or ``out/name-2`` and so on where no name was asked for and the first is taken."""
    if arguments.name is not None:
        return arguments.out / arguments.name
    stem = arguments.data if _is_named(arguments.data) else Path(arguments.data).resolve().stem
    folder, number = arguments.out / stem, 1
    while folder.exists():
        number += 1
        folder = arguments.out / f"{stem}-{number}"
    return folder


def _from_first_process(make: Callable[[], str]) -> str:
    """Let the first process decide, and tell the others of a run under torchrun through its store."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return make()
    from datetime import timedelta

    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, timeout=timedelta(hours=1))
    key = "vaelab/run"
    if int(os.environ["RANK"]) == 0:
        store.set(key, make())
    return str(store.get(key).decode())


def _resume(folder: Path, network: str | None, *, quiet: bool) -> None:
    from vaelab import runs

    _, source = runs.source_of(folder)
    _execute(folder, runs.data_of(source), network, quiet=quiet, resume=True)


def _execute(folder: Path, data: Any, network: str | None, *, quiet: bool, resume: bool = False) -> None:
    from vaelab import runs
    from vaelab.training import Hook, Progress
    from vaelab.training.interrupts import graceful

    speak = not quiet and runs.first_process()
    hooks: list[Hook] = [Progress()] if speak else []
    trackers = _trackers(runs.source_of(folder)[1]) if runs.first_process() else []
    if speak:
        shape = "×".join(str(size) for size in data.event_shape)
        what = "images" if data.kind == "image" else "rows"
        _say(f"{len(data.train):,} training and {len(data.test):,} test {what} of {shape}; writing {folder}/")
    try:
        with graceful(), ExitStack() as open_ones:
            hooks += [open_ones.enter_context(tracker.of_run(folder)) for tracker in trackers]
            trained, found = runs.execute(folder, data, network=network, hooks=hooks, resume=resume)
    except KeyboardInterrupt:
        if runs.first_process():
            sys.stderr.write(f"Stopped. Go on with: vaelab train --resume {folder}\n")
        raise
    if speak:
        _report(folder, trained, found)
    elif runs.first_process():
        _say(str(folder))


def _report(folder: Path, trained: Any, found: Any) -> None:
    from vaelab import runs

    _say("")
    if isinstance(found, runs.SampleAssessment):
        _say(f"• A generator without an encoder: {found.text}.")
    else:
        for line in runs.findings(trained, found):
            _say(f"• {line}")
        if trained.schema is not None:
            _say(f"\n{trained.schema}")
        _say("")
        _say(densities_table(found.code_log_density, found.code_distance, trained.facts.best_density))
    grid = "samples.png" if trained.facts.kind == "image" else "samples.csv"
    first, *others = sorted(
        (path.name for path in folder.glob("*.png")), key=lambda name: (name != "samples.png", name)
    )
    _say(f"\nPictures: {', '.join([f'{folder}/{first}', *others])}\nNext:")
    own = trained.settings.network if isinstance(trained.settings.network, Own) else None  # which no verb is given
    if own is None:
        _say(f"  vaelab sample {folder} -n 64 -o {grid}")
        _say(f"  vaelab evaluate {folder}")
    if own is None and trained.encodes:
        _say(f"  vaelab explore {folder} --open")
    _say(f"  vaelab info {folder}")
    given = f"'{folder}'" if own is None else f"'{folder}', network='{own.place}'"
    _say(f'  python -c "import vaelab; print(vaelab.load({given}).sample(3).shape)"')


def densities_table(log_density: dict[str, float], distance: dict[str, float], best: str) -> str:
    """Lay out how well each density explains unseen codes."""
    bounds = [law.name for law in named() if law.bound]
    lines = [f"{'codes drawn from':<18}{'nats per unseen code':>22}{'distance to codes':>20}"]
    for name, value in log_density.items():
        bound = "≥ " if name in bounds else ""
        mark = "  ← used" if name == best else ""
        lines.append(f"{name:<18}{bound + format(value, '.1f'):>22}{distance.get(name, float('nan')):>20.4f}{mark}")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, flush=True)
