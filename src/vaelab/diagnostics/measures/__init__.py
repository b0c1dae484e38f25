"""Measures of a trained VAE: one record and one pure function each, with its source."""

from vaelab.diagnostics.measures.aggregated import Aggregated as Aggregated
from vaelab.diagnostics.measures.aggregated import Match as Match
from vaelab.diagnostics.measures.aggregated import aggregated as aggregated
from vaelab.diagnostics.measures.aggregated import embedding as embedding
from vaelab.diagnostics.measures.axes import Axes as Axes
from vaelab.diagnostics.measures.axes import axis_noise as axis_noise
from vaelab.diagnostics.measures.code_use import CodeUse as CodeUse
from vaelab.diagnostics.measures.code_use import code_use as code_use
from vaelab.diagnostics.measures.continuation import Continuation as Continuation
from vaelab.diagnostics.measures.continuation import continuation as continuation
from vaelab.diagnostics.measures.generalisation import Generalisation as Generalisation
from vaelab.diagnostics.measures.generalisation import Terms as Terms
from vaelab.diagnostics.measures.generalisation import generalisation as generalisation
from vaelab.diagnostics.measures.manifold import Manifold as Manifold
from vaelab.diagnostics.measures.manifold import OffManifold as OffManifold
from vaelab.diagnostics.measures.manifold import off_manifold as off_manifold
from vaelab.diagnostics.measures.optimality import Optimality as Optimality
from vaelab.diagnostics.measures.optimality import optimality as optimality
from vaelab.diagnostics.measures.reconstruction import Reconstruction as Reconstruction
from vaelab.diagnostics.measures.reconstruction import reconstruction as reconstruction
from vaelab.diagnostics.measures.residuals import Residuals as Residuals
from vaelab.diagnostics.measures.residuals import residuals as residuals
