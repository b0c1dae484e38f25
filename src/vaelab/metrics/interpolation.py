"""Paths between latent codes, and the pairs of rows to draw them between."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from vaelab.errors import InputError

_LEAST_SINE: Final = 1e-6  # below, rounding decides on the plane of the great circle


def linear(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """Straight line (1 − t) a + t b.

    Between codes of a standard normal in many dimensions it passes points that are shorter than any code: half way, by
    a factor √2.

    Parameters
    ----------
    a, b
        (n, κ) codes.
    t
        Share of the way, a number or (n,); 0 gives `a`, 1 gives `b`.

    Returns
    -------
    Tensor
        (n, κ), of the dtype of `a`.

    Raises
    ------
    InputError
        Shapes that do not fit.
    """
    share = _share(a, b, t)
    return _line(a.double(), b.double(), share).to(a.dtype)


def spherical(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """Great-circle path sin((1 − t) ω) / sin ω · a + sin(t ω) / sin ω · b, ω the angle between a and b.

    Shoemake 1985; for latent codes White 2016. Codes of equal norm keep it all along the way. Where a or b is zero, or
    they point in the same or in opposite directions, there is no single great circle, and the path is linear.

    Parameters
    ----------
    a, b
        (n, κ) codes.
    t
        Share of the way, a number or (n,); 0 gives `a`, 1 gives `b`.

    Returns
    -------
    Tensor
        (n, κ), of the dtype of `a`; computed in float64.

    Raises
    ------
    InputError
        Shapes that do not fit.
    """
    share = _share(a, b, t)
    start, end = a.double(), b.double()
    one, other = _direction(start), _direction(end)
    # tan(ω/2) = ‖a − b‖ / ‖a + b‖ for unit vectors: exact for small angles too, where an arccosine is not
    omega = 2 * torch.atan2((one - other).norm(dim=1, keepdim=True), (one + other).norm(dim=1, keepdim=True))
    sine = omega.sin()
    lost = (sine < _LEAST_SINE) | (one == 0).all(1, keepdim=True) | (other == 0).all(1, keepdim=True)
    safe = torch.where(lost, torch.ones_like(sine), sine)
    circle = ((1 - share) * omega).sin() / safe * start + (share * omega).sin() / safe * end
    return torch.where(lost, _line(start, end, share), circle).to(a.dtype)


def pairs(n: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw pairs of different rows, each pair uniform among all n (n − 1), independently.

    Parameters
    ----------
    n
        Number of rows, at least 2.
    count
        Number of pairs.
    generator
        On the CPU.

    Returns
    -------
    Tensor
        (count, 2) int64 in [0, n).

    Raises
    ------
    InputError
        Fewer than 2 rows, or no pairs.
    """
    if n < 2 or count < 1:
        raise InputError(f"{n} rows and {count} pairs", "at least 2 rows and 1 pair")
    first = torch.randint(n, (count,), generator=generator)
    second = torch.randint(n - 1, (count,), generator=generator)
    second += second >= first  # skips the first row of the pair
    return torch.stack([first, second], 1)


def _line(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return (1 - share) * a + share * b


def _direction(a: Tensor) -> Tensor:
    """Return a / ‖a‖, and 0 for 0; scaled first, so that squares neither overflow nor vanish."""
    largest = a.abs().amax(1, keepdim=True)
    scaled = a / torch.where(largest > 0, largest, torch.ones_like(largest))
    norm = scaled.norm(dim=1, keepdim=True)
    return scaled / torch.where(norm > 0, norm, torch.ones_like(norm))


def _share(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """Return t as float64, (1, 1) or (n, 1)."""
    if a.ndim != 2 or a.shape != b.shape or not a.shape[1]:
        raise InputError(f"codes of shapes {tuple(a.shape)} and {tuple(b.shape)}", "two equal shapes (n, κ)")
    share = torch.as_tensor(t, dtype=torch.float64, device=a.device)
    if share.shape not in ((), (len(a),)):
        raise InputError(f"t of shape {tuple(share.shape)}", f"a number, or shape ({len(a)},)")
    return share.reshape(-1, 1)
