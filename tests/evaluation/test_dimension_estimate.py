"""From data to a dimension, and from the shell."""

import numpy as np
import pytest

from vaelab.cli import main
from vaelab.config import Settings
from vaelab.data.synthetic import sigmoid_manifold
from vaelab.errors import InputError
from vaelab.evaluation.dimension import estimate_dimension

QUICK = Settings(
    latent_dim=2,
    hidden=(32,),
    epochs=60,
    batch_size=200,
    lr=5e-3,
    schedule="one_cycle",
    held_out=0.0,
    accelerator="cpu",
)


def test_a_code_that_is_full_is_doubled_until_the_count_settles():
    x = sigmoid_manifold(3000, 8, 2, seed=1).x
    notes = []
    found = estimate_dimension(x, settings=QUICK, seeds=2, note=notes.append)
    assert (found.dimension, found.counts, found.latent_dim) == (2, (2, 2), 4)
    assert found.tried == {2: (2, 2)}
    assert found.warnings == []
    assert len(notes) == 4


def test_the_search_stops_at_the_number_of_columns():
    x = np.random.default_rng(0).normal(size=(300, 3))
    found = estimate_dimension(x, settings=QUICK.model_copy(update={"epochs": 2}), seeds=1)
    assert found.latent_dim <= 3
    with pytest.raises(InputError, match="seeds=0"):
        estimate_dimension(x, seeds=0)


def test_from_the_shell(tmp_path, capsys):
    np.savetxt(tmp_path / "x.csv", sigmoid_manifold(200, 4, 1).x.numpy(), delimiter=",", header="a,b,c,d", comments="")
    assert main(["dimension", str(tmp_path / "x.csv"), "--seeds", "1", "--epochs", "2", "--latent-dim", "4"]) == 0
    out = capsys.readouterr().out
    assert "dimensions (of 4 numbers per row)" in out
    assert "κ = 4" in out
