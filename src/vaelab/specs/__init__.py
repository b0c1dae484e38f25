"""Settings: one small frozen object per value of every axis, and what it builds; `Settings` composes them."""

from vaelab.spec import explain, parse
from vaelab.specs import conditions, densities, likelihoods, networks, penalties, posteriors
from vaelab.specs.building import build_second_stage, build_vae
from vaelab.specs.conditions import Condition
from vaelab.specs.densities import Density, Flow, FlowMatching, Mixture, SecondStage
from vaelab.specs.likelihoods import Fixed, Gaussian, Learned, Likelihood, Mixed, Profiled, Variance, VarianceShape
from vaelab.specs.networks import LSTM, MLP, RAE, InfoGAN, Network, Own, Shapes
from vaelab.specs.penalties import KL, MMD, Adversarial, CodeNorm, Jacobian, Penalty, WeightNorm
from vaelab.specs.posteriors import Deterministic, Diagonal, Full, Isotropic, Posterior
from vaelab.specs.settings import Settings
from vaelab.training.settings import Compute, FitSettings, Halving, Plateau, Schedule

__all__ = [
    "KL",
    "LSTM",
    "MLP",
    "MMD",
    "RAE",
    "Adversarial",
    "CodeNorm",
    "Compute",
    "Condition",
    "Density",
    "Deterministic",
    "Diagonal",
    "FitSettings",
    "Fixed",
    "Flow",
    "FlowMatching",
    "Full",
    "Gaussian",
    "Halving",
    "InfoGAN",
    "Isotropic",
    "Jacobian",
    "Learned",
    "Likelihood",
    "Mixed",
    "Mixture",
    "Network",
    "Own",
    "Penalty",
    "Plateau",
    "Posterior",
    "Profiled",
    "Schedule",
    "SecondStage",
    "Settings",
    "Shapes",
    "Variance",
    "VarianceShape",
    "WeightNorm",
    "build_second_stage",
    "build_vae",
    "conditions",
    "densities",
    "explain",
    "likelihoods",
    "networks",
    "parse",
    "penalties",
    "posteriors",
]
