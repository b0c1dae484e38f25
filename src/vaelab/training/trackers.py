"""Trackers: hooks that hand every number, and a run's pictures, to a program that people compare runs with.

Numbers are named ``stage/name``, as in ``stage one/loss``, at the step of their stage. What is written stays on this
machine, unless the program's own environment variables say otherwise.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from vaelab.errors import InputError, MissingExtraError
from vaelab.training.hooks import Hook, Record, Start

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

_PLACES = {"stage", "epoch", "step"}  # what says where a number belongs


class Tracker(Hook):
    """Tell any logger of Lightning, or of Lightning Fabric; a context that closes it.

    Parameters
    ----------
    logger
        The logger.

    Attributes
    ----------
    kind, package, extra
        Name of a tracker, the package that it needs, and the extra that installs this.
    adds
        Whether what a resumed run tells is added to what it told before; otherwise it is told all of it again.
    """

    kind: ClassVar[str] = ""
    package: ClassVar[str] = ""
    extra: ClassVar[str] = "track"
    adds: ClassVar[bool] = False

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    @classmethod
    def of_run(cls, folder: Path) -> Tracker:
        """Return one that writes into the folder of a run."""
        make = cast("Callable[[Path], Tracker]", cls)
        return make(folder / cls.kind)

    @classmethod
    def check(cls) -> None:
        """Import what it needs.

        Raises
        ------
        MissingExtraError
            It is not installed.
        """
        try:
            import_module(cls.package)
        except ImportError as error:
            raise MissingExtraError(cls.package, cls.extra, f"The tracker {cls.kind}") from error

    def start(self, start: Start) -> None:
        """Tell what the stage has done before a resume."""
        for record in () if self.adds else start.history:
            self.epoch(record)

    def epoch(self, record: Record) -> None:
        """Tell the numbers of one record."""
        stage = str(record["stage"])
        numbers = {f"{stage}/{name}": float(value) for name, value in record.items() if name not in _PLACES}
        self.numbers(stage, numbers, int(record["step"]))

    def numbers(self, stage: str, numbers: dict[str, float], step: int) -> None:
        """Tell numbers of a step."""
        self._logger.log_metrics(numbers, step)

    def end(self) -> None:
        """Write what is held back."""
        self._logger.save()

    def close(self, *, failed: bool = False) -> None:
        """Say that there is nothing more."""
        self._logger.finalize("failed" if failed else "success")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)


class CSV(Tracker):
    """Write ``metrics.csv`` into a folder, a line for each recorded epoch; one that is there is replaced."""

    kind: ClassVar[str] = "csv"
    package: ClassVar[str] = "lightning_fabric"

    def __init__(self, folder: str | Path) -> None:
        from lightning_fabric.loggers.csv_logs import CSVLogger

        folder = Path(folder)
        (folder / "metrics.csv").unlink(missing_ok=True)  # the logger would, and warn
        super().__init__(CSVLogger(folder.parent, name=None, version=folder.name))


class TensorBoard(Tracker):
    """Write TensorBoard's event files into a folder, with pictures; needs the extra ``track``."""

    kind: ClassVar[str] = "tensorboard"
    package: ClassVar[str] = "tensorboard"
    adds: ClassVar[bool] = True

    def __init__(self, folder: str | Path) -> None:
        self.check()
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        folder = Path(folder)
        logger = TensorBoardLogger(folder.parent, name=None, version=folder.name)
        super().__init__(logger)
        self._board: Any = logger  # whose own object takes pictures

    def picture(self, path: Path) -> None:
        """Show it under its name."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._board.experiment.add_image(f"pictures/{path.stem}", pixels, dataformats="HWC")


class WandB(Tracker):
    """Keep a run of Weights & Biases in ``wandb/`` in a folder, with pictures; needs the extra ``wandb``.

    Offline, unless ``WANDB_MODE`` says otherwise; ``wandb sync`` sends it when you want.
    """

    kind: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"

    def __init__(self, folder: str | Path, project: str = "vaelab") -> None:
        self.check()
        self._wandb: Any = import_module("wandb")
        folder, mode = Path(folder), os.environ.get("WANDB_MODE", "offline")
        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = self._wandb.init(project=project, name=folder.name, dir=str(folder), mode=mode)
        self._stages: set[str] = set()

    @classmethod
    def of_run(cls, folder: Path) -> Tracker:
        """Return one that writes ``wandb/`` into the folder of a run."""
        return cls(folder)

    def numbers(self, stage: str, numbers: dict[str, float], step: int) -> None:
        """Log numbers over the steps of their own stage."""
        axis = f"{stage}/step"
        if stage not in self._stages:  # each stage begins at step 1, and W&B's own steps never go back
            self._stages.add(stage)
            self._run.define_metric(axis)
            self._run.define_metric(f"{stage}/*", step_metric=axis)
        self._run.log({**numbers, axis: step})

    def picture(self, path: Path) -> None:
        """Log it under its name."""
        self._run.log({f"pictures/{path.stem}": self._wandb.Image(str(path))})

    def end(self) -> None:
        """Nothing: all is logged at once."""

    def close(self, *, failed: bool = False) -> None:
        """Finish the run."""
        self._run.finish(exit_code=int(failed))


class MLflow(Tracker):
    """Keep a run of MLflow in a folder, with pictures; needs the extra ``mlflow``.

    ``MLFLOW_TRACKING_URI``, where it is set, is used in the folder's place.
    """

    kind: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"

    def __init__(self, folder: str | Path, experiment: str = "vaelab") -> None:
        self.check()
        folder = Path(folder).resolve()
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            folder.mkdir(parents=True, exist_ok=True)
            uri = folder.as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones want a data base, or to be told
        self._client: Any = import_module("mlflow").MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(experiment)
        number = self._client.create_experiment(experiment) if found is None else found.experiment_id
        self._run: str = self._client.create_run(number, run_name=folder.parent.name).info.run_id

    def numbers(self, stage: str, numbers: dict[str, float], step: int) -> None:
        """Log numbers; MLflow has no commas in names."""
        for name, value in numbers.items():
            self._client.log_metric(self._run, name.replace(",", ""), value, step=step)

    def picture(self, path: Path) -> None:
        """Keep the file."""
        self._client.log_artifact(self._run, str(path), "pictures")

    def end(self) -> None:
        """Nothing: all is logged at once."""

    def close(self, *, failed: bool = False) -> None:
        """Finish the run."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


TRACKERS: dict[str, type[Tracker]] = {each.kind: each for each in (CSV, TensorBoard, WandB, MLflow)}
"""Name → tracker."""


def tracker_named(name: str) -> type[Tracker]:
    """Return a tracker by its name, of which all packages are there.

    Raises
    ------
    InputError
        There is none of this name.
    MissingExtraError
        Its package is not installed.
    """
    if name not in TRACKERS:
        close = difflib.get_close_matches(name, TRACKERS, n=1)
        raise InputError(f"tracker {name!r}", ", ".join(TRACKERS), f"Did you mean {close[0]!r}?" if close else "")
    TRACKERS[name].check()
    return TRACKERS[name]
