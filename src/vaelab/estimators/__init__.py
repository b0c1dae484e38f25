"""The scikit-learn face: arrays in, arrays out, in the caller's own units, shape, dtype and container.

`GaussianVAE` is one stage and samples from its prior; `ConditionalVAE` is that for p(x | y); `TwoStageVAE` fits latent
densities as well and samples from the one that explains held-out codes best; so does `RegularizedAutoencoder`, whose
codes are points; `SequenceVAE` is for sequences; `VAEDetector` calls outliers by any of them that has a bound;
`VAEImputer` fills gaps.
Arguments of the others are the fields of `vaelab.specs.Settings`, apart from ``random_state``, which is ``seed`` under
scikit-learn's name, ``score_draws`` and ``verbose``, and those of sequences.
"""

from vaelab.estimators.detector import VAEDetector
from vaelab.estimators.imputer import VAEImputer
from vaelab.estimators.one_stage import ConditionalVAE, GaussianVAE
from vaelab.estimators.regularized import RegularizedAutoencoder
from vaelab.estimators.saved import load
from vaelab.estimators.sequence import SequenceVAE
from vaelab.estimators.two_stage import TwoStageVAE

__all__ = [
    "ConditionalVAE",
    "GaussianVAE",
    "RegularizedAutoencoder",
    "SequenceVAE",
    "TwoStageVAE",
    "VAEDetector",
    "VAEImputer",
    "load",
]
