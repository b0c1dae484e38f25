"""What the tables train on, and the models that they train."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from vaelab.model import FullCovariance
from vaelab_papers import TABLES
from vaelab_papers.arma import arma_sequences

SEQUENCES, SMOKE = TABLES["zheng/table8"], TABLES["zheng/table8"].scales["smoke"]


def sequence_job(loss, weights, rows=60):
    name = f"loss={loss}, weights={weights}"
    cell = next(cell for cell in SEQUENCES.cells if cell.name == name)
    return SEQUENCES.build(cell, replace(SMOKE, rows=rows), 0)


def taken(job):
    return job.batches.take(torch.arange(len(job.batches)))


def test_the_last_points_have_full_windows():
    x, c = taken(sequence_job("last point", "separate"))
    wanted = arma_sequences(65, seed=0).sequences
    assert torch.equal(x, wanted[:, -1])
    assert torch.equal(c[..., :-1], wanted[:, :-1])
    assert bool((c[..., -1] == 1).all())


def test_every_point_has_what_was_before_it_behind_empty_steps():
    x, c = taken(sequence_job("every point", "separate"))
    wanted = arma_sequences(15, seed=0).sequences
    assert (x.shape, c.shape) == ((60, 20), (60, 5, 21))
    for i in range(6):
        own = slice(10 * i, 10 * (i + 1))
        assert torch.equal(x[own], wanted[:, i])
        assert bool((c[own, : 5 - i] == 0).all())
        assert torch.equal(c[own, 5 - i :, :-1], wanted[:, :i])
        assert bool((c[own, 5 - i :, -1] == 1).all())


def test_a_shared_prior_is_the_posterior_of_the_step_before():
    job = sequence_job("every point", "shared")
    x, c = taken(job)
    for i in range(5):
        now, then = slice(10 * i, 10 * (i + 1)), slice(10 * (i + 1), 10 * (i + 2))
        q, p = job.model.encode(x[now], c[now]), job.model.prior(c[then])
        assert_close(q.loc, p.loc)
        assert_close(q.scale, p.scale)
    assert len(list(job.model.prior.parameters())) == len(list(job.model.encoder.parameters()))
    own = sequence_job("every point", "separate").model
    assert not {id(p) for p in own.prior.parameters()} & {id(p) for p in own.encoder.parameters()}


@pytest.mark.parametrize("name", ["zheng/table2", "zheng/table4", "zheng/table9", "zheng/digits-by-class"])
def test_images_stand_in_for_mnist(name):
    table = TABLES[name]
    job = table.build(table.cells[0], table.scales["smoke"], 0)
    x, c = job.batches.take(torch.arange(len(job.batches)))
    assert x.shape == (200, 1, 28, 28)
    assert x.min() == 0
    assert 0.9 < x.max() <= 1
    assert (c is not None) == (job.labels is not None) == (name in {"zheng/table4", "zheng/digits-by-class"})
    if c is not None:
        assert torch.equal(c.argmax(1), job.labels)
        assert torch.equal(c.sum(1), torch.ones(200))


def test_covariances():
    table = TABLES["zheng/table9"]
    full, diagonal = (table.build(cell, table.scales["smoke"], 0).model for cell in table.cells)
    assert isinstance(full.posterior, FullCovariance)
    assert not isinstance(diagonal.posterior, FullCovariance)


def test_paper_scale_is_the_papers():
    for name, width in {"zheng/table2": 5, "zheng/table9": 5, "zheng/table4": 32}.items():
        scale = TABLES[name].scales["paper"]
        assert (scale.hidden, scale.fit.epochs, scale.fit.batch_size, scale.fit.lr) == (width, 400, 512, 2e-3)
        assert not scale.stand_in
    sequences = SEQUENCES.scales["paper"]
    assert (sequences.hidden, sequences.fit.epochs, sequences.fit.batch_size) == (32, 10_000, 2000)
    assert TABLES["zheng/table1-16"].scales["small"].hidden == 16


def test_cells_trained_together_are_of_one_shape():
    for table in TABLES.values():
        shapes = {}
        for cell in table.cells if table.together is not None else ():
            job = table.build(cell, table.scales["smoke"], 0)
            key = tuple((name, value) for name, value in cell.axes.items() if name not in table.together)
            sizes = [(name, value.shape) for name, value in job.model.state_dict().items()]
            assert shapes.setdefault(key, sizes) == sizes, (table.name, cell.name)
