"""One loop, its settings, schedules, hooks and files."""

from vaelab.training.evaluate import evaluate
from vaelab.training.fit import fit
from vaelab.training.hooks import Hook, JsonLines, Progress, Record, TensorBoard, describe, read_records
from vaelab.training.settings import FitSettings
from vaelab.training.streams import forked, stream

__all__ = [
    "FitSettings",
    "Hook",
    "JsonLines",
    "Progress",
    "Record",
    "TensorBoard",
    "describe",
    "evaluate",
    "fit",
    "forked",
    "read_records",
    "stream",
]
