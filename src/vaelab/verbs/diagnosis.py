"""`diagnose`: measure a trained autoencoder, and say what is wrong with it and what mends that."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from vaelab.arguments import check_count, check_seed
from vaelab.diagnostics.diagnosis import Diagnosis, Examples, Measures
from vaelab.diagnostics.measures import (
    CodeUse,
    Continuation,
    Generalisation,
    aggregated,
    axis_noise,
    code_use,
    continuation,
    embedding,
    generalisation,
    off_manifold,
    optimality,
    reconstruction,
    residuals,
)
from vaelab.diagnostics.row_means import Part, over_rows
from vaelab.diagnostics.smoothness import smoothness
from vaelab.diagnostics.verdicts import Context, verdicts_of
from vaelab.errors import InputError
from vaelab.latent import Codes, Generator, LatentDensity
from vaelab.metrics.interpolation import linear
from vaelab.model import VAE, FixedVariance, Gaussian, Mixed, count_active
from vaelab.model.contexts import own_state
from vaelab.runs.facts import Facts
from vaelab.runs.folder import METRICS
from vaelab.runs.trained import Trained
from vaelab.training import read_records, stream
from vaelab.types import Batches
from vaelab.verbs.subject import Subject, left_as_it_is, subject_of

_LEAST_ROWS = 100
_SHOWN = {"image": 16, "table": 300}  # rows of a picture
_PAIRS, _STEPS = 4, 9  # of interpolations shown
_EMBEDDED = 1000  # codes of a t-SNE, and half as many draws
_COMPARED = 1000  # rows whose units are compared with those of the training
_WIDER = 1.05  # standard deviation of a posterior that no optimum has
_LARGE = 10_000  # numbers in a row, from which further training takes fewer steps
R = TypeVar("R")


def diagnose(
    model: object,
    X: object | None = None,
    y: object | None = None,
    *,
    held_out: object | None = None,
    gamma: float | None = None,
    rows: int = 10_000,
    pictures: bool = True,
    seed: int = 0,
    note: Callable[[str], None] = lambda text: None,
) -> Diagnosis:
    """Measure a trained autoencoder and name what is wrong with it, with a remedy for each.

    Parameters
    ----------
    model
        A fitted estimator, the folder of a run, what `vaelab.runs.train` returns, a `VAE`, or an autoencoder of
        another program: pythae's, diffusers' `AutoencoderKL`, one with ``transform`` and ``inverse_transform``, a
        module with ``encode`` and ``decode``, or what `vaelab.wrap` returns. It is left as it is.
    X
        Rows that it was trained on, in the units that it takes; a run's own if None.
    y
        Their conditions, for a conditional model.
    held_out
        Rows that it was not trained on, without which over-fitting cannot be told; a pair (rows, conditions) for a
        conditional model.
    gamma
        Decoder variance that the loss of a foreign model stands for: 1 for ½ Σ e², ½ for Σ e², β times that with a KL
        weighted by β. Left out, it is taken from the model where it says so, and is else unknown.
    rows
        At most, chosen at random; each measure takes no more of them than it needs, and says how many.
    pictures
        Keep rows, samples and an embedding to look at in the report.
    seed
        Of rows and noise.
    note
        Told what is being measured.

    Raises
    ------
    InputError
        The model is of no known kind, the rows do not fit it, there are fewer than 100 of them, or they have gaps.

    Examples
    --------
    >>> import numpy as np
    >>> from vaelab import GaussianVAE
    >>> u = np.random.default_rng(0).normal(size=(400, 2))
    >>> X = np.hstack([u, u @ [[1.0, 2.0], [3.0, -1.0]]]) + 0.1 * np.random.default_rng(1).normal(size=(400, 4))
    >>> model = GaussianVAE(2, network="mlp([16])", likelihood="gaussian(fixed(9))", epochs=150, random_state=0).fit(X)
    >>> diagnose(model, X, pictures=False).main.name
    'posterior-collapse'
    """
    with own_state():
        start = time.perf_counter()
        check_seed(seed)
        check_count("rows", rows)
        with left_as_it_is(model):
            subject = subject_of(model, X, y, held_out=held_out, gamma=gamma)
            vae = subject.trained.vae
            if isinstance(vae.likelihood, Mixed):
                raise InputError(
                    "a model of a mixed table", "rows of numbers without gaps", "Diagnose one of its numbers."
                )
            if min(len(subject.batches), rows) < _LEAST_ROWS:
                got = f"{len(subject.batches):,} rows, of which at most {rows:,} are to be used"
                raise InputError(got, f"at least {_LEAST_ROWS}", "Give more rows.")
            few = subject.held_out is not None and len(subject.held_out) < _LEAST_ROWS
            if few and held_out is not None:
                raise InputError("too few held-out rows", f"at least {_LEAST_ROWS}", "Give more of them, or none.")
            batches: Batches = Part.of(subject.batches, rows, seed)
            unseen: Batches | None = None
            if subject.held_out is not None and len(subject.held_out) >= _LEAST_ROWS:
                unseen = Part.of(subject.held_out, rows, seed)
            measured = _Measuring(subject, batches, unseen, seed, note)
            measures = measured.all()
            context = _context(subject)
            examples = measured.examples() if pictures else _nothing(subject)
        history = [] if subject.folder is None else read_records(subject.folder / METRICS)
        return Diagnosis(
            name=str(model) if isinstance(model, str | Path) else type(model).__name__,
            family=subject.family,
            kind=context.kind,
            event_shape=tuple(subject.trained.facts.event_shape),
            latent_dim=vae.latent_dim,
            rows=len(batches),
            held_out_rows=0 if unseen is None else len(unseen),
            sampler=context.sampler,
            gamma_known=subject.gamma_known,
            measures=measures,
            verdicts=verdicts_of(measures, context),
            examples=examples,
            history=[record for record in history if record.get("stage") == subject.trained.facts.stage],
            notes=tuple(measured.notes),
            seconds=time.perf_counter() - start,
            active=_active(subject.trained, measures.code_use),
        )


def _active(trained: Trained, use: CodeUse | None) -> int | None:
    """Count active dimensions as the training did, on its rows; of what has none, on those that were measured."""
    if use is None or use.ratios is None:
        return None
    return trained.active_dimensions if trained.facts.variance_ratios else count_active(use.ratios)


@torch.no_grad()
def _keeps_to(vae: VAE, batches: Batches) -> tuple[float, float] | None:
    """Return the range of a sigmoid or tanh that outputs keep to for codes of any size; None where there is none."""
    if not isinstance(vae.likelihood, Gaussian):
        return None
    device = next(vae.parameters(), torch.zeros(())).device
    n = min(64, len(batches))
    x, c = batches.to(device).take(torch.arange(n, device=device))
    outputs = []
    for size in (1.0, 10.0, 1e3):
        z = size * torch.randn(n, vae.latent_dim, generator=stream("cpu", 0, "far codes")).to(x)
        outputs.append(vae.likelihood.mean(vae.decoder(z, c)).flatten())
    low, high = (float(each) for each in torch.cat(outputs).aminmax())
    for lowest, highest in ((0.0, 1.0), (-1.0, 1.0)):
        slack = 0.01 * (highest - lowest)
        if lowest - 1e-6 <= low <= lowest + slack and highest - slack <= high <= highest + 1e-6:
            return lowest, highest
    return None


def _context(subject: Subject) -> Context:
    trained = subject.trained
    variance = trained.vae.likelihood.variance
    shape = "none"
    if variance is not None:
        shape = ("diag" if variance.diagonal else "iso") + ("-d" if variance.per_sample else "-i")
    return Context(
        latent_dim=trained.vae.latent_dim,
        dimensions=math.prod(trained.facts.event_shape),
        kind=trained.facts.kind,
        sampler=trained.facts.best_density,
        gamma_known=subject.gamma_known,
        foreign=subject.origin == "foreign",
        loss_read=subject.loss_read,
        form="estimator" if subject.origin == "training" else "module",
        conditional=trained.conditioning is not None,
        epochs=trained.settings.training.epochs if subject.origin == "training" else None,
        shape=shape,
        whitened=trained.facts.lossless,
        keeps_to=_keeps_to(trained.vae, subject.batches),
        units_known=subject.origin == "training" and _as_in_training(subject.batches, trained.facts),
    )


def _as_in_training(batches: Batches, facts: Facts) -> bool:
    """Whether rows, in the network's units, lie where those of the training did: about 0 for tables."""
    x = batches.take(torch.arange(min(len(batches), _COMPARED)))[0].double()
    ratio = float(x.var(0, correction=0).mean()) / facts.data_variance
    centre = float(x.mean(0).square().mean()) / facts.data_variance
    return 0.2 < ratio < 5 and (facts.kind == "image" or centre < 1)


