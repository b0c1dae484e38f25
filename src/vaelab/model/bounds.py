"""An importance-weighted bound as the objective of training.

    −log (1/K) Σ_k w_k = Σ_k ŵ_k [−log p(x | z_k)] + Σ_k ŵ_k [log q(z_k | x) − log p(z_k) + log K ŵ_k],
    w_k = p(x | z_k) p(z_k) / q(z_k | x),   ŵ_k = w_k / Σ_l w_l,   z_k ~ q(z | x)

Burda et al. 2016, eq. 8. The first term is the distortion of a draw that is chosen by its weight, the second what that
draw tells of x: the KL of the law that it has in place of q (Cremer et al. 2017). With K = 1 this is the ELBO with its
KL at one draw. Of rows with gaps it is the bound of Mattei & Frellsen 2019, eq. 4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaelab.model.contexts import evaluating
from vaelab.model.likelihoods import Likelihood


def importance_weighted(
    likelihood: Likelihood, parameters: Tensor, x: Tensor, known: Tensor, log_ratio: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the parts of minus the bound, whose gradient is the reparameterised one.

    Parameters
    ----------
    likelihood
        p(x | z), and of what is beside it.
    parameters
        (K, B, …) the decoder's output for K draws of z.
    x, known
        (B, *event) rows as they are scored, and as they are, of which gaps have a law.
    log_ratio
        (K, B) log q(z | x) − log p(z), nats.

    Returns
    -------
    distortion : Tensor
        (B,) nats.
    penalties : dict
        ``kl`` and the terms of `Likelihood.beside`, (B,) nats; together with the distortion they are minus the bound.
    """
    draws, flat = len(parameters), parameters.flatten(0, 1)
    rows = known.expand(draws, *known.shape).flatten(0, 1)
    beside = {name: term.view(draws, -1) for name, term in likelihood.beside(flat, rows).items()}
    rest = log_ratio if not beside else log_ratio + torch.stack(list(beside.values())).sum(0)
    nll = likelihood.nll_of_draws(parameters, x, _weights(likelihood, parameters, x, rest))
    log_w = -nll - rest
    weights = log_w.softmax(0)
    distortion = (weights * nll).sum(0)
    penalties = {name: (weights * term).sum(0) for name, term in beside.items()}
    together = torch.stack([distortion, *penalties.values()]).sum(0)
    return distortion, {"kl": math.log(draws) - log_w.logsumexp(0) - together, **penalties}


@torch.no_grad()
def _weights(likelihood: Likelihood, parameters: Tensor, x: Tensor, rest: Tensor) -> Tensor | None:
    """(K, B) weights that the draws have in a profiled γ; None where there is none to profile.

    The bound is at its maximum where γ is the mean of squared errors with its own weights. Those of the last γ stand
    for these, a step of expectation–maximisation, whose fixed points are the same.
    """
    if not likelihood.training or not likelihood.calibrates:
        return None
    with evaluating(likelihood):
        return (-likelihood.nll_of_draws(parameters, x) - rest).softmax(0)
