"""Linear Gaussian models, x = W z + m + ε with z ~ N(0, I): what a VAE of affine networks is at its optimum.

With one noise variance the maximum of the likelihood is probabilistic PCA, with one per column factor analysis. Both
have exact posteriors, which are diagonal once W is turned, so networks that begin as affine maps can start there.

References
----------
Tipping & Bishop 1999, eqs. 6 to 8.
Rubin & Thayer 1982.
Dai et al. 2018 (VAEs of affine networks).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaelab.model.posteriors import Diagonal
from vaelab.model.priors import Standard
from vaelab.model.vae import VAE
from vaelab.nets import MLPDecoder, MLPEncoder, TableReader

_ENOUGH_UNSEEN, _FOLDS = 100, 5  # rows that choose between models by themselves; parts in which few are unseen in turn
_MOST_TURNS, _CLOSE = 500, 1e-5  # of factor analysis, and nats per row that one gains at least


class LinearModel(NamedTuple):
    """N(W z + m, diag ψ) under z ~ N(0, I), float64.

    Attributes
    ----------
    mean
        (d,) m.
    loadings
        (d, q) W, turned so that Wᵀ diag(ψ)⁻¹ W is diagonal.
    noise
        (d,) ψ, variances.
    """

    mean: Tensor
    loadings: Tensor
    noise: Tensor

    @property
    def precision(self) -> Tensor:
        """(q,) of z given x: 1 + the diagonal of Wᵀ diag(ψ)⁻¹ W."""
        return 1 + (self.loadings.square() / self.noise[:, None]).sum(0)

    def log_prob(self, x: Tensor) -> Tensor:
        """(n,) log-density of (n, d) rows, nats, by the identities of Woodbury and Sylvester."""
        centred = x.double() - self.mean
        along = (centred / self.noise) @ self.loadings
        squared = (centred.square() / self.noise).sum(1) - (along.square() / self.precision).sum(1)
        constant = self.noise.log().sum() + self.precision.log().sum() + len(self.mean) * math.log(2 * math.pi)
        return -0.5 * (squared + constant)


def probabilistic_pca(x: Tensor, q: int, *, floor: float = 0.0) -> LinearModel:
    """Fit q dimensions and one noise variance to rows by maximum likelihood, in closed form.

    Parameters
    ----------
    x
        (n, d), without gaps.
    q
        Dimensions, below d; with none the columns are independent.
    floor
        Least noise variance.
    """
    return _pca(*_spectrum(x), q, floor)


def factor_analysis(x: Tensor, q: int, *, floor: float = 0.0) -> LinearModel:
    """Fit q dimensions and a noise variance per column to rows by maximum likelihood, nearly to the maximum.

    Given the noise the loadings are in closed form, and the noise is what they leave of the variances, in turn:
    D. Barber, "Bayesian Reasoning and Machine Learning", 2012, algorithm 21.1; scikit-learn does the same on rows.

    Parameters
    ----------
    x, q, floor
        As for `probabilistic_pca`.
    """
    return _factors(x, _spectrum(x), q, floor)


def best_linear_model(x: Tensor, unseen: Tensor, most: int, *, diagonal: bool, floor: float = 0.0) -> LinearModel:
    """Fit models of 0 to `most` dimensions and return the one that suits unseen rows best.

    Where these are fewer than 100, five fits to four fifths of all rows choose instead.

    Parameters
    ----------
    x, unseen
        (n, d) rows that the model is fitted to, and (m, d) others; without gaps.
    most
        Dimensions at most; one below d if that is fewer.
    diagonal
        A noise variance per column, of which one variance is a case.
    floor
        Least noise variance.
    """
    x, unseen = x.double().cpu(), unseen.double().cpu()
    most = min(most, x.shape[1] - 1)

    def fitted(rows: Tensor) -> list[LinearModel]:
        spectrum = _spectrum(rows)
        models = [_pca(*spectrum, q, floor) for q in range(most + 1)]
        return models + ([_factors(rows, spectrum, q, floor) for q in (0, *_some(most))] if diagonal else [])

    models = fitted(x)
    if len(unseen) >= _ENOUGH_UNSEEN:
        nats = torch.stack([model.log_prob(unseen).mean() for model in models])
    else:
        rows = torch.cat([x, unseen])
        fold = torch.arange(len(rows)) % _FOLDS
        parts = [(fitted(rows[fold != k]), rows[fold == k]) for k in range(_FOLDS)]
        nats = sum((torch.stack([each.log_prob(own).sum() for each in some]) for some, own in parts), torch.zeros(()))
    return models[int(nats.argmax())]


def whitening(x: Tensor, noise: float) -> LinearModel:
    """Return the linear model of as many dimensions as there are columns, under which rows have their own covariance.

    Codes are whitened rows with next to nothing lost, if the noise is small. Under N(0, I) the model is worth as much
    as one Gaussian; a law fitted to its codes is a law of the rows.

    Parameters
    ----------
    x
        (n, d), without gaps.
    noise
        Its variance. Axes along which rows vary less are idle.
    """
    return whitening_of(x.double().cpu().mean(0), torch.cov(x.double().cpu().T, correction=0), noise)


def whitening_of(mean: Tensor, covariance: Tensor, noise: float) -> LinearModel:
    """Return what `whitening` does of rows with this mean, (d,), and covariance, (d, d), float64."""
    values, axes = (part.flip(-1) for part in torch.linalg.eigh(covariance))
    own = max(noise, 1e-12)
    return LinearModel(mean, axes * (values - own).clamp(min=0).sqrt(), torch.full_like(mean, own))


def can_begin_linear(vae: VAE, *, table: bool = False) -> int:
    """Return how many dimensions a linear model may have that `begin_linear` takes; 0 for none.

    Networks must be perceptrons of a table without conditions, q(z | x) a diagonal and p(z) the standard normal; with
    `table`, of a mixed one, of whose numbers the linear model is.
    """
    encoder, decoder = vae.encoder, vae.decoder
    plain = isinstance(vae.posterior, Diagonal) and vae.posterior.scale == "exp" and isinstance(vae.prior, Standard)
    if table != isinstance(encoder, TableReader):
        return 0
    encoder = encoder.encoder if isinstance(encoder, TableReader) else encoder
    if not plain or not isinstance(encoder, MLPEncoder) or not isinstance(decoder, MLPDecoder):
        return 0
    alike = table or encoder.event_shape == decoder.out_shape
    if encoder.condition_dim or not alike or len(encoder.event_shape) != 1:
        return 0
    return min(vae.latent_dim, encoder.head.affine_rank, decoder.dense.affine_rank)


@torch.no_grad()
def begin_linear(vae: VAE, model: LinearModel, beyond: Tensor | None = None) -> None:
    """Set the weights so that the VAE is this model.

    The bound is then exact: the ELBO is the model's log-density, once γ is ψ. Dimensions beyond q are idle.

    Parameters
    ----------
    vae
        Changed in place; `can_begin_linear` says whether it can.
    model
        Of at most as many dimensions, in the network's units. Of a mixed table it is of the columns of numbers.
    beyond
        (m, q + 1) slopes on z and bias of what the decoder emits beside the means of the numbers.
    """
    encoder, decoder = vae.encoder, vae.decoder
    encoder = encoder.encoder if isinstance(encoder, TableReader) else encoder
    assert isinstance(encoder, MLPEncoder)
    assert isinstance(decoder, MLPDecoder)
    q, kappa, d = model.loadings.shape[1], vae.latent_dim, len(model.mean)
    weight, bias = torch.zeros(2 * kappa, d).double(), torch.zeros(2 * kappa).double()
    weight[:q] = (model.loadings / model.noise[:, None]).T / model.precision[:, None]
    bias[:q] = -weight[:q] @ model.mean
    bias[kappa : kappa + q] = -0.5 * model.precision.log()
    encoder.head.begin_affine(weight, bias)
    beyond = torch.zeros(0, q + 1).double() if beyond is None else beyond
    weight = torch.zeros(d + len(beyond), kappa).double()
    weight[:, :q] = torch.cat([model.loadings, beyond[:, :q]])
    decoder.dense.begin_affine(weight, torch.cat([model.mean, beyond[:, q]]))
    set_gamma(vae, model.noise)


def set_gamma(vae: VAE, gamma: Tensor) -> None:
    """Set γ of every column, (d,), or where there is one to their mean."""
    variance = vae.likelihood.variance
    if variance is not None:  # a γ per column has its floor added
        variance.calibrate((gamma - variance.floor).clamp(min=0) if variance.diagonal else gamma)


def _spectrum(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, and variances along principal axes with these, from large to small."""
    x = x.double().cpu()
    values, axes = torch.linalg.eigh(torch.cov(x.T, correction=0))
    return x.mean(0), values.flip(0), axes.flip(1)


