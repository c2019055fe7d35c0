"""Trust-region optimization: candidates, local data, batches, what a restored study asks, and regret."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data, loop, surrogates
from bojax._errors import Status
from bojax.loop._regions import box, candidates
from bojax.loop._turbo import largest_of_each, local_data
from bojax.optim import Lattice
from tests.helpers import SPACES, smooth

SMALL = {"num_candidates": 100, "num_features": 64, "num_initial": 4}
FLOATS = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(6)})
MIXED = bojax.Space(
    a=bojax.Float(0.0, 1.0), b=bojax.Int(0, 9), c=bojax.Categorical(["u", "v", "w"]), n=bojax.Int(1, 1000, log=True)
)


@pytest.fixture(scope="module")
def floats():
    """On six Floats, two points at a time; compiled once for all tests here in float64."""
    return bojax.turbo(FLOATS, q=2, capacity=32, max_pending=4, **SMALL)


def rounds(algorithm, num_rounds, key=0, f=smooth):
    state = algorithm.init(jax.random.key(key))
    for i in range(num_rounds):
        X, state, _ = algorithm.ask(jax.random.key(i), state)
        state = algorithm.tell(state, X, f(np.asarray(X)))
    return state


def test_the_box_has_the_sides_of_the_paper(x64):
    lattice = Lattice.of(FLOATS)
    scale = jnp.array([0.1, 0.2, 0.4, 0.4, 0.4, 50.0])
    lower, upper = box(lattice, jnp.full(6, 0.5), jnp.float64(0.1), scale)
    sides = np.asarray(upper - lower)
    assert np.isclose(np.exp(np.log(sides).mean()), 0.1), "the volume is that of a cube of this side"
    assert np.allclose(sides[:5] / sides[0], scale[:5] / scale[0])
    assert sides[5] < 10 * sides[2], "a column that does not matter takes no room from the others"
    lower, upper = box(lattice, jnp.full(6, 0.01), jnp.float64(1.6), jnp.ones(6))
    assert np.allclose(lower, 0.0) and np.allclose(upper, 0.81)


def test_the_box_reaches_the_next_values_and_every_category(x64):
    lattice = Lattice.of(MIXED)
    center = jnp.asarray(MIXED.round(jnp.array([0.5, 0.55, 0.5, 0.2])))
    lower, upper = box(lattice, center, jnp.float64(0.5**7), jnp.ones(4))
    P = np.asarray(lattice.positions(center))
    assert np.allclose([lower[1], upper[1]], [0.45, 0.65]) and (lower[2], upper[2]) == (0.0, 1.0)
    assert lattice.positions(lower)[3] == P[3] - 1 and lattice.positions(upper)[3] == P[3] + 1


def test_candidates_move_few_coordinates_within_the_box(x64):
    space = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(80)})
    center = np.random.default_rng(0).random(80)
    X = candidates(jax.random.key(0), Lattice.of(space), jnp.asarray(center), jnp.float64(0.4), jnp.ones(80), 2000)
    X = np.asarray(X)
    assert np.all(np.abs(X - center) <= 0.2 + 1e-12) and np.all((X >= 0) & (X <= 1))
    moved = X != center
    # 80 columns with probability a quarter; the one that surely moves adds three quarters.
    assert abs(moved.sum(axis=1).mean() - 20.75) < 5 * np.sqrt(15 / 2000) and moved.any(axis=1).all()
    assert np.all(np.abs(moved.mean(axis=0) - 0.259) < 5 * np.sqrt(0.2 / 2000))


def test_candidates_of_mixed_spaces_change_categories_less_in_smaller_regions(x64):
    lattice, changes = Lattice.of(MIXED), []
    center = jnp.asarray(MIXED.round(jnp.array([0.5, 0.55, 0.5, 0.2])))
    for length in (1.6, 0.1, 0.5**7):
        X = candidates(jax.random.key(0), lattice, center, jnp.float64(length), jnp.ones(4), 3000)
        np.testing.assert_array_equal(MIXED.round(jnp.asarray(X)), X)
        changes.append(np.mean(np.asarray(X != center[None, :]), axis=0))
    # One draw in three hits the category that is there.
    assert np.allclose([c[2] for c in changes], [2 / 3, (0.25 + 0.75 * 0.1) * 2 / 3, 2 / 3 * 0.256], atol=0.05)
    assert np.all(np.asarray(changes)[:, [0, 1, 3]] > 0.1), "ordered columns still move when the region is smallest"


def test_the_nearest_rows_are_the_local_data(x64):
    X = np.random.default_rng(0).random((10, 3))
    y = np.where(np.arange(10) == 4, np.nan, np.arange(10.0))
    seen = data.from_numpy(X, y, 16, np.float64, noise_var=np.arange(10.0))
    chosen = jnp.asarray((np.arange(16) < 10) & (np.arange(16) % 3 != 0))
    few = local_data(seen, chosen, jnp.asarray(X[7]), 4)
    members = [i for i in range(10) if i % 3]
    nearest = sorted(members, key=lambda i: np.sum((X[i] - X[7]) ** 2))[:4]
    np.testing.assert_array_equal(few.X, X[nearest])
    np.testing.assert_array_equal(few.columns["noise_var"], nearest)
    assert few.count == 4 and few.y[0] == 7.0
    everything = local_data(seen, chosen, jnp.asarray(X[7]), 64)
    assert everything.capacity == 16 and everything.count == 6 and everything.mask.sum() == 5
    assert np.all(np.isfinite(everything.X)) and not everything.mask[6:].any()


def test_no_candidate_is_taken_twice():
    values = jnp.array([[3.0, 2.0, 1.0], [9.0, 2.0, 1.0], [9.0, 8.0, -jnp.inf]])
    assert largest_of_each(values).tolist() == [0, 1, 2]


@pytest.mark.long
def test_points_lie_in_the_region_and_differ(x64, floats):
    state = rounds(floats, 6)
    X, asked, info = floats.ask(jax.random.key(9), state)
    again, _, _ = floats.ask(jax.random.key(10), asked)
    assert info.status == Status.OK and info.region.tolist() == [0, 0]
    assert len(np.unique(np.concatenate([X, again]), axis=0)) == 4
    best = state.observations.X[np.argmax(np.where(state.observations.mask, state.observations.y, -np.inf))]
    assert np.any(np.abs(X - best[None]) < 0.5 * info.length[0])


@pytest.mark.long
def test_a_restored_study_asks_the_same(x64, floats):
    state = rounds(floats, 8)  # fills a buffer of 16
    n = int(state.observations.count)
    seen = jax.tree.map(np.asarray, state.observations)
    fresh = loop.restore(floats.init(jax.random.key(0)), bojax.data.Told(seen.X[:n], seen.y[:n], np.zeros((0, 6))))
    small = loop.restore(floats.init(jax.random.key(0)), bojax.data.Told(seen.X[:n], seen.y[:n], np.zeros((0, 6))))
    X, _, info = floats.ask(jax.random.key(5), state)
    for other in (fresh, small):
        Y, _, other_info = floats.ask(jax.random.key(5), other)
        np.testing.assert_allclose(Y, X, atol=1e-6)
        assert other_info.length == info.length and info.status == Status.OK
    X, _, _ = floats.ask(jax.random.key(5), fresh)
    again = loop.restore(floats.init(jax.random.key(0)), bojax.data.Told(seen.X[:n], seen.y[:n], np.zeros((0, 6))))
    Y, _, _ = floats.ask(jax.random.key(5), again)
    np.testing.assert_array_equal(X, Y)


def test_failures_shrink_and_are_left(x64, floats):
    state = rounds(floats, 3)
    for i in range(3):
        X, state, info = floats.ask(jax.random.key(i), state)
        assert np.isfinite(X).all() and info.status == Status.OK
        state = floats.tell(state, X, np.array([np.nan, -np.inf]))
    _, _, info = floats.ask(jax.random.key(7), state)
    assert info.length[0] == 0.4, "six evaluations that fail halve the region of six columns"


@pytest.mark.long
def test_regions_share_the_points(x64):
    algorithm = bojax.turbo(FLOATS, q=6, num_regions=2, capacity=32, **SMALL)
    start, taken = algorithm.init(jax.random.key(0)), set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        state = algorithm.tell(start, rng.random((12, 6)), rng.normal(size=12))
        X, _, info = algorithm.ask(jax.random.key(seed), state)
        assert info.length.shape == (2,) and np.isfinite(info.fit_loss).all()
        assert len(np.unique(X, axis=0)) == 6
        taken |= set(info.region.tolist())
    assert taken == {0, 1}


@pytest.mark.long
def test_mixed_and_finite_spaces(x64):
    algorithm = bojax.turbo(SPACES["finite"](), q=3, capacity=32, **SMALL)
    state, points = algorithm.init(jax.random.key(0)), []
    for i in range(6):  # 18 points are all there are
        X, state, info = algorithm.ask(jax.random.key(i), state)
        assert info.valid.all()
        points.append(X)
        state = algorithm.tell(state, X, smooth(np.asarray(X)))
    assert len(np.unique(np.concatenate(points), axis=0)) == 18
    _, _, info = algorithm.ask(jax.random.key(7), state)
    assert info.status == Status.EXHAUSTED and not info.valid.any()


@pytest.mark.slow
def test_a_study_in_many_dimensions_beats_random_search(x64):
    space = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(30)})
    target = np.random.default_rng(0).random(30)

    def f(params):
        x = jnp.stack([params[f"x{i}"] for i in range(30)], axis=-1)
        return -jnp.sum(jnp.where(jnp.arange(30) < 3, 10.0, 0.1) * (x - target) ** 2, axis=-1)

    algorithm = bojax.turbo(space, q=4, num_candidates=500, num_features=256)
    keys = jax.random.split(jax.random.key(0), 3)
    best = np.max(bojax.run_many(keys, algorithm, f, num_steps=15).observations.y, axis=1)
    other = np.max(bojax.run_many(keys, bojax.random_search(space, q=4), f, num_steps=15).observations.y, axis=1)
    assert np.all(best > 0.75 * other), f"{best} against {other}"


def test_wrong_settings_are_named():
    for name in ("q", "num_regions", "capacity", "num_initial", "num_candidates", "num_features", "max_pending"):
        with pytest.raises(ValueError, match=name):
            bojax.turbo(FLOATS, **{name: 0})
    for name in bojax.loop.TrustRegion._fields:
        with pytest.raises(ValueError, match=name):
            bojax.turbo(FLOATS, trust_region=bojax.loop.TrustRegion(**{name: 0}))
    with pytest.raises(TypeError, match="space"):
        bojax.turbo({"x": 1})
    kernel = surrogates.matern52()
    bare = kernel._replace(
        init=lambda d, dtype: {"k": kernel.init(d, dtype)},
        matrix=lambda params, X, Z: kernel.matrix(params["k"], X, Z),
        diagonal=lambda params, X: kernel.diagonal(params["k"], X),
        log_prior=lambda params: kernel.log_prior(params["k"]),
        bounds=lambda params: tuple({"k": bound} for bound in kernel.bounds(params["k"])),
    )
    algorithm = bojax.turbo(FLOATS, surrogate=surrogates.gp(bare))
    with pytest.raises(TypeError, match="lengthscale"):
        algorithm.ask(jax.random.key(0), algorithm.init(jax.random.key(0)))
