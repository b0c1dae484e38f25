"""The VAE and its axes: posterior, prior, likelihood, variance, regularisers."""

from vaelab.model.absorb import absorb_prior
from vaelab.model.adversaries import NoEncoder, no_encoder
from vaelab.model.distributions import (
    ACTIVE_BELOW,
    UNUSED,
    DiagonalNormal,
    StandardNormal,
    count_active,
    draw,
    kl,
    variance_ratio,
)
from vaelab.model.gaps import Gaps, gap_patterns
from vaelab.model.hiding import Hiding
from vaelab.model.imputation import Completion, Components, complete, completed, impute, quantiles
from vaelab.model.kl_schedules import Controlled, KLSchedule, Rising
from vaelab.model.likelihoods import Gaussian, Likelihood
from vaelab.model.mixed import Mixed
from vaelab.model.pixels import Bernoulli, ContinuousBernoulli, DiscretizedLogisticMixture
from vaelab.model.posteriors import Deterministic, Diagonal, FullCovariance, Isotropic, Posterior, Standardized
from vaelab.model.priors import Conditional, Prior, Standard, Uniform
from vaelab.model.regularizers import (
    KL,
    MMD,
    Adversarial,
    CodeNorm,
    Draw,
    JacobianPenalty,
    Regularizer,
    WeightNorm,
)
from vaelab.model.terms import Importance, RowTerms, reconstruction_error, row_terms, variance_ratios_of
from vaelab.model.vae import VAE
from vaelab.model.variances import DecodedVariance, FixedVariance, LearnedVariance, ProfiledVariance, Variance

__all__ = [
    "ACTIVE_BELOW",
    "KL",
    "MMD",
    "UNUSED",
    "VAE",
    "Adversarial",
    "Bernoulli",
    "CodeNorm",
    "Completion",
    "Components",
    "Conditional",
    "ContinuousBernoulli",
    "Controlled",
    "DecodedVariance",
    "Deterministic",
    "Diagonal",
    "DiagonalNormal",
    "DiscretizedLogisticMixture",
    "Draw",
    "FixedVariance",
    "FullCovariance",
    "Gaps",
    "Gaussian",
    "Hiding",
    "Importance",
    "Isotropic",
    "JacobianPenalty",
    "KLSchedule",
    "LearnedVariance",
    "Likelihood",
    "Mixed",
    "NoEncoder",
    "Posterior",
    "Prior",
    "ProfiledVariance",
    "Regularizer",
    "Rising",
    "RowTerms",
    "Standard",
    "StandardNormal",
    "Standardized",
    "Uniform",
    "Variance",
    "WeightNorm",
    "absorb_prior",
    "complete",
    "completed",
    "count_active",
    "draw",
    "gap_patterns",
    "impute",
    "kl",
    "no_encoder",
    "quantiles",
    "reconstruction_error",
    "row_terms",
    "variance_ratio",
    "variance_ratios_of",
]
