"""Latent codes, the densities fitted on them, and generators."""

from vaelab.latent.codes import Codes
from vaelab.latent.densities import Covariance, LatentDensity, Mixture, PriorDensity, SecondStage
from vaelab.latent.generator import Comparison, Generator, compare

__all__ = [
    "Codes",
    "Comparison",
    "Covariance",
    "Generator",
    "LatentDensity",
    "Mixture",
    "PriorDensity",
    "SecondStage",
    "compare",
]
