"""vaelab: Gaussian variational autoencoders that work without tuning, and samplers that follow the data."""

from typing import TYPE_CHECKING

from vaelab.lazy import attach

if TYPE_CHECKING:
    from vaelab.config import Settings
    from vaelab.estimators import ConditionalVAE, GaussianVAE, SequenceVAE, TwoStageVAE, load
    from vaelab.evaluation import compare, evaluate
    from vaelab.model import VAE
    from vaelab.training import FitSettings, fit

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "ConditionalVAE",
    "FitSettings",
    "GaussianVAE",
    "SequenceVAE",
    "Settings",
    "TwoStageVAE",
    "__version__",
    "compare",
    "evaluate",
    "fit",
    "load",
]

_PLACES = {
    "Settings": "config",
    "ConditionalVAE": "estimators",
    "GaussianVAE": "estimators",
    "SequenceVAE": "estimators",
    "TwoStageVAE": "estimators",
    "load": "estimators",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "VAE": "model",
    "FitSettings": "training",
    "fit": "training",
}
__getattr__, __dir__ = attach(__name__, {name: f"{__name__}.{place}" for name, place in _PLACES.items()})
