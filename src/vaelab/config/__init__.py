"""Settings of a whole training, and the one place that turns names into objects."""

from vaelab.config.building import build_second_stage, build_vae
from vaelab.config.settings import (
    Density,
    JacobianForm,
    LikelihoodName,
    Network,
    PosteriorName,
    Settings,
    VarianceShape,
    explain,
    parse_settings,
)

__all__ = [
    "Density",
    "JacobianForm",
    "LikelihoodName",
    "Network",
    "PosteriorName",
    "Settings",
    "VarianceShape",
    "build_second_stage",
    "build_vae",
    "explain",
    "parse_settings",
]
