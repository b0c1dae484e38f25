"""Stage one: the VAE, from other starts where unseen rows may prefer that, and of a size that suits the data."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vaelab.data import ArrayBatches, MappedBatches
from vaelab.errors import InputError, VaelabWarning
from vaelab.latent import Codes, LatentDensity, Site, law_of
from vaelab.model import VAE, Mixed
from vaelab.model.linear import begin_linear, best_linear_model, can_begin_linear, set_gamma, whitening
from vaelab.runs.baseline import NONE, Gain, gain_over_gaussian, gain_over_simple
from vaelab.runs.whitened import LEAST_TO_WHITEN, can_whiten, components_of, evidence, law_of_whitened, whiten
from vaelab.specs import MLP, FitSettings, Profiled, Settings, build_vae
from vaelab.specs import Gaussian as GaussianSpec
from vaelab.specs.densities import ordered
from vaelab.training import Hook, fit, stream
from vaelab.types import Batches, Trainable

FIRST = "stage one"
LINEAR, BELOW = "from a linear model", "from below"  # the same again from another start
ONE = "with one variance"  # of which a variance per column begins
_LOW = 0.01  # first γ of a training that is tried again, relative to the variance of the data
_MOST_FOR_LINEAR = 20_000  # rows
_MOST_FOR_LAW = 3_000


class Kept(NamedTuple):
    """The VAE that is kept of one or several trainings.

    Attributes
    ----------
    settings
        With the number of latent dimensions that it has.
    vae
        The model.
    gain
        What unseen rows get from it beyond something simple; None where that was not compared.
    stage
        The training that it is of, as its records name it.
    dropped_from
        Latent dimensions of the training, where idle ones were dropped after it.
    laws
        Of its codes, by name, with which it was compared; none where that was its prior alone.
    lossless
        Whether it is no training's, but the whitening of the rows.
    linear
        Whether it is no training's, but a linear model.
    """

    settings: Settings
    vae: VAE
    gain: Gain | None
    stage: str
    dropped_from: int | None = None
    laws: Mapping[str, LatentDensity] = NONE
    lossless: bool = False
    linear: bool = False

    @property
    def value(self) -> float:
        """The gain, by which trainings are ranked."""
        return -math.inf if self.gain is None else self.gain.value

    def clearly_above(self, simpler: Kept) -> bool:
        """Whether unseen rows clearly prefer it; as clearly as not where that is not known.

        The same rows have chosen the weights and the γ of a training, but nothing of a linear model or a whitening, so
        that a training is twice as clearly above one of these as it is above another training.
        """
        if self.gain is None or simpler.gain is None:
            return True
        chosen = not (self.linear or self.lossless) and (simpler.linear or simpler.lossless)
        return self.gain.clearly_above(simpler.gain, errors=2 if chosen else 1)


@dataclass(frozen=True)
class FirstStage:
    """What the first stage of one training is trained on and with.

    Attributes
    ----------
    batches, rest
        Training rows, and those that are set aside, or None.
    event_shape, data_variance, condition_shape, levels, ordered, gaps
        As for `vaelab.specs.build_vae`.
    hooks, states, resume
        As for `vaelab.runs.train`.
    """

    batches: ArrayBatches | MappedBatches
    rest: ArrayBatches | MappedBatches | None
    event_shape: tuple[int, ...]
    data_variance: float
    condition_shape: tuple[int, ...]
    levels: tuple[int, ...]
    ordered: tuple[bool, ...]
    gaps: tuple[int, ...]
    hooks: Sequence[Hook]
    states: Path | None
    resume: bool

    def trained(self, settings: Settings, stage: str = FIRST) -> Kept:
        """Train from random weights, and again from another start where unseen rows may prefer that.

        A γ per column begins with what one γ ends with, and stays that unless it is clearly better. A linear model
        with a γ per column was preferred to those with one γ by all rows, and is left only for what is clearly better.
        """
        poorer = _with_one_variance(settings)
        if poorer is None:
            return _asked(settings, self._or_lossless(settings, self._tried(settings, stage)))
        one = self._tried(poorer, f"{stage} {ONE}")
        kept = self._tried(settings, stage, begin=one.vae)._replace(settings=settings)
        least = self._or_lossless(poorer, one)
        if kept.linear and (least.linear or not least.clearly_above(kept)):
            return kept
        if not kept.linear and kept.clearly_above(least):
            return kept
        kept = _asked(settings, least)
        vae, variance = self._around(kept.settings, least.vae), least.vae.likelihood.variance
        assert variance is not None
        gamma = variance.gamma.double()
        numbers = self.levels.count(0) if self.levels else self.event_shape[0]
        set_gamma(vae, gamma.expand(numbers))
        return kept._replace(vae=vae)

    def grown(self, settings: Settings) -> Kept:
        """Train with larger and larger codes until at least half of one is idle, and drop what is idle."""
        from vaelab.runs.size import first_size, largest_size, without_idle  # loads what looks for neighbours

        size, most = first_size(self.batches, self.levels), largest_size(self.event_shape, self.levels)
        while True:
            size = min(size, most)
            sized = settings.model_copy(update={"latent_dim": size})
            for hook in self.hooks:
                hook.note(f"training with {size} latent dimensions")
            # what is counted is what training under the prior keeps, whatever laws are fitted to its codes
            kept = self.trained(sized.model_copy(update={"densities": ()}), f"{FIRST}, {size} dimensions")
            smaller, active = without_idle(kept.vae, self.batches)
            if 2 * active <= size or size == most:
                sized = sized.model_copy(update={"latent_dim": smaller.latent_dim})
                dropped = size if smaller.latent_dim < size else None
                judged = self._judged(sized, smaller, kept.stage)
                return judged._replace(dropped_from=dropped, lossless=kept.lossless)
            size *= 2

    def _tried(self, settings: Settings, stage: str, begin: VAE | None = None) -> Kept:
        """Train from every start that unseen rows may prefer; what is not clearly above a simpler one is left."""
        *simple, kept = self._from(settings, stage, begin)
        for how, another in ((BELOW, _from_below), (LINEAR, _from_linear)):
            other = another(settings, kept.vae, kept.gain)
            if other is not None:
                *before, last = self._from(other, f"{stage} {how}")
                simple += before
                kept = max(kept, last, key=lambda each: each.value)
        best = max([kept, *simple], key=lambda each: each.value)
        simple.sort(key=lambda each: not each.linear)
        # the same best for all, so that small losses do not add up
        return next((each for each in simple if not best.clearly_above(each)), best)

    def _from(self, settings: Settings, stage: str, begin: VAE | None = None) -> Iterator[Kept]:
        """Train a VAE, of the same seed always, so that only the settings differ; a linear one comes before."""
        batches, rest = self.batches, self.rest
        if begin is None:
            vae = self._built(settings)
        else:
            vae = self._around(settings, begin)
            _calibrate(vae, batches, rest, settings.seed, f"{stage} {ONE}")
            yield self._judged(settings, copy.deepcopy(vae), f"{stage} {ONE}", calibrated=True)
        if getattr(settings.network, "start", None) == "linear":
            _begin_linear(vae, batches, rest)
            yield self._judged(settings, copy.deepcopy(vae), stage)._replace(linear=True)
        fit_stage(vae, batches, rest, settings, settings.training, stage, self.hooks, self.states, resume=self.resume)
        yield self._judged(settings, vae, stage, calibrated=True)

    def _around(self, settings: Settings, vae: VAE) -> VAE:
        """Build a VAE around copies of the networks of another."""
        new = self._built(settings).to(next(vae.parameters()).device)
        new.encoder, new.decoder = copy.deepcopy(vae.encoder), copy.deepcopy(vae.decoder)
        return new.eval()

    def _or_lossless(self, settings: Settings, kept: Kept) -> Kept:
        """Return a VAE that whitens the rows, where laws are fitted to codes and unseen rows clearly prefer it.

        γ is profiled under N(0, I). Where the codes have another law it takes up what they cannot say under that, and
        no law that is fitted to them later gets it back. The unseen rows have also chosen the weights and the γ of the
        training, but nothing of the whitening, whose γ is at its floor.
        """
        if isinstance(kept.vae.likelihood, Mixed):
            return self._or_mixture_of_rows(settings, kept)
        if not kept.laws or kept.gain is None or not _may_begin_linear(settings, kept.vae):
            return kept
        if can_begin_linear(kept.vae) < math.prod(self.event_shape):
            return kept
        vae = self._built(settings).to(next(kept.vae.parameters()).device)
        x, _ = _some_rows(self.batches)
        begin_linear(vae, whitening(x, _floor(vae)))
        other = self._judged(settings, vae, kept.stage)._replace(lossless=True)
        return other if other.gain is not None and other.clearly_above(kept) else kept

    def _or_mixture_of_rows(self, settings: Settings, kept: Kept) -> Kept:
        """Do the same for a mixed table, with a law that is fitted to rows with gaps; see `vaelab.runs.whitened`."""
        law, network = law_of_whitened(settings), settings.network
        if law is None or self.rest is None or kept.gain is None or not kept.gain.rows:
            return kept
        if not isinstance(network, MLP) or network.start is not None or not can_whiten(kept.vae):
            return kept
        (x, c), (unseen, _) = _some_rows(self.batches), _some_rows(self.rest)
        if c is not None or len(x) < LEAST_TO_WHITEN:
            return kept
        levels = self.levels or (0,) * self.event_shape[0]
        own = settings.model_copy(update={"latent_dim": levels.count(0)})
        vae = self._built(own).to(next(kept.vae.parameters()).device)
        size = components_of(law, x, levels, settings.seed)
        found = whiten(vae, x, size, settings.seed, _floor(vae))
        more = evidence(vae, unseen, settings.seed, found) - evidence(kept.vae, unseen, settings.seed)
        gain = kept.gain.of_rows((torch.tensor(kept.gain.rows, dtype=torch.float64) + more).tolist())
        if not gain.clearly_above(kept.gain):
            return kept
        found = whiten(vae, torch.cat([x, unseen]), size, settings.seed, _floor(vae))
        gain = gain._replace(law=law.name, unused=False)
        return kept._replace(settings=own, vae=vae.eval(), gain=gain, laws={law.name: found}, lossless=True)

    def _built(self, settings: Settings) -> VAE:
        return build_vae(
            settings,
            self.event_shape,
            data_variance=self.data_variance,
            condition_shape=self.condition_shape,
            levels=self.levels,
            ordered=self.ordered,
            gaps=self.gaps,
        )

    def _judged(self, settings: Settings, vae: VAE, stage: str, *, calibrated: bool = False) -> Kept:
        """Compare a VAE on unseen rows, with the law that its codes get where that costs no training.

        A γ that was calibrated on the unseen rows is set for each half of them by the other half, or one with a number
        for every column would be taken for better than it is.
        """
        seed, fitted = settings.seed, NONE
        laws = ordered(each for each in settings.densities if not each.gradient)
        gain = gain_over_simple(vae.eval(), self.batches, self.rest, seed=seed)
        if gain is not None and gain.beside != "columns" and laws:  # of numbers, without conditions
            few = torch.linspace(0, len(self.batches) - 1, min(len(self.batches), _MOST_FOR_LAW), dtype=torch.float64)
            codes = Codes.of(vae, self.batches.subset(few.long()))
            law = law_of(laws[-1]).fit(laws[-1], codes, Site(settings), lambda model, length, stage: model)
            fitted = {laws[-1].name: law}
            gain = gain_over_gaussian(vae, self.batches, self.rest, seed=seed, laws=fitted)
        per_column = vae.likelihood.variance is not None and vae.likelihood.variance.diagonal
        if gain is not None and gain.beside != "columns" and calibrated and per_column:
            gain = self._by_halves(vae, gain, seed, stage, fitted)
        return Kept(settings, vae, gain, stage, laws=fitted)

    def _by_halves(self, vae: VAE, gain: Gain, seed: int, stage: str, laws: Mapping[str, LatentDensity]) -> Gain:
        """Return the gain where γ is of rows that it is not judged on; as it is where halves are too few to compare."""
        assert self.rest is not None  # or nothing was compared
        halves = torch.arange(len(self.rest)).chunk(2)
        rows: list[float] = []
        for own, other in (halves, halves[::-1]):
            again = copy.deepcopy(vae)
            _calibrate(again, self.batches, self.rest.subset(other), seed, stage)
            found = gain_over_gaussian(again, self.batches, self.rest.subset(own), seed=seed, laws=laws)
            if found is None:
                return gain
            rows += found.rows
        return gain.of_rows(rows)


def _asked(settings: Settings, kept: Kept) -> Kept:
    """Return what is kept with the settings that were asked for, but for the number of latent dimensions it has."""
    return kept._replace(settings=settings.model_copy(update={"latent_dim": kept.vae.latent_dim}))


def _from_linear(settings: Settings, vae: VAE, gain: Gain | None) -> Settings | None:
    """Return settings to train once more with, from a linear model, or None where that is of no use.

    Where a Gaussian is as good, or a γ per column has given columns up, a training from random weights has stopped
    short of what is linear in the rows.
    """
    likelihood = settings.likelihood
    if gain is None or not isinstance(likelihood, GaussianSpec) or not _may_begin_linear(settings, vae):
        return None
    if likelihood.shape != "diag-i" and gain.value > 2 * gain.error:
        return None
    return settings.model_copy(update={"network": settings.network.set_params(start="linear")})


def _may_begin_linear(settings: Settings, vae: VAE) -> bool:
    """Whether a linear model is another start that was not ruled out."""
    network, likelihood = settings.network, settings.likelihood
    if not isinstance(network, MLP) or network.start is not None or not can_begin_linear(vae):
        return False
    return isinstance(likelihood, GaussianSpec) and isinstance(likelihood.variance, Profiled)


def _with_one_variance(settings: Settings) -> Settings | None:
    """Return settings with one γ for those of a γ per column that have no start of their own, else None.

    From random weights a γ per column gives columns up before the decoder has learned them.
    """
    likelihood = settings.likelihood
    if not isinstance(likelihood, GaussianSpec) or not isinstance(likelihood.variance, Profiled):
        return None
    if likelihood.shape != "diag-i" or likelihood.variance.start is not None:
        return None
    if not isinstance(settings.network, MLP) or settings.network.start is not None:
        return None
    return settings.model_copy(update={"likelihood": likelihood.set_params(shape="iso-i")})


def _from_below(settings: Settings, vae: VAE, gain: Gain | None) -> Settings | None:
    """Return settings with a γ that starts low, where training found nothing, or None.

    It leaves the saddle in which z is unused.
    """
    likelihood = settings.likelihood
    if gain is None or not isinstance(likelihood, GaussianSpec) or not isinstance(likelihood.variance, Profiled):
        return None
    if gain.value > 2 * gain.error or not gain.unused or likelihood.variance.start is not None:
        return None
    low = likelihood.set_params(variance=likelihood.variance.set_params(start=_LOW))
    return settings.model_copy(update={"likelihood": low})


def _begin_linear(vae: VAE, batches: Batches, rest: Batches | None) -> None:
    """Set the first weights to the linear model that unseen rows prefer.

    Raises
    ------
    InputError
        The networks cannot be affine, or the rows have conditions or gaps.
    """
    (x, c), (unseen, _) = _some_rows(batches), _some_rows(rest or batches)
    most = can_begin_linear(vae)
    if c is not None or not most or not bool(x.isfinite().all()):
        raise InputError("start='linear' for such data or settings", "a table of numbers", "Leave start out.")
    variance = vae.likelihood.variance
    diagonal = variance is not None and variance.diagonal
    begin_linear(vae, best_linear_model(x, unseen, most, diagonal=diagonal, floor=_floor(vae)))


def _some_rows(batches: Batches) -> tuple[Tensor, Tensor | None]:
    return batches.to("cpu").take(torch.arange(min(len(batches), _MOST_FOR_LINEAR)))


def _floor(vae: VAE) -> float:
    return 0.0 if vae.likelihood.variance is None else vae.likelihood.variance.floor


def fit_stage(
    model: Trainable,
    batches: Batches,
    held_out: Batches | None,
    settings: Settings,
    length: FitSettings,
    stage: str,
    hooks: Sequence[Hook],
    states: Path | None,
    *,
    resume: bool,
) -> None:
    """Train one stage, then set a profiled γ, from rows that were set aside where there are any."""
    if held_out is None and length.watches:
        text = f"{stage}: too few rows to hold any out, which {length.watches} watches; it is trained to its end"
        text += ", at one learning rate." if length.schedule.kind == "plateau" else "."
        warnings.warn(text, VaelabWarning, stacklevel=4)
        length = length.unwatched()
    fit(
        model,
        batches,
        length,
        compute=settings.compute,
        seed=settings.seed,
        held_out=held_out,
        hooks=hooks,
        stage=stage,
        state_file=None if states is None else states / f"{stage.replace(' ', '-')}.safetensors",
        resume=resume,
    )
    if not isinstance(model, VAE):
        return
    _calibrate(model, batches, held_out, settings.seed, stage)
    variance = model.likelihood.variance
    if variance is not None and variance.at_floor:
        warnings.warn(
            f"{stage}: the decoder variance reached its floor, {variance.floor:.2g} in the network's "
            "units: the data look noiseless. Likelihoods are then set by its floor, not by the data.",
            VaelabWarning,
            stacklevel=4,
        )


def _calibrate(vae: VAE, batches: Batches, held_out: Batches | None, seed: int, stage: str) -> None:
    device = next(vae.parameters()).device
    vae.calibrate(
        batches.to(device),
        unseen=None if held_out is None else held_out.to(device),
        generator=stream(device, seed, stage, "calibrate"),
    )
