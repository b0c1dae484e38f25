"""Manifolds of known dimension: the stated truth is the truth."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from sklearn.cluster import KMeans
from sklearn.datasets import make_s_curve, make_swiss_roll

from vaelab.data.manifolds import MANIFOLDS, Manifold, circles, s_curve, sphere, swiss_roll, torus
from vaelab.errors import InputError
from vaelab_papers.arma import arma, arma_sequences
from vaelab_papers.synthetic import (
    PAPER,
    PROGRAM,
    Law,
    mixture_coordinates,
    sigmoid_manifold,
    union_of_manifolds,
    varying_condition,
)

F64 = torch.float64
AR, MA = (1, -0.5, 0.25, -0.4), (1, 0.65, 0.35)  # the paper's polynomials

MAKERS = {
    "sigmoid": lambda n, **rest: sigmoid_manifold(n, 8, 3, t=2, **rest),
    "union": lambda n, **rest: union_of_manifolds(n, 8, (1, 2, 3), **rest),
    "varying": lambda n, **rest: varying_condition(n, 8, 4, (1, 3), **rest),
    **MANIFOLDS,
}


def affine_fit(target: torch.Tensor, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients (with the constant last) and residual of the least-squares affine map from source to target."""
    design = torch.cat([source, torch.ones(len(source), 1, dtype=source.dtype)], 1)
    coefficients = torch.linalg.lstsq(design, target, driver="gelsd").solution
    return coefficients, target - design @ coefficients


def affine_rank(points: torch.Tensor) -> int:
    return int(torch.linalg.matrix_rank(points - points.mean(0), rtol=1e-9))


def unsaturated(x: torch.Tensor) -> torch.Tensor:
    """Rows of which the logit is accurate."""
    return ((x - 0.5).abs() < 0.5 - 1e-6).all(1)


def local_dimension(x: torch.Tensor, *, centres: torch.Tensor | None = None) -> list[int]:
    """Local PCA of 40 points around each of ten: directions with over a fifth of the widest spread."""
    counts = []
    for centre in x[:10] if centres is None else centres:
        near = x[(x - centre).square().sum(1).topk(40, largest=False).indices]
        spread = torch.linalg.svdvals(near - near.mean(0))
        counts.append(int((spread > 0.2 * spread[0]).sum()))
    return counts


@pytest.mark.parametrize("name", MAKERS)
def test_contract(name):
    make = MAKERS[name]
    state = torch.get_rng_state()
    data, again, other = (make(60, seed=seed, dtype=F64) for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state()), "global randomness was used"
    assert len(data) == len(data.x) == 60
    assert torch.equal(data.x, again.x)
    assert not torch.equal(data.x, other.x)
    half = make(60, seed=3)
    for field in ("x", "u", "c"):
        values = getattr(data, field)
        if values is None:
            assert getattr(half, field) is None
            continue
        assert values.dtype == F64
        assert len(values) == 60
        assert torch.equal(getattr(half, field), values.float()), "float32 is float64 rounded"
    assert data.labels is None or data.labels.dtype == torch.int64
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.r = 7


@pytest.mark.parametrize(("d", "r"), [(10, 2), (20, 10), (5, 5)])
def test_sigmoid_manifold_is_flat_of_dimension_r_before_the_sigmoid(d, r):
    data = sigmoid_manifold(400, d, r, seed=1, dtype=F64)
    assert (data.x.shape, data.u.shape, data.c, data.labels) == ((400, d), (400, r), None, None)
    assert (data.dimension(), data.conditional_dimension()) == (r, r)
    logit, inside = data.x.logit(), unsaturated(data.x)
    assert int(inside.sum()) > 10 * r
    coefficients, residual = affine_fit(logit[inside], data.u[inside])
    assert float(residual.abs().max()) < 1e-8
    assert int(torch.linalg.matrix_rank(coefficients[:r], rtol=1e-9)) == r
    centred = logit[inside] - logit[inside].mean(0)
    spread = torch.linalg.svdvals(centred)
    assert int((spread > 1e-8 * spread[0]).sum()) == r
    # a linear layer's scale: |entries| up to 1/√r, and of that order
    assert 0.5 / math.sqrt(r) < float(coefficients.abs().max()) <= (1 + 1e-6) / math.sqrt(r)


