"""Models of pythae (Chadebec et al. 2022).

What their losses stand for is read off the program, version 0.1.2: the squared error is halved and summed over the
event, so that a VAE has γ = 1; with a weight β of the KL the optimum is that of γ = β and a KL of weight 1 (a β-VAE's
loss over β). Importance-weighted bounds have the density of the VAE.
"""

from __future__ import annotations

from typing import Any

from vaelab.diagnostics.adapters.wrapping import Wrapped
from vaelab.errors import InputError

_BOUNDS = frozenset({"VAE", "IWAE", "MIWAE", "PIWAE", "CIWAE"})
_OTHER_ERRORS = frozenset({"MSSSIM_VAE", "VAEGAN"})  # whatever their settings say
_OTHER_LAWS = {
    "VAE_IAF": "a flow between its encoder and its decoder",
    "VAE_LinNF": "a flow between its encoder and its decoder",
    "HVAE": "Hamiltonian steps between its encoder and its decoder",
    "RHVAE": "Hamiltonian steps between its encoder and its decoder",
    "SVAE": "codes on a sphere",
    "PoincareVAE": "codes in a hyperbolic space",
    "VAMP": "a prior made of its encoder",
    "VQVAE": "a codebook between its encoder and its decoder",
}


def of_pythae(model: object) -> Wrapped | None:
    """Read a model of pythae, or of a class that extends one; None for anything else.

    The weight β of a β-VAE with a Bernoulli likelihood stays a weight. γ is known where the class that defines the loss
    is one whose loss is a bound.

    Raises
    ------
    InputError
        The model has another latent law than a Gaussian posterior and the prior N(0, I).
    """
    names = [kind.__name__ for kind in type(model).__mro__ if kind.__module__.partition(".")[0] == "pythae"]
    if "BaseAE" not in names:
        return None
    source: Any = model
    other = next((_OTHER_LAWS[name] for name in names if name in _OTHER_LAWS), None)
    if other is not None:
        remedy = "To read it as an autoencoder: vaelab.wrap(encode=lambda x: model.encoder(x).embedding, decode=...)."
        raise InputError(f"a pythae {names[0]}, with {other}", "a Gaussian posterior and the prior N(0, I)", remedy)
    name = f"a pythae {names[0]}"
    loss = _loss(model)
    if getattr(source.model_config, "reconstruction_loss", None) == "bce" and loss not in _OTHER_ERRORS:
        beta = float(source.beta) if loss == "BetaVAE" else 1.0
        return Wrapped(source.encoder, source.decoder, likelihood="bernoulli", name=name, kl_weight=beta)
    return Wrapped(source.encoder, source.decoder, gamma=_gamma(source), name=name)


def _gamma(model: Any) -> float | None:
    if getattr(model.model_config, "reconstruction_loss", None) != "mse":
        return None
    if _loss(model) == "BetaVAE":
        return float(model.beta) or None  # no KL, no variance
    return 1.0 if _loss(model) in _BOUNDS else None


def _loss(model: object) -> str | None:
    """Name of the class of pythae that defines the loss; None if it is another program's."""
    owner = next((kind for kind in type(model).__mro__ if "loss_function" in vars(kind)), None)
    return owner.__name__ if owner is not None and owner.__module__.partition(".")[0] == "pythae" else None
