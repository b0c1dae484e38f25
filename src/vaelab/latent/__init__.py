"""Latent codes, the densities fitted on them, and generators."""

from vaelab.latent.codes import Codes
from vaelab.latent.conditional import MIXTURES, check_mixture, density_from_state, fit_mixture, fit_named_mixture
from vaelab.latent.densities import LatentDensity, Normals, PriorDensity, SecondStage
from vaelab.latent.flow import Flow, build_flow
from vaelab.latent.flow_matching import FlowMatching, build_flow_matching
from vaelab.latent.generator import Comparison, Generator, compare_on_codes, row_scores, simplest_of_best
from vaelab.latent.joint import JointMixture
from vaelab.latent.laws import LAWS, Law, Site, law_of
from vaelab.latent.mixtures import Covariance, Mixture
from vaelab.latent.per_class import ClassMixture
from vaelab.latent.rejection import Rejection

__all__ = [
    "LAWS",
    "MIXTURES",
    "ClassMixture",
    "Codes",
    "Comparison",
    "Covariance",
    "Flow",
    "FlowMatching",
    "Generator",
    "JointMixture",
    "LatentDensity",
    "Law",
    "Mixture",
    "Normals",
    "PriorDensity",
    "Rejection",
    "SecondStage",
    "Site",
    "build_flow",
    "build_flow_matching",
    "check_mixture",
    "compare_on_codes",
    "density_from_state",
    "fit_mixture",
    "fit_named_mixture",
    "law_of",
    "row_scores",
    "simplest_of_best",
]
