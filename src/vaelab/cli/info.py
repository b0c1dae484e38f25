"""``vaelab info``."""

from __future__ import annotations

from pathlib import Path

import tyro


def info(run: tyro.conf.Positional[Path | None] = None, presets: bool = False) -> None:
    """Show what a run is and what it found.

    Args:
        run: folder of the run.
        presets: list the presets instead.
    """
    from vaelab import presets as known
    from vaelab.errors import InputError

    if presets:
        print("\n".join(known.names()))
        return
    if run is None:
        raise InputError("no run", "the folder of a run", "Runs are in runs/ unless you chose another folder.")
    print(describe(run))


def describe(folder: Path) -> str:
    """Lay out a run: data, settings that differ from the defaults, results."""
    from vaelab.runs import folder as files
    from vaelab.runs import read_config
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
    if not (folder / files.MODEL).is_file():
        lines.append(f"state     unfinished; go on with `vaelab train --resume {folder}`")
    found = files.read_results(folder)
    if found is not None:
        bound = ""
        if found["nelbo"] is not None:
            bound = f"−ELBO {found['nelbo']:.2f} nats ({found['distortion']:.2f} + KL {found['kl']:.2f}), "
            bound = bound if not found.get("caveat") else f"{bound}no density ({found['caveat']}), "
        lines += [
            f"test      {bound}squared error {found['mse']:.2g} per dimension",
            f"active    {found['active_dimensions']} of {settings.size} latent dimensions"
            + (", the whitened columns" if facts.get("lossless") else ""),
        ]
        if found["gamma"] is not None:
            lines.append(f"gamma     {found['gamma']:.3g} (standard deviation {found['gamma'] ** 0.5:.3g})")
        from vaelab.cli.train import densities_table

        best = facts["best_density"]
        lines += ["", densities_table(found["code_log_density"], found["code_distance"], best)]
    return "\n".join(lines)


def run(argv: list[str]) -> None:
    """Parse and show."""
    tyro.cli(info, args=argv, prog="vaelab info")
