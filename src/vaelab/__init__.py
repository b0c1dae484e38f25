"""vaelab: Gaussian variational autoencoders that work without tuning, and samplers that follow the data."""

from typing import TYPE_CHECKING

from vaelab.lazy import attach

if TYPE_CHECKING:
    from vaelab.diagnostics.adapters import wrap
    from vaelab.estimators import (
        ConditionalVAE,
        GaussianVAE,
        RegularizedAutoencoder,
        SequenceVAE,
        TwoStageVAE,
        VAEDetector,
        VAEImputer,
        load,
    )
    from vaelab.model import VAE
    from vaelab.specs import Settings
    from vaelab.training import FitSettings, fit
    from vaelab.verbs import (
        compare,
        compare_densities,
        compare_tables,
        estimate_dimension,
        evaluate,
        local_dimension,
        manifold_dimension,
    )
    from vaelab.verbs.diagnosis import diagnose
    from vaelab.verbs.enhancement import enhance
    from vaelab.verbs.exploration import explore
    from vaelab.verbs.hub import from_hub, push_to_hub
    from vaelab.verbs.pruning import prune
    from vaelab.verbs.remedies import recalibrate, retrain

__version__ = "0.1.0"

__all__ = [
    "VAE",
    "ConditionalVAE",
    "FitSettings",
    "GaussianVAE",
    "RegularizedAutoencoder",
    "SequenceVAE",
    "Settings",
    "TwoStageVAE",
    "VAEDetector",
    "VAEImputer",
    "__version__",
    "compare",
    "compare_densities",
    "compare_tables",
    "diagnose",
    "enhance",
    "estimate_dimension",
    "evaluate",
    "explore",
    "fit",
    "from_hub",
    "load",
    "local_dimension",
    "manifold_dimension",
    "prune",
    "push_to_hub",
    "recalibrate",
    "retrain",
    "wrap",
]

_PLACES = {
    "Settings": "specs",
    "ConditionalVAE": "estimators",
    "GaussianVAE": "estimators",
    "RegularizedAutoencoder": "estimators",
    "SequenceVAE": "estimators",
    "TwoStageVAE": "estimators",
    "VAEDetector": "estimators",
    "VAEImputer": "estimators",
    "load": "estimators",
    "prune": "verbs.pruning",
    "from_hub": "verbs.hub",
    "push_to_hub": "verbs.hub",
    "recalibrate": "verbs.remedies",
    "retrain": "verbs.remedies",
    "compare": "verbs",
    "compare_densities": "verbs",
    "compare_tables": "verbs",
    "diagnose": "verbs",
    "enhance": "verbs",
    "estimate_dimension": "verbs",
    "evaluate": "verbs",
    "explore": "verbs.exploration",
    "local_dimension": "verbs",
    "manifold_dimension": "verbs",
    "wrap": "diagnostics.adapters",
    "VAE": "model",
    "FitSettings": "training",
    "fit": "training",
}
__getattr__, __dir__ = attach(__name__, {name: f"{__name__}.{place}" for name, place in _PLACES.items()})
