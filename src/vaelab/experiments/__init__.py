"""The papers' tables: as data, run by one runner."""

from vaelab.experiments.measuring import measure
from vaelab.experiments.rendering import markdown, page
from vaelab.experiments.runner import Result, read, run
from vaelab.experiments.table import Cell, Check, Job, Ordering, Quantity, Scale, Table
from vaelab.experiments.zheng import TABLE_1, TABLE_1_16, TABLE_3, TABLE_5, TABLE_6, TABLE_7
from vaelab.experiments.zheng_images import DIGITS_BY_CLASS, TABLE_2, TABLE_4, TABLE_9
from vaelab.experiments.zheng_sequences import TABLE_8

_ALL = (
    TABLE_1,
    TABLE_1_16,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TABLE_7,
    TABLE_8,
    TABLE_9,
    DIGITS_BY_CLASS,
)
TABLES = {table.name: table for table in _ALL}

__all__ = [
    "TABLES",
    "Cell",
    "Check",
    "Job",
    "Ordering",
    "Quantity",
    "Result",
    "Scale",
    "Table",
    "markdown",
    "measure",
    "page",
    "read",
    "run",
]
