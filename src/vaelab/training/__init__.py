"""One loop, its settings, schedules, hooks and files."""

from typing import TYPE_CHECKING

from vaelab.lazy import attach
from vaelab.training.settings import Compute, FitSettings

if TYPE_CHECKING:
    from vaelab.training.evaluation import mean_objective
    from vaelab.training.hooks import Hook, JsonLines, Progress, Record, describe, read_records
    from vaelab.training.loop import fit
    from vaelab.training.streams import forked, seed_of, stream
    from vaelab.training.trackers import CSV, MLflow, TensorBoard, Tracker, WandB

__all__ = [
    "CSV",
    "Compute",
    "FitSettings",
    "Hook",
    "JsonLines",
    "MLflow",
    "Progress",
    "Record",
    "TensorBoard",
    "Tracker",
    "WandB",
    "describe",
    "fit",
    "forked",
    "mean_objective",
    "read_records",
    "seed_of",
    "stream",
]

_PLACES = {
    **dict.fromkeys(("Hook", "JsonLines", "Progress", "Record", "describe", "read_records"), "hooks"),
    **dict.fromkeys(("CSV", "MLflow", "TensorBoard", "Tracker", "WandB"), "trackers"),
    **dict.fromkeys(("forked", "seed_of", "stream"), "streams"),
    "mean_objective": "evaluation",
    "fit": "loop",
}
__getattr__, __dir__ = attach(__name__, {name: f"{__name__}.{place}" for name, place in _PLACES.items()})
