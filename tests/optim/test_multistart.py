"""The candidate optimizer against brute force, on finite spaces, and on the surrogate."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import acquisition, optim, surrogates
from bojax.optim import Seen
from tests.helpers import SPACES, make_lattice, observe, smooth


def no_points(d, capacity=1):
    return Seen(X=jnp.full((capacity, d), 0.5), mask=jnp.zeros(capacity, bool))


def wavy(theta, X):
    """A random function with several local maxima in every column and interactions between columns."""
    angles = theta[None, :, :] * X[:, :, None] * 4.0
    return jnp.sum(jnp.sin(angles + theta[None, ::-1, :]), axis=(1, 2)) + jnp.prod(1.0 + X, axis=1)


@pytest.fixture(scope="module")
def mixed():
    """The optimizer on a space of all four kinds, with the function's parameters as an argument, and brute force."""
    space = SPACES["mixed"]()
    lattice = make_lattice(space)
    optimizer = optim.multistart(num_restarts=8, raw_samples=256)

    @jax.jit
    def maximize(key, theta):
        return optimizer(key, lattice, lambda X: wavy(theta, X), no_points(4), jnp.full(4, 0.5))

    grid = [(np.arange(k) + 0.5) / k if k else np.linspace(0, 1, 401) for k in space.num_values]
    points = np.array(list(itertools.product(*grid)))
    brute = jax.jit(lambda theta, X: wavy(theta, X).max())
    return space, maximize, lambda theta: brute(theta, jnp.asarray(points))


@pytest.mark.long
def test_the_maximum_of_mixed_functions_is_found(x64, mixed):
    space, maximize, brute = mixed
    rng = np.random.default_rng(0)
    found = []
    for seed in range(10):
        theta = jnp.asarray(rng.uniform(-2, 2, (4, 3)))
        x, info = maximize(jax.random.key(seed), theta)
        np.testing.assert_array_equal(space.round(x), x)
        np.testing.assert_allclose(info.value, wavy(theta, x[None])[0], rtol=1e-9)
        best = brute(theta)
        assert info.value >= info.raw_value - 1e-9
        assert info.value >= best - 0.5, f"seed {seed}: {info.value} against {best}"
        found.append(bool(info.value >= best - 1e-6))
    assert sum(found) >= 9, found


@pytest.mark.long
def test_a_continuous_maximum_on_the_boundary_is_found(x64):
    lattice = make_lattice(SPACES["continuous"]())
    optimizer = jax.jit(
        lambda key, slope: optim.multistart(num_restarts=2, raw_samples=16)(
            key, lattice, lambda X: X @ slope, no_points(2), jnp.full(2, 0.5)
        )
    )
    for slope in ([1.0, 1.0], [-1.0, 1.0], [-1e-6, 1e-6], [1e8, -1e8]):
        x, _ = optimizer(jax.random.key(0), jnp.asarray(slope))
        np.testing.assert_array_equal(x, (np.array(slope) > 0).astype(float))


FINITE = {"below the enumeration limit": (5, 6), "above it": (40, 40)}


@pytest.fixture(scope="module", params=FINITE.values(), ids=FINITE.keys())
def finite(request):
    """A finite space, a compiled search on it that is told what was seen, and all of its points."""
    rows, columns = request.param
    space = bojax.Space(a=bojax.Int(1, rows), b=bojax.Ordinal([10 * i for i in range(columns)]))
    lattice, optimizer = make_lattice(space), optim.multistart(num_restarts=2, raw_samples=16)

    @jax.jit
    def maximize(key, seen):
        return optimizer(key, lattice, lambda X: -jnp.sum((X - 0.4) ** 2, axis=-1), seen, jnp.full(2, 0.5))

    with jax.enable_x64(True):
        positions = np.indices((rows, columns)).reshape(2, -1).T
        points = np.asarray(space.coordinates(jnp.asarray(positions), jnp.full(positions.shape, 0.5)))
    return space, maximize, points


@pytest.mark.long
def test_a_seen_point_is_never_returned_and_the_last_one_is_found(x64, finite):
    space, maximize, points = finite
    rng = np.random.default_rng(0)
    for left in (len(points), 7, 2, 1):
        mask = np.ones(len(points), bool)
        mask[rng.choice(len(points), left, replace=False)] = False
        x, info = maximize(jax.random.key(left), Seen(jnp.asarray(points), jnp.asarray(mask)))
        assert info.valid, f"{left} points are left"
        same = (space.positions(jnp.asarray(points)) == space.positions(x)[None]).all(axis=1)
        assert same.sum() == 1 and not mask[np.argmax(same)]
        if left == len(points):
            np.testing.assert_allclose(x, 0.4, atol=0.11)


def test_an_exhausted_space_is_told(x64, finite):
    _, maximize, points = finite
    x, info = maximize(jax.random.key(0), Seen(jnp.asarray(points), jnp.ones(len(points), bool)))
    assert not info.valid
    assert np.isfinite(x).all()


def test_more_seen_rows_than_points_do_not_exhaust_a_space(x64, finite):
    """Repeated observations of few points leave the others to be found."""
    _, maximize, points = finite
    repeated = np.repeat(points[:3], -(-len(points) // 3), axis=0)[: len(points)]
    x, info = maximize(jax.random.key(0), Seen(jnp.asarray(repeated), jnp.ones(len(points), bool)))
    assert info.valid
    assert not (points[:3] == np.asarray(x)).all(axis=1).any()


@pytest.fixture(scope="module")
def on_surrogate():
    """A Gaussian process on 20 points of 3 inputs, and its log expected improvement maximised."""
    space = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(3)})
    surrogate = surrogates.gp(num_restarts=2)
    lattice, optimizer = make_lattice(space), optim.multistart()

    @jax.jit
    def candidate(key, data):
        params, _ = surrogate.fit(key, data, surrogate.init(3, data.X.dtype))
        posterior = surrogate.posterior(params, data).standardized()
        means = posterior.mean(data.X)
        best, center = means.max(), data.X[jnp.argmax(means)]
        fn = lambda X: acquisition.log_ei(posterior, X, best)  # noqa: E731
        random = fn(jax.random.uniform(jax.random.key(1), (20_000, 3), data.X.dtype)).max()
        x, info = optimizer(key, lattice, fn, no_points(3), center)
        return x, info, fn(x[None])[0], random

    return candidate


@pytest.mark.long
def test_log_ei_candidates_beat_random_search(x64, on_surrogate):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = rng.random((20, 3))
        x, info, value, random = on_surrogate(jax.random.key(seed), observe(X, smooth(X * rng.uniform(0.3, 2, (1, 3)))))
        np.testing.assert_allclose(info.value, value, rtol=1e-8, atol=1e-8)
        assert value >= random - 1e-9, f"data set {seed}: {value} against {random}"
        assert ((x >= 0) & (x <= 1)).all()


@pytest.mark.parametrize(
    "kwargs", [{"num_restarts": 0}, {"num_restarts": 9, "raw_samples": 8}, {"max_evals": 0}, {"max_rows": 0}]
)
def test_bad_numbers_are_refused(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        optim.multistart(**kwargs)
