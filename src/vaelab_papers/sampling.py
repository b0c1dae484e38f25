"""Jobs that end in samples: a preset and what a row changes, its latent densities, and what `evaluate` says of them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vaelab.baselines import build_gan
from vaelab.data import ArrayBatches, Dataset, Scaling, load, split
from vaelab.data.named import homes
from vaelab.errors import InputError
from vaelab.latent import Codes, PriorDensity
from vaelab.metrics.report import Report
from vaelab.runs import Facts, Trained, save
from vaelab.runs.folder import STATES
from vaelab.runs.stages import fit_densities, held_out_rows, mean_variance
from vaelab.specs import InfoGAN, Settings, build_vae
from vaelab.specs.densities import Density, SecondStage
from vaelab.specs.likelihoods import WithVariance
from vaelab.specs.networks import ARELBO, Network, Wide
from vaelab.training import stream
from vaelab.verbs import Options, evaluate
from vaelab_papers.job import Job, Sampling
from vaelab_papers.table import Scale

_STAND_INS = {1: (8, True), 3: (8, False)}  # channels → side and grey, of the bundled digits

_COLUMNS = {  # measure → row and measure of the report
    "mse": ("reconstructions", "squared_error"),
    "prior": ("prior", "frechet"),
    "second_stage": ("second_stage", "frechet"),
    "gmm10": ("mixture_10_means", "frechet"),
    "gmm100": ("mixture_100_means", "frechet"),
    "middle": ("spherical, middle", "frechet"),
    "random": ("spherical, random", "frechet"),
}

DISTANCES = tuple(name for name, (_, measure) in _COLUMNS.items() if measure == "frechet")
"""Measures that a protocol makes."""


CELEBA_HQ = "celeba_hq"
"""A data set without a name of the library's: a folder of images that is called so, where data sets lie."""

_HQ_SIDE = 128


def folder_of(name: str) -> Path | None:
    """Return the folder of a data set that is one of images; None where there is none."""
    return next((home / name for home in homes(None) if (home / name).is_dir()), None)


def images(name: str, scale: Scale, *, channels: int = 1) -> Dataset:
    """Load a data set of images, or the bundled digits in as many channels where the scale asks for a stand-in."""
    if not scale.stand_in:
        folder = folder_of(name) if name == CELEBA_HQ else None
        return load(name) if folder is None else load(folder, image_size=_HQ_SIDE, memory_map=False)
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


def gan_at_scale(settings: Settings, scale: Scale, seed: int) -> Settings:
    """Return a GAN's settings with what a scale changes: its epochs, and a small network where others are narrowed."""
    epochs = {} if scale.fit is None else {"training__epochs": scale.fit.epochs}
    network = {"network": "mlp([16])"} if scale.stand_in else {}
    return settings.set_params(seed=seed, **epochs, **network)


def at_scale(settings: Settings, scale: Scale, seed: int) -> Settings:
    """Return settings with what a scale changes: nothing but the seed at the paper's.

    Parameters
    ----------
    settings
        A preset, with what a row changes.
    scale
        Budget; what it leaves open stays as the preset has it.
    seed
        Of weights, order and noise.

    Raises
    ------
    InputError
        The settings do not fit together.
    """
    changes: dict[str, object] = {"seed": seed}
    if scale.hidden is not None:
        changes["network"] = _narrowed(settings.network, scale.hidden)
    if scale.fit is not None:
        changes["training"] = scale.fit.set_params(keep_best=False)
    changes["densities"] = tuple(_with_effort(law, scale) for law in settings.densities)
    likelihood = settings.likelihood
    if scale.floor is not None and isinstance(likelihood, WithVariance) and likelihood.shape == "diag-d":
        changes["likelihood__floor"] = scale.floor
    return settings.set_params(**changes)


