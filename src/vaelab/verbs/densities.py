"""Which latent density suits a trained model: all of them fitted on some of its codes, and ranked on the others.

A sample is a decoded draw of z, so it can be no better than the law that z is drawn from. The mean log-density of codes
that no density has seen says, without a single image, which law is nearest to the aggregated posterior, from which the
decoder learned (Dai & Wipf 2019, section 4).
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from vaelab.arguments import check_count, check_seed, check_share, names_of
from vaelab.data import ArrayBatches, MappedBatches
from vaelab.data.partition import partition
from vaelab.errors import InputError, MissingExtraError
from vaelab.estimators.base import Estimator
from vaelab.estimators.sequence import SequenceVAE
from vaelab.latent import Codes, Generator, LatentDensity, PriorDensity, row_scores, simplest_of_best
from vaelab.runs import Trained
from vaelab.runs.stages import check_densities, fit_density, hold_out
from vaelab.specs.densities import PRIOR, Density, named
from vaelab.verbs.subject import read

_FOR_WEIGHTS = 0.1  # share of the codes that the weights of what is trained by gradient are chosen by


@dataclass(frozen=True)
class DensityScore:
    """What one density makes of held-out codes.

    Attributes
    ----------
    nats
        Mean log-density per code; a lower bound unless `exact`.
    behind, behind_error
        Nats per code by which the highest score is above, and the standard error of that difference.
    exact
        Whether `nats` is the log-density itself. Of flow matching each code has an unbiased estimate of it, from one
        random probe; `FlowMatching.estimate` tells the error of single codes, and `behind_error` has its share of it.
    seconds
        That the fit took.
    """

    nats: float
    behind: float
    behind_error: float
    exact: bool
    seconds: float


@dataclass(frozen=True)
class DensityComparison:
    """Latent densities of one model, ranked on held-out codes; ``print`` shows a table.

    Attributes
    ----------
    scores
        Density → its score, highest first.
    best
        The simplest density that the one of highest score does not clearly beat, by two standard errors.
    skipped
        Density → why it was not fitted.
    trained
        The model with these densities; `best` is its ``"auto"``. The one that was given is left as it is.
    rows, held_out
        Codes that were fitted and scored on.
    """

    scores: dict[str, DensityScore]
    best: str
    skipped: dict[str, str]
    trained: Trained = field(repr=False)
    rows: int
    held_out: int

    def generator(self, name: str = "auto") -> Generator:
        """Return what draws x in the network's units, with z from a density; `best` by default."""
        return self.trained.generator(name)

    def __str__(self) -> str:
        """Return one line per density, highest score first, then what would be taken and what was left out."""
        wide = max(len(name) for name in [*self.scores, "density"])
        lines = [
            f"{self.held_out:,} held-out codes of {self.trained.settings.size} dimensions, after {self.rows:,} "
            "to fit; nats per code, higher is better",
            f"{'density':<{wide}}  {'log-density':>12}  {'behind the highest':>20}  {'seconds':>8}",
        ]
        for name, one in self.scores.items():
            score = f"{'' if one.exact else '≥ '}{one.nats:.3f}"
            behind = f"{one.behind:.3f} ± {one.behind_error:.3f}" if one.behind else "—"
            mark = "  ← simplest not clearly beaten" if name == self.best else ""
            lines.append(f"{name:<{wide}}  {score:>12}  {behind:>20}  {one.seconds:>8.1f}{mark}")
        if not all(one.exact for one in self.scores.values()):
            lines.append("≥: a lower bound; the density may be better than this.")
        return "\n".join([*lines, *(f"- {name}: {reason}" for name, reason in self.skipped.items())])


