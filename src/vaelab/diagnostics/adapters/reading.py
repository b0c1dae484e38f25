"""What foreign encoders and decoders return, told apart and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from vaelab.diagnostics.adapters.wrapping import Spread
from vaelab.errors import InputError
from vaelab.model import Deterministic, Diagonal, DiagonalNormal, FullCovariance, Posterior

_NESTED = ("latent_dist", "posterior")
_CODES = ("mean", "loc", "mu", "embedding", "latents", "latent")
_SPREADS: dict[str, Spread] = {
    "std": "std",  # before logarithms: 0 where the distribution is a point
    "stddev": "std",
    "scale": "std",
    "logvar": "log_variance",
    "log_var": "log_variance",
    "log_covariance": "log_variance",
    "log_variance": "log_variance",
    "log_std": "log_std",
    "var": "variance",
    "variance": "variance",
}
_OUTPUTS = ("reconstruction", "sample", "recon_x", "mean", "loc")

REMEDY = "Give vaelab.wrap(encode=..., decode=...) functions that return (mean, log-variance) and the mean of x."


class PosteriorReading(NamedTuple):
    """A Gaussian posterior of B rows.

    Attributes
    ----------
    mean
        (B, *latent).
    log_std
        (B, *latent), or None.
    scale_tril
        (B, κ, κ) Cholesky factors of full covariances, or None. With neither the posterior is a point.
    """

    mean: Tensor
    log_std: Tensor | None = None
    scale_tril: Tensor | None = None

    @property
    def posterior(self) -> Posterior:
        """What turns `parameters` into the distribution."""
        if self.scale_tril is not None:
            return FullCovariance()
        return Deterministic() if self.log_std is None else Diagonal("exp")

    @property
    def parameters(self) -> Tensor:
        """(B, posterior.parameter_count(κ))."""
        rows = len(self.mean)
        mean = self.mean.reshape(rows, -1)
        if self.scale_tril is not None:
            row, column = torch.tril_indices(mean.shape[1], mean.shape[1], -1, device=mean.device)
            log_diagonal = self.scale_tril.diagonal(dim1=-2, dim2=-1).log()
            return torch.cat([mean, log_diagonal, self.scale_tril[..., row, column]], 1)
        return mean if self.log_std is None else torch.cat([mean, self.log_std.reshape(rows, -1)], 1)


def read_posterior(result: object, variance: Spread) -> PosteriorReading:
    """Read what an encoder returns.

    Parameters
    ----------
    result
        As `vaelab.wrap` allows.
    variance
        Meaning of the second entry of a pair.

    Raises
    ------
    InputError
        Something else, or a distribution that is no Gaussian.
    """
    if isinstance(result, Distribution):
        return _of_distribution(result)
    code = _tensor(result)
    if code is not None:
        return PosteriorReading(code)
    for name in _NESTED:
        inner = _field(result, name)
        if inner is not None:
            return read_posterior(inner, variance)
    found = _first(result, _CODES)
    if found is not None:
        for name, meaning in _SPREADS.items():
            spread = _tensor(_field(result, name))
            if spread is not None:
                return _paired(found, spread, meaning)
        return PosteriorReading(found)
    if isinstance(result, tuple | list) and len(result) == 1:
        return read_posterior(result[0], variance)
    if isinstance(result, tuple | list) and len(result) == 2:
        mean, spread = (_tensor(entry) for entry in result)
        if mean is not None and spread is not None:
            return _paired(mean, spread, variance)
    raise InputError(
        f"an encoder that returns {_described(result)}", "(mean, log-variance), codes or a Gaussian", REMEDY
    )


def read_mean(result: object) -> Tensor:
    """Read the mean of x from what a decoder returns, of any shape.

    Raises
    ------
    InputError
        There is none.
    """
    if isinstance(result, tuple | list) and len(result) and not hasattr(result, "_fields"):
        result = result[0]
    mean = result.mean if isinstance(result, Distribution) else _tensor(result)
    if mean is None:
        mean = _first(result, _OUTPUTS)
    if mean is None:
        raise InputError(f"a decoder that returns {_described(result)}", "the mean of x, one row per code", REMEDY)
    return mean


def _of_distribution(q: Distribution) -> PosteriorReading:
    if isinstance(q, MultivariateNormal | LowRankMultivariateNormal):
        return PosteriorReading(q.mean, scale_tril=q.scale_tril)
    base: Distribution = q
    while isinstance(base, Independent):
        base = base.base_dist
    if isinstance(base, Normal | DiagonalNormal):
        return _paired(base.mean, base.stddev, "std")
    raise InputError(f"a posterior of type {type(q).__name__}", "a Gaussian one", REMEDY)


def _paired(mean: Tensor, spread: Tensor, meaning: Spread) -> PosteriorReading:
    if mean.shape != spread.shape:
        got = f"an encoder whose means are of shape {tuple(mean.shape)} and whose spreads of {tuple(spread.shape)}"
        raise InputError(got, "one shape", REMEDY)
    if meaning == "log_std":
        return PosteriorReading(mean, spread)
    if meaning == "log_variance":
        return PosteriorReading(mean, 0.5 * spread)
    if not bool(spread.any()):
        return PosteriorReading(mean)
    return PosteriorReading(mean, spread.log() if meaning == "std" else 0.5 * spread.log())


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    return value if isinstance(value, Tensor) else None


def _field(result: object, name: str) -> object:
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


def _first(result: object, names: tuple[str, ...]) -> Tensor | None:
    found = (_tensor(_field(result, name)) for name in names)
    return next((value for value in found if value is not None), None)


def _described(result: object) -> str:
    if isinstance(result, tuple | list):
        return f"{len(result)} things ({', '.join(type(entry).__name__ for entry in result)})"
    return f"a {type(result).__name__}"
