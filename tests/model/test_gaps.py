"""The law of what is missing: against its own sum, its draws, and what it must leave alone."""

import itertools
import math

import pytest
import torch

from vaelab.errors import InputError
from vaelab.model import VAE, FixedVariance, Gaps, Gaussian, Mixed, gap_patterns
from vaelab.nets import MLPDecoder, MLPEncoder, TableReader, table_width

NAN = math.nan
PATTERNS = (1, 0, 2, 1, 3)


def law(seed: int = 0) -> Gaps:
    gaps = Gaps(PATTERNS).double()
    with torch.no_grad():
        gaps.ties.copy_(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)))
    return gaps


def rows_of(masks: torch.Tensor) -> torch.Tensor:
    """(m, 5) rows with these (m, 3) patterns missing."""
    x = torch.ones(len(masks), 5, dtype=torch.float64)
    for j, pattern in enumerate(PATTERNS):
        if pattern:
            x[masks[:, pattern - 1] > 0, j] = NAN
    return x


MASKS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
RAW = torch.tensor([[0.3, -1.0, 0.8]], dtype=torch.float64)


def test_the_probabilities_of_all_masks_add_up_to_one_and_follow_the_chain():
    gaps = law()
    log_p = -gaps.nll(RAW.expand(8, 3), rows_of(MASKS)).detach()
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)
    for mask, found in zip(MASKS, log_p, strict=True):
        total = 0.0
        for k in range(3):
            logit = RAW[0, k] + sum(gaps.ties[k, i] * mask[i] for i in range(k))
            total += float(torch.distributions.Bernoulli(logits=logit.detach()).log_prob(mask[k]))
        assert float(found) == pytest.approx(total, abs=1e-12)


def test_draws_have_these_probabilities_and_patterns_go_together():
    gaps, n = law(), 40_000
    x = torch.randn(n, 5, dtype=torch.float64)
    drawn = gaps.open(x, RAW.expand(n, 3), generator=torch.Generator().manual_seed(1))
    missing = drawn.isnan()
    assert missing[:, 0].equal(missing[:, 3])
    assert not missing[:, 1].any()
    assert drawn[~missing].equal(x[~missing])
    counts = torch.bincount((missing[:, [0, 2, 4]].long() * torch.tensor([4, 2, 1])).sum(1), minlength=8)
    p = (-gaps.nll(RAW.expand(8, 3), rows_of(MASKS))).exp()
    assert float(((counts - n * p).square() / (n * p)).sum()) < 30  # of chi squared with 7 degrees of freedom


def test_patterns_number_columns_that_are_missing_together():
    x = torch.tensor([[NAN, 1.0, NAN, NAN], [2.0, 3.0, NAN, 4.0]])
    assert gap_patterns(x.isnan()) == (1, 0, 2, 1)
    assert gap_patterns(torch.zeros(3, 2).isnan()) == (0, 0)
    for wrong in ((0, 0), (0, 2), (1, 3)):
        with pytest.raises(InputError, match="from 1 on"):
            Gaps(wrong)
    with pytest.raises(InputError, match="each of 2 columns"):
        Mixed((0, 3), FixedVariance(1.0), gaps=(1,))


def test_values_keep_their_likelihood_and_imputation():
    levels, generator = (0, 3, 0, 2, 0), torch.Generator().manual_seed(0)
    plain, with_gaps = Mixed(levels, FixedVariance(0.3)), Mixed(levels, FixedVariance(0.3), gaps=PATTERNS)
    assert with_gaps.parameter_shape((5,)) == (8 + 3,)
    parameters = torch.randn(4, 6, 11, generator=generator)
    x = torch.zeros(6, 5)
    x[:3, 0] = x[:3, 3] = x[1, 4] = NAN
    torch.testing.assert_close(with_gaps.nll(parameters[0], x), plain.nll(parameters[0, :, :8], x))
    weights = torch.full((4, 6), 0.25)
    assert with_gaps.impute(x, parameters, weights).equal(plain.impute(x, parameters[..., :8], weights))
    assert with_gaps.mean(parameters[0]).equal(plain.mean(parameters[0, :, :8]))
    drawn = [
        law.sample(parameters[0, :, :k], generator=torch.Generator().manual_seed(3))
        for law, k in ((with_gaps, 11), (plain, 8))
    ]
    assert drawn[0].equal(drawn[1])
    assert plain.open(x, parameters[0, :, :8]) is x
    assert not plain.beside(parameters[0, :, :8], x)


def test_gaps_are_a_term_of_the_objective_and_none_of_the_bound():
    levels = (0, 3)
    reader = TableReader(MLPEncoder((table_width(levels),), 4, hidden=(8,)), levels)
    likelihood = Mixed(levels, FixedVariance(1.0), gaps=(1, 0))
    vae = VAE(reader, MLPDecoder(2, (5,), hidden=(8,)), latent_dim=2, likelihood=likelihood)
    x, noise = torch.tensor([[NAN, 1.0], [0.5, 2.0]]), torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    objective = vae(x, noise=noise)
    assert sorted(objective.penalties) == ["gaps", "kl"]
    distortion, kl = vae.elbo(x, noise=noise[None])
    torch.testing.assert_close(objective.distortion, distortion)
    torch.testing.assert_close(objective.per_sample, distortion + kl + objective.penalties["gaps"])
    objective.penalties["gaps"].sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in vae.encoder.parameters()), "gaps do not reach z"
    assert vae.likelihood.parameter_groups()[-1].parameters[0] is vae.likelihood.gaps.ties
    assert vae.sample(500, missing=True)[:, 0].isnan().any()
    assert not vae.sample(50).isnan().any()
    with pytest.raises(InputError, match="mixed"):
        vae.replace(likelihood=Gaussian(), decoder=MLPDecoder(2, (2,))).sample(3, missing=True)