def compare_densities(
    model: Trained | Estimator | SequenceVAE | Path | str,
    X: object | None = None,
    y: object | None = None,
    *,
    densities: Sequence[str] | None = None,
    held_out: float = 0.2,
    epochs: int | None = None,
    budget: float | str | None = None,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> DensityComparison:
    """Fit latent densities to a trained model's codes, and rank them on held-out ones.

    Every density sees fresh draws of the same codes' posteriors. What is trained by gradient chooses its weights by
    a tenth of the codes that it is given, never by those that are scored on.

    Parameters
    ----------
    model
        A fitted estimator, what `vaelab.runs.train` returns, or the folder of a run. It is left as it is.
    X
        Rows like those of the training, or a `Dataset`, of which the training rows are taken; None for the run's own.
        On the rows that the model was trained on, the codes are those that its samples should follow.
    y
        n conditions in the form that the model was fitted with.
    densities
        ``"prior"``, and names of the setting ``densities``; all that can be fitted if None.
    held_out
        Share of the rows (at most 5,000) to score on.
    epochs
        Of what is trained by gradient; those of the model's settings if None.
    budget
        Time for the fits, in seconds or like ``"2min"``: none is begun after it. They go from simple to complex.
    seed
        Of splits, fits and draws.
    note
        Told what is being done.

    Raises
    ------
    InputError
        An unknown density, none that can be fitted, rows that do not fit the model, or too few of them.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import GaussianVAE, compare_densities
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> model = GaussianVAE(latent_dim=2, network="mlp(hidden=[16])", epochs=5, random_state=0).fit(X)
    >>> found = compare_densities(model, X, densities=("prior", "gaussian"))
    >>> sorted(found.scores), found.held_out
    (['gaussian', 'prior'], 40)
    """
    densities = check_comparison(densities, held_out, epochs, seed)
    given, data = read(model, X, y)
    return compare_on(
        given,
        given.batches_of(data.train),
        groups=data.train.groups,
        densities=densities,
        held_out=held_out,
        epochs=epochs,
        budget=budget,
        seed=seed,
        note=note,
    )


def compare_on(
    given: Trained,
    batches: ArrayBatches | MappedBatches,
    *,
    groups: Tensor | None = None,
    densities: Sequence[str] | None = None,
    held_out: float = 0.2,
    epochs: int | None = None,
    budget: float | str | None = None,
    enough: Callable[[str, LatentDensity], bool] | None = None,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> DensityComparison:
    """Do as `compare_densities` does, on rows that are in the network's units; rows of a group stay together.

    `enough` is told every density that is fitted, and says whether more complex ones are to be left out.
    """
    wanted = _ordered(densities)
    limit = seconds_of(budget)
    settings = given.settings.model_copy(update={"densities": (), "held_out": held_out, "seed": seed})
    kept, unseen = apart(batches, given, held_out, seed, groups=groups)
    skipped = _unfit(given, wanted)
    codes, test = _codes(given, kept), _codes(given, unseen)
    facts = given.facts.model_copy(update={"scored_on_training": False, "nearer_than": None, "rows": len(codes)})
    facts.code_variance = float(codes.moments()[1].square().mean())
    prior: dict[str, LatentDensity] = {"prior": PriorDensity(given.vae.prior)}
    trained = dataclasses.replace(given, settings=settings, facts=facts, densities=prior)
    seconds = {"prior": 0.0}
    laws = {name: _law(name, given, epochs, len(codes)) for name in wanted if name not in (*skipped, PRIOR)}
    began, reached = time.perf_counter(), ""
    for name, law in laws.items():
        if reached or time.perf_counter() - began > limit:
            skipped[name] = reached or f"The {limit:g} s of the budget were over."
            continue
        note(f"fitting the {name} to {len(codes):,} codes")
        start = time.perf_counter()
        try:
            trained.densities[name] = _fitted(law, trained, codes, seed)
        except InputError as error:
            skipped[name] = str(error)
            continue
        seconds[name] = time.perf_counter() - start
        if enough is not None and enough(name, trained.densities[name]):
            reached = f"Draws from the {name} are about as near to unseen rows as decoded codes: nothing left to gain."
    scored = {name: trained.densities[name] for name in wanted if name in trained.densities and name not in skipped}
    if not scored:
        raise InputError("no density that can be fitted", "at least one", " ".join(skipped.values()))
    rows = row_scores(scored, test, seed=seed)
    trained.settings = settings.model_copy(update={"densities": tuple(laws[name] for name in scored if name != PRIOR)})
    facts.code_scores = {name: float(row.mean()) for name, row in rows.items()}
    facts.best_density = simplest_of_best(rows)
    found = _ranked(rows, scored, seconds)
    return DensityComparison(found, facts.best_density, skipped, trained, len(codes), len(test))


def apart(
    batches: ArrayBatches | MappedBatches, given: Trained, held_out: float, seed: int, *, groups: Tensor | None = None
) -> tuple[ArrayBatches | MappedBatches, ArrayBatches | MappedBatches]:
    """Return the rows to fit and those to score on.

    Raises
    ------
    InputError
        There are too few.
    """
    settings = given.settings.model_copy(update={"held_out": held_out, "seed": seed})
    kept, unseen = hold_out(batches, settings, groups=groups)
    if unseen is None:
        n = len(batches)
        got = f"{n} rows, of which held_out={held_out:g} sets {round(held_out * n)} aside"
        raise InputError(got, "at least two rows on either side", "Give more rows, or another held_out.")
    return kept, unseen


def seconds_of(budget: float | str | None) -> float:
    """Return the seconds of a time such as 90, ``"90s"``, ``"2min"`` or ``"1h"``; infinite for None.

    Raises
    ------
    InputError
        It is none.
    """
    if budget is None:
        return math.inf
    found = re.fullmatch(r"\s*([0-9.e+-]+|inf)\s*(s|min|h|)\s*", str(budget))
    try:
        seconds = float(found[1]) * {"s": 1, "": 1, "min": 60, "h": 3600}[found[2]] if found else -1.0
    except ValueError:
        seconds = -1.0
    if isinstance(budget, bool) or not seconds > 0:
        raise InputError(f"budget={budget!r}", "seconds, or a time such as '90s', '2min' or '1h'")
    return seconds


def _codes(given: Trained, batches: ArrayBatches | MappedBatches) -> Codes:
    """Codes in the precision that densities are trained in, whatever that of the networks."""
    codes = Codes.of(given.vae, batches)
    if codes.loc.dtype == torch.float32:
        return codes
    tril = None if codes.scale_tril is None else codes.scale_tril.float()
    c = codes.c.float() if isinstance(codes.c, Tensor) else codes.c
    return Codes(codes.loc.float(), codes.scale.float(), c, tril)


def _law(name: str, given: Trained, epochs: int | None, rows: int) -> Density:
    """Return how a density is fitted: as the training's settings say, or by default."""
    law = given.settings.density(name)
    return (law if epochs is None or not law.gradient else law.set_params(training__epochs=epochs)).resolve(rows)


def _fitted(law: Density, trained: Trained, codes: Codes, seed: int) -> LatentDensity:
    """Fit one density to the codes; what is trained by gradient takes some of them to choose its weights by."""
    if not law.gradient or len(codes) < 2 / _FOR_WEIGHTS:
        return fit_density(law, trained, codes, None)
    kept, apart = (codes.subset(index.to(codes.loc.device)) for index in partition(len(codes), _FOR_WEIGHTS, seed))
    return fit_density(law, trained, kept, apart)


def _ranked(
    rows: dict[str, Tensor], densities: dict[str, LatentDensity], seconds: dict[str, float]
) -> dict[str, DensityScore]:
    """Scores, highest first."""
    order = sorted(rows, key=lambda name: -float(rows[name].mean()))
    found = {}
    for name in order:
        behind = rows[order[0]] - rows[name]
        error = float(behind.std()) / len(behind) ** 0.5
        exact = densities[name].exact
        found[name] = DensityScore(float(rows[name].mean()), float(behind.mean()), error, exact, seconds[name])
    return found


def check_comparison(
    densities: Sequence[str] | None, held_out: float, epochs: int | None, seed: int
) -> tuple[str, ...] | None:
    """Refuse arguments of a comparison that are none, before models are read; return the names of the densities."""
    check_share("held_out", held_out)
    check_seed(seed)
    if epochs is not None:
        check_count("epochs", epochs)
    if densities is None:
        return None
    wanted = names_of("densities", densities)
    _ordered(wanted)  # refuses unknown ones
    if epochs is not None and not any(law.name in wanted and law.gradient for law in named()):
        got = f"epochs={epochs} for densities {', '.join(wanted)}"
        raise InputError(got, "one that is trained by gradient, such as second_stage", "Leave epochs out.")
    return wanted


def _ordered(densities: Sequence[str] | None) -> list[str]:
    """Names from simple to complex."""
    known = [PRIOR, *(law.name for law in named())]
    if densities is None:
        return known
    unknown = [name for name in densities if name not in known]
    if unknown or not densities:
        raise InputError(f"densities {', '.join(unknown) or '()'}", f"some of {', '.join(known)}")
    return [name for name in known if name in densities]


def _unfit(trained: Trained, names: Sequence[str]) -> dict[str, str]:
    """Name → why the density cannot be had for this model."""
    settings, found = trained.settings, {}
    shape = () if trained.conditioning is None else trained.conditioning.shape
    for name in names:
        if name == "prior":
            towards = not trained.vae.posterior.degenerate or settings.penalty("mmd") or settings.penalty("adversarial")
            if not towards:
                found[name] = "The codes were not trained towards one: an autoencoder without a KL."
            continue
        try:
            check_densities((settings.density(name),), shape)
        except (InputError, MissingExtraError) as error:
            found[name] = str(error)
    return found
