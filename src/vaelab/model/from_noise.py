"""Draws of x given z as a map of standard normals: what a graph without a source of randomness can compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

from torch import Tensor

from vaelab.errors import InputError
from vaelab.model.likelihoods import Gaussian, Likelihood
from vaelab.model.mixed import Mixed


class Emission(NamedTuple):
    """How rows are drawn from what the decoder says.

    Attributes
    ----------
    normals
        Standard normals that a row is made of.
    of
        The decoder's output and (B, normals) of them → (B, *event).
    """

    normals: int
    of: Callable[[Tensor, Tensor], Tensor]


@singledispatch
def emission_of(likelihood: Likelihood, event_shape: tuple[int, ...]) -> Emission:
    """Return how rows of a likelihood are drawn; one of your own is registered here.

    Raises
    ------
    InputError
        Its draws are no such map.
    """
    got = f"{type(likelihood).__name__}, whose draws are no plain map of normals"
    raise InputError(got, "a Gaussian likelihood, or that of a mixed table")


@emission_of.register
def _(likelihood: Gaussian, event_shape: tuple[int, ...]) -> Emission:
    def of(parameters: Tensor, noise: Tensor) -> Tensor:
        mean, raw = likelihood.mean(parameters), likelihood.variance.split(parameters)[1]
        deviation = likelihood.variance.generative(raw).to(mean.dtype).sqrt()
        spread: Tensor = deviation * noise.unflatten(1, event_shape)
        return mean + spread

    return Emission(math.prod(event_shape), of)


@emission_of.register
def _(likelihood: Mixed, event_shape: tuple[int, ...]) -> Emission:
    return Emission(math.prod(event_shape), likelihood.sample_from)