def test_the_seed_fixes_the_manifold_whatever_the_number_of_rows():
    few, many = (sigmoid_manifold(n, 6, 2, t=2, seed=5, dtype=F64) for n in (50, 333))
    maps = [affine_fit(s.x[unsaturated(s.x)].logit(), s.u[unsaturated(s.x)])[0] for s in (few, many)]
    torch.testing.assert_close(maps[0], maps[1], atol=1e-7, rtol=0)
    conditions = [affine_fit(s.c, s.u)[0] for s in (few, many)]
    torch.testing.assert_close(conditions[0], conditions[1], atol=1e-9, rtol=0)
    few, many = (union_of_manifolds(n, 6, (1, 2), seed=5, dtype=F64) for n in (101, 480))
    for label, r in enumerate((1, 2)):
        maps = []
        for s in (few, many):
            rows = unsaturated(s.x) & (s.labels == label)
            maps.append(affine_fit(s.x[rows].logit(), s.u[rows, :r])[0])
        torch.testing.assert_close(maps[0], maps[1], atol=1e-7, rtol=0)


@pytest.mark.parametrize("t", [1, 3, 7])
@pytest.mark.parametrize("condition", ["linear", "coordinates"])
def test_condition_has_effective_dimension_t(t, condition):
    data = sigmoid_manifold(300, 12, 7, t=t, condition=condition, seed=2, dtype=F64)
    assert data.c.shape == (300, t)
    assert (data.t, data.dimension(), data.conditional_dimension()) == (t, 7, 7 - t)
    coefficients, residual = affine_fit(data.c, data.u)
    assert float(residual.abs().max()) < 1e-10
    assert float(coefficients[t:].abs().max()) < 1e-10  # of the entries behind t, and the constant
    assert int(torch.linalg.matrix_rank(coefficients[:t], rtol=1e-6)) == t
    # c determines u_{1:t}, and what is left of the points given c has rank r − t
    assert float(affine_fit(data.u[:, :t], data.c)[1].abs().max()) < 1e-8
    inside = unsaturated(data.x)
    left = affine_fit(data.x[inside].logit(), data.c[inside])[1]
    assert int(torch.linalg.matrix_rank(left, atol=1e-7, rtol=0)) == 7 - t
    assert torch.equal(data.c, data.u[:, :t]) == (condition == "coordinates")


def test_the_condition_does_not_change_the_points():
    plain, linear, exact = (
        sigmoid_manifold(50, 6, 3, t=t, condition=kind, seed=1, dtype=F64)
        for t, kind in ((0, "linear"), (2, "linear"), (2, "coordinates"))
    )
    assert torch.equal(plain.x, linear.x)
    assert torch.equal(plain.x, exact.x)


def test_mixture_has_the_moments_of_its_law():
    quiet, noisy = (mixture_coordinates(400, 3000, law=Law(noise=noise), seed=3, dtype=F64) for noise in (0.0, 1.0))
    added = noisy - quiet
    assert float(added.std()) == pytest.approx(1, abs=0.01)
    assert float((added * quiet).mean()) == pytest.approx(0, abs=0.05)
    # over many dimensions: E u² = E mean² + E scale² = 1 + e²
    assert float(quiet.mean()) == pytest.approx(0, abs=0.05)
    assert float(quiet.square().mean()) == pytest.approx(1 + math.exp(2), rel=0.1)


