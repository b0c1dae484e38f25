"""Numbers about a trained model, or about two sets of rows."""

from vaelab.evaluation.dimension import Estimate, estimate_dimension, manifold_dimension
from vaelab.evaluation.model import evaluate
from vaelab.evaluation.options import Options
from vaelab.evaluation.sets import compare

__all__ = ["Estimate", "Options", "compare", "estimate_dimension", "evaluate", "manifold_dimension"]
