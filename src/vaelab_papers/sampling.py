"""Jobs that end in samples: a row of settings, its latent densities, and what `evaluate` says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor

from vaelab.data import ArrayBatches, Dataset, Scaling, load
from vaelab.errors import InputError
from vaelab.latent import Codes, PriorDensity, fit_mixture
from vaelab.metrics.report import Report
from vaelab.runs import Facts, Trained
from vaelab.runs.stages import fit_densities, mean_variance
from vaelab.spec import parse
from vaelab.specs import Network, Settings, build_vae
from vaelab.specs.densities import Density, SecondStage
from vaelab.specs.likelihoods import WithVariance
from vaelab.specs.networks import Wide
from vaelab.training import stream
from vaelab.types import Batches
from vaelab.verbs import Options, evaluate
from vaelab_papers.job import Job, Sampling
from vaelab_papers.table import Scale

_STAND_INS = {1: (8, True), 3: (8, False)}  # channels → side and grey, of the bundled digits

_COLUMNS = {  # measure → row and measure of the report
    "mse": ("reconstructions", "squared_error"),
    "prior": ("prior", "frechet"),
    "second_stage": ("second_stage", "frechet"),
    "middle": ("spherical, middle", "frechet"),
    "random": ("spherical, random", "frechet"),
}


def images(name: str, scale: Scale, *, channels: int = 1) -> Dataset:
    """Load a data set of images, or the bundled digits in as many channels where the scale asks for a stand-in."""
    if not scale.stand_in:
        return load(name)
    side, grey = _STAND_INS[channels]
    return load("digits", image_size=side, grey=grey)


def training_rows(data: Dataset, scale: Scale) -> Tensor:
    """Return as many training rows as the scale says, the first ones.

    Raises
    ------
    InputError
        They are on disk.
    """
    if not isinstance(data.train.x, Tensor):
        raise InputError(f"{data.name} on disk", "rows in memory")
    return data.train.x[: scale.rows]


def settings_of(
    row: Mapping[str, object], batches: Batches, scale: Scale, seed: int, *, floor: float | None = None
) -> Settings:
    """Complete a row of settings by what the scale and the data decide.

    Parameters
    ----------
    row
        Settings by name; lengths, widths and learning rates come from the scale.
    batches
        What is trained on.
    scale
        Budget.
    seed
        Of weights, order and noise.
    floor
        Smallest decoder variance, in the network's units; that of the settings if None.

    Raises
    ------
    InputError
        The settings do not fit together, or not with the data.
    """
    network = Network.of(row["network"])
    if isinstance(network, Wide):
        network = network.set_params(base_width=scale.hidden)
    fit = scale.fit.set_params(keep_best=False)
    given = {**row, "network": network, "training": fit, "held_out": 0.0, "seed": seed}
    if "densities" in row:
        given["densities"] = tuple(_with_effort(law, scale) for law in cast("tuple[str, ...]", row["densities"]))
    settings = parse(Settings, given)
    if floor is not None and isinstance(settings.likelihood, WithVariance):
        settings = settings.set_params(likelihood__floor=floor / mean_variance(batches))
    return settings.resolve(len(batches), batches.event_shape)


def job_of(
    row: Mapping[str, object],
    data: Dataset,
    scale: Scale,
    seed: int,
    *,
    metrics: tuple[str, ...],
    densities: tuple[str, ...],
    mixtures: tuple[int, ...] = (),
    floor: float | None = None,
) -> Job:
    """Build the model that a row of settings describes, and say what to measure of it.

    Parameters
    ----------
    row, scale, seed, floor
        As for `settings_of`; the scale has an effort.
    data
        Its first rows are trained on, as many as the scale says.
    metrics, densities
        As in `vaelab.verbs.Options`; what a density needs is in the row.
    mixtures
        Numbers of components of further mixtures.

    Raises
    ------
    InputError
        The scale has no effort, the data are on disk, or the settings do not fit together.
    """
    effort = scale.effort
    if effort is None:
        raise InputError("a scale without an effort", "one that says how samples are measured")
    batches = ArrayBatches(training_rows(data, scale), None, Scaling.fit(data.train.x, data.kind))
    settings = settings_of(row, batches, scale, seed, floor=floor)
    options = Options(
        metrics=metrics,
        draws=effort.draws,
        densities=densities,
        likelihood_draws=effort.likelihood_draws,
        likelihood_rows=effort.likelihood_rows,
    )
    model = build_vae(settings, data.event_shape, data_variance=mean_variance(batches))
    return Job(model, batches, sampling=Sampling(data, settings, options, effort.protocol, mixtures))


def measure_samples(job: Job) -> dict[str, float]:
    """Fit the latent densities of a trained model, and measure its samples, reconstructions and interpolations.

    Returns
    -------
    dict
        ``mse``, the squared error of test rows summed over a row; Fréchet distances of samples from the ``prior``, the
        ``second_stage`` and mixtures (``gmm10``), and of interpolations half way (``middle``) and at a ``random``
        point of great circles between codes; ``nll``, minus the importance-weighted bound on test rows, nats; ``gamma``
        where there is a decoder variance. Only what the job asks for.
    """
    sampling = job.sampling
    if sampling is None:
        raise InputError("a job without data to compare samples with", "one that `job_of` built")
    trained = _with_densities(job, sampling)
    report = evaluate(trained, sampling.data, protocols=[sampling.protocol], options=sampling.options)
    found = _numbers(report, "gmm10")
    variance = trained.vae.likelihood.variance
    return found if variance is None else found | {"gamma": float(variance.gamma.mean())}


def _numbers(report: Report, mixture: str) -> dict[str, float]:
    there = {(one.row, one.measure): one.value for one in report.readings}
    there |= {(one.row, one.measure): one.value for one in report.rows}
    found = {name: there[place] for name, place in _COLUMNS.items() if place in there}
    for (row, measure), value in there.items():
        if measure == "frechet" and (row == "mixture_10" or row.startswith("gmm")):
            found[mixture if row == "mixture_10" else row] = value
    if ("prior", "bound") in there:
        found["nll"] = -there["prior", "bound"]
    return found


def _with_densities(job: Job, sampling: Sampling) -> Trained:
    """Calibrate the model and fit its densities on the codes of its training rows."""
    vae, settings = job.model.eval(), sampling.settings
    device = next(vae.parameters()).device
    batches = job.batches.to(device)
    vae.calibrate(batches, generator=stream(device, settings.seed, "calibrate"))
    data = sampling.data
    facts = Facts(
        kind=data.kind, event_shape=data.event_shape, rows=len(batches), data_variance=mean_variance(job.batches)
    )
    scaling = Scaling.fit(data.train.x, data.kind)
    trained = Trained(settings, facts, scaling, vae, {"prior": PriorDensity(vae.prior)})
    codes = Codes.of(vae, batches)
    if settings.densities:
        fit_densities(trained, codes, None)
    for count in sampling.mixtures:
        trained.densities[f"gmm{count}"] = fit_mixture(
            codes, single=False, components=count, covariance="full", seed=settings.seed
        )
    return trained


def _with_effort(name: str, scale: Scale) -> Density:
    """Return a density that is fitted with a scale's effort; batches are as large as those of the first stage."""
    law = Density.of(name)
    if scale.effort is None or not isinstance(law, SecondStage):
        return law
    fit = scale.effort.second.set_params(batch_size=scale.fit.batch_size, keep_best=False)
    return SecondStage(hidden=scale.effort.second_hidden, training=fit)
