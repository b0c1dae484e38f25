"""Latent codes, the densities fitted on them, and generators."""

from vaelab.latent.codes import Codes
from vaelab.latent.conditional import MIXTURES, check_mixture, density_from_state, fit_mixture, fit_named_mixture
from vaelab.latent.densities import LatentDensity, PriorDensity, SecondStage
from vaelab.latent.flow import Flow, build_flow
from vaelab.latent.generator import Comparison, Generator, compare, row_scores, simplest_of_best
from vaelab.latent.joint import JointMixture
from vaelab.latent.mixtures import Covariance, Mixture
from vaelab.latent.per_class import ClassMixture

__all__ = [
    "MIXTURES",
    "ClassMixture",
    "Codes",
    "Comparison",
    "Covariance",
    "Flow",
    "Generator",
    "JointMixture",
    "LatentDensity",
    "Mixture",
    "PriorDensity",
    "SecondStage",
    "build_flow",
    "check_mixture",
    "compare",
    "density_from_state",
    "fit_mixture",
    "fit_named_mixture",
    "row_scores",
    "simplest_of_best",
]
