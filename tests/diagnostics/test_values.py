"""Every number that a rule may name, against the measures that it comes from."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vaelab.data import ArrayBatches
from vaelab.diagnostics.diagnosis import Measures
from vaelab.diagnostics.row_means import Mean
from vaelab.diagnostics.verdicts import LABELS, Context, _beyond, values_of
from vaelab.model import VAE, FixedVariance, Gaussian
from vaelab.verbs.diagnosis import _keeps_to

CONTEXT = {"latent_dim": 8, "dimensions": 20, "kind": "table", "keeps_to": (0.0, 1.0)}


def measures(**changes):
    bounds = SimpleNamespace(lower=Mean(1.5, 0.1), upper=Mean(1.7, 0.1))
    told = SimpleNamespace(lower=Mean(0.7, 0.1), upper=Mean(0.9, 0.1))
    match = SimpleNamespace(share=0.2, accuracy=SimpleNamespace(accuracy=0.8, standard_error=0.05))
    found = {
        "code_use": SimpleNamespace(used=3, information=bounds, transmitted=told, degenerate=False),
        "reconstruction": SimpleNamespace(
            explained=0.9,
            slope=1.1,
            largest_share=0.4,
            gamma=0.5,
            ratio=2.5,
            residual=0.2,
            data_range=(-3.0, 3.5),
            data_variance=4.0,
        ),
        "residuals": SimpleNamespace(
            structured=2, expected_nats=5.0, spectrum=torch.tensor([3.0, 1.0]), gains={"diag-i": 4.0, "iso-d": 6.0}
        ),
        "optimality": SimpleNamespace(implied_gamma=0.8),
        "generalisation": SimpleNamespace(error_ratio=1.4, gap=Mean(2.0, 0.3)),
        "continuation": SimpleNamespace(gain=0.15, own=Mean(0.5, 0.1), share=0.07),
        "aggregated": SimpleNamespace(matches={"prior": match}),
        "manifold": SimpleNamespace(holes=0.3, rates={"prior": 0.25}),
    }
    return Measures(**(found | changes))


WANTED = {
    "explained": 0.9,
    "slope": 1.1,
    "slope_apart": math.log(1.1),
    "beyond": 3.0 / 2.0,
    "largest_share": 0.4,
    "dimensions": 20,
    "latent_dim": 8,
    "used": 3,
    "used_share": 3 / 8,
    "idle": 5,
    "idle_share": 5 / 8,
    "whitened": 0.0,
    "information": 1.5,
    "transmitted": 0.7,
    "implied_over_residual": 0.8 / 0.2,
    "implied_over_declared": 0.8 / 0.5,
    "implied_apart": math.log(0.8 / 0.5),
    "residual_over_implied": 3 * 0.2 / 0.8,
    "declared_over_residual": 2.5,
    "residual_over_declared": 3 * 0.2 / 0.5,
    "mean_reduced": None,
    "said": 0,
    "error_ratio": 1.4,
    "gap": 2 - 3 * 0.3,
    "gain": 0.15,
    "gain_share": 0.07,
    "gain_nats": 0.5 - 3 * 0.1,
    "structured": 2,
    "direction_gain": 5 / 20,
    "sampler_share": 0.2,
    "sampler_accuracy": 0.8 - 2 * 0.05,
    "shape_gain": 6 / 20,
    "holes": 0.3,
    "samples_off": 0.25,
    "units_known": 0,
    "table": 1,
    "image": 0,
}


def approximately(values):
    return {name: None if value is None else pytest.approx(value) for name, value in values.items()}


def test_every_value_is_that_of_its_measure():
    assert set(WANTED) == set(LABELS)
    assert values_of(measures(), Context(**CONTEXT)) == approximately(WANTED)


@pytest.mark.parametrize(
    ("context", "changes", "differing"),
    [
        ({"kind": "image"}, {}, {"table": 0, "image": 1}),
        ({"conditional": True}, {}, {"transmitted": None}),
        ({"shape": "diag-i"}, {}, {"shape_gain": None}),
        ({"sampler": "flow"}, {}, {"sampler_share": None, "sampler_accuracy": None, "samples_off": None}),
        ({"units_known": True}, {}, {"units_known": 1}),
        (
            {"foreign": True, "gamma_known": False},
            {},
            {"said": 1, "mean_reduced": abs(math.log(0.8 / (20 / 2)))}
            | dict.fromkeys(
                (
                    "declared_over_residual",
                    "residual_over_declared",
                    "implied_over_declared",
                    "implied_apart",
                    "shape_gain",
                )
            ),
        ),
        ({"foreign": True}, {}, {"said": 1}),
        ({"foreign": True, "loss_read": True}, {}, {}),
        (
            {},
            {"optimality": SimpleNamespace(implied_gamma=None)},
            {"implied_apart": math.inf}
            | dict.fromkeys(("implied_over_residual", "implied_over_declared", "residual_over_implied")),
        ),
        ({}, {"generalisation": SimpleNamespace(error_ratio=1.4, gap=None)}, {"gap": math.inf}),
        (
            {},
            {"code_use": SimpleNamespace(used=3, information=None, transmitted=None, degenerate=True)},
            dict.fromkeys(("declared_over_residual", "shape_gain", "information", "transmitted")),
        ),
    ],
)
def test_what_is_not_known_is_not_said(context, changes, differing):
    assert values_of(measures(**changes), Context(**{**CONTEXT, **context})) == approximately(WANTED | differing)


@pytest.mark.parametrize(
    ("size", "implied", "wanted"),
    [
        (4, 1.1, math.log(5 / 1.1)),  # d/2κ = 1.25: a summed error of γ = 1 has the same posterior, nearly
        (1, 4.0, math.log(5 / 4)),
        (2, 2.4, math.log(2.5 / 2.4)),
    ],
)
def test_a_summed_error_is_not_taken_for_an_averaged_one(size, implied, wanted):
    context = {"foreign": True, "gamma_known": False, "dimensions": 10, "latent_dim": size}
    found = measures(optimality=SimpleNamespace(implied_gamma=implied))
    assert values_of(found, Context(**CONTEXT | context))["mean_reduced"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("keeps_to", "rows", "wanted"),
    [
        ((0.0, 1.0), (-2.0, 2.0), 2.0),
        ((-1.0, 1.0), (-4.0, 2.0), 3.0),
        ((0.0, 1.0), (0.0, 1.0), 0.0),  # pixels
        (None, (-4.0, 4.0), 0.0),
    ],
)
def test_how_far_rows_go_beyond_what_outputs_keep_to(keeps_to, rows, wanted):
    fit = SimpleNamespace(data_range=rows, data_variance=1.0)
    assert _beyond(fit, keeps_to) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("end", "wanted"),
    [(nn.Sigmoid(), (0.0, 1.0)), (nn.Tanh(), (-1.0, 1.0)), (nn.Identity(), None), (nn.ReLU(), None)],
)
def test_what_outputs_keep_to_is_told_by_codes_that_are_far(end, wanted):
    """Outputs of rows alone do not tell: those of a circle lie within [−1, 1] too."""
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 3), end)
    vae = VAE(nn.Linear(3, 4), _Plain(decoder), latent_dim=2, likelihood=Gaussian(FixedVariance(1.0)))
    assert _keeps_to(vae, ArrayBatches(torch.randn(20, 3))) == wanted


class _Plain(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, z, c=None):
        return self.network(z)
