"""What to measure, and how much of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vaelab.arguments import check_count, check_draws, check_kind, check_number, names_of
from vaelab.data import Kind
from vaelab.data.cache import cache_folder
from vaelab.errors import InputError
from vaelab.metrics.features import Extractor, FeatureStore
from vaelab.metrics.protocols import PROTOCOLS, Protocol, protocol
from vaelab.metrics.report import TITLES
from vaelab.metrics.rows import Watch, silent

INCEPTION = "VAELAB_INCEPTION"
"""Environment variable with the path of the published Inception weights."""

ALIASES = {"fid": "frechet", "kid": "kernel"}
OF_MODELS = ("reconstruction", "interpolation", "nll", "bits")
"""Metrics that need a model, beside the measures of `vaelab.metrics.TITLES`."""

_DEFAULT_IMAGE = ("frechet", "kernel", "precision", "recall", "density", "coverage")
_DEFAULT_TABLE = (*_DEFAULT_IMAGE, "sliced_wasserstein", "energy", "two_sample")
_MOST_SETS = 10_000
_LEAST_ROWS = {"two_sample": 50} | dict.fromkeys(("precision", "recall", "density", "coverage"), 10)


@dataclass(frozen=True)
class Options:
    """How much to measure; what changes a distance is in the protocol instead.

    Attributes
    ----------
    metrics
        Measures, and of `OF_MODELS`; the usual ones for the kind of data if empty.
    draws
        Independent generated sets per density.
    densities
        Latent densities; all of the model's if empty.
    likelihood_draws
        k of the importance-weighted bound.
    likelihood_rows
        Test rows that it is computed on, chosen at random but the same each time; 0 for all.
    inception
        Path of the published weights; ``$VAELAB_INCEPTION`` if None.
    cache
        Folder for classifiers and for features of real rows; the user's cache folder if None.
    extractor
        Features of your own instead of a protocol's: a callable of images in pixel values 0 … 255, or of table rows.
        Numbers then carry a protocol of their own. Give it a ``fingerprint`` that changes with it.
    temperature
        Of the laws of z that rows are drawn from; likelihoods are of the laws as they are.
    on_manifold
        Whether z is drawn again where its row is unlike any reconstruction of the training split.
    watch
        Told of progress.
    """

    metrics: tuple[str, ...] = ()
    draws: int = 5
    densities: tuple[str, ...] = ()
    likelihood_draws: int = 500
    likelihood_rows: int = 1000
    inception: Path | None = None
    cache: Path | None = None
    extractor: Extractor | None = None
    temperature: float = 1.0
    on_manifold: bool = False
    watch: Watch = field(default=silent, repr=False)

    def __post_init__(self) -> None:
        check_count("draws", self.draws, most=_MOST_SETS)
        check_draws("likelihood_draws", self.likelihood_draws)
        check_count("likelihood_rows", self.likelihood_rows, 0)
        check_number("temperature", self.temperature, "a finite number above 0")
        for name in ("metrics", "densities"):
            object.__setattr__(self, name, names_of(name, getattr(self, name)))

    @classmethod
    def of(cls, given: Options | None) -> Options:
        """Return what was given, or the defaults; refuse anything else."""
        if given is not None:
            check_kind("options", given, cls, "vaelab.verbs.Options")
        return given or cls()

    @property
    def folder(self) -> Path:
        """Where features and classifiers are kept."""
        return self.cache or cache_folder()

    def store(self, chosen: Protocol) -> FeatureStore | None:
        """Where features of real rows are kept, by content; None where they cost less than a file."""
        slow = chosen.extractor in ("inception", "classifier")
        return FeatureStore(self.folder / "features") if slow else None

    @property
    def weights(self) -> Path | None:
        """Path of the Inception weights, if there is one."""
        given = os.environ.get(INCEPTION)
        return self.inception or (Path(given) if given else None)

    def chosen(self, kind: Kind, rows: int, *, model: bool) -> tuple[str, ...]:
        """Return the metrics to compute on so many reference rows.

        Raises
        ------
        InputError
            An unknown one, or one that needs a model where there is none.
        """
        known = [*TITLES, *OF_MODELS] if model else list(TITLES)
        wanted = [ALIASES.get(name, name) for name in self.metrics]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            remedy = "" if model else f"{', '.join(OF_MODELS)} need a model: give a run."
            raise InputError(f"metrics {', '.join(unknown)}", f"some of {', '.join([*known, *ALIASES])}", remedy)
        if wanted:
            return tuple(dict.fromkeys(wanted))
        every = _DEFAULT_IMAGE if kind == "image" else _DEFAULT_TABLE
        usual = tuple(name for name in every if rows >= _LEAST_ROWS.get(name, 2))
        return (*usual, "reconstruction", "interpolation", "nll") if model else usual

    def protocols(self, given: Sequence[Protocol | str], kind: Kind, *, labels: bool) -> list[Protocol]:
        """Return the protocols given; or FID's where there are Inception weights, and features of our own where not.

        Raises
        ------
        InputError
            An unknown name, one for another kind of data, or a distance to be called FID that is on other features.
        """
        chosen = [
            protocol(each) if isinstance(each, str) else each for each in names_of("protocols", given, (str, Protocol))
        ]
        if not chosen:
            usual = "ttur-10k" if self.weights is not None else "classifier-10k" if labels else "pca-10k"
            chosen = [protocol("tabular" if kind == "table" else usual)]
        if self.inception is not None and all(each.extractor != "inception" for each in chosen):
            got = f"inception={self.inception} with protocol {', '.join(each.name for each in chosen)}"
            raise InputError(got, "a protocol on Inception's features, such as ttur-10k", "Leave it out.")
        for each in chosen:
            if each.kind != kind:
                known = ", ".join(name for name, entry in PROTOCOLS.items() if entry.kind == kind)
                raise InputError(f"protocol {each.name} for {kind} data", f"one for them: {known}")
            if each.extractor != "inception" and any(name in ALIASES for name in self.metrics):
                raise InputError(
                    f"metrics fid or kid with protocol {each.name}",
                    "Inception's features for these names",
                    f"Give the published weights (--inception, or {INCEPTION}); without them, ask for frechet and "
                    "kernel, which are other numbers.",
                )
        return chosen
