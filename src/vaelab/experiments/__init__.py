"""The papers' tables: as data, run by one runner."""

from vaelab.experiments.runner import Result, read, render, run
from vaelab.experiments.table import Cell, Check, Job, Scale, Table
from vaelab.experiments.zheng import TABLE_1, TABLE_3, TABLE_5, TABLE_6, TABLE_7

TABLES = {table.name: table for table in (TABLE_1, TABLE_3, TABLE_5, TABLE_6, TABLE_7)}

__all__ = ["TABLES", "Cell", "Check", "Job", "Result", "Scale", "Table", "read", "render", "run"]
