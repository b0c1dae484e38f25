"""Levels with an order: probabilities from cumulative logits, which add up to one whatever the decoder says.

    P(x ≥ k | z) = σ(e_k(z)),   e_1 = e_1⁰ + u_1,   e_{k+1} = e_k − g_k⁰ ζ(u_{k+1} + ln(e − 1))

with u(z) the decoder's K − 1 numbers for K levels, ζ the softplus, and e⁰, g⁰ such that u = 0 is the uniform law: u_1
moves the level up and down, the others say how far apart neighbours are. With those constant it is the model of
proportional odds (McCullagh 1980, eq. 2.1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

_ONE = math.log(math.e - 1)  # where the softplus is 1
_LEAST = 1e-6  # of a gap, whose logarithm is taken


def ordered_log_probabilities(raw: Tensor) -> Tensor:
    """(…, K − 1) numbers of the decoder → (…, K) logarithms of the probabilities of the levels, lowest first.

    P(k) = σ(e_k) − σ(e_{k+1}) = σ(e_k) σ(−e_{k+1}) (1 − exp(e_{k+1} − e_k)), which loses no digits.
    """
    levels = raw.shape[-1] + 1
    above = torch.arange(levels - 1, 0, -1, device=raw.device, dtype=raw.dtype) / levels
    start = above.logit()  # of P(x ≥ k) for equal shares
    gaps = (start[:-1] - start[1:]) * (softplus(raw[..., 1:] + _ONE) + _LEAST)
    first = raw[..., :1] + start[:1]
    exceeded = torch.cat([first, first - gaps.cumsum(-1)], dim=-1)
    inner = logsigmoid(exceeded[..., :-1]) + logsigmoid(-exceeded[..., 1:]) + torch.log(-torch.expm1(-gaps))
    return torch.cat([logsigmoid(-exceeded[..., :1]), inner, logsigmoid(exceeded[..., -1:])], dim=-1)
