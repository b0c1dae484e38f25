"""Theorems of the papers, computed: each holds, and what contradicts one is seen to."""

import numpy as np
import pytest

from vaelab_papers import THEOREMS, theorems_exact
from vaelab_papers.command import run
from vaelab_papers.theorems_exact import EXACT
from vaelab_papers.theorems_trained import TRAINED


@pytest.mark.parametrize("theorem", EXACT, ids=lambda theorem: theorem.name)
def test_what_is_computed_exactly_is_as_the_theorem_says(theorem):
    shown = theorem.show()
    assert shown.holds, theorem.markdown(shown)
    assert all(len(row) == len(shown.head) for row in shown.rows)


@pytest.mark.campaign
@pytest.mark.parametrize("theorem", TRAINED, ids=lambda theorem: theorem.name)
def test_what_is_trained_ends_as_the_theorem_says(theorem):
    shown = theorem.show()
    assert shown.holds, theorem.markdown(shown)


def test_a_decoder_that_carries_normals_elsewhere_does_not_pass(monkeypatch):
    right = theorems_exact._quantiles
    monkeypatch.setattr(theorems_exact, "_quantiles", lambda grid, density: right(grid, density) + 0.1)
    assert not theorems_exact.recovers_a_density().holds


def test_a_kl_that_is_too_small_does_not_pass(monkeypatch):
    right = theorems_exact._kl
    monkeypatch.setattr(theorems_exact, "_kl", lambda gain, noise: 0.9 * right(gain, noise))
    assert not theorems_exact.tells_no_more_than_its_kl().holds


def test_the_command_writes_text_and_picture(tmp_path, capsys):
    run(["takida/theorem2", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "Takida et al. 2022, Theorem 2" in said
    assert "✓" in said
    assert (tmp_path / "takida-theorem2.md").read_text(encoding="utf-8").strip() in said
    assert (tmp_path / "takida-theorem2.png").read_bytes().startswith(b"\x89PNG")


def test_nine_theorems_are_listed_with_the_tables(capsys):
    run([])
    listed = capsys.readouterr().out
    assert len(THEOREMS) == 9
    assert all(name in listed for name in THEOREMS)


def test_the_mean_over_the_grid_is_one_of_a_normal():
    np.testing.assert_allclose(theorems_exact._weights() @ theorems_exact._LATENT**2, 1, rtol=1e-6)
