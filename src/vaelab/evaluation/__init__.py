"""Numbers about a trained model, or about two sets of rows."""

from vaelab.evaluation.model import evaluate
from vaelab.evaluation.options import Options
from vaelab.evaluation.sets import compare

__all__ = ["Options", "compare", "evaluate"]
