"""How each law on codes is fitted and rebuilt: one record per kind. A new law is a class, a spec and a record.

The names and options are `vaelab.specs.densities`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, TypeVar, cast

from torch import Tensor

from vaelab.arguments import check_memory
from vaelab.errors import InputError
from vaelab.latent.codes import Codes
from vaelab.latent.conditional import check_mixture, density_from_state, fit_named_mixture
from vaelab.latent.densities import LatentDensity, SecondStage
from vaelab.latent.flow import build_flow, require_zuko
from vaelab.latent.flow_matching import FlowMatching, build_flow_matching, check_coupling
from vaelab.latent.of_means import fit_to_means
from vaelab.specs import FitSettings, Settings, build_second_stage
from vaelab.specs import densities as specs
from vaelab.types import Trainable

T = TypeVar("T", bound=Trainable)


class Trainer(Protocol):
    """Trains a model on codes and returns it; `stage` names it in records and files."""

    def __call__(self, model: T, length: FitSettings, stage: str, /) -> T:
        """Train."""
        ...


@dataclass(frozen=True)
class Site:
    """What a law is for.

    Attributes
    ----------
    settings
        Of the whole training: sizes, seed, how a condition enters.
    code_variance
        Mean variance of a code's dimension.
    condition_shape
        Of one condition; () for none.
    """

    settings: Settings
    code_variance: float = 1.0
    condition_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Law:
    """One kind of density.

    Attributes
    ----------
    check
        Refuses, before anything is trained, conditions that it cannot take, and says what is not installed.
    fit
        Of its spec, codes, the site, and how to train.
    rebuild
        From its spec, a `state_dict` and the site.
    """

    check: Callable[[Any, tuple[int, ...]], None]
    fit: Callable[[Any, Codes, Site, Trainer], LatentDensity]
    rebuild: Callable[[Any, Mapping[str, Tensor], Site], LatentDensity]


LAWS: dict[str, Law] = {}
"""Kind → record."""


def law_of(spec: specs.Density) -> Law:
    """Return the record of a kind.

    Raises
    ------
    InputError
        There is none.
    """
    if spec.kind not in LAWS:
        raise InputError(f"density {spec.kind!r}", f"one of {', '.join(LAWS)}", "Register it in latent.laws.LAWS.")
    return LAWS[spec.kind]


def _check_mixture(spec: specs.Density, condition_shape: tuple[int, ...]) -> None:
    check_mixture(spec.kind, condition_shape)
    if condition_shape and isinstance(spec, specs.Mixture) and spec.codes == "means":
        raise InputError("a mixture of means under conditions", "another density", "Leave out codes='means'.")


def _fit_mixture(spec: specs.Density, codes: Codes, site: Site, train: Trainer) -> LatentDensity:
    if isinstance(spec, specs.Mixture) and spec.codes == "means" and spec.components is not None:
        return fit_to_means(codes, spec.components, spec.covariance or "full", seed=site.settings.seed)
    given = (spec.components, spec.covariance) if isinstance(spec, specs.Mixture) else (None, None)
    return fit_named_mixture(codes, spec.kind, components=given[0], covariance=given[1], seed=site.settings.seed)


def _rebuild_mixture(spec: specs.Density, state: Mapping[str, Tensor], site: Site) -> LatentDensity:
    means = state.get("z_means", state.get("means"))
    if means is not None and means.shape[-1] != site.settings.size:
        raise InputError(f"a mixture over {means.shape[-1]} dimensions", f"one over {site.settings.size}")
    return density_from_state(spec.kind, state)


def _fit_second(spec: specs.SecondStage, codes: Codes, site: Site, train: Trainer) -> LatentDensity:
    return SecondStage(train(_second(spec, site), spec.training, "stage two"))


def _second(spec: specs.SecondStage, site: Site) -> Any:
    return build_second_stage(
        site.settings, spec, code_variance=site.code_variance, condition_shape=site.condition_shape
    )


def _rebuild_second(spec: specs.SecondStage, state: Mapping[str, Tensor], site: Site) -> LatentDensity:
    density = SecondStage(_second(spec, site))
    density.load_state_dict(state)
    return density


def _fit_flow(spec: specs.Flow, codes: Codes, site: Site, train: Trainer) -> LatentDensity:
    mean, std = codes.moments()
    settings, shape = site.settings, site.condition_shape
    flow = build_flow(settings.size, condition_shape=shape, loc=mean, scale=std, seed=settings.seed)
    return train(flow, spec.training, "the flow")


def _rebuild_flow(spec: specs.Flow, state: Mapping[str, Tensor], site: Site) -> LatentDensity:
    density = build_flow(site.settings.size, condition_shape=site.condition_shape)
    density.load_state_dict(cast("dict[str, Tensor]", state))
    return density


def _check_flow(spec: specs.Flow, condition_shape: tuple[int, ...]) -> None:
    require_zuko()


def _matching(spec: specs.FlowMatching, site: Site, **moments: Tensor) -> FlowMatching:
    return build_flow_matching(
        site.settings.size,
        condition_shape=site.condition_shape,
        width=cast("int", spec.width),
        blocks=spec.blocks,
        coupling=spec.coupling,
        steps=spec.steps,
        guidance=spec.guidance,
        **moments,
        seed=site.settings.seed,
    )


def _fit_matching(spec: specs.FlowMatching, codes: Codes, site: Site, train: Trainer) -> LatentDensity:
    mean, std = codes.moments()
    return train(_matching(spec, site, loc=mean, scale=std), spec.training, "flow matching")


def _rebuild_matching(spec: specs.FlowMatching, state: Mapping[str, Tensor], site: Site) -> LatentDensity:
    density = _matching(spec, site)
    density.load_state_dict(cast("dict[str, Tensor]", state))
    return density


def _check_matching(spec: specs.FlowMatching, condition_shape: tuple[int, ...]) -> None:
    check_coupling(spec.coupling, condition_shape)
    width = spec.width or 1
    _check_weights(spec, spec.blocks * (2 * width + 3) * width)


def _check_second(spec: specs.SecondStage, condition_shape: tuple[int, ...]) -> None:
    _check_weights(spec, 2 * sum(before * after for before, after in pairwise((1, *spec.widths, 1))))


def _check_weights(spec: specs.Density, weights: int) -> None:
    """Refuse networks whose weights, gradients and moments do not fit into memory; `weights` of them at least."""
    check_memory(f"{spec.title} of {weights:,} weights", 16.0 * weights, "Use narrower or fewer layers.")


_MIXTURE = Law(_check_mixture, _fit_mixture, _rebuild_mixture)
LAWS |= dict.fromkeys(("gaussian", "mixture", "bayesian_mixture"), _MIXTURE)
LAWS["flow"] = Law(_check_flow, _fit_flow, _rebuild_flow)
LAWS["flow_matching"] = Law(_check_matching, _fit_matching, _rebuild_matching)
LAWS["second_stage"] = Law(_check_second, _fit_second, _rebuild_second)
