"""Which mixture suits the conditions of the codes, and which one a saved state is of."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vaelab.data.conditions import is_one_hot
from vaelab.errors import InputError
from vaelab.latent.codes import Codes
from vaelab.latent.densities import LatentDensity
from vaelab.latent.joint import JointMixture
from vaelab.latent.mixtures import Covariance, Mixture, vector_conditions
from vaelab.latent.per_class import ClassMixture

BAYESIAN_COMPONENTS = 10
"""At most, of ``"bayesian_mixture"``."""

MIXTURES = ("gaussian", "mixture", "bayesian_mixture")
"""Names of densities that are mixtures."""


def fit_mixture(
    codes: Codes,
    *,
    single: bool,
    components: int | None = None,
    covariance: Covariance | None = None,
    seed: int = 0,
) -> LatentDensity:
    """Fit the mixture that the codes' conditions ask for: plain, per class for one-hot ones, joint for other vectors.

    Parameters
    ----------
    codes
        With or without conditions.
    single
        One Gaussian of full covariance (per class, or over z and c) instead of a mixture of chosen size.
    components, covariance
        Of the mixture, where they are not to be chosen on held-out codes.
    seed
        Of draws and fits.

    Raises
    ------
    InputError
        The conditions are sequences, or there are too few codes.
    """
    if single:
        components, covariance = 1, "full"
    if codes.c is None:
        return Mixture.select(codes, components=components, covariance=covariance, seed=seed)
    kind = ClassMixture if is_one_hot(vector_conditions(codes)) else JointMixture
    return kind.select(codes, components=components, covariance=covariance, seed=seed)


def fit_named_mixture(
    codes: Codes,
    name: str,
    *,
    components: int | None = None,
    covariance: Covariance | None = None,
    seed: int = 0,
) -> LatentDensity:
    """Fit one of `MIXTURES`.

    Parameters
    ----------
    codes
        With or without conditions.
    name
        ``"gaussian"``: one component. ``"mixture"``: as many as held-out codes ask for, unless they are given.
        ``"bayesian_mixture"``: at most 10, as in the program of Ghosh et al. 2020; see `vaelab.latent.mixtures.infer`.
    components, covariance
        Of ``"mixture"`` alone, where they are not to be chosen on held-out codes.
    seed
        Of draws and fits.

    Raises
    ------
    InputError
        Another name, a Bayesian mixture under conditions, conditions that are sequences, or too few codes.
    """
    check_mixture(name, () if codes.c is None else tuple(vector_conditions(codes).shape[1:]))
    if name == "bayesian_mixture":
        return Mixture.fit_bayesian(codes, components=BAYESIAN_COMPONENTS, seed=seed)
    return fit_mixture(codes, single=name == "gaussian", components=components, covariance=covariance, seed=seed)


def check_mixture(name: str, condition_shape: tuple[int, ...]) -> None:
    """Refuse what cannot be fitted, before there are codes.

    Raises
    ------
    InputError
        A name that is not of `MIXTURES`, or conditions that the mixture cannot take.
    """
    if name not in MIXTURES:
        raise InputError(f"density {name!r}", f"one of {', '.join(MIXTURES)}")
    if len(condition_shape) > 1:
        raise InputError(
            f"{name} under conditions that are sequences", "another density", "Use second_stage, flow or flow_matching."
        )
    if condition_shape and name == "bayesian_mixture":
        raise InputError("bayesian_mixture under conditions", "another density", "Use mixture.")


def density_from_state(name: str, state: Mapping[str, Tensor]) -> LatentDensity:
    """Rebuild what `fit_mixture` returned from its `state_dict`.

    Parameters
    ----------
    name
        One of `MIXTURES`.
    state
        Whose keys say which kind it is.

    Raises
    ------
    InputError
        Another name, or a state that no mixture has.
    """
    if name not in MIXTURES:
        raise InputError(f"density {name!r}", f"one of {', '.join(MIXTURES)}")
    if "gains" in state:
        return JointMixture.from_state(state)
    if "means" in state:
        return Mixture.from_state(state)
    if "parts.0.means" in state:
        return ClassMixture.from_state(state)
    raise InputError(f"a state of {', '.join(state) or 'no tensors'}", "the state of a mixture")
