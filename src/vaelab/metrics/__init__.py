"""Distances between samples, the features and protocols they are measured under, and likelihood bounds."""

from vaelab.metrics.distances import energy_distance, frechet_distance, kernel_distance, sliced_wasserstein
from vaelab.metrics.evaluator import Evaluator
from vaelab.metrics.features import Pca, extract
from vaelab.metrics.likelihood import Bounds, bits_per_dim, importance_weighted_bounds
from vaelab.metrics.moments import Moments
from vaelab.metrics.neighbours import neighbour_measures
from vaelab.metrics.protocols import PROTOCOLS, Protocol, protocol
from vaelab.metrics.report import Reading, Report, RowMean
from vaelab.metrics.two_sample import two_sample_accuracy

__all__ = [
    "PROTOCOLS",
    "Bounds",
    "Evaluator",
    "Moments",
    "Pca",
    "Protocol",
    "Reading",
    "Report",
    "RowMean",
    "bits_per_dim",
    "energy_distance",
    "extract",
    "frechet_distance",
    "importance_weighted_bounds",
    "kernel_distance",
    "neighbour_measures",
    "protocol",
    "sliced_wasserstein",
    "two_sample_accuracy",
]
