"""Better samples from a trained autoencoder, whose weights stay: another law for z, if one is clearly better.

The prior is what the codes were trained towards. Where the aggregated posterior is something else, the decoder is given
codes that it has never seen, and a law fitted on the codes mends that (Dai & Wipf 2019, section 4). Whether it does is
measured on decoded samples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaelab import runs
from vaelab.arguments import check_count
from vaelab.data import ArrayBatches, MappedBatches
from vaelab.errors import InputError
from vaelab.latent import Generator
from vaelab.rows import check_drawn
from vaelab.runs import Draws, Trained
from vaelab.runs.decoded import FLOOR, LIMIT, DecodedDraws
from vaelab.runs.sample_distances import SampleDistance, needed_errors
from vaelab.specs.densities import PRIOR, named
from vaelab.training import stream
from vaelab.verbs.densities import DensityComparison, apart, check_comparison, compare_on
from vaelab.verbs.subject import Subject, left_as_it_is, subject_of

_MOST_HELD_OUT = 5_000  # as when rows are set aside
_FEW = 2_000  # codes, below which training a flow and a second stage takes minutes and gains next to nothing


@dataclass(frozen=True)
class Enhanced:
    """A model with the law of z that its samples are best from; ``print`` shows how it was chosen.

    Attributes
    ----------
    comparison
        How the densities explain held-out codes.
    distances
        Density → how far its decoded draws are from held-out rows, nearest first; ``"prior"`` is always there. For an
        autoencoder whose codes were trained towards none, that is N(0, I).
    floor, limit
        The same for other real rows, and for decoded codes of other real rows: a density cannot do better than the
        codes themselves.
    best
        The density that `sample` draws from: the nearest one if it is clearly nearer than the prior, else ``"prior"``.
    better
        Whether `best` is better than the prior, by more than two standard errors for one candidate and by more for
        several: as many as leave the chance that any of them seems better the same (`needed_errors`).
    draws, held_out
        Samples of each density, and the rows that they are compared with.
    available
        Rows that there were for the fits, of which ``comparison.rows`` were taken.
    trained
        The model with these densities, of which `best` is the ``"auto"``; the one that was given is left as it is.
    """

    comparison: DensityComparison
    distances: dict[str, SampleDistance]
    floor: SampleDistance
    limit: SampleDistance
    best: str
    better: bool
    draws: int
    held_out: int
    available: int
    trained: Trained = field(repr=False)
    _subject: Subject = field(repr=False)

    @property
    def subject(self) -> Subject:
        """The model with these densities, and its rows: what `vaelab.diagnose` reads of it."""
        return dataclasses.replace(self._subject, trained=self.trained)

    @property
    def generator(self) -> Generator:
        """What draws x in the network's units, with z from `best`."""
        return self.trained.generator(self.best)

    def sample(self, n: int, y: object | None = None, *, seed: int = 0) -> Any:
        """Draw n new rows with z from `best`, in the units and the container of X; see `Trained.sample`.

        Parameters
        ----------
        n
            How many.
        y
            For a conditional model: n conditions, or a single one for all of them.
        seed
            Of the draws.
        """
        if n < 1:
            raise InputError(f"n={n}", "at least 1")
        c = self.trained.conditions(y, n, spread=True)
        return self.trained.returned(self.trained.sample(n, c, Draws(density=self.best, seed=seed)))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a run folder that `vaelab.load` reads, for models of vaelab's; `overwrite` replaces another run's.

        Raises
        ------
        RunFolderError
            There is something there already, or, with `overwrite`, something that is no run.
        InputError
            The networks are not vaelab's, so that nothing says how to build them again.
        """
        if self._subject.origin != "training":
            raise InputError(
                f"{self._subject.family}, whose networks vaelab cannot build again",
                "an estimator, a run's folder, or what vaelab.runs.train returns",
                "Keep the model as you do, and torch.save(better.generator.density.state_dict(), …) beside it.",
            )
        runs.save_new(self.trained, Path(path), self._subject.sections, overwrite=overwrite)

    def __str__(self) -> str:
        """Return one line per density, nearest first, then floor and limit, and what follows from them."""
        rows = {**self.distances, LIMIT: self.limit, FLOOR: self.floor}
        wide = max(map(len, rows))
        some = f" chosen at random of {self.available:,}" if self.comparison.rows < self.available else ""
        lines = [
            f"{self.draws:,} decoded draws of each density, and {self.held_out:,} real rows that none has seen; energy "
            "distance, lower is better",
            f"densities fitted to {self.comparison.rows:,} codes{some}",
            f"{'':<{wide}}  {'distance':>20}  {'less than the prior':>22}  {'told apart':>10}",
        ]
        for name, one in rows.items():
            gain = "—" if name == "prior" else f"{one.gain:.3g} ± {one.gain_error:.1g}"
            told = "" if one.accuracy is None else f"{one.accuracy:.0%}"
            mark = "  ← best" if name == self.best else ""
            lines.append(f"{name:<{wide}}  {f'{one.energy:.3g} ± {one.error:.1g}':>20}  {gain:>22}  {told:>10}{mark}")
        lines += [f"- {name}: {reason}" for name, reason in self.comparison.skipped.items() if name != "prior"]
        if "prior" in self.comparison.skipped:
            lines.append("The codes were not trained towards a prior: under that name stand draws from N(0, I).")
        if self.better:
            share = self.distances[self.best].gain / max(self.distances["prior"].energy - self.limit.energy, 1e-300)
            part = f", {share:.0%} of what any density could gain" if 0 < share < 1 else ""
            lines.append(f"Samples with z from the density {self.best!r} are clearly nearer to the data{part}.")
        else:
            lines.append("No density gives samples that are clearly nearer to the data than the prior's: keep it.")
            if not self.limit.clearly_nearer():
                lines.append("Nor are decoded codes of real rows: what the samples lack is not another law of z.")
        count = max(len(self.distances) - 1, 1)
        several = f", as for the best of {count} (Bonferroni)" if count > 1 else ""
        lines.append(f"Clearly: by more than {needed_errors(count):.2f} standard errors{several}.")
        return "\n".join(lines)


def enhance(
    model: object,
    X: object | None = None,
    y: object | None = None,
    *,
    densities: Sequence[str] | None = None,
    held_out: float = 0.2,
    epochs: int | None = None,
    budget: float | str | None = None,
    rows: int = 20_000,
    samples: int = 2000,
    gamma: float | None = None,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> Enhanced:
    """Find the law of z that gives the best samples, for any trained autoencoder; its weights are left as they are.

    Latent densities are fitted on some of the codes. Decoded draws of each are compared with rows that no density has
    seen, by the energy distance: of 64 principal components for images, of rows in the network's units for tables.
    A density is taken in the place of the prior if its gain is above the normal quantile at 0.0228 / k of its standard
    errors, 2 of them for one candidate, since the best of k is looked for (Bonferroni 1936).

    Parameters
    ----------
    model
        A fitted estimator, the folder of a run, what `vaelab.runs.train` returns, a `VAE`, or a foreign autoencoder, as
        for `vaelab.diagnose`.
    X
        Rows like those of the training, in the units that the model takes, or a `Dataset`; None for a run's own.
    y
        n conditions in the form that the model was fitted with.
    densities
        Names of the setting ``densities``. If None all that can be fitted, of fewer than 2,000 codes those that are not
        trained by gradient: from simple to complex, until the draws of one are not clearly farther from unseen rows
        than decoded codes are, so that there is nothing left to gain.
    held_out
        Share of the rows (at most 5,000) that the densities do not see.
    epochs
        Of what is trained by gradient; those of the model's settings if None.
    budget
        Time for the fits, in seconds or like ``"2min"``: none is begun after it.
    rows
        Codes that densities are fitted to, at most; chosen at random where there are more. What is trained by
        gradient takes long on many: give more if that is worth it.
    samples
        Decoded draws of each density.
    gamma
        Decoder variance of a foreign model, where it is known.
    seed
        Of splits, fits and draws.
    note
        Told what is being done.

    Returns
    -------
    Enhanced
        Whose `sample` is never from a density that is not clearly better than the prior.

    Raises
    ------
    InputError
        The model is of no known kind or one of sequences, rows do not fit it, there are too few, or a number is none
        that can be.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import GaussianVAE, enhance
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> model = GaussianVAE(latent_dim=2, network="mlp(hidden=[16])", epochs=5, random_state=0).fit(X)
    >>> better = enhance(model, X, densities=["gaussian"], samples=100)
    >>> sorted(better.distances), better.sample(3).shape
    (['gaussian', 'prior'], (3, 4))
    """
    check_count("samples", samples, 2)
    check_count("rows", rows, 10)
    chosen = check_comparison(densities, held_out, epochs, seed)
    with left_as_it_is(model):
        subject = subject_of(model, X, y, gamma=gamma)
        if subject.trained.settings.network.takes == "sequences":
            raise InputError("a model of sequences", "one of independent rows", "Use vaelab.compare_densities.")
        check_drawn(samples, subject.trained.facts.event_shape, "samples")
        batches, groups, available = _some(subject, rows, held_out, seed)
        wanted = None if chosen is None else ["prior", *(name for name in chosen if name != "prior")]
        if wanted is None and len(batches) < _FEW:
            wanted = [PRIOR, *(law.name for law in named() if not law.gradient)]
        kept, unseen = apart(batches, subject.trained, held_out, seed, groups=groups)
        if subject.held_out is not None and len(subject.held_out) > len(unseen):
            unseen = subject.held_out
        draws = DecodedDraws(subject.trained, kept, unseen, samples, seed)
        draws.add_real(kept)
        found = compare_on(
            subject.trained,
            batches,
            groups=groups,
            densities=wanted,
            held_out=held_out,
            epochs=epochs,
            budget=budget,
            enough=draws.as_near_as_codes if densities is None else None,
            seed=seed,
            note=note,
        )
        note("comparing decoded draws with real rows")
        distances, compared = draws.distances(found.trained.densities), len(draws.real)
    floor, limit = distances.pop(FLOOR), distances.pop(LIMIT)
    order = sorted(distances, key=lambda name: distances[name].energy)
    best = next((name for name in order if distances[name].clearly_nearer(len(order) - 1)), "prior")
    trained = dataclasses.replace(
        found.trained, facts=found.trained.facts.model_copy(update={"best_density": best, "nearer_than": None})
    )
    return Enhanced(
        comparison=found,
        distances={name: distances[name] for name in order},
        floor=floor,
        limit=limit,
        best=best,
        better=best != "prior",
        draws=samples,
        held_out=compared,
        available=available,
        trained=trained,
        _subject=subject,
    )


def _some(
    subject: Subject, rows: int, held_out: float, seed: int
) -> tuple[ArrayBatches | MappedBatches, Tensor | None, int]:
    """Return so many rows that at most `rows` are left to fit, their groups, and how many there could have been."""
    batches, groups = subject.batches, subject.groups
    most = min(math.floor(rows / (1 - held_out)), rows + _MOST_HELD_OUT)
    available = len(batches) - min(round(held_out * len(batches)), _MOST_HELD_OUT)
    if available <= rows:
        return batches, groups, available
    chosen = torch.randperm(len(batches), generator=stream("cpu", seed, "enhance", "rows"))[:most].sort().values
    return batches.subset(chosen), None if groups is None else groups[chosen], available
