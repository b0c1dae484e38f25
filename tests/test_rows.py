"""The loop over blocks of rows, and the terms of rows, against direct computations."""

import pytest
import torch

from helpers import Rows, small_vae
from vaelab.metrics.likelihood import Dequantised
from vaelab.model import Deterministic, draw, reconstruction_error, row_terms
from vaelab.nets import MLPEncoder
from vaelab.rows import blocks, rows_at_once, spans


@pytest.mark.parametrize(("n", "size"), [(0, 3), (1, 3), (3, 3), (7, 3), (9, 3)])
def test_spans_cover_all_rows_once(n, size):
    assert [row for span in spans(n, size) for row in range(n)[span]] == list(range(n))
    assert all(0 < span.stop - span.start <= size for span in spans(n, size))


def test_large_rows_come_in_small_blocks():
    assert [rows_at_once(shape) for shape in ((1,), (3, 64, 64), (3, 4096, 4096))] == [1000, 81, 1]
    assert [len(block.x) for block in blocks(Rows(torch.zeros(25, 1, 300, 300)), "cpu")] == [11, 11, 3]


def test_blocks_are_the_rows_in_order_and_draw_only_what_is_asked():
    x = torch.randn(10, 4)
    before = torch.get_rng_state()
    found = list(blocks(Dequantised(Rows(x), 0.1), "cpu", size=4))
    assert torch.equal(torch.cat([block.x for block in found]), x)
    assert [block.generator for block in found] == [None] * 3
    asked = []

    def draws(start):
        asked.append(start)
        return torch.Generator().manual_seed(start)

    for rows, noisy, c, generator in blocks(Dequantised(Rows(x), 0.1), "cpu", size=4, draws=draws):
        own = torch.Generator().manual_seed(rows.start)
        noise = torch.randn(len(noisy), 4, generator=own)
        torch.testing.assert_close(noisy, x[rows] + 0.1 * (torch.special.ndtr(noise) - 0.5))
        assert torch.equal(torch.randn(3, generator=generator), torch.randn(3, generator=own))  # goes on from there
        assert c is None
    assert asked == [0, 4, 8]
    assert torch.equal(torch.get_rng_state(), before)


@torch.no_grad()
def test_terms_of_rows_are_those_of_the_objective():
    vae, x, noise = small_vae(6, 3).eval(), torch.randn(5, 6), torch.randn(5, 3)
    vae.calibrate(Rows(x), generator=torch.Generator().manual_seed(0))
    objective, found = vae(x, noise=noise), row_terms(vae, x, None, noise)
    torch.testing.assert_close(found.distortion, objective.distortion.double())
    torch.testing.assert_close(found.kl, objective.penalties["kl"].double())
    rebuilt = vae.decode(draw(vae.encode(x), noise))
    torch.testing.assert_close(found.squared_error, (x - rebuilt).double().square().sum(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(reconstruction_error(vae, x), (x - vae.reconstruct(x)).square().mean(1))


@torch.no_grad()
def test_a_deterministic_posterior_has_terms_without_a_kl():
    encoder = MLPEncoder((6,), 3, hidden=(8,))
    vae = small_vae(6, 3).replace(encoder=encoder, posterior=Deterministic(), regularizers=[])
    x = torch.randn(5, 6)
    found = row_terms(vae, x, None, torch.randn(5, 3))
    assert found.kl.tolist() == [0.0] * 5
    torch.testing.assert_close(found.squared_error, 6 * reconstruction_error(vae, x).double(), rtol=1e-5, atol=1e-6)