@pytest.mark.parametrize(
    ("law", "weights"),
    [(PAPER, [0.2] * 5), (dataclasses.replace(PROGRAM, noise=0.0), np.array([0.2, 0.2, 0.3, 0.3, 0.5]) / 1.5)],
)
def test_mixture_components_have_the_stated_weights(law, weights):
    # rows of a component share its means in all 300 dimensions; squashed, no wide component drowns them
    u = mixture_coordinates(6000, 300, law=law, seed=1, dtype=F64).tanh()
    shares = np.bincount(KMeans(5, n_init=5, random_state=0).fit(u.numpy()).labels_) / len(u)
    np.testing.assert_allclose(np.sort(shares), weights, atol=0.015)


@pytest.mark.parametrize("law", [PAPER, PROGRAM])
def test_the_law_says_what_is_drawn(law):
    """By the paper's law there is no noise on u and no bias: the affine fit of the logits is a linear one."""
    data = sigmoid_manifold(400, 8, 3, law=law, seed=1, dtype=F64)
    rows = unsaturated(data.x)
    coefficients, residual = affine_fit(data.x[rows].logit(), data.u[rows])
    assert float(residual.abs().max()) < 1e-8
    assert (float(coefficients[-1].abs().max()) > 0.1) == law.bias
    assert law.noise == (1.0 if law is PROGRAM else 0.0)
    quiet = sigmoid_manifold(400, 8, 3, law=dataclasses.replace(law, noise=0.0), seed=1, dtype=F64)
    assert torch.equal(data.u, quiet.u) == (law.noise == 0)


def test_union_has_one_manifold_for_each_class():
    dims = (1, 2, 3, 4, 5)
    data = union_of_manifolds(1002, 20, dims, seed=1, dtype=F64)
    assert (data.r, data.t) == (dims, 0)
    assert torch.bincount(data.labels).tolist() == [201, 201, 200, 200, 200]
    assert torch.equal(data.c, torch.eye(5, dtype=F64)[data.labels])
    maps = []
    for label, r in enumerate(dims):
        assert (data.dimension(label), data.conditional_dimension(label)) == (r, r)
        own = (data.labels == label) & unsaturated(data.x)
        assert float(data.u[own, r:].abs().sum()) == 0
        coefficients, residual = affine_fit(data.x[own].logit(), data.u[own, :r])
        assert float(residual.abs().max()) < 1e-8
        assert int(torch.linalg.matrix_rank(coefficients[:r], rtol=1e-6)) == r
        assert affine_rank(data.x[own].logit()) == r
        maps.append(coefficients[:r])
    # the maps are different ones: together they span as many directions as all dimensions, but no more than d
    assert int(torch.linalg.matrix_rank(torch.cat(maps), rtol=1e-6)) == sum(dims)


def test_union_may_repeat_a_dimension():
    data = union_of_manifolds(40, 6, (2, 2), seed=1, dtype=F64)
    assert data.dimension() == data.dimension(1) == 2
    assert not torch.equal(data.x[0::2], data.x[1::2])


def test_varying_condition_reveals_the_first_t_coordinates():
    ts = (2, 4, 6)
    data = varying_condition(301, 10, 8, ts, seed=1, dtype=F64)
    assert (data.r, data.t, data.c.shape) == (8, ts, (301, 6))
    assert torch.bincount(data.labels).tolist() == [101, 100, 100]
    assert data.dimension() == 8
    for label, t in enumerate(ts):
        own = data.labels == label
        assert torch.equal(data.c[own, :t], data.u[own, :t])
        assert float(data.c[own, t:].abs().sum()) == 0
        assert (data.dimension(label), data.conditional_dimension(label)) == (8, 8 - t)
    # one map for all: a single affine fit explains every class
    inside = unsaturated(data.x)
    assert float(affine_fit(data.x[inside].logit(), data.u[inside])[1].abs().max()) < 1e-8


