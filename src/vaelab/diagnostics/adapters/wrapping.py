"""What every autoencoder is reduced to: a function that encodes, one that decodes, and what its loss stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from vaelab.arguments import check_number
from vaelab.errors import InputError

LikelihoodName = Literal["gaussian", "bernoulli"]
Spread = Literal["log_variance", "log_std", "std", "variance"]


@dataclass(frozen=True)
class Wrapped:
    """An autoencoder as two functions; `wrap` makes one and says what the fields are.

    Attributes
    ----------
    kl_weight
        β of a Bernoulli likelihood's loss. That of a Gaussian one is part of its γ.
    takes
        Lowest and highest number of the rows that models of this family were trained on; None where that differs.
    """

    encode: Callable[..., object]
    decode: Callable[..., object]
    gamma: float | None = None
    likelihood: LikelihoodName = "gaussian"
    variance: Spread = "log_variance"
    arrays: bool = False
    name: str = "a wrapped model"
    kl_weight: float = 1.0
    takes: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for role, function in (("encode", self.encode), ("decode", self.decode)):
            if not callable(function):
                raise InputError(f"{role} of type {type(function).__name__}", "a function or a module")
        if not isinstance(self.likelihood, str) or self.likelihood not in get_args(LikelihoodName):
            raise InputError(f"likelihood={self.likelihood!r}", " or ".join(get_args(LikelihoodName)))
        if not isinstance(self.variance, str) or self.variance not in get_args(Spread):
            raise InputError(f"variance={self.variance!r}", "one of " + ", ".join(get_args(Spread)))
        if self.gamma is None:
            return
        if self.likelihood == "bernoulli":
            raise InputError(f"gamma={self.gamma} with a Bernoulli likelihood, which has no variance", "one of the two")
        check_number("gamma", self.gamma, "a positive variance, in squared units of the rows")


def wrap(
    encode: Callable[..., object],
    decode: Callable[..., object],
    *,
    gamma: float | None = None,
    likelihood: LikelihoodName = "gaussian",
    variance: Spread = "log_variance",
    arrays: bool = False,
    name: str = "a wrapped model",
) -> Wrapped:
    """Declare two functions to be an autoencoder that can be diagnosed and mended.

    Parameters
    ----------
    encode
        Of rows (B, *event). It gives a posterior: (mean, spread), a Gaussian `torch.distributions.Distribution`, an
        object or mapping with fields such as ``loc`` and ``scale``, ``mean`` and ``logvar``, ``latent_dist``; or plain
        codes (B, *latent), of an autoencoder without noise. Codes may have any shape.
    decode
        Of codes (B, *latent). It gives the mean of x, of the rows' shape or with as many numbers: a tensor, a
        distribution, the first entry of a tuple, or a field ``reconstruction`` or ``sample``. For a Bernoulli
        likelihood it gives probabilities, not logits.
    gamma
        The decoder variance that the loss stands for, in squared units of the rows: the loss is
        Σ e²/(2γ) + KL[q(z|x) ‖ N(0, I)] up to a constant and a factor. For Σ e² + β KL it is β/2, for ½ Σ e² + β KL it
        is β, and for a mean over d dimensions of e² with a weight w of the KL it is w d/2. None if nobody knows.
    likelihood
        What the loss scores reconstructions by: squared errors or cross-entropy.
    variance
        What the second entry is when `encode` gives a pair: the logarithm of the variance as in most programs, or that
        of the standard deviation, or one of the two itself.
    arrays
        Whether the functions take and give NumPy arrays. Derivatives of the decoder are then central differences.
    name
        How the model is called in reports.

    Returns
    -------
    Wrapped
        For `vaelab.diagnose`, `vaelab.enhance` and `adapt`. A function that is a module, or a method of one, brings its
        weights along; it is put into evaluation mode when it is adapted. Any other function is used as it is.

    Raises
    ------
    InputError
        Something that is no function, a γ that is not positive or comes with a Bernoulli likelihood, an unknown name.

    Examples
    --------
    >>> import torch
    >>> weight = torch.randn(2, 5)
    >>> wrapped = wrap(lambda x: x @ weight.T, lambda z: z @ weight, name="a random projection")
    >>> wrapped.name
    'a random projection'
    """
    return Wrapped(encode, decode, gamma, likelihood, variance, arrays, name)
