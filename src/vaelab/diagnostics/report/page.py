"""The page: verdicts, the pictures that they rest on, all numbers; one file without anything to fetch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from vaelab.diagnostics.report import codes, rows, training, variances
from vaelab.diagnostics.report.canvas import Picture, number, share, words
from vaelab.diagnostics.report.tables import tables

if TYPE_CHECKING:
    from jinja2 import Environment

    from vaelab.diagnostics.diagnosis import Diagnosis

_PICTURES: tuple[Callable[[Diagnosis], Picture | None], ...] = (
    rows.rows,
    variances.gammas,
    codes.variances,
    codes.rates,
    codes.spectra,
    codes.plane,
    rows.between,
    codes.profile,
    rows.perturbed,
    variances.noise,
    variances.posterior,
    variances.residual_map,
    variances.residual_rows,
    variances.residual_spectrum,
    training.held_out,
    training.further,
    training.course,
)

_BEARING = {
    "decoder-confined": ("rows", "residual-map"),
    "data-mis-scaled": ("rows", "residual-map"),
    "whitened-columns": ("rates", "plane"),
    "loss-mis-scaled": ("gammas", "posterior"),
    "posterior-collapse": ("variances", "noise", "perturbed"),
    "over-fit": ("held-out", "course"),
    "not-converged": ("further", "course"),
    "oversmoothing": ("gammas", "rows"),
    "latent-dim-too-small": ("variances", "residual-spectrum"),
    "prior-mismatch": ("rates", "plane", "spectra"),
    "samples-unlike-rows": ("rates", "plane"),
    "variance-too-large": ("gammas",),
    "variance-too-small": ("gammas",),
    "variance-misshaped": ("residual-map", "residual-rows"),
    "superfluous-dimensions": ("variances", "noise"),
    "some-idle-dimensions": ("variances",),
    "generalisation-gap": ("held-out", "course"),
    "pixels-differ": ("residual-map", "residual-rows"),
    "unlikely-between": ("profile", "between"),
}
"""Verdict → pictures that show what it rests on."""

WORDS = {"critical": "Critical", "warning": "Warning", "note": "Note", "good": "Good"}


def render(diagnosis: Diagnosis, *, explorer: str = "") -> str:
    """Render a diagnosis as one self-contained HTML page.

    Parameters
    ----------
    diagnosis
        Any of its measures may be missing; what rests on them is left out.
    explorer
        Address of the page in which the model is moved about, if there is one.

    Returns
    -------
    str
        HTML with its styles, its pictures and a short script for sorting tables; nothing is loaded from elsewhere.
    """
    pictures = [found for draw in _PICTURES if (found := draw(diagnosis)) is not None]
    bearing = {one.name: [v for v in diagnosis.verdicts if one.name in _BEARING.get(v.name, ())] for one in pictures}
    first = _BEARING.get(diagnosis.main.name, ())
    # rows are what everybody looks at; then what shows the main verdict
    pictures.sort(key=lambda one: (one.name != "rows", first.index(one.name) if one.name in first else len(first)))
    return (
        environment()
        .get_template("page.html")
        .render(
            **_verdicts(diagnosis),
            facts=_facts(diagnosis),
            explorer=explorer,
            pictures=pictures,
            bearing=bearing,
            tables=tables(diagnosis),
            version=version("vaelab"),
        )
    )


def render_summary(diagnosis: Diagnosis) -> str:
    """Render the verdicts alone, as a piece of HTML for notebooks."""
    return environment().get_template("summary.html").render(**_verdicts(diagnosis))


def _verdicts(diagnosis: Diagnosis) -> dict[str, Any]:
    return {"d": diagnosis, "shape": " × ".join(map(str, diagnosis.event_shape)), "words": WORDS}


@cache
def environment() -> Environment:
    """Templates beside this file; every text is escaped."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files(__package__)
    loader = FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8"))
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "words": words}
    return environment


def _facts(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Collect the few numbers that a reader asks for first."""
    measures, found = diagnosis.measures, []
    if measures.reconstruction is not None:
        found.append(("of the variance is rebuilt", rows.explained(measures.reconstruction)))
    use = measures.code_use
    if use is not None and use.used is not None and diagnosis.active is not None:
        weak = f", {use.used - diagnosis.active} weak" if use.used > diagnosis.active else ""
        found.append(("latent dimensions active", f"{diagnosis.active} of {diagnosis.latent_dim}{weak}"))
    if measures.reconstruction is not None and measures.reconstruction.gamma is not None and diagnosis.gamma_known:
        found.append(("decoder variance γ declared", number(measures.reconstruction.gamma)))
    if measures.reconstruction is not None:
        found.append(("variance of the residuals", number(measures.reconstruction.residual)))
    if measures.manifold is not None and diagnosis.sampler in measures.manifold.rates:
        rate = measures.manifold.rates[diagnosis.sampler]
        found.append(("of samples off the manifold", share(rate)))
    return found
