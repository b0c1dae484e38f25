"""Latent codes, the densities fitted on them, and generators."""

from vaelab.latent.codes import Codes
from vaelab.latent.densities import Covariance, LatentDensity, Mixture, PriorDensity, SecondStage
from vaelab.latent.generator import Generator, score_densities

__all__ = [
    "Codes",
    "Covariance",
    "Generator",
    "LatentDensity",
    "Mixture",
    "PriorDensity",
    "SecondStage",
    "score_densities",
]
