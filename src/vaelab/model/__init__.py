"""The VAE and its axes: posterior, prior, likelihood, variance, regularisers."""

from vaelab.model.distributions import DiagonalNormal, StandardNormal, draw, kl
from vaelab.model.likelihoods import Bernoulli, Gaussian, Likelihood
from vaelab.model.posteriors import Diagonal, Posterior
from vaelab.model.priors import Prior, Standard
from vaelab.model.regularizers import KL, Draw, Regularizer
from vaelab.model.vae import ACTIVE_BELOW, VAE, Importance, count_active
from vaelab.model.variances import FixedVariance, LearnedVariance, ProfiledVariance, Variance

__all__ = [
    "ACTIVE_BELOW",
    "KL",
    "VAE",
    "Bernoulli",
    "Diagonal",
    "DiagonalNormal",
    "Draw",
    "FixedVariance",
    "Gaussian",
    "Importance",
    "LearnedVariance",
    "Likelihood",
    "Posterior",
    "Prior",
    "ProfiledVariance",
    "Regularizer",
    "Standard",
    "StandardNormal",
    "Variance",
    "count_active",
    "draw",
    "kl",
]
