"""Whether samples start where the codes are: the aggregated posterior against the laws that z is drawn from.

q(z) is the mean over x of q(z | x). A decoder has learned what to do there and nowhere else, so samples are as good as
the density of z is near q(z) (Dai & Wipf 2019, section 4 and Figure 1, right).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.arguments import short_seed
from vaelab.diagnostics.measures.latent_draws import density_draws, drawn_codes, with_prior
from vaelab.diagnostics.measures.principal import Frame
from vaelab.errors import InputError
from vaelab.latent import LatentDensity, SecondStage
from vaelab.metrics import energy_distance, two_sample_accuracy
from vaelab.metrics.distances import centred, squared_distances
from vaelab.metrics.two_sample import TwoSample
from vaelab.model import VAE, draw
from vaelab.model.contexts import evaluating
from vaelab.training import stream
from vaelab.types import Batches

_NUMBERS = 5_000_000  # of all codes together
_LEAST_ROWS = 200  # however wide the codes are
_CLASSIFIED = 64  # columns that a classifier reads
_FEWEST_CLASSIFIED = 50  # rows of each kind
_PANEL = 256  # rows of pairs, or columns, at a time
_EMBEDDED = 50  # columns that t-SNE reads


@dataclass(frozen=True)
class Match:
    """How far a density is from the codes.

    Attributes
    ----------
    energy
        Energy distance between codes and draws, unbiased, in the units of z; may be slightly negative.
    floor
        The same between two halves of the codes: what equal laws give.
    share
        `energy` over 2 E‖x − y‖, held to [0, 1]: 0 for equal laws, 1 for two points (Székely & Rizzo 2013, the
        coefficient of inhomogeneity).
    accuracy
        Of a classifier that tells codes from draws, on held-out ones; 0.5 if it cannot. It reads the 64 leading
        principal components where there are more dimensions. None for fewer than 50 rows.
    ks
        (κ,) Kolmogorov-Smirnov statistic of two samples, for every dimension.
    mean
        (κ,) mean of the codes less that of the draws, in deviations of the draws.
    variance
        (κ,) variance of the codes over that of the draws; below 1 where the draws are too wide.
    """

    energy: float
    floor: float
    share: float
    accuracy: TwoSample | None
    ks: Tensor
    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Aggregated:
    """The aggregated posterior against densities.

    Attributes
    ----------
    rows
        Codes, and draws of each density.
    matches
        Name of a density → how far it is; ``"prior"`` is always there.
    spectra
        ``"z ~ q(z)"``, ``"normal draws"``, and ``"u ~ q(u)"`` where a density is a second stage → singular values of
        the matrix of such codes over √rows, descending. Codes are in the units of the prior. At the optimum that of u
        lies on that of normal draws, and that of z does not.
    """

    rows: int
    matches: dict[str, Match]
    spectra: dict[str, Tensor]


@torch.no_grad()
def aggregated(
    vae: VAE, batches: Batches, densities: Mapping[str, LatentDensity], *, rows: int = 5000, seed: int = 0
) -> Aggregated:
    """Compare the codes of a data set with densities.

    Parameters
    ----------
    vae
        Measured in evaluation mode; left as it is.
    batches
        Rows in the network's units, with their conditions if the model has one.
    densities
        Name → density on the model's device. They are drawn from under the conditions of the rows.
    rows
        Rows at most; fewer where codes have more than 1,000 dimensions.
    seed
        Of rows, draws and classifier.

    Raises
    ------
    InputError
        Fewer than 4 rows, or codes that are not finite.
    """
    most = max(_LEAST_ROWS, _NUMBERS // vae.latent_dim)
    z, c = drawn_codes(vae, batches, rows=min(rows, most), seed=seed)
    if not bool(z.isfinite().all()):
        raise InputError("codes that are not finite", "numbers", "The training has diverged: train again.")
    half = len(z) // 2
    floor = energy_distance(z[:half], z[half:])
    matches, second = {}, None
    for name, density in with_prior(vae, densities).items():
        drawn = density_draws(density, z, c, stream(z.device, seed, "draws", name))
        matches[name] = _match(z, drawn, floor, seed)
        second = density if isinstance(density, SecondStage) else second
    generator = stream(z.device, seed, "spectra")
    p = vae.prior(c)
    spectra = {
        "z ~ q(z)": _spectrum((z - p.mean) / p.stddev),
        "normal draws": _spectrum(torch.randn(z.shape, generator=generator, device=z.device)),
    }
    if second is not None:
        spectra["u ~ q(u)"] = _spectrum(_second_codes(second.vae, z, c, generator))
    return Aggregated(len(z), matches, spectra)


def _match(z: Tensor, drawn: Tensor, floor: float, seed: int) -> Match:
    energy = energy_distance(z, drawn)
    across = _mean_distance(z, drawn)
    mean, std = drawn.double().mean(0), drawn.double().std(0)
    std = std.where(std > 0, 1.0)
    return Match(
        energy=energy,
        floor=floor,
        share=min(1.0, max(0.0, energy / (2 * across))) if across > 0 else 0.0,
        accuracy=_accuracy(z, drawn, seed),
        ks=kolmogorov_smirnov(z, drawn).cpu(),
        mean=((z.double().mean(0) - mean) / std).cpu(),
        variance=(z.double().std(0) / std).square().cpu(),
    )


def _mean_distance(x: Tensor, y: Tensor) -> float:
    """E‖x − y‖ over all pairs."""
    x, y = centred(x, y)
    total = sum(float(squared_distances(part, y).sqrt_().sum()) for part in x.split(_PANEL))
    return total / (len(x) * len(y))


def _accuracy(z: Tensor, drawn: Tensor, seed: int) -> TwoSample | None:
    if len(z) < _FEWEST_CLASSIFIED:
        return None
    if z.shape[1] > _CLASSIFIED:
        # codes and draws by turns, since a frame is fitted to the first rows
        frame = Frame.of(torch.stack([z, drawn], 1).flatten(0, 1), _CLASSIFIED)
        if frame.axes.shape[1]:
            z, drawn = frame.coordinates(z), frame.coordinates(drawn)
    return two_sample_accuracy(z, drawn, seed=seed)


def kolmogorov_smirnov(x: Tensor, y: Tensor) -> Tensor:
    """(κ,) largest difference of the two empirical distribution functions, column by column.

    Parameters
    ----------
    x, y
        (n, κ) and (m, κ).
    """
    found = []
    for own, other in zip(x.split(_PANEL, 1), y.split(_PANEL, 1), strict=True):
        values, order = torch.cat([own, other]).double().sort(0)
        steps = torch.where(order < len(x), values.new_tensor(1 / len(x)), values.new_tensor(-1 / len(y)))
        # among equal values only the last one has all of them below or at it
        last = torch.cat([values.diff(dim=0) > 0, torch.ones_like(values[:1], dtype=torch.bool)])
        found.append((steps.cumsum(0).abs() * last).amax(0))
    return torch.cat(found)


def _spectrum(rows: Tensor) -> Tensor:
    """Singular values of (n, κ) over √n, descending, on the CPU; from the smaller of the two matrices of products."""
    rows = rows.double()
    products = rows.T @ rows if rows.shape[1] <= len(rows) else rows @ rows.T
    values = torch.linalg.eigvalsh(products / len(rows)).flip(0)
    # below this they are rounding
    kept: Tensor = values.clamp(min=float(values[0]) * torch.finfo(values.dtype).eps)
    return kept.sqrt().cpu()


def _second_codes(vae: VAE, z: Tensor, c: Tensor | None, generator: torch.Generator) -> Tensor:
    """(n, κ) u ~ q(u | z) of a second stage, in evaluation mode."""
    with evaluating(vae):
        q = vae.encode(z.to(next(vae.parameters()).dtype), c)
    noise = torch.randn(q.mean.shape, generator=generator, device=z.device).to(q.mean.dtype)
    return draw(q, noise)


def embedding(codes: Tensor, draws: Tensor, *, most: int = 1000, seed: int = 0) -> Tensor:
    """Lay codes and draws from a density out in a plane by t-SNE.

    van der Maaten & Hinton 2008. Distances between clusters mean little.

    Parameters
    ----------
    codes, draws
        (n, κ) and (m, κ).
    most
        Rows of each at most: the first ones.
    seed
        Of the layout.

    Returns
    -------
    Tensor
        (·, 2) float64 on the CPU: the codes, then the draws.

    Raises
    ------
    InputError
        Fewer than 4 rows in all, or different widths.
    """
    from sklearn.manifold import TSNE  # slow to import

    if codes.ndim != 2 or draws.ndim != 2 or codes.shape[1] != draws.shape[1]:
        raise InputError(f"rows of shapes {tuple(codes.shape)} and {tuple(draws.shape)}", "(n, κ) and (m, κ)")
    rows = torch.cat([codes[:most], draws[:most]]).double().cpu()
    if len(rows) < 4:
        raise InputError(f"{len(rows)} rows", "at least 4")
    if rows.shape[1] > _EMBEDDED:
        order = torch.randperm(len(rows), generator=stream("cpu", seed, "embedding"))
        rows = Frame.of(rows[order], _EMBEDDED).coordinates(rows)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    start = "pca" if rows.shape[1] > 1 else "random"
    plane = TSNE(2, perplexity=perplexity, init=start, random_state=short_seed(seed)).fit_transform(rows.numpy())
    return torch.as_tensor(plane).double()
