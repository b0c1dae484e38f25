"""``vaelab info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from vaelab.data import Schema


def info(run: tyro.conf.Positional[Path | None] = None, presets: bool = False, schema: bool = False) -> None:
    """Show what a run is and what it found.

    Args:
        run: folder of the run.
        presets: list the presets instead.
        schema: write what the columns of a mixed table are taken for, as YAML that `vaelab train --schema` reads.
    """
    from vaelab import presets as known
    from vaelab.errors import InputError

    if presets:
        print("\n".join(known.names()))
        return
    if run is None:
        raise InputError("no run", "the folder of a run", "Runs are in runs/ unless you chose another folder.")
    print(columns_of(run) if schema else describe(run))


def columns_of(folder: Path) -> str:
    """Return the columns of a run's table and their kinds as YAML, with what they hold beside them.

    Raises
    ------
    InputError
        The run is not of a mixed table, or is not finished.
    """
    import yaml

    from vaelab.data.schema_text import choices, in_words
    from vaelab.errors import InputError

    found = _schema(folder)
    if found is None:
        raise InputError(f"{folder} without a schema", "a finished run with --likelihood mixed")
    lines = []
    for column, (name, kind) in zip(found.given, choices(found.given).items(), strict=True):
        lines.append(f"# {in_words(column)}")
        flow = None if isinstance(kind, dict) else False
        text = yaml.safe_dump({name: kind}, allow_unicode=True, sort_keys=False, default_flow_style=flow, width=10**9)
        lines.append(text.rstrip())
    return "\n".join(lines)


def _schema(folder: Path) -> Schema | None:
    from vaelab.data import Schema
    from vaelab.runs import read_config

    section = read_config(folder).get("schema")
    return None if section is None else Schema.from_meta(section["columns"])


def describe(folder: Path) -> str:
    """Lay out a run: data, settings that differ from the defaults, results."""
    from vaelab.runs import SampleAssessment, read_config
    from vaelab.runs import folder as files
    from vaelab.spec import parse
    from vaelab.specs import Settings

    content = read_config(folder)
    settings = parse(Settings, content["settings"])
    lines = [f"run       {folder}", f"data      {content.get('data', {}).get('data', 'arrays given to an estimator')}"]
    facts = content.get("facts", {})
    if facts:
        shape = "×".join(str(size) for size in facts["event_shape"])
        lines.append(f"rows      {facts['rows']:,} of {shape}, held-out ones apart")
    lines.append("settings  " + (", ".join(f"{k}={v!r}" for k, v in settings.__repr_args__()) or "all defaults"))
    if (folder / files.MODEL).is_file() and files.MODEL in content.get("files", {}):
        files.read_weights(folder)  # refuses those that are damaged
    else:
        lines.append(f"state     unfinished; go on with `vaelab train --resume {folder}`")
    found = files.read_results(folder)
    if found is not None and settings.adversary is not None:
        lines.append(f"test      {SampleAssessment(**found).text}")
    elif found is not None:
        bound = ""
        if found["nelbo"] is not None:
            bound = f"−ELBO {found['nelbo']:.2f} nats ({found['distortion']:.2f} + KL {found['kl']:.2f}), "
            bound = bound if not found.get("caveat") else f"{bound}no density ({found['caveat']}), "
        lines += [
            f"test      {bound}squared error {found['mse']:.2g} per dimension",
            "code      the whitened columns, which tell no dimension of the data; for that `vaelab dimension` of them"
            if facts.get("lossless")
            else f"active    {found['active_dimensions']} of {settings.size} latent dimensions",
        ]
        if found["gamma"] is not None:
            lines.append(f"gamma     {found['gamma']:.3g} (standard deviation {found['gamma'] ** 0.5:.3g})")
        from vaelab.cli.train import densities_table

        best = facts["best_density"]
        lines += ["", densities_table(found["code_log_density"], found["code_distance"], best)]
    schema = _schema(folder)
    if schema is not None:
        lines += ["", str(schema)]
    return "\n".join(lines)


def run(argv: list[str]) -> None:
    """Parse and show."""
    tyro.cli(info, args=argv, prog="vaelab info")
