"""The papers' tables, as data that one runner runs, and their theorems, as computations."""

from vaelab_papers.claims import Check, Claim, Closeness, Ordering, Quantity, Trend
from vaelab_papers.dai_wipf import CELEBA_1, CIFAR_1
from vaelab_papers.dai_wipf import TABLE_1 as DAI_WIPF_1
from vaelab_papers.job import Job
from vaelab_papers.measuring import measure
from vaelab_papers.rendering import markdown, page
from vaelab_papers.runner import Result, read, run
from vaelab_papers.scope import statement
from vaelab_papers.table import Cell, Effort, Scale, Table
from vaelab_papers.takida import CELEBA_4, CELEBA_5, CELEBA_7, HQ_6, HQ_7
from vaelab_papers.takida import TABLE_4 as TAKIDA_4
from vaelab_papers.takida import TABLE_5 as TAKIDA_5
from vaelab_papers.takida import TABLE_7 as TAKIDA_7
from vaelab_papers.takida_noise import TABLE_3 as TAKIDA_3
from vaelab_papers.takida_smoothness import TABLE_1 as TAKIDA_1
from vaelab_papers.takida_smoothness import TABLE_E8 as TAKIDA_E8
from vaelab_papers.theorem import Shown, Theorem
from vaelab_papers.theorems_exact import EXACT
from vaelab_papers.theorems_trained import TRAINED
from vaelab_papers.trials import Trials
from vaelab_papers.zheng import TABLE_1, TABLE_1_16, TABLE_3, TABLE_5, TABLE_6, TABLE_7
from vaelab_papers.zheng_images import DIGITS_BY_CLASS, TABLE_2, TABLE_4, TABLE_9
from vaelab_papers.zheng_sequences import TABLE_8

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
    TAKIDA_1,
    TAKIDA_E8,
    TAKIDA_3,
    TAKIDA_4,
    TAKIDA_5,
    TAKIDA_7,
    CELEBA_4,
    CELEBA_5,
    CELEBA_7,
    HQ_6,
    HQ_7,
    DAI_WIPF_1,
    CIFAR_1,
    CELEBA_1,
)
TABLES = {table.name: table for table in _ALL}
THEOREMS = {theorem.name: theorem for theorem in sorted((*EXACT, *TRAINED), key=lambda theorem: theorem.name)}

__all__ = [
    "TABLES",
    "THEOREMS",
    "Cell",
    "Check",
    "Claim",
    "Closeness",
    "Effort",
    "Job",
    "Ordering",
    "Quantity",
    "Result",
    "Scale",
    "Shown",
    "Table",
    "Theorem",
    "Trend",
    "Trials",
    "markdown",
    "measure",
    "page",
    "read",
    "run",
    "statement",
]