def _narrowed(network: Network, width: int) -> Network:
    """InfoGAN's networks have one width; the others are the same but for spectral normalisation."""
    if isinstance(network, InfoGAN):
        network = ARELBO(norm_decay=network.norm_decay)
    return network.set_params(base_width=width) if isinstance(network, Wide) else network


def _with_effort(law: Density, scale: Scale) -> Density:
    """Return a density that is fitted with a scale's effort; batches are as large as those of the first stage."""
    effort = scale.effort
    if effort is None or effort.second is None or not isinstance(law, SecondStage):
        return law
    size = {} if scale.fit is None else {"batch_size": scale.fit.batch_size}
    return SecondStage(hidden=effort.second_hidden, training=effort.second.set_params(**size, keep_best=False))


def job_of(
    settings: Settings, data: Dataset, scale: Scale, *, metrics: tuple[str, ...], densities: tuple[str, ...]
) -> Job:
    """Build the model that settings describe, and say what to measure of it.

    Parameters
    ----------
    settings
        From `at_scale`.
    data
        Its first rows are trained on, as many as the scale says.
    scale
        Budget, with an effort.
    metrics, densities
        As in `vaelab.verbs.Options`; what a density needs is in the settings.

    Raises
    ------
    InputError
        The scale has no effort, the data are on disk, or the settings do not suit them.
    """
    effort = scale.effort
    if effort is None:
        raise InputError("a scale without an effort", "one that says how samples are measured")
    batches = ArrayBatches(training_rows(data, scale), None, Scaling.fit(data.train.x, data.kind))
    options = Options(
        metrics=metrics,
        draws=effort.draws,
        densities=densities,
        likelihood_draws=effort.likelihood_draws,
        likelihood_rows=effort.likelihood_rows,
    )
    rest = None
    if settings.adversary is not None:
        share = held_out_rows(len(batches), settings) / len(batches)
        batches, rest = split(batches, share, seed=settings.seed)
    settings = settings.resolve(len(batches), batches.event_shape)
    model = build_vae(settings, data.event_shape, data_variance=mean_variance(batches))
    gan = None if settings.adversary is None else build_gan(settings, model, data.event_shape)
    sampling = Sampling(data, settings, options, effort.protocol)
    return Job(model, batches, sampling=sampling, length=settings.training, gan=gan, held_out=rest)


def measure_samples(job: Job) -> dict[str, float]:
    """Fit the latent densities of a trained model, and measure its samples, reconstructions and interpolations.

    A job with a folder leaves the whole model there, as a run that `vaelab.load` reads.

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
    found = _numbers(report)
    variance = trained.vae.likelihood.variance
    return found if variance is None or not trained.encodes else found | {"gamma": float(variance.gamma.mean())}


def _numbers(report: Report) -> dict[str, float]:
    there = {(one.row, one.measure): one.value for one in report.readings}
    there |= {(one.row, one.measure): one.value for one in report.rows}
    found = {name: there[place] for name, place in _COLUMNS.items() if place in there}
    return found | ({"nll": -there["prior", "bound"]} if ("prior", "bound") in there else {})


def _with_densities(job: Job, sampling: Sampling) -> Trained:
    """Calibrate the model, fit its densities on the codes of its training rows, and keep both."""
    vae, settings, data = job.model.eval(), sampling.settings, sampling.data
    device = next(vae.parameters()).device
    batches = job.batches.to(device)
    vae.calibrate(batches, generator=stream(device, settings.seed, "calibrate"))
    facts = Facts(
        kind=data.kind, event_shape=data.event_shape, rows=len(batches), data_variance=mean_variance(job.batches)
    )
    scaling = Scaling.fit(data.train.x, data.kind)
    trained = Trained(settings, facts, scaling, vae, {"prior": PriorDensity(vae.prior)})
    states = None if job.folder is None else job.folder / STATES
    if settings.densities:
        fit_densities(trained, Codes.of(vae, batches), None, states=states, resume=True)
    if job.folder is not None:
        save(trained, job.folder)
    return trained
