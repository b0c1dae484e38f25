"""Drawn faces: images whose law is known, with a structure that anyone sees.

Five numbers and a hat make a face: how far the head tilts and how wide it is, how far apart the eyes are and where they
look (an angle, so a closed curve), how the mouth bends. So the pixels live on a manifold of five dimensions in two
pieces, which no map of a normal prior covers without something between a hat and none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = 24
"""Height and width in pixels."""

DIMENSIONS = 5
"""Of the manifold."""

_EDGE = 1.1  # sharpness of an edge, per pixel


def faces(n: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw (n, 1, 24, 24) grey images, independently and from the same law.

    Parameters
    ----------
    n
        How many.
    seed
        Of the numbers that make the faces.
    """
    rng = np.random.default_rng(seed)

    def uniform(low: float, high: float) -> NDArray[np.float64]:
        return rng.uniform(low, high, (n, 1, 1))

    tilt, width, apart = uniform(-0.5, 0.5), uniform(0.62, 0.88), uniform(0.26, 0.36)
    look, bend, hat = uniform(0, 2 * np.pi), uniform(-0.9, 0.9), rng.random((n, 1, 1)) < 0.4
    across, down = np.meshgrid(*[(np.arange(SIZE) + 0.5) / SIZE * 2 - 1] * 2)
    x, y = np.cos(tilt) * across + np.sin(tilt) * down, np.cos(tilt) * down - np.sin(tilt) * across
    height = 1.5 - width
    image = 0.85 * _inside((np.hypot(x / width, y / height) - 1) * np.minimum(width, height))
    for side in (-1, 1):
        image = _painted(image, 1.0, _inside(np.hypot(x - side * apart, y + 0.22) - 0.17))
        pupil = np.hypot(x - side * apart - 0.09 * np.cos(look), y + 0.22 - 0.09 * np.sin(look))
        image = _painted(image, 0.0, _inside(pupil - 0.085))
    mouth = np.maximum(np.abs(y - 0.36 - bend * (0.06 - x**2)) - 0.07, np.abs(x) - 0.34)
    image = _painted(image, 0.0, _inside(mouth))
    brim = np.maximum(np.abs(y + 0.78 * height) - 0.1, np.abs(x) - 0.62)
    crown = np.maximum(np.abs(y + 0.78 * height + 0.2) - 0.2, np.abs(x) - 0.36)
    image = _painted(image, 0.4, hat * _inside(np.minimum(brim, crown)))
    return np.round(255 * image)[:, None].astype(np.uint8)


def _inside(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 inside a shape, where the distance to its edge is negative, and 0 outside, with soft edges."""
    return 1 / (1 + np.exp(np.clip(distance * SIZE * _EDGE, -50, 50)))


def _painted(image: NDArray[np.float64], grey: float, where: NDArray[np.float64]) -> NDArray[np.float64]:
    return image * (1 - where) + grey * where
