"""What a diagnosis found: measures, the verdicts that follow from them, and a few rows to look at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from vaelab import storage
from vaelab.arguments import check_path
from vaelab.diagnostics.measures import (
    Aggregated,
    Axes,
    CodeUse,
    Continuation,
    Generalisation,
    OffManifold,
    Optimality,
    Reconstruction,
    Residuals,
)
from vaelab.diagnostics.smoothness import Smoothness
from vaelab.errors import InputError

Severity = Literal["critical", "warning", "note", "good"]

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "note", "good")
"""From worst to best; only the first two are alarms."""

EXPLORER = "explore.html"
"""Name that `vaelab explore` gives to the page of a run."""


@dataclass(frozen=True)
class Measures:
    """All that was measured of one model; None where a measure does not apply to it."""

    code_use: CodeUse | None = None
    reconstruction: Reconstruction | None = None
    residuals: Residuals | None = None
    smoothness: Smoothness | None = None
    optimality: Optimality | None = None
    axes: Axes | None = None
    aggregated: Aggregated | None = None
    manifold: OffManifold | None = None
    generalisation: Generalisation | None = None
    continuation: Continuation | None = None


@dataclass(frozen=True)
class Evidence:
    """One number that a verdict rests on.

    Attributes
    ----------
    label
        What was measured, in words.
    value
        What was found.
    relation, threshold
        The condition that it meets, as in "value > threshold".
    source
        Where the threshold comes from.
    """

    label: str
    value: float
    relation: Literal["<", ">"]
    threshold: float
    source: str

    def __str__(self) -> str:
        """Return the condition with both numbers."""
        value = f"{self.value:.3g}" if math.isfinite(self.value) else "not finite"
        return f"{self.label}: {value} ({'below' if self.relation == '<' else 'above'} {self.threshold:.3g})"


@dataclass(frozen=True)
class Verdict:
    """A condition that the measures name.

    Attributes
    ----------
    name
        Short and stable, as ``"posterior-collapse"``.
    title
        For readers.
    severity
        ``critical`` and ``warning`` are alarms, a ``note`` is worth knowing, ``good`` is the absence of alarms.
    evidence
        What it rests on.
    meaning
        What it means, in two sentences.
    remedy
        What to do, in a sentence.
    call
        The ``vaelab`` call that does it; empty where nothing is to be done.
    """

    name: str
    title: str
    severity: Severity
    evidence: tuple[Evidence, ...]
    meaning: str
    remedy: str
    call: str = ""

    def __str__(self) -> str:
        """Return the title, the evidence, the meaning and the remedy, a line each."""
        lines = [f"{self.title} ({self.severity})", *(f"    {one}" for one in self.evidence), f"    {self.meaning}"]
        if self.remedy:
            lines.append(f"    Remedy: {self.remedy}")
        if self.call:
            lines.append(f"    >>> {self.call}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Examples:
    """Rows to look at, in the network's units, on the CPU.

    Attributes
    ----------
    real, rebuilt
        Rows (n, …) and the decoder's means at their posterior means.
    samples
        Name of a density → (n, …) decoder means of its draws; ``"prior"`` first.
    between
        (pairs, steps, …) decoder means between two codes each.
    embedding
        (m, 2) codes and draws from the prior in a t-SNE plane, or None.
    drawn
        (m,) bool, which of these are draws from the prior.
    labels
        (m,) classes of the embedded codes, −1 for draws; None without classes.
    """

    real: Tensor
    rebuilt: Tensor
    samples: dict[str, Tensor]
    between: Tensor | None = None
    embedding: Tensor | None = None
    drawn: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True)
class Diagnosis:
    """A model's diagnosis; ``print`` shows the verdicts, `save` writes a page or JSON.

    Attributes
    ----------
    name, family
        What was diagnosed, and what kind of model it is.
    kind, event_shape, latent_dim
        Of the data and the code.
    rows, held_out_rows
        That were measured; 0 held-out rows leave over-fitting unknown.
    sampler
        The density that the model's samples are drawn from: ``"prior"`` for a plain VAE.
    gamma_known
        Whether the decoder variance is the model's own; if not, no verdict rests on it.
    measures
        Numbers.
    verdicts
        The main one first; always at least one.
    examples
        Rows to look at.
    history
        One record per epoch, of a run; empty elsewhere.
    notes
        What was left out, and why.
    seconds
        That it took.
    active
        Latent dimensions that are active, as an estimator's ``active_dimensions_`` counts them; those that
        ``measures.code_use.used`` has beyond them carry little. None where a posterior is a point.
    """

    name: str
    family: str
    kind: Literal["image", "table"]
    event_shape: tuple[int, ...]
    latent_dim: int
    rows: int
    held_out_rows: int
    sampler: str
    gamma_known: bool
    measures: Measures
    verdicts: tuple[Verdict, ...]
    examples: Examples = field(repr=False)
    history: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    seconds: float = math.nan
    active: int | None = None

    @property
    def main(self) -> Verdict:
        """The verdict to act on first."""
        return self.verdicts[0]

    @property
    def healthy(self) -> bool:
        """Whether no verdict is an alarm."""
        return self.main.severity not in ("critical", "warning")

    def __str__(self) -> str:
        """Return what was diagnosed, then every verdict."""
        shape = " × ".join(map(str, self.event_shape))
        active = "" if self.active is None else f" ({self.active} active)"
        head = (
            f"{self.name}: {self.family}, {self.latent_dim} latent dimensions{active}, rows of {shape}; "
            f"{self.rows:,} rows{f', {self.held_out_rows:,} held out' if self.held_out_rows else ''}"
        )
        return "\n\n".join([head, *(str(verdict) for verdict in self.verdicts), *(f"- {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        """Show the verdicts in a notebook."""
        from vaelab.diagnostics.report import render_summary

        return render_summary(self)

    def as_dict(self) -> dict[str, Any]:
        """All numbers and verdicts as plain values; tensors become lists, what is not finite becomes None."""
        plain = {
            one.name: storage.json_value(getattr(self, one.name))
            for one in fields(self)
            if one.name not in ("examples", "history")
        }
        return plain | {"healthy": self.healthy}

    def save(self, path: Path | str) -> Path:
        """Write the diagnosis, whole or not at all: a self-contained page for ``.html``, numbers for ``.json``.

        The page has a link to an ``explore.html`` beside it, if there is one.

        Raises
        ------
        InputError
            Another ending.
        """
        path = check_path(path, "a file, .html or .json")
        if path.suffix not in (".html", ".json"):
            raise InputError(f"a report called {path.name}", "a name that ends in .html or .json")
        if path.suffix == ".json":
            text = json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"
        else:
            from vaelab.diagnostics.report import render  # draws pictures, which takes matplotlib

            explorer = path.parent / EXPLORER
            text = render(self, explorer=EXPLORER if explorer.is_file() else "")
        storage.write_text(path, text)
        return path
