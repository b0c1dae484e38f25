"""A Gaussian, or independent columns, the least that a training has to beat, and a mixture: each beside a VAE."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.covariance import ledoit_wolf
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from vaelab.latent import LatentDensity, PriorDensity
from vaelab.metrics.likelihood import importance_weighted_bounds
from vaelab.model import UNUSED, VAE, Mixed, draw, kl, variance_ratios_of
from vaelab.rows import blocks
from vaelab.specs.densities import PRIOR, title_of
from vaelab.training import stream
from vaelab.types import Batches

_MOST_ROWS, _MOST_COLUMNS = 20_000, 300  # that a covariance is fitted to
_LEAST_ROWS, _FEW_ROWS = 10, 50  # unseen ones, and those that are said to be few
_DRAWS = 8  # of z per row
_MOST_ROWS_FOR_MIXTURE, _MOST_FOR_MIXTURE = 5_000, 30  # rows and columns
_ROWS_PER_COMPONENT = 20
NONE: Mapping[str, LatentDensity] = MappingProxyType({})
_RIDGE = 1e-3  # on variances, of standardised columns, so that ties are no reason to prefer a mixture


class Gain(NamedTuple):
    """Nats per unseen row by which a VAE is above the log-density of something simple.

    It is its ELBO; where it is judged with a law of its codes, a tighter bound under that.

    Attributes
    ----------
    value, error
        Mean, and its standard error over rows.
    unused
        Whether the VAE's code carries next to nothing.
    rows
        The same of every row, where they are at hand.
    beside
        What it is compared with: a Gaussian, or columns of a mixed table that are independent of each other.
    law
        Of the codes: ``"prior"``, or what was fitted to them and is better.
    compared
        Unseen rows; 0 where that is not known.
    """

    value: float
    error: float
    unused: bool
    rows: tuple[float, ...] = ()
    beside: Literal["gaussian", "columns"] = "gaussian"
    law: str = PRIOR
    compared: int = 0

    def clearly_above(self, other: Gain, *, errors: float = 1.0) -> bool:
        """Whether this is above another of the same rows by so many standard errors of what they differ by.

        A few rows that one of them all but rules out make differences lopsided, and there are more such rows than few
        rows show; see `_righted`.
        """
        if not self.rows or not other.rows:
            return self.value > other.value
        differences = torch.tensor(self.rows, dtype=torch.float64) - torch.tensor(other.rows)
        return _righted(differences) > errors * _mean(differences)[1]

    def of_rows(self, rows: Sequence[float]) -> Gain:
        """Return the same, of other numbers for the rows."""
        value, error = _mean(torch.tensor(rows, dtype=torch.float64))
        return self._replace(value=value, error=error, rows=tuple(rows))

    @property
    def doubt(self) -> str:
        """What is wrong, in sentences; empty if nothing is. To be as good as a Gaussian is right for linear data."""
        gaussian = self.beside == "gaussian"
        what = "a Gaussian of the data's covariance" if gaussian else "columns that are independent"
        nats = f"{self.value:+.2f} ± {self.error:.2f} nats"
        beside = f"{_unseen(self.compared)} are worth {nats} to the VAE, beyond those to {what}"
        weak = self.value <= 2 * self.error
        # columns that are independent are as good only where there is nothing between them, or nothing was found
        if weak and (self.unused or (not gaussian and self.value >= -2 * self.error)):
            code = "the code is unused, and " if self.unused else ""
            return (
                f"Training found nothing: {code}{beside}. Dimensions and samples are not to be trusted. "
                f"Give it more epochs or rows, or {'use the Gaussian' if gaussian else 'draw each column by itself'}."
            )
        if self.value < -2 * self.error:
            simple = "A single Gaussian explains" if gaussian else "Columns that are independent explain"
            return (
                f"{simple} the data better: {beside}. Give it more rows"
                f"{', or use the Gaussian, or a mixture' if gaussian else ' or epochs'}."
            )
        return ""

    @property
    def found(self) -> str:
        """How much it is, in a sentence."""
        than = "to a single Gaussian" if self.beside == "gaussian" else "to columns that are independent"
        law = "" if self.law == PRIOR else f"With {title_of(self.law)} of its codes, "
        rows = _unseen(self.compared)
        text = f"{law}{rows} are worth {self.value:.2f} ± {self.error:.2f} nats more than {than}."
        return text[0].upper() + text[1:]


class Rival(NamedTuple):
    """A Gaussian mixture of the training rows, beside a VAE.

    Attributes
    ----------
    components
        Chosen by BIC (G. Schwarz, "Estimating the dimension of a model", 1978).
    value, error
        Nats per unseen row by which its log-density is above what the VAE is worth, and the standard error over rows.
    compared
        Unseen rows; 0 where that is not known.
    """

    components: int
    value: float
    error: float
    compared: int = 0

    @property
    def better(self) -> str:
        """That it explains the data better, in a sentence; empty where it does not clearly."""
        if self.value <= 2 * self.error:
            return ""
        what = "single Gaussian" if self.components == 1 else f"Gaussian mixture of {self.components} components"
        return (
            f"A {what} explains {_unseen(self.compared)} better, by {self.value:.2f} ± {self.error:.2f} nats each: "
            "take it where a density is all you want. What the VAE has beyond that is its code."
        )


def gain_over_simple(vae: VAE, train: Batches, unseen: Batches | None, *, seed: int) -> Gain | None:
    """Compare a VAE with the least that it has to beat: `gain_over_columns` of a mixed table, else a Gaussian."""
    compare = gain_over_columns if _mixed(vae) else gain_over_gaussian
    return compare(vae, train, unseen, seed=seed)


def gain_over_columns(vae: VAE, train: Batches, unseen: Batches | None, *, seed: int) -> Gain | None:
    """Compare a VAE of a mixed table with its columns, each by itself, on rows that neither has seen.

    A number is N(mean, variance) of the training rows in the network's units, where most numbers are normal scores;
    a level, and a gap, has its frequency among them, one row added to each. Gaps count in both.

    Returns
    -------
    Gain or None
        None where the comparison says nothing: fewer than 10 unseen rows, conditions, or no mixed table.
    """
    law = vae.likelihood
    if not isinstance(law, Mixed) or unseen is None or len(unseen) < _LEAST_ROWS or vae.posterior.degenerate:
        return None
    x, c = train.to("cpu").take(torch.arange(min(len(train), _MOST_ROWS)))
    if c is not None:
        return None
    columns = _Columns(x.double().cpu(), law)
    gains = _worth(vae, unseen, seed)[0] - _of_rows(unseen, columns.log_density)
    return Gain(*_mean(gains), _is_unused(vae, unseen), tuple(gains.tolist()), "columns", compared=len(gains))


def gain_over_gaussian(
    vae: VAE, train: Batches, unseen: Batches | None, *, seed: int, laws: Mapping[str, LatentDensity] = NONE
) -> Gain | None:
    """Compare a VAE of a table with N(mean, covariance) of its training rows, on rows that neither has seen.

    The covariance is that of O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance
    matrices", 2004.

    Parameters
    ----------
    vae, train, unseen
        The model, the rows that it was trained on, and others.
    seed
        Of draws.
    laws
        Of the codes, by name: the VAE is then worth its importance-weighted bound under the best of them and its prior.

    Returns
    -------
    Gain or None
        None where the comparison says nothing: fewer than 10 unseen rows, more than 300 columns, conditions, gaps, or a
        likelihood without a γ that is the same for all rows.
    """
    x = _rows_to_compare(vae, train, unseen)
    if x is None or unseen is None:
        return None
    covariance = torch.from_numpy(ledoit_wolf(x.numpy())[0])
    factor, failed = torch.linalg.cholesky_ex(covariance + 1e-9 * covariance.diagonal().mean() * torch.eye(x.shape[1]))
    if int(failed):
        return None
    mean = x.mean(0)
    worth, law = _worth(vae, unseen, seed, laws)
    gains = worth - _of_rows(unseen, lambda own: _log_normal(own, mean, factor))
    return Gain(*_mean(gains), _is_unused(vae, unseen), tuple(gains.tolist()), law=law, compared=len(gains))


def mixture_beside(
    vae: VAE, train: Batches, unseen: Batches | None, *, seed: int, laws: Mapping[str, LatentDensity] = NONE
) -> Rival | None:
    """Compare a VAE of a table with a full-covariance mixture of 1, 2, 4, 8 or 16 Gaussians, the best by BIC.

    Parameters
    ----------
    vae, train, unseen, seed, laws
        As for `gain_over_gaussian`.

    Returns
    -------
    Rival or None
        None where the comparison says nothing, as for `gain_over_gaussian`, or costs much: more than 30 columns.
    """
    x = _rows_to_compare(vae, train, unseen)
    if x is None or unseen is None or x.shape[1] > _MOST_FOR_MIXTURE or _mixed(vae):
        return None
    from sklearn.mixture import GaussianMixture

    rows = x[:_MOST_ROWS_FOR_MIXTURE].numpy()
    fits = []
    for k in (1, 2, 4, 8, 16):
        if k > 1 and len(rows) < _ROWS_PER_COMPONENT * k:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            one = GaussianMixture(k, random_state=0, reg_covar=_RIDGE).fit(rows)
        fits.append((one.bic(rows), one))
    best = min(fits, key=lambda each: each[0])[1]
    gains = _of_rows(unseen, lambda own: torch.from_numpy(best.score_samples(own.numpy())))
    return Rival(best.n_components, *_mean(gains - _worth(vae, unseen, seed, laws)[0]), len(gains))


def _mixed(vae: VAE) -> bool:
    """Whether rows have categories or gaps, of which no Gaussian says anything."""
    law = vae.likelihood
    return isinstance(law, Mixed) and (any(law.levels) or law.gaps is not None)


def _mean(gains: Tensor) -> tuple[float, float]:
    """Mean, and its standard error, of few rows a little more: as often within twice that as of many (Student's t)."""
    wider = float(student.ppf(norm.cdf(2), len(gains) - 1)) / 2
    return float(gains.mean()), wider * float(gains.std() / math.sqrt(len(gains)))


def _righted(x: Tensor) -> float:
    """Mean less what it has in its favour by the skewness of few rows, towards the longer tail.

    Hall 1992: the cubic, which is monotone.
    """
    value, deviation = float(x.mean()), float(x.std())
    if not deviation > 0:
        return value
    skewness, ratio = float((x - value).pow(3).mean()) / deviation**3, value / deviation
    cubic = ratio + skewness * ratio**2 / 3 + skewness**2 * ratio**3 / 27
    return deviation * (cubic + skewness / (6 * len(x)))


def _unseen(count: int) -> str:
    """Name unseen rows, with their number where they are few."""
    return f"{count} unseen rows" if 0 < count < _FEW_ROWS else "unseen rows"


def _is_unused(vae: VAE, unseen: Batches) -> bool:
    return bool((variance_ratios_of(vae, unseen).mean(0) > UNUSED).all())


class _Columns:
    """The columns of a mixed table, independent of each other, from (n, d) training rows in the network's units."""

    def __init__(self, x: Tensor, law: Mixed) -> None:
        self.levels = law.levels
        self.first = [] if law.gaps is None else law.gaps.first
        self.numbers = [j for j, count in enumerate(law.levels) if not count]
        own = x[:, self.numbers]
        self.mean = own.nanmean(0).nan_to_num()
        variance = (own - self.mean).square().nanmean(0).nan_to_num()
        if law.variance is not None:  # a column of one value says nothing of which is better
            variance = torch.where(variance > 0, variance, law.variance.gamma.double().cpu())
        self.variance = variance.clamp(min=torch.finfo(torch.float32).tiny)
        self.log_shares: dict[int, Tensor] = {}
        for j, count in enumerate(law.levels):
            if count:
                met = x[:, j][~x[:, j].isnan()].long().bincount(minlength=count).double() + 1
                self.log_shares[j] = (met / met.sum()).log()
        self.gaps = (x[:, self.first].isnan().double().sum(0) + 1) / (len(x) + 2)

    def log_density(self, x: Tensor) -> Tensor:
        """(n,) nats of what is there in each row, and of which entries are."""
        own = x[:, self.numbers]
        nats = -0.5 * ((own - self.mean).square() / self.variance + (2 * math.pi * self.variance).log())
        total = nats.nansum(1)
        for j, log_shares in self.log_shares.items():
            missing = x[:, j].isnan()
            total = total + torch.where(missing, 0.0, log_shares[x[:, j].nan_to_num().long()])
        gone = x[:, self.first].isnan()
        return total + torch.where(gone, self.gaps.log(), (1 - self.gaps).log()).sum(1)


def _rows_to_compare(vae: VAE, train: Batches, unseen: Batches | None) -> Tensor | None:
    """Return (n, d) training rows, at most 20,000, in float64; None where a Gaussian of them says nothing."""
    variance = vae.likelihood.variance
    plain = variance is not None and not variance.per_sample and variance.outputs(1) == 1
    if unseen is None or len(unseen) < _LEAST_ROWS or not plain or vae.posterior.degenerate:
        return None
    if len(train.event_shape) != 1 or not 1 < train.event_shape[0] <= _MOST_COLUMNS:
        return None
    x, c = train.to("cpu").take(torch.arange(min(len(train), _MOST_ROWS)))
    x = x.double()
    if c is not None or not bool(x.isfinite().all()) or x.shape[1:] != train.event_shape:
        return None
    return x


def _of_rows(unseen: Batches, log_density: Callable[[Tensor], Tensor]) -> Tensor:
    """(n,) a log-density of (n, d) rows in float64."""
    return torch.cat([log_density(block.x.double()) for block in blocks(unseen.to("cpu"), "cpu")])


def _worth(vae: VAE, unseen: Batches, seed: int, laws: Mapping[str, LatentDensity] = NONE) -> tuple[Tensor, str]:
    """(n,) ELBO, or with laws of the codes the importance-weighted bound, and under which law that is."""
    device = next(vae.parameters()).device
    unseen = unseen.to(device)
    if laws:
        both = {PRIOR: PriorDensity(vae.prior), **laws}
        found = importance_weighted_bounds(vae, unseen, densities=both, draws=_DRAWS, seed=seed).bound
        name = max(found, key=lambda each: float(found[each].mean()))
        return found[name], name
    parts = []
    for _, own, _, generator in blocks(unseen, device, draws=lambda start: stream(device, seed, "baseline", start)):
        with torch.no_grad():
            parts.append(_elbo(vae, own, generator))
    return torch.cat(parts), PRIOR


def _elbo(vae: VAE, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """(n,) of rows, and of which of their entries are missing where that has a law."""
    noise = torch.randn(_DRAWS, len(x), vae.latent_dim, generator=generator, device=x.device)
    q, p, law = vae.encode(x), vae.prior(None), vae.likelihood
    nats = []
    for z in (draw(q, each.to(x.dtype)) for each in noise):
        parameters = vae.decoder(z, None).to(x.dtype)
        parts = [law.nll(parameters, x), *law.beside(parameters, x).values(), kl(q, p, z)]
        nats.append(torch.stack([part.double().expand(len(x)) for part in parts]).sum(0))
    return -torch.stack(nats).mean(0).cpu()


def _log_normal(x: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """(n,) log-density under a Gaussian with this Cholesky factor."""
    scaled = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False)
    constant = factor.diagonal().log().sum() + 0.5 * len(mean) * math.log(2 * math.pi)
    found: Tensor = -0.5 * scaled.square().sum(0) - constant
    return found