def test_arma_filters_as_scipy_does():
    e = torch.randn(500, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    np.testing.assert_allclose(arma(e).numpy(), lfilter(MA, AR, e.numpy(), axis=0), atol=1e-12)
    np.testing.assert_allclose(arma(e, ar=(1.0,)).numpy(), lfilter(MA, [1.0], e.numpy(), axis=0), atol=1e-12)
    np.testing.assert_allclose(arma(e[:2]).numpy(), lfilter(MA, AR, e[:2].numpy(), axis=0), atol=1e-12)
    impulse = torch.zeros(30, 1, dtype=F64)
    impulse[0] = 1
    np.testing.assert_allclose(arma(impulse, (1.0, -0.7), (1.0,))[:, 0].numpy(), 0.7 ** np.arange(30), rtol=1e-12)


def test_arma_sequences_have_the_stationary_autocovariance():
    data = arma_sequences(20_000, r=10, d=12, window=6, seed=1, dtype=F64)
    # γ(k) is the mean over the unit circle of σ² |MA/AR|² e^{iωk}
    omega = 2 * np.pi * np.arange(4096) / 4096
    back = np.exp(-1j * omega)
    density = 0.5**2 * np.abs(np.polyval(MA[::-1], back) / np.polyval(AR[::-1], back)) ** 2
    expected = np.array([(density * np.cos(k * omega)).mean() for k in range(6)])
    found = np.array([float((data.u[:, 0] * data.u[:, k]).mean()) for k in range(6)])
    np.testing.assert_allclose(found, expected, atol=0.02 * expected[0])
    # no burn-in is left to see: the first steps spread as the last do
    early = torch.stack([arma_sequences(6, r=10, d=10, seed=seed, dtype=F64).u[0, 0] for seed in range(60)])
    assert float(early.square().mean()) == pytest.approx(expected[0], rel=0.2)
    correlation = torch.corrcoef(data.u[:, -1].T) - torch.eye(10, dtype=F64)
    assert float(correlation.abs().max()) < 0.06


def test_arma_sequences_are_windows_of_one_linear_image():
    data = arma_sequences(200, r=3, d=5, window=4, seed=2, dtype=F64)
    assert (len(data), data.r) == (197, 3)
    assert data.sequences.shape == (197, 4, 5)
    assert data.u.shape == (197, 4, 3)
    assert torch.equal(data.sequences[1:, :-1], data.sequences[:-1, 1:])
    assert torch.equal(torch.cat([data.c, data.x[:, None]], 1), data.sequences)
    coefficients, residual = affine_fit(data.sequences.flatten(0, 1), data.u.flatten(0, 1))
    assert float(residual.abs().max()) < 1e-10
    assert int(torch.linalg.matrix_rank(coefficients[:3], rtol=1e-6)) == affine_rank(data.x) == 3
    # the innovations leave r dimensions even when all points before are known
    assert affine_rank(affine_fit(data.x, data.c.flatten(1))[1]) == 3
    assert torch.equal(data.sequences, arma_sequences(200, r=3, d=5, window=4, seed=2, dtype=F64).sequences)
    assert not torch.equal(data.sequences, arma_sequences(200, r=3, d=5, window=4, seed=3, dtype=F64).sequences)
    assert arma_sequences(20, r=3, d=5).sequences.dtype == torch.float32


def test_swiss_roll():
    data = swiss_roll(2000, seed=1, dtype=F64)
    theirs = torch.from_numpy(make_swiss_roll(2000, random_state=0)[0])
    for x in (data.x, theirs):  # on the spiral, the radius is the angle
        radius, angle = x[:, [0, 2]].norm(dim=1), torch.atan2(x[:, 2], x[:, 0])
        turns = (radius - angle) / (2 * torch.pi)
        torch.testing.assert_close(turns, turns.round(), atol=1e-9, rtol=0)
    torch.testing.assert_close(data.x[:, [0, 2]].norm(dim=1), data.u[:, 0])
    torch.testing.assert_close(data.x[:, 1], data.u[:, 1])
    for axis in range(3):
        assert float(data.x[:, axis].min()) == pytest.approx(float(theirs[:, axis].min()), abs=0.3)
        assert float(data.x[:, axis].max()) == pytest.approx(float(theirs[:, axis].max()), abs=0.3)


def test_s_curve():
    data = s_curve(2000, seed=1, dtype=F64)
    theirs = torch.from_numpy(make_s_curve(2000, random_state=0)[0])
    for x in (data.x, theirs):  # two arcs of unit circles around (0, ±1)
        radius = x[:, 0].square() + (1 - x[:, 2].abs()).square()
        torch.testing.assert_close(radius, torch.ones_like(radius))
    torch.testing.assert_close(data.x.amin(0), theirs.amin(0), atol=0.02, rtol=0)
    torch.testing.assert_close(data.x.amax(0), theirs.amax(0), atol=0.02, rtol=0)
    order = data.u[:, 0].argsort()  # the angle is the length along the curve
    steps = data.x[order][:, [0, 2]].diff(dim=0).norm(dim=1)
    assert float(steps.sum()) == pytest.approx(float(data.u[order[-1], 0] - data.u[order[0], 0]), rel=1e-4)


def test_torus_and_its_uniform_area():
    data = torus(40_000, seed=1, dtype=F64)
    x, y, z = data.x.T
    tube = (x.square() + y.square()).sqrt() - 2
    torch.testing.assert_close(tube.square() + z.square(), torch.ones_like(z))
    torch.testing.assert_close(data.u[:, 1].cos(), tube, atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.atan2(y, x), torch.atan2(data.u[:, 0].sin(), data.u[:, 0].cos()))
    # density in the tube's angle is (2 + cos φ)/4π, so E cos φ = 1/4 and E cos 2φ = 0
    assert float(tube.mean()) == pytest.approx(0.25, abs=0.015)
    assert float((2 * tube.square() - 1).mean()) == pytest.approx(0, abs=0.015)
    assert float(z.mean()) == pytest.approx(0, abs=0.015)


@pytest.mark.parametrize("r", [1, 2, 5])
def test_sphere(r):
    data = sphere(20_000, r, seed=1, dtype=F64)
    assert (data.x.shape, data.u, data.r) == ((20_000, r + 1), None, r)
    torch.testing.assert_close(data.x.norm(dim=1), torch.ones(20_000, dtype=F64))
    covariance = data.x.T @ data.x / len(data)
    torch.testing.assert_close(covariance, torch.eye(r + 1, dtype=F64) / (r + 1), atol=0.015, rtol=0)
    assert float(data.x.mean(0).abs().max()) < 0.02


def test_circles_are_disjoint_and_one_for_each_class():
    data = circles(3000, 4, d=6, seed=1, dtype=F64)
    assert torch.bincount(data.labels).tolist() == [750] * 4
    assert torch.equal(data.c.argmax(1), data.labels)
    torch.testing.assert_close(data.x.norm(dim=1), 1.0 + data.labels.double())
    assert [data.dimension(k) for k in range(4)] == [data.dimension()] * 4 == [1] * 4
    assert affine_rank(data.x) == 2


@pytest.mark.parametrize("name", MANIFOLDS)
def test_embedding_keeps_distances_and_noise_is_added_afterwards(name):
    make = MANIFOLDS[name]
    own = make(400, seed=3, dtype=F64)
    width = own.x.shape[1]
    wide, noisy = make(400, d=9, seed=3, dtype=F64), make(400, d=9, noise=0.1, seed=3, dtype=F64)
    assert wide.x.shape == (400, 9)
    torch.testing.assert_close(torch.cdist(wide.x, wide.x), torch.cdist(own.x, own.x), atol=1e-6, rtol=0)
    assert int(torch.linalg.matrix_rank(wide.x, rtol=1e-9)) == width
    difference = noisy.x - wide.x
    assert int(torch.linalg.matrix_rank(difference)) == 9
    assert float(difference.std()) == pytest.approx(0.1, rel=0.05)
    turned = make(400, d=width, seed=3, dtype=F64)
    assert not torch.allclose(turned.x, own.x)
    assert make(5, d=width).dimension() == own.dimension()


@pytest.mark.parametrize("name", MANIFOLDS)
def test_local_principal_components_count_the_dimension(name):
    data = MANIFOLDS[name](20_000, d=6, seed=2, dtype=F64)
    assert local_dimension(data.x) == [data.dimension()] * 10


def test_local_principal_components_of_curved_sheets():
    assert local_dimension(sphere(20_000, 3, d=6, dtype=F64).x) == [3] * 10
    data = sigmoid_manifold(20_000, 10, 2, seed=0, dtype=F64)
    middle = (data.x - 0.5).square().sum(1).argsort()[:10]  # where the sigmoid is not saturated
    assert local_dimension(data.x, centres=data.x[middle]) == [2] * 10
    union = union_of_manifolds(12_000, 10, (1, 2), seed=0, dtype=F64)
    for label in (0, 1):
        x = union.x[union.labels == label]
        middle = (x - 0.5).square().sum(1).argsort()[:10]
        assert local_dimension(x, centres=x[middle]) == [union.dimension(label)] * 10


def test_dimension_asks_for_a_class_where_classes_differ():
    union = union_of_manifolds(6, 4, (1, 2))
    with pytest.raises(InputError, match=r"classes of dimensions \(1, 2\)"):
        union.dimension()
    with pytest.raises(InputError, match="label 2"):
        union.dimension(2)
    with pytest.raises(InputError, match="label -1"):
        union.conditional_dimension(-1)
    with pytest.raises(InputError, match="without classes"):
        sphere(5).dimension(0)
    varying = varying_condition(6, 4, 3, (1, 2))
    assert varying.dimension() == 3
    with pytest.raises(InputError, match="no label"):
        varying.conditional_dimension()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sigmoid_manifold(0, 4, 2), "n=0"),
        (lambda: sigmoid_manifold(5, 4, 5), "r=5 with d=4"),
        (lambda: sigmoid_manifold(5, 4, 0), "r=0"),
        (lambda: sigmoid_manifold(5, 4, 2, t=3), "t=3 with r=2"),
        (lambda: sigmoid_manifold(5, 4, 2, t=-1), "t=-1"),
        (lambda: sigmoid_manifold(5, 4, 2, t=1, condition="cubic"), "cubic"),
        (lambda: sigmoid_manifold(5, 4, 2, dtype=torch.int64), "int64"),
        (lambda: mixture_coordinates(5, 0), "r=0"),
        (lambda: Law(noise=-1.0), "noise=-1"),
        (lambda: Law(weights=(1.0, -0.5)), "weights="),
        (lambda: union_of_manifolds(5, 4, ()), "no classes"),
        (lambda: union_of_manifolds(1, 4, (1, 2)), "each of 2 classes"),
        (lambda: union_of_manifolds(5, 4, (1, 5)), "r=5 with d=4"),
        (lambda: varying_condition(5, 4, 3, (2, 4)), "ts="),
        (lambda: varying_condition(5, 4, 3, (0, 2)), "ts="),
        (lambda: varying_condition(5, 4, 5, (1,)), "r=5 with d=4"),
        (lambda: arma_sequences(5, window=6), "window=6"),
        (lambda: arma_sequences(50, window=1), "window=1"),
        (lambda: arma_sequences(50, r=5, d=4), "r=5 with d=4"),
        (lambda: arma(torch.zeros(5)), "innovations"),
        (lambda: arma(torch.zeros(5, 1), ar=(2.0, 1.0)), "ar="),
        (lambda: swiss_roll(0), "n=0"),
        (lambda: torus(5, d=2), "d=2"),
        (lambda: sphere(5, 3, d=3), "d=3"),
        (lambda: sphere(5, 0), "r=0"),
        (lambda: s_curve(5, noise=math.nan), "noise=nan"),
        (lambda: circles(5, 0), "no classes"),
        (lambda: circles(2, 3), "each of 3 classes"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)


def test_record_is_compared_by_identity():
    first = Manifold(torch.zeros(1, 1), None, None, None, 1)
    assert first == first
    assert first != Manifold(torch.zeros(1, 1), None, None, None, 1)
