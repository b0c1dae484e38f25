"""What a trained model does on rows it has not seen, in numbers and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from vaelab.data import Split
from vaelab.latent import Codes, compare_on_codes
from vaelab.metrics import energy_distance
from vaelab.model import ACTIVE_BELOW, FixedVariance, count_active, reconstruction_error, variance_ratios_of
from vaelab.rows import blocks
from vaelab.runs.bounds import of_gaps
from vaelab.runs.trained import Trained
from vaelab.specs.densities import title_of
from vaelab.training import stream

_MOST_FOR_DISTANCE = 2_000
_DRAWS = 16  # of z for each row whose gaps the encoder cannot read


@dataclass(frozen=True)
class Assessment:
    """Numbers on test rows, in the network's units ([0, 1] for images, standardised for tables).

    Attributes
    ----------
    rows
        Test rows.
    mse
        Mean squared error per dimension of the decoder mean at the posterior mean.
    nelbo, distortion, kl
        Nats per row; None for a deterministic posterior, which has no KL. Of whitened columns under the law of the
        code, as `vaelab.runs.Trained.bound` has it.
    caveat
        Why −ELBO and distortion are none of a density, or None.
    gamma
        Decoder variance; None for a likelihood without one.
    active_dimensions
        Latent dimensions whose mean posterior variance is below 0.05.
    variance_ratios
        The posterior variance of each latent dimension, mean over the test rows.
    code_log_density
        Density → mean log-density of test codes, nats; a lower bound for the second stage.
    code_distance
        Density → energy distance between test codes and as many draws.
    """

    rows: int
    mse: float
    nelbo: float | None
    distortion: float | None
    kl: float | None
    caveat: str | None
    gamma: float | None
    active_dimensions: int
    variance_ratios: list[float]
    code_log_density: dict[str, float]
    code_distance: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def assess(trained: Trained, split: Split, *, seed: int = 0) -> Assessment:
    """Measure a trained model on a split of data, which `Trained.conditioned` returned."""
    batches = trained.batches_of(split).to(trained.device)
    codes = Codes.of(trained.vae, batches)
    ratios = variance_ratios_of(trained.vae, batches).mean(0)
    plain, law = trained.vae.posterior.degenerate, trained.law()
    sums = torch.zeros(3, dtype=torch.float64)  # squared error, distortion, KL
    caveat: str | None = None
    given = trained.batches_with_gaps(split).to(trained.device)
    for rows, read, c, _ in blocks(batches, trained.device):
        x, _ = given.take(torch.arange(rows.start, rows.stop, device=trained.device))
        generator = stream(trained.device, seed, "assess", rows.start)
        caveat = caveat or trained.vae.likelihood.caveat(x)
        terms = [reconstruction_error(trained.vae, x, c, read=read)]
        if not plain:
            noise = torch.randn(1, len(x), trained.vae.latent_dim, generator=generator, device=trained.device)
            terms += _by_what_is_there(trained, x, *trained.vae.elbo(read, c, noise=noise, law=law))
        sums[: len(terms)] += torch.stack(terms).sum(1).cpu().double()
    mse, distortion, kl = (sums / len(batches)).tolist()
    variance = trained.vae.likelihood.variance
    return Assessment(
        rows=len(batches),
        mse=mse,
        nelbo=None if plain else distortion + kl,
        distortion=None if plain else distortion,
        kl=None if plain else kl,
        caveat=caveat,
        gamma=None if variance is None else float(variance.gamma.mean()),
        active_dimensions=count_active(ratios, trained.active_below),
        variance_ratios=ratios.tolist(),
        code_log_density=compare_on_codes(trained.densities, codes, seed=seed).scores,
        code_distance=_distances(trained, codes, seed),
    )


def _by_what_is_there(trained: Trained, x: Tensor, distortion: Tensor, kl: Tensor) -> tuple[Tensor, Tensor]:
    """Return both terms, in rows with gaps of whitened columns those of what was observed: others were filled."""
    law, gone = trained.components(), x.isnan().flatten(1).any(1)
    if law is None or not bool(gone.any()):
        return distortion, kl
    vae, kind = trained.exact()
    own, evidence = of_gaps(vae, x[gone].to(kind), trained.score_noise(_DRAWS)[:, None], law)
    return distortion.masked_scatter(gone, own.to(distortion)), kl.masked_scatter(gone, (-evidence - own).to(kl))


@torch.no_grad()
def _distances(trained: Trained, codes: Codes, seed: int) -> dict[str, float]:
    n = min(len(codes), _MOST_FOR_DISTANCE)
    if n < 2:
        return {}
    generator = stream(trained.device, seed, "assess")
    real, c = codes.pairs(n, generator=generator)
    return {
        name: energy_distance(real, density.sample(n, c, generator=stream(trained.device, seed, "assess", name)))
        for name, density in trained.densities.items()
    }


def findings(trained: Trained, assessment: Assessment) -> list[str]:
    """Say in words what was found; one sentence or two per line."""
    facts, settings, found = trained.facts, trained.settings, assessment
    size = torch.Size(facts.event_shape).numel()
    image = facts.kind == "image"
    what = ("pixels" if facts.event_shape[0] == 1 else "pixel values") if image else "columns"
    lines = [_on_dimensions(trained, found, f"{size} {what}")]
    unit = "of the pixel range" if image else "standard deviations of a column"
    if settings.likelihood.takes != "columns" or found.gamma is not None:  # there are numbers
        lines.append(f"Unseen rows are rebuilt to within {found.mse**0.5:.3f} {unit} (root mean squared error).")
    given = facts.lossless or isinstance(trained.vae.likelihood.variance, FixedVariance)
    if found.gamma is not None and not given:
        lines.append(
            f"The decoder's noise came out at a standard deviation of {found.gamma**0.5:.3f} (γ = {found.gamma:.2g}). "
            "A plain squared-error loss fixes it at 1, takes most of what you see for noise, and blurs it."
        )
    if found.nelbo is not None:
        cost = f"{found.nelbo:.1f} nats each (−ELBO: {found.distortion:.1f} distortion + {found.kl:.1f} KL)"
        label = f" This is no log-density: {found.caveat}." if found.caveat else ""
        lines.append(f"Unseen rows cost {cost}.{label}")
    gain = facts.gaussian_gain
    if gain is not None:
        lines.append(gain.doubt or gain.found)
    elif trained.unused:
        lines.append(trained.unused)
    if facts.mixture is not None and facts.mixture.better:
        lines.append(facts.mixture.better)
    if len(trained.densities) > 1:
        lines.append(_on_densities(trained, found))
    return lines


def _on_dimensions(trained: Trained, found: Assessment, what: str) -> str:
    count, size = found.active_dimensions, trained.settings.size
    if trained.settings.posterior.degenerate:
        return f"{what} are coded in {size} numbers, without noise: an autoencoder."
    if trained.whitened:
        return trained.whitened
    if not count:
        return f"The code is idle: none of the {size} latent dimensions tells the decoder anything of the {what}."
    if trained.active_below > ACTIVE_BELOW:
        return (
            f"{count} of {size} latent dimensions carry a tenth of a nat or more. The noise is too large, at a "
            f"variance of {found.gamma:.2g}, to say on how many dimensions the {what} live."
        )
    if count == size and trained.facts.trained_latent_dim is not None:
        return (
            f"{what} live on about {count} dimensions: the others of {trained.facts.trained_latent_dim} latent "
            "dimensions stayed idle in training, and were dropped."
        )
    if count == size:
        return f"All {count} latent dimensions are in use; try a larger --latent-dim."
    return (
        f"{what} live on about {count} dimensions: training kept {count} of {size} latent dimensions active and left "
        "the others idle."
    )


def _on_densities(trained: Trained, found: Assessment) -> str:
    best = trained.facts.best_density
    compared = "training codes (none were held out)" if trained.facts.scored_on_training else "held-out codes"
    if trained.facts.nearer_than is not None:
        return (
            f"Samples come from {title_of(best)}: its draws, decoded, are clearly nearer to held-out rows "
            f"than those of {title_of(trained.facts.nearer_than)}, which explains their codes best."
        )
    if best == "prior":
        return f"The codes fill the prior: nothing else clearly explains {compared} better. Samples come from it."
    gain = found.code_log_density[best] - found.code_log_density["prior"]
    if gain < 0.05:  # chosen on other codes than these
        return (
            f"The codes nearly fill the prior: {title_of(best)} is best on {compared}, and samples come from it; "
            "other unseen codes it explains no better."
        )
    return (
        f"The codes do not fill the prior: {title_of(best)} explains unseen codes {gain:.1f} nats better than it. "
        f"Samples come from it, since it is best on {compared}."
    )
