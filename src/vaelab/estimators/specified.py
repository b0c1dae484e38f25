"""Arguments of estimators as settings, and how scikit-learn reads and sets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from vaelab import runs
from vaelab.arguments import check_path, check_seed, short_seed
from vaelab.errors import InputError
from vaelab.spec import nested, parse, unknown
from vaelab.specs import FitSettings, Own, Settings
from vaelab.training.hooks import Callback, Hook, Progress, hooks_of

if TYPE_CHECKING:
    from vaelab.runs.export import Format, Signature
    from vaelab.runs.graphs import Graph

LARGEST_SEED = 2**31 - 1
_OWN = ("random_state", "score_draws", "verbose")
_LENGTHS = ("epochs", "batch_size", "lr")  # arguments that are settings of `training`


class Specified(BaseEstimator):  # type: ignore[misc]
    """Arguments that are settings, or that hold some."""

    verbose: bool
    trained_: runs.Trained
    _defaults: ClassVar[Mapping[str, object]] = {}  # settings where no argument says otherwise

    def settings(self, seed: int = 0) -> Settings:
        """Return the arguments as settings.

        Raises
        ------
        InputError
            An unknown value, or a contradiction.
        """
        given = {name: value for name, value in self.get_params(deep=False).items() if name not in _OWN}
        return settings_of({**self._defaults, **{k: v for k, v in given.items() if v is not None}}, seed)

    def set_params(self, **params: Any) -> Self:
        """Set arguments, or settings inside one: ``training__lr``, ``likelihood__shape``, ``penalties__kl__weight``.

        What an argument was stays as it is: it is replaced by a changed one.

        Raises
        ------
        InputError
            An unknown name, or a value inside that does not fit.
        """
        plain, inner = nested(params)
        known = self.get_params(deep=False)
        if wrong := [name for name in {**plain, **inner} if name not in known]:
            raise InputError(*unknown(wrong, known, of=type(self).__name__))
        super().set_params(**plain)
        for name, changes in inner.items():
            now = self.settings().set_params(**{f"{name}__{each}": value for each, value in changes.items()})
            if name == "training":  # what is given beside it would win
                super().set_params(**{each: None for each in _LENGTHS if each in changes})
            setattr(self, name, getattr(now, name))
        return self

    def _hooks(self, callbacks: Sequence[Hook | Callback]) -> list[Hook]:
        """Return the onlookers of a fit."""
        return [*([Progress()] if self.verbose else []), *hooks_of(callbacks)]

    @property
    def conditional(self) -> bool:
        """Whether y is a condition."""
        return getattr(self, "condition", None) is not None

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a run folder: YAML and safetensors, no pickle. `vaelab.load` reads it back.

        Parameters
        ----------
        path
            A new folder.
        overwrite
            Put it in the place of another run's folder, with all that this holds.

        Raises
        ------
        RunFolderError
            There is something there already, or, with `overwrite`, something that is no run.
        """
        check_is_fitted(self)
        runs.save_new(self.trained_, check_path(path, "a new folder"), self.sections(), overwrite=overwrite)

    def export(
        self, path: str | Path, what: Graph = "sample", *, format: Format | None = None, density: str = "auto"
    ) -> Signature:
        """Write one function of the model as a file that is run without vaelab: ONNX, or a program of torch.

        Parameters
        ----------
        path
            File to write, ``.onnx`` or ``.pt2``; one that is there is replaced.
        what
            ``"encode"``, ``"decode"``, ``"reconstruct"``, ``"score"`` or ``"sample"``, whose input is noise.
        format
            ``"onnx"`` or ``"torch"``; by the path's suffix if None.
        density
            Of z, for ``"sample"``; ``"auto"`` is the model's best.

        Returns
        -------
        vaelab.runs.export.Signature
            What the file takes and gives; `vaelab.runs.export.export` says in which units.

        Raises
        ------
        InputError
            Another function, format or density; a density or network that cannot be exported, as it says.
        MissingExtraError
            ONNX without the packages of the extra ``export``.
        """
        check_is_fitted(self)
        draws = getattr(self, "score_draws", 16)
        return self.trained_.export(path, what, format=format, density=density, score_draws=draws)

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return what a run folder says of the estimator."""
        raise NotImplementedError


def settings_of(arguments: Mapping[str, Any], seed: int) -> Settings:
    """Return settings of arguments, of which None is for the default.

    Raises
    ------
    InputError
        An unknown value, or a contradiction.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    lengths = {name: given.pop(name) for name in _LENGTHS if name in given}
    training = given.get("training", FitSettings())
    training = training if isinstance(training, FitSettings) else parse(FitSettings, training)
    network = given.get("network")
    if isinstance(network, str) and ":" in network:  # named by the caller, so it may be imported
        given["network"] = Own(place=network).imported()
    return parse(Settings, {**given, "training": training.set_params(**lengths), "seed": seed})


@contextmanager
def unchanged_by_failure(estimator: BaseEstimator) -> Iterator[None]:
    """Leave an estimator as it was, fitted or not, where the block does not end."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        estimator.__dict__.clear()
        estimator.__dict__.update(before)
        raise


def keep_arguments(estimator: BaseEstimator, arguments: dict[str, Any]) -> None:
    """Set every argument of ``__init__`` as it was given, as scikit-learn wants."""
    for name, value in arguments.items():
        if name != "self":
            setattr(estimator, name, value)


def seed_of(random_state: int | np.random.RandomState | None) -> int:
    """Return the seed that a ``random_state`` stands for.

    Raises
    ------
    InputError
        It is none.
    """
    if isinstance(random_state, int | np.integer):
        check_seed(random_state, "random_state")
        return int(random_state)
    return drawn_seed(random_state)


def drawn_seed(random_state: int | np.random.RandomState | None) -> int:
    """Return a seed that is drawn from a ``random_state``.

    Raises
    ------
    InputError
        It is none.
    """
    if isinstance(random_state, int | np.integer):
        check_seed(random_state, "random_state")
        random_state = short_seed(int(random_state))
    try:
        return int(check_random_state(random_state).randint(LARGEST_SEED))
    except ValueError as error:
        raise InputError(f"random_state={random_state!r}", "a seed below 2⁶⁴, a RandomState or None") from error
