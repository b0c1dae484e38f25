"""A training without its idle dimensions: stage one sliced, the densities fitted anew on the smaller codes."""

from __future__ import annotations

from collections.abc import Sequence

from vaelab.data import ArrayBatches, MappedBatches
from vaelab.diagnostics.prune import Pruned
from vaelab.diagnostics.prune import prune as prune_vae
from vaelab.latent import Codes, LatentDensity, PriorDensity
from vaelab.runs.stages import fit_densities, hold_out
from vaelab.runs.trained import Trained
from vaelab.training import Hook


def prune(
    trained: Trained,
    batches: ArrayBatches | MappedBatches,
    *,
    keep: Sequence[int] | None = None,
    tolerance: float = 0.1,
    hooks: Sequence[Hook] = (),
) -> tuple[Trained, Pruned]:
    """Drop the idle dimensions of a training; the latent densities that its settings name are fitted again.

    Parameters
    ----------
    trained
        Left as it is.
    batches
        Rows to count, compare and fit on, as `Trained.batches_of` returns them.
    keep, tolerance
        As for `vaelab.diagnostics.prune.prune`.
    hooks
        Onlookers of the densities' training.

    Returns
    -------
    smaller : Trained
        An ordinary training with a smaller ``latent_dim``.
    pruned : Pruned
        What was kept, and what it changed.
    """
    pruned = prune_vae(trained.vae, batches, keep=keep, tolerance=tolerance)
    settings = trained.settings.model_copy(update={"latent_dim": len(pruned.kept)})
    ratios = tuple(trained.facts.variance_ratios[j] for j in pruned.kept)
    facts = trained.facts.model_copy(
        update={"variance_ratios": ratios, "code_scores": {}, "best_density": "prior", "nearer_than": None}
    )
    facts.trained_latent_dim = trained.facts.trained_latent_dim or trained.settings.size
    densities: dict[str, LatentDensity] = {"prior": PriorDensity(pruned.vae.prior)}
    smaller = Trained(settings, facts, trained.scaling, pruned.vae, densities, trained.conditioning, trained.schema)
    if settings.densities:
        kept, rest = hold_out(batches, settings)
        unseen = None if rest is None else Codes.of(smaller.vae, rest)
        facts.rows, facts.scored_on_training = len(kept), rest is None
        fit_densities(smaller, Codes.of(smaller.vae, kept), unseen, hooks=hooks)
    return smaller, pruned
