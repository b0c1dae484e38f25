"""One run: train, assess, save, load."""

from vaelab.runs.assess import Assessment, assess, findings
from vaelab.runs.execute import data_of, execute, first_process, prepare, source_of
from vaelab.runs.folder import load, read_config, save, versions, write_config
from vaelab.runs.pruning import prune
from vaelab.runs.train import FIRST, SECOND, train
from vaelab.runs.trained import Facts, Trained

__all__ = [
    "FIRST",
    "SECOND",
    "Assessment",
    "Facts",
    "Trained",
    "assess",
    "data_of",
    "execute",
    "findings",
    "first_process",
    "load",
    "prepare",
    "prune",
    "read_config",
    "save",
    "source_of",
    "train",
    "versions",
    "write_config",
]
