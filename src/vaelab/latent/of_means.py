"""Gaussian mixtures of posterior means, fitted as the program of RAE fits them.

Ghosh et al. 2020: scikit-learn's EM on the encoder's means of all training rows, whatever the posterior's variance is;
at most 2,000 steps, 1e-6 added to the variances. Codes with noise are wider than this law.
"""

from __future__ import annotations

from typing import Final

import torch

from vaelab.arguments import short_seed
from vaelab.errors import InputError
from vaelab.latent.codes import Codes
from vaelab.latent.mixtures import Covariance, Mixture

STEPS: Final = 2000
RIDGE: Final = 1e-6


def fit_to_means(codes: Codes, components: int, covariance: Covariance = "full", *, seed: int = 0) -> Mixture:
    """Fit k Gaussians to the means of all codes.

    Raises
    ------
    InputError
        Fewer codes than components.
    """
    from sklearn.mixture import GaussianMixture

    if len(codes) < max(components, 2):
        raise InputError(f"{len(codes)} codes", f"at least {max(components, 2)} for {components} components")
    model = GaussianMixture(
        components, covariance_type=covariance, max_iter=STEPS, reg_covar=RIDGE, random_state=short_seed(seed)
    ).fit(codes.loc.double().cpu().numpy())
    found = torch.as_tensor(model.covariances_)
    factors = torch.linalg.cholesky(torch.diag_embed(found) if covariance == "diag" else found)
    weights, means = torch.as_tensor(model.weights_), torch.as_tensor(model.means_)
    return Mixture(*(part.to(codes.loc) for part in (weights, means, factors)), covariance=covariance)
