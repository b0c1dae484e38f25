"""Distances between samples."""

from vaelab.metrics.distances import energy_distance

__all__ = ["energy_distance"]
