"""What is asked of a trained model, or of two sets of rows: resolve the model, measure or change it, hand it back."""

from typing import TYPE_CHECKING

from vaelab.lazy import attach

if TYPE_CHECKING:
    from vaelab.diagnostics.table_comparison import TableComparison
    from vaelab.metrics.options import Options
    from vaelab.verbs.comparison import compare
    from vaelab.verbs.densities import DensityComparison, compare_densities
    from vaelab.verbs.diagnosis import diagnose
    from vaelab.verbs.dimension import Estimate, estimate_dimension, local_dimension, manifold_dimension
    from vaelab.verbs.enhancement import Enhanced, enhance
    from vaelab.verbs.evaluation import evaluate
    from vaelab.verbs.tabular import compare_tables

__all__ = [
    "DensityComparison",
    "Enhanced",
    "Estimate",
    "Options",
    "TableComparison",
    "compare",
    "compare_densities",
    "compare_tables",
    "diagnose",
    "enhance",
    "estimate_dimension",
    "evaluate",
    "local_dimension",
    "manifold_dimension",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "DensityComparison": "vaelab.verbs.densities",
        "Enhanced": "vaelab.verbs.enhancement",
        "Estimate": "vaelab.verbs.dimension",
        "Options": "vaelab.metrics.options",
        "TableComparison": "vaelab.diagnostics.table_comparison",
        "compare": "vaelab.verbs.comparison",
        "compare_tables": "vaelab.verbs.tabular",
        "compare_densities": "vaelab.verbs.densities",
        "diagnose": "vaelab.verbs.diagnosis",
        "enhance": "vaelab.verbs.enhancement",
        "estimate_dimension": "vaelab.verbs.dimension",
        "evaluate": "vaelab.verbs.evaluation",
        "local_dimension": "vaelab.verbs.dimension",
        "manifold_dimension": "vaelab.verbs.dimension",
    },
)
