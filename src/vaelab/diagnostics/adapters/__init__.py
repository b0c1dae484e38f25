"""Autoencoders of other programs as a `vaelab.VAE`, so that every measure and every mend takes them.

An autoencoder is two functions: one gives a posterior or a code, one gives the mean of x. `adapt` finds them in a
model, tries them on two rows, and makes them the encoder and the decoder of a `VAE` with the likelihood that the
model's loss stands for. `wrap` declares them where nothing can be found. No library is imported for it: a model of one
has brought it along.
"""

from vaelab.diagnostics.adapters.adapting import Adapted, adapt, precision_of
from vaelab.diagnostics.adapters.wrapping import Wrapped, wrap

__all__ = ["Adapted", "Wrapped", "adapt", "precision_of", "wrap"]
