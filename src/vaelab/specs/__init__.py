"""Settings: one small frozen object per value of every axis, and what it builds; `Settings` composes them."""

from vaelab.spec import explain, parse
from vaelab.specs import adversaries, conditions, densities, likelihoods, networks, penalties, posteriors
from vaelab.specs.adversaries import Adversary
from vaelab.specs.building import build_second_stage, build_vae
from vaelab.specs.columns import Auto, Category, Column, Drop, Identifier, Ordered, Scores, Standardised
from vaelab.specs.conditions import Condition
from vaelab.specs.densities import Density, Flow, FlowMatching, Mixture, SecondStage
from vaelab.specs.likelihoods import Fixed, Gaussian, Learned, Likelihood, Mixed, Profiled, Variance, VarianceShape
from vaelab.specs.networks import LSTM, MLP, RAE, InfoGAN, Network, Own, Shapes
from vaelab.specs.penalties import (
    KL,
    MMD,
    Adversarial,
    CodeNorm,
    Controlled,
    Cyclical,
    Jacobian,
    KLSchedule,
    Penalty,
    Rising,
    Steady,
    WeightNorm,
)
from vaelab.specs.posteriors import Deterministic, Diagonal, Full, Isotropic, Posterior
from vaelab.specs.settings import Settings
from vaelab.training.augmentation import Augment, Flip
from vaelab.training.settings import Compute, FitSettings, Halving, Plateau, Schedule

__all__ = [
    "KL",
    "LSTM",
    "MLP",
    "MMD",
    "RAE",
    "Adversarial",
    "Adversary",
    "Augment",
    "Auto",
    "Category",
    "CodeNorm",
    "Column",
    "Compute",
    "Condition",
    "Controlled",
    "Cyclical",
    "Density",
    "Deterministic",
    "Diagonal",
    "Drop",
    "FitSettings",
    "Fixed",
    "Flip",
    "Flow",
    "FlowMatching",
    "Full",
    "Gaussian",
    "Halving",
    "Identifier",
    "InfoGAN",
    "Isotropic",
    "Jacobian",
    "KLSchedule",
    "Learned",
    "Likelihood",
    "Mixed",
    "Mixture",
    "Network",
    "Ordered",
    "Own",
    "Penalty",
    "Plateau",
    "Posterior",
    "Profiled",
    "Rising",
    "Schedule",
    "Scores",
    "SecondStage",
    "Settings",
    "Shapes",
    "Standardised",
    "Steady",
    "Variance",
    "VarianceShape",
    "WeightNorm",
    "adversaries",
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