def _pca(mean: Tensor, values: Tensor, axes: Tensor, q: int, floor: float) -> LinearModel:
    noise = values[q:].mean().clamp(min=max(floor, 1e-12))
    loadings = axes[:, :q] * (values[:q] - noise).clamp(min=0).sqrt()
    return LinearModel(mean, loadings, noise.expand(len(mean)).clone())


def _factors(x: Tensor, spectrum: tuple[Tensor, Tensor, Tensor], q: int, floor: float) -> LinearModel:
    """Factor analysis of (n, d) rows, of which only the spectrum is read where there are more rows than columns."""
    mean, values, axes = spectrum
    n, d = x.shape
    root = (x.double().cpu() - mean) / math.sqrt(n) if n < d else (axes * values.clamp(min=0).sqrt()).T
    least = max(floor, 1e-12)
    variances = root.square().sum(0)
    noise, before = torch.ones_like(variances) if q else variances.clamp(min=least), -math.inf
    loadings = root.new_zeros(d, 0)
    for _ in range(_MOST_TURNS if q else 0):
        scale = noise.sqrt() + 1e-12
        _, along, turned = torch.linalg.svd(root / scale, full_matrices=False)
        along = along.square()
        loadings = scale[:, None] * turned[:q].T * (along[:q] - 1).clamp(min=0).sqrt()
        nats = -0.5 * float(along[:q].clamp(min=1e-300).log().sum() + along[q:].sum() + noise.log().sum())
        if nats - before < _CLOSE:
            break
        before = nats
        noise = (variances - loadings.square().sum(1)).clamp(min=least)
    u, s, _ = torch.linalg.svd(loadings / noise.sqrt()[:, None], full_matrices=False)  # of the latest noise
    return LinearModel(mean, noise.sqrt()[:, None] * u * s, noise)


def _some(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16 and so on, and `most`: each fit is an iteration of its own."""
    found = {q for power in range(0, 20) for q in (2**power, 3 * 2**power) if q < most}
    return sorted({*found, most})