class _Measuring:
    """The measures of one subject, taken one after another."""

    def __init__(
        self, subject: Subject, batches: Batches, unseen: Batches | None, seed: int, note: Callable[[str], None]
    ) -> None:
        self.subject, self.batches, self.unseen, self.seed, self.note = subject, batches, unseen, seed, note
        self.notes: list[str] = []
        trained = subject.trained
        self.vae: VAE = trained.vae
        names = dict.fromkeys(("prior", trained.facts.best_density, "second_stage"))
        self.densities: Mapping[str, LatentDensity] = {
            name: trained.densities[name] for name in names if name in trained.densities
        }

    def _ask_of_the_spread(self) -> None:
        """Ask whether another program's encoder returns a deviation where a log-variance was read."""
        if self.subject.origin != "foreign" or self.vae.posterior.degenerate:
            return

        def spread(x: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
            return self.vae.encode(x, c).stddev

        wide = over_rows(self.vae, self.batches, spread, rows=500, normals=0, seed=self.seed)
        if bool((wide >= 1).all()) and float(wide.max()) > _WIDER:
            self.notes.append(
                "The encoder's second output is negative for no row and no dimension, so that every posterior would be "
                "wider than the prior. If it is a standard deviation or a variance, diagnose "
                "vaelab.wrap(encode=…, decode=…, variance='std') or 'variance' instead."
            )

    def all(self) -> Measures:
        """Take all of them."""
        vae, batches, seed = self.vae, self.batches, self.seed
        self._ask_of_the_spread()
        found = self._taken("how well rows are rebuilt", lambda: reconstruction(vae, batches, seed=seed))
        implied = self._taken(
            "the posterior against the decoder's curvature", lambda: optimality(vae, batches, seed=seed)
        )
        return Measures(
            code_use=self._taken("what each latent dimension carries", lambda: code_use(vae, batches, seed=seed)),
            reconstruction=found,
            residuals=self._taken("the structure of residuals", lambda: residuals(vae, batches, seed=seed)),
            smoothness=self._taken("smoothness", lambda: smoothness(vae, batches, rows=300, points=3000, seed=seed)),
            optimality=implied,
            axes=self._taken("noise along latent axes", lambda: axis_noise(vae, batches, seed=seed)),
            aggregated=self._taken(
                "codes against what is sampled", lambda: aggregated(vae, batches, self.densities, seed=seed)
            ),
            manifold=self._taken(
                "samples against the manifold", lambda: off_manifold(vae, batches, self.densities, seed=seed)
            ),
            generalisation=self._generalisation(),
            continuation=self._continuation(
                implied.implied_gamma if implied is not None else None, found.residual if found is not None else None
            ),
        )

    def _taken(self, what: str, measure: Callable[[], R]) -> R | None:
        """Take one measure; one that does not apply to this model leaves a note instead."""
        self.note(what)
        try:
            return measure()
        except (InputError, NotImplementedError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
            self.notes.append(f"Not measured: {what}. {error}")
            return None

    def _generalisation(self) -> Generalisation | None:
        """Seen rows against unseen ones, where there are any."""
        if self.unseen is None:
            self.notes.append("Over-fitting is unknown without held-out rows: pass held_out.")
            return None
        unseen = self.unseen
        return self._taken(
            "unseen rows against seen ones", lambda: generalisation(self.vae, self.batches, unseen, seed=self.seed)
        )

    def _continuation(self, implied: float | None, residual: float | None) -> Continuation | None:
        """Further steps, under the variance of the training: where that is in doubt, what the posterior implies."""
        fixed = isinstance(self.vae.likelihood.variance, FixedVariance)
        gamma = implied if fixed else None
        if fixed and gamma is None and not self.subject.gamma_known:
            if not self.vae.posterior.degenerate:
                self.notes.append("Convergence is unknown: nothing tells the decoder variance of the loss; pass gamma.")
                return None
            gamma = residual  # without a KL it changes nothing but the scale
        large = math.prod(self.batches.event_shape) > _LARGE
        found = self._taken(
            "whether further training helps",
            lambda: continuation(
                self.vae, self.batches, self.unseen, gamma=gamma, steps=100 if large else 200, seed=self.seed
            ),
        )
        if found is None:
            self.notes.append("Convergence is unknown: there are no weights that a few steps could move.")
        return found

    @torch.no_grad()
    def examples(self) -> Examples:
        """Rows to look at: real, rebuilt, sampled, between, and codes in a plane."""
        self.note("rows to look at")
        trained, vae, seed = self.subject.trained, self.vae, self.seed
        device = trained.device
        shown = Part.of(self.unseen or self.batches, _SHOWN[trained.facts.kind], seed).to(device)
        x, c = shown.take(torch.arange(len(shown), device=device))
        means = vae.encode(x, c).mean
        samples = {
            name: Generator(vae, density).sample(len(x), c, generator=stream(device, seed, "diagnose", name)).cpu()
            for name, density in self.densities.items()
            if name in ("prior", trained.facts.best_density)
        }
        ends = means[: 2 * _PAIRS].unflatten(0, (-1, 2)) if len(means) >= 2 * _PAIRS else means[None, :2]
        walks = [
            vae.decode(linear(ends[:, 0], ends[:, 1], t), None if c is None else c[: 2 * len(ends) : 2])
            for t in torch.linspace(0, 1, _STEPS).tolist()
        ]
        rebuilt, between = vae.decode(means, c).cpu(), torch.stack(walks, 1).cpu()
        return Examples(x.cpu(), rebuilt, samples, between, *self._plane())

    def _plane(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Codes and draws from the prior in a plane, which of them are draws, and classes."""
        trained, seed = self.subject.trained, self.seed
        some = Part.of(self.subject.batches, _EMBEDDED, seed)
        codes = Codes.of(self.vae, some)
        z, c = codes.pairs(generator=stream(codes.loc.device, seed, "diagnose", "plane"))
        half = len(z) // 2
        own = None if c is None else c[:half]
        drawn = trained.densities["prior"].sample(half, own, generator=stream(z.device, seed, "diagnose", "drawn"))
        labels = None
        if self.subject.labels is not None:
            unknown = torch.full((half,), -1)
            labels = torch.cat([self.subject.labels.cpu()[some.rows.cpu()].long(), unknown])
        return embedding(z, drawn, seed=seed), torch.arange(len(z) + half) >= len(z), labels


def _nothing(subject: Subject) -> Examples:
    """No rows to look at."""
    empty = torch.empty(0, *subject.trained.facts.event_shape)
    return Examples(empty, empty, {})
