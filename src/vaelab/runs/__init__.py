"""One run: train, assess, save, load."""

from typing import TYPE_CHECKING

from vaelab.lazy import attach

if TYPE_CHECKING:
    from vaelab.runs.assessment import Assessment, assess, findings
    from vaelab.runs.drawing import Draws, rejection_of
    from vaelab.runs.execution import data_of, data_of_run, execute, first_process, prepare, reading_of, source_of
    from vaelab.runs.facts import Facts
    from vaelab.runs.first_stage import FIRST
    from vaelab.runs.folder import read_config, read_run, save, save_new, versions, write_config
    from vaelab.runs.generators import SampleAssessment
    from vaelab.runs.pruning import prune
    from vaelab.runs.stages import SECOND, train
    from vaelab.runs.trained import Trained

__all__ = [
    "FIRST",
    "SECOND",
    "Assessment",
    "Draws",
    "Facts",
    "SampleAssessment",
    "Trained",
    "assess",
    "data_of",
    "data_of_run",
    "execute",
    "findings",
    "first_process",
    "prepare",
    "prune",
    "read_config",
    "read_run",
    "reading_of",
    "rejection_of",
    "save",
    "save_new",
    "source_of",
    "train",
    "versions",
    "write_config",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "Assessment": "vaelab.runs.assessment",
        "Draws": "vaelab.runs.drawing",
        "FIRST": "vaelab.runs.first_stage",
        "Facts": "vaelab.runs.facts",
        "SampleAssessment": "vaelab.runs.generators",
        "SECOND": "vaelab.runs.stages",
        "Trained": "vaelab.runs.trained",
        "assess": "vaelab.runs.assessment",
        "data_of": "vaelab.runs.execution",
        "data_of_run": "vaelab.runs.execution",
        "execute": "vaelab.runs.execution",
        "findings": "vaelab.runs.assessment",
        "first_process": "vaelab.runs.execution",
        "prepare": "vaelab.runs.execution",
        "prune": "vaelab.runs.pruning",
        "read_config": "vaelab.runs.folder",
        "read_run": "vaelab.runs.folder",
        "reading_of": "vaelab.runs.execution",
        "rejection_of": "vaelab.runs.drawing",
        "save": "vaelab.runs.folder",
        "save_new": "vaelab.runs.folder",
        "source_of": "vaelab.runs.execution",
        "train": "vaelab.runs.stages",
        "versions": "vaelab.runs.folder",
        "write_config": "vaelab.runs.folder",
    },
)
