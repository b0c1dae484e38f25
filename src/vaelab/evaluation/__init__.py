"""Numbers about a trained model, or about two sets of rows."""

from vaelab.evaluation.densities import DensityComparison, compare_densities
from vaelab.evaluation.diagnose import diagnose
from vaelab.evaluation.dimension import Estimate, estimate_dimension, manifold_dimension
from vaelab.evaluation.enhance import Enhanced, enhance
from vaelab.evaluation.model import evaluate
from vaelab.evaluation.options import Options
from vaelab.evaluation.sets import compare

__all__ = [
    "DensityComparison",
    "Enhanced",
    "Estimate",
    "Options",
    "compare",
    "compare_densities",
    "diagnose",
    "enhance",
    "estimate_dimension",
    "evaluate",
    "manifold_dimension",
]
