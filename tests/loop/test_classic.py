"""Classic algorithms: grids are visited whole and once, Sobol sequences go on, and Parzen estimators are exact."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm, truncnorm

import bojax
from bojax import Categorical, Float, Int, Ordinal, Space, Status, data, loop
from bojax._qmc import direction_integers, sobol_integers
from bojax.loop import _parzen
from bojax.space import Lattice
from tests.helpers import SPACES

LINE = Space(x=Float(0.0, 1.0))
SQUARE = Space(x=Float(0.0, 1.0), z=Float(0.0, 1.0))


def rounds(algorithm, num_rounds, *, key=0, value=None, held=None):
    """The points of some rounds of ask and tell, without invalid ones, and the last status."""
    state, points = algorithm.init(jax.random.key(key)), []
    info: Any = None
    for i in range(num_rounds):
        X, state, info = algorithm.ask(jax.random.key(1000 + i), state, held)
        X = np.asarray(X)[np.asarray(info.valid)]
        state = algorithm.tell(state, X, np.zeros(len(X)) if value is None else value(X))
        points.append(X)
    return np.concatenate(points), Status(int(info.status))


def dicts(space, X):
    return [tuple(sorted(space.to_params(x).items())) for x in X]


# Grid search.


def test_a_grid_is_visited_whole_and_once():
    space = Space(a=Float(0.1, 10.0, log=True), b=Int(1, 3), c=Categorical(["u", "v"]))
    X, status = rounds(bojax.grid_search(space, q=5, num_points=3), 4)
    seen = [(round(p["a"], 5), p["b"], p["c"]) for p in map(space.to_params, X)]
    assert status == Status.EXHAUSTED
    assert sorted(seen) == sorted((a, b, c) for a in (0.1, 1.0, 10.0) for b in (1, 2, 3) for c in "uv")


def test_branches_of_a_grid_take_turns_and_are_visited_whole():
    space = SPACES["tree"]()
    X, status = rounds(bojax.grid_search(space, q=3, num_points=4), 8)
    seen = dicts(space, X)
    # a = u: c = 1, and c = 2, ..., 5 with four values of d; a = v: four values of b.
    assert status == Status.EXHAUSTED and len(seen) == len(set(seen)) == 1 + 4 * 4 + 4
    assert {dict(p).get("c", dict(p).get("b")) for p in seen[:6]} >= {1, 2, 3, 4, 5}


def test_held_parameters_leave_a_slice_of_the_grid():
    space = SPACES["tree"]()
    held = np.asarray(space.coordinates_of({"a": "u", "c": 3}), np.float32)
    X, status = rounds(bojax.grid_search(space, q=3, num_points=4), 2, held=jnp.asarray(held))
    assert status == Status.EXHAUSTED and len(X) == 4
    assert {(p["a"], p["c"]) for p in map(space.to_params, X)} == {("u", 3)}


def test_ordered_values_can_be_thinned_out():
    space = Space(n=Int(0, 1000), level=Ordinal([1, 2, 4, 8]))
    X, _ = rounds(bojax.grid_search(space, q=6, num_points={"n": 3, "level": 2}), 1)
    assert sorted(map(tuple, (space.to_params(x).values() for x in X))) == [
        (n, k) for n in (0, 500, 1000) for k in (1, 8)
    ]


def test_one_point_of_a_column_is_its_middle():
    X, status = rounds(bojax.grid_search(LINE, num_points=1), 2)
    assert X.tolist() == [[0.5]] and status == Status.EXHAUSTED


def test_a_grid_too_large_to_store_is_visited_all_over():
    space = Space({f"x{i}": Float(0.0, 1.0) for i in range(9)} | {"n": Int(0, 10**6)})
    X, status = rounds(bojax.grid_search(space, q=60, num_points=100, capacity=128), 2)
    assert status == Status.OK and len(np.unique(X, axis=0)) == 120
    assert np.allclose(X[:, :9] * 99, np.rint(X[:, :9] * 99), atol=1e-4)
    assert (np.abs(X.mean(axis=0) - 0.5) < 5 * np.sqrt(1 / 12 / 120)).all()
    assert (np.abs(np.corrcoef(X.T) - np.eye(10)) < 5 / np.sqrt(120)).all()


def test_the_order_of_a_grid_depends_on_the_key_of_init_alone():
    algorithm = bojax.grid_search(SQUARE, q=8, num_points=20)
    state = algorithm.init(jax.random.key(0))
    first, again = (np.asarray(algorithm.ask(jax.random.key(i), state)[0]) for i in range(2))
    other = np.asarray(algorithm.ask(jax.random.key(0), algorithm.init(jax.random.key(1)))[0])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_points_beside_the_grid_do_not_matter_and_failures_are_not_repeated():
    algorithm = bojax.grid_search(LINE, num_points=5)
    state = algorithm.tell(algorithm.init(jax.random.key(0)), [[0.25], [0.3], [0.4]], [np.nan, 1.0, 2.0])
    X = []
    for i in range(4):
        x, state, info = algorithm.ask(jax.random.key(i), state)  # never told: they stay pending
        X.append(float(x[0, 0]))
        assert bool(info.valid[0])
    assert sorted(X) == [0.0, 0.5, 0.75, 1.0]
    assert int(algorithm.ask(jax.random.key(9), state)[2].status) == Status.EXHAUSTED


@pytest.mark.parametrize(
    ("space", "num_points", "error", "message"),
    [
        (LINE, 0, ValueError, "`num_points` of `x` must be between 1 and 10000, got 0"),
        (LINE, 2.5, TypeError, "`num_points` must be an integer or map names to integers, got 2.5"),
        (LINE, {"y": 3}, KeyError, "no parameter 'y'"),
        (LINE, {"x": True}, TypeError, "`num_points` of `x` must be an integer, got True"),
        (Space(n=Int(1, 4)), 3, ValueError, "`num_points` must be left out, got 3"),
        (Space(n=Int(1, 4)), {"n": 5}, ValueError, "`num_points` of `n` must be between 1 and 4, got 5"),
        (Space(c=Categorical(["u", "v"])), {"c": 1}, ValueError, "must not name `c`"),
        (SPACES["tree"](), {"c": 2}, ValueError, "must not name `c`"),
    ],
)
def test_bad_resolutions_of_a_grid_are_explained(space, num_points, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(")):
        bojax.grid_search(space, num_points=num_points)


def test_too_many_branches_of_a_grid_are_refused():
    deciding: dict = {f"n{i}": Int(1, 300) for i in range(2)}
    children: dict = {f"x{i}": Float(0.0, 1.0, when={f"n{i}": 1}) for i in range(2)}
    with pytest.raises(ValueError, match="at most 65536 combinations"):
        bojax.grid_search(Space(deciding | children))


@pytest.mark.parametrize("make", [bojax.grid_search, bojax.sobol_search, bojax.tpe])
def test_counts_and_spaces_are_checked(make):
    with pytest.raises(ValueError, match="`q` must be at least 1, got 0"):
        make(LINE, q=0)
    with pytest.raises(ValueError, match="`capacity` must be at least 1, got 0"):
        make(LINE, capacity=0)
    with pytest.raises(TypeError, match="`space` must be a bojax.Space"):
        make({"x": (0, 1)})


def grid_of_five(space, q):
    return bojax.grid_search(space, q=q, num_points=5)


def test_a_study_ends_with_its_grid():
    study = bojax.Study(LINE, algorithm=grid_of_five, seed=0)
    study.tell(study.ask()[0], state="fail")
    with pytest.warns(bojax.BojaxWarning, match="stops early"):
        study.optimize(lambda params: params["x"], num_trials=20, batch_size=2, progress=False)
    assert sorted(trial.params["x"] for trial in study.trials) == [0.0, 0.25, 0.5, 0.75, 1.0]
    with pytest.raises(bojax.SpaceExhaustedError):
        study.ask()


# Sobol search.


def test_sobol_search_gives_the_sequence_of_its_directions():
    algorithm = bojax.sobol_search(SQUARE, q=7, capacity=64)
    state = algorithm.init(jax.random.key(0))
    plain = state._replace(directions=jnp.asarray(direction_integers(2)), shift=jnp.zeros(2, jnp.uint32))
    X, plain, _ = algorithm.ask(jax.random.key(0), plain)
    more, _, _ = algorithm.ask(jax.random.key(0), algorithm.tell(plain, X, np.zeros(7)))
    expected = (sobol_integers(14, 2) >> 9) * 2.0**-23
    np.testing.assert_allclose(np.concatenate([X, more]), expected, atol=1e-6)


def test_scrambled_points_are_balanced_and_differ_from_a_shift():
    algorithm = bojax.sobol_search(SQUARE, q=16)
    X = np.stack([rounds(algorithm, 1, key=key)[0] for key in range(3)])
    for shape in ((16, 1), (4, 4), (1, 16)):  # one point in each of 16 boxes
        cells = np.floor(X * shape).astype(int)
        assert all(len({tuple(cell) for cell in some}) == 16 for some in cells)
    bits = np.floor(X * 256).astype(int)
    assert not np.array_equal(bits[0] ^ bits[0, :1], bits[1] ^ bits[1, :1])


def test_sobol_search_fills_what_was_lost_and_skips_what_was_told():
    algorithm = bojax.sobol_search(LINE, q=4)
    start = algorithm.init(jax.random.key(0))
    X = np.asarray(algorithm.ask(jax.random.key(0), start)[0])
    told = data.Told(X[[0, 2]], np.zeros(2), X[3:])  # of four points one was lost, one is pending
    rest, _, _ = algorithm.ask(jax.random.key(1), loop.restore(start, told))
    np.testing.assert_allclose(rest[0], X[1], atol=1e-6)
    assert not np.isin(np.asarray(rest[1:]), X).any()


def test_sobol_search_visits_a_finite_space_once():
    space = SPACES["finite"]()
    X, status = rounds(bojax.sobol_search(space, q=5), 4)
    assert status == Status.EXHAUSTED and len(dicts(space, X)) == len(set(dicts(space, X))) == 18


# The tree-structured Parzen estimator.


def weights_of(n):
    """The weights of n observations and the prior."""
    ramp = np.linspace(1.0 / max(n, 1), 1.0, max(n - 25, 0))
    weights = np.append(np.ones(n) if n < 25 else np.append(ramp, np.ones(25)), 1.0)
    return weights / weights.sum()


def widths_of(x):
    """Distances to the farther neighbor, clipped."""
    n, rank = len(x), np.argsort(np.argsort(x, kind="stable"))
    ordered = np.sort(x)
    if n == 1:
        return np.array([min(max(x[0], 1.0 - x[0], 1.0 / 3.0), 1.0)])
    gaps = np.concatenate([[0.0], np.diff(ordered), [0.0]])
    return np.clip(np.maximum(gaps[:-1], gaps[1:]), 1.0 / min(100, n + 2), 1.0)[rank]


def log_mass(low, high):
    """log(Phi(high) - Phi(low)), by SciPy."""
    mirrored = low + high > 0
    a, b = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
    return norm.logcdf(b) + np.log1p(-np.exp(norm.logcdf(a) - norm.logcdf(b)))


def reference(space, X, exists, points):
    """The log density of points in the columns that exist at all rows of X alike, by SciPy."""
    n, columns = len(X), np.flatnonzero(exists)
    total = np.log(weights_of(n))[None, :].repeat(len(points), 0)
    for k in columns:
        parameter, size = space.parameters[k], space.num_values[k]
        if isinstance(parameter, Categorical):
            same = np.floor(points[:, None, k] * size) == np.floor(X[None, :, k] * size)
            kernels = (1.0 / (n + 1) + same) / (1.0 + size / (n + 1))
            total += np.log(np.append(kernels, np.full((len(points), 1), 1.0 / size), axis=1))
            continue
        centers, widths = np.append(X[:, k], 0.5), np.append(widths_of(X[:, k]), 1.0)
        law: Any = truncnorm(-centers / widths, (1.0 - centers) / widths, centers, widths)
        if not size:
            total += law.logpdf(points[:, None, k])
            continue
        values = np.array([space.to_params(x)[space.names[k]] for x in points], float)
        if isinstance(parameter, Int) and parameter.log:
            first, last = np.log(parameter.low - 0.5), np.log(parameter.high + 0.5)
            low, high = ((np.log(values + half) - first) / (last - first) for half in (-0.5, 0.5))
        else:
            position = np.floor(points[:, k] * size)
            low, high = position / size, (position + 1) / size
        low, high = ((end[:, None] - centers) / widths for end in (low, high))
        total += log_mass(low, high) - log_mass(-centers / widths, (1.0 - centers) / widths)
    return logsumexp(total, axis=1)


def densities(lattice, X, mask, points):
    """The log densities of points in each group."""

    @jax.jit
    def compute(X, mask, points):
        groups = _parzen.groups_of(lattice)
        mixture = _parzen.parzen(lattice, groups, X, mask)
        return _parzen.log_density(_parzen.without_conditions(lattice), groups, mixture, points)

    return np.asarray(compute(X, mask, points))


REFERENCE_SPACE = Space(
    x=Float(-1.0, 3.0),
    rate=Float(1e-4, 1.0, log=True),
    n=Int(1, 9),
    width=Int(2, 300, log=True),
    level=Ordinal([1, 2, 4, 8]),
    kind=Categorical(["a", "b", "c"]),
)


@pytest.mark.parametrize("n", [0, 1, 2, 12, 40])
def test_the_density_is_that_of_scipy(x64, n):
    space, rng = REFERENCE_SPACE, np.random.default_rng(n)
    X, points = (np.asarray(space.round(jnp.asarray(rng.random((k, 6))))) for k in (max(n, 1), 15))
    rows = np.sort(rng.choice(48, n, replace=False))  # anywhere in a buffer
    buffer, mask = rng.random((48, 6)), np.isin(np.arange(48), rows)
    buffer[rows] = X[:n]
    found = densities(Lattice.of(space), buffer, mask, points)
    expected: Any = reference(space, X[:n], np.ones(6, bool), points)
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-10)


def test_groups_are_modelled_by_the_observations_where_they_exist(x64):
    space, rng = SPACES["tree"](), np.random.default_rng(0)
    lattice = Lattice.of(space)
    X, points = (np.asarray(space.round(jnp.asarray(rng.random((k, 4))))) for k in (30, 10))
    groups, found = _parzen.groups_of(lattice), densities(lattice, X, np.ones(30, bool), points)
    active = np.asarray(lattice.active(X))
    flat = Space({name: dataclasses.replace(parameter, when=None) for name, parameter in space.items()})
    for k in range(4):  # each parameter is a group of its own
        expected: Any = reference(flat, X[active[:, k]], np.arange(4) == k, points)
        np.testing.assert_allclose(found[:, int(groups.of[k])], expected, rtol=0, atol=1e-10)


def test_log_mass_is_exact_in_both_tails(x64):
    low = np.array([-40.0, -9.0, -1.0, -0.1, 0.0, 3.0, 8.0, 30.0])
    high = low + np.array([0.01, 1.0, 0.5, 0.2, 1e-6, 4.0, 1e-3, 2.0])
    found = _parzen.log_mass(jnp.asarray(low), jnp.asarray(high))
    np.testing.assert_allclose(found, log_mass(low, high), rtol=1e-8)


def draws(lattice, X, count):
    """Points drawn from the estimator of X."""

    @jax.jit
    def compute(key, X):
        groups = _parzen.groups_of(lattice)
        mixture = _parzen.parzen(lattice, groups, X, jnp.ones(len(X), bool))
        return _parzen.sample(key, lattice, groups, mixture, count)

    return np.asarray(compute(jax.random.key(0), X))


def test_draws_follow_the_density():
    space = Space(x=Float(0.0, 1.0), n=Int(0, 4), c=Categorical(["a", "b"]))
    lattice, count = Lattice.of(space), 20_000
    X = np.asarray(space.round(jnp.array([[0.2, 0.1, 0.2], [0.25, 0.3, 0.2], [0.9, 0.9, 0.8]])))
    drawn = draws(lattice, X, count)
    cells = np.stack(
        [[x, n, c] for x in (np.arange(50) + 0.5) / 50 for n in (0.1, 0.3, 0.5, 0.7, 0.9) for c in (0.25, 0.75)]
    )
    density = np.exp(densities(lattice, X, np.ones(3, bool), cells.astype(np.float32))[:, 0]) / 50
    assert abs(density.sum() - 1.0) < 1e-2
    for of in (lambda X: X[:, 0], lambda X: X[:, 1], lambda X: X[:, 2], lambda X: X[:, 0] * X[:, 1] * X[:, 2]):
        mean = density @ of(cells)
        assert abs(of(drawn).mean() - mean) < 5 * of(drawn).std() / np.sqrt(count) + 2e-3


def test_held_coordinates_choose_among_the_kernels():
    X = np.array([[0.1, 0.1], [0.12, 0.12], [0.9, 0.9], [0.92, 0.92]], np.float32)
    drawn = draws(Lattice.of(SQUARE).hold(np.array([0.91, np.nan])), X, 500)
    assert (drawn[:, 0] == np.float32(0.91)).all()
    assert np.mean(drawn[:, 1] > 0.5) > 0.7  # 0.5 if the held coordinate did not matter


def ask_of(algorithm, X, y, pending=(), key=0, held=None):
    start = algorithm.init(jax.random.key(0))
    X, pending = np.asarray(X, np.float64), np.asarray(pending, np.float64).reshape(-1, X.shape[1])
    return algorithm.ask(jax.random.key(key), loop.restore(start, data.Told(X, np.asarray(y), pending)), held)


def peak(X):
    return -np.sum((X - 0.3) ** 2, axis=1)


@pytest.mark.long
def test_suggestions_are_near_good_points_and_keep_away_from_pending_ones_and_failures():
    X = np.random.default_rng(0).random((40, 2))
    algorithm = bojax.tpe(SQUARE, num_candidates=64)
    near = np.stack([np.asarray(ask_of(algorithm, X, peak(X), key=key)[0][0]) for key in range(12)])
    assert np.median(np.linalg.norm(near - 0.3, axis=1)) < 0.2
    crowd = near[:5]
    away = np.stack([np.asarray(ask_of(algorithm, X, peak(X), crowd, key)[0][0]) for key in range(12)])
    failed = np.where(np.linalg.norm(X - 0.3, axis=1) < 0.3, np.nan, peak(X))
    out = np.stack([np.asarray(ask_of(algorithm, X, failed, key=key)[0][0]) for key in range(12)])

    def nearest(Z):
        return np.median(np.linalg.norm(Z[:, None] - crowd[None], axis=-1).min(axis=1))

    assert nearest(away) > 1.3 * nearest(near[5:])
    assert np.median(np.linalg.norm(out - 0.3, axis=1)) > 0.25


def test_a_batch_of_tpe_is_distinct_and_pins_what_is_held():
    X = np.random.default_rng(1).random((30, 2))
    chosen, state, info = ask_of(bojax.tpe(SQUARE, q=6), X, peak(X), held=jnp.array([0.7, jnp.nan]))
    assert int(info.status) == Status.OK and bool(info.valid.all())
    assert (chosen[:, 0] == jnp.float32(0.7)).all() and len(np.unique(np.asarray(chosen)[:, 1])) == 6
    assert int(state.pending.mask.sum()) == 6


@pytest.mark.long
def test_padded_columns_change_nothing(x64):
    space = Space({**SPACES["mixed"](), "n": Int(0, 3)})  # five columns: padded to eight
    X = np.asarray(space.round(jnp.asarray(np.random.default_rng(0).random((25, 5)))))
    exact, lattice = bojax.tpe(space, q=2, num_initial=5), Lattice.padded(space)
    assert exact.on is not None
    found, _, _ = ask_of(exact, X, peak(X))
    other, _, info = ask_of(exact.on(lattice), np.pad(X, ((0, 0), (0, 3)), constant_values=0.5), peak(X))
    assert int(info.status) == Status.OK
    np.testing.assert_allclose(other[:, :5], found, rtol=0, atol=1e-10)
    assert (other[:, 5:] == 0.5).all()


@pytest.mark.long
def test_tpe_beats_random_search_and_exhausts_a_finite_space():
    def f(params):
        return -((params["x"] - 0.3) ** 2) - (params["z"] - 0.6) ** 2

    keys = jax.random.split(jax.random.key(0), 16)
    best = {
        make: np.asarray(bojax.run_many(keys, make(SQUARE), f, num_steps=50).observations.y).max(axis=1)
        for make in (bojax.tpe, bojax.random_search)
    }
    gap = np.log10(-best[bojax.tpe]) - np.log10(-best[bojax.random_search])
    assert gap.mean() < -2.0 * gap.std() / 4.0
    X, status = rounds(bojax.tpe(SPACES["finite"](), q=2, num_initial=4), 10, value=peak)
    assert status == Status.EXHAUSTED and len(np.unique(X, axis=0)) == 18


@pytest.mark.long
@pytest.mark.parametrize("make", [bojax.sobol_search, bojax.tpe])
def test_a_study_with_conditions_failures_and_fixed_parameters(make):
    study = bojax.Study(SPACES["tree"](), algorithm=lambda space, q: make(space, q=q), seed=0)
    for i in range(8):
        for j, trial in enumerate(study.ask(2)):
            value = trial.params.get("b", 0.1 * trial.params.get("c", 9))
            study.tell(trial, state="fail") if (i + j) % 5 == 4 else study.tell(trial, value)
    waiting = study.ask(3)
    (fixed,) = study.ask(fixed={"a": "u", "c": 4})
    assert fixed.params["a"] == "u" and fixed.params["c"] == 4 and "b" not in fixed.params
    points = [tuple(sorted(trial.params.items())) for trial in (*study.trials,)]
    assert len(points) == len(set(points)) == 16 + len(waiting) + 1


def test_constraints_of_the_space_leave_the_feasible_points():
    parameters: dict = {"x": Float(0.0, 1.0), "z": Float(0.0, 1.0)}
    space = Space(parameters, constraints=[bojax.linear({"x": 1, "z": 1}, at_most=1.0)])
    X, status = rounds(bojax.grid_search(space, q=4, num_points=3), 3)
    assert status == Status.EXHAUSTED and len(X) == 6 and (X.sum(axis=1) <= 1.0 + 1e-6).all()
    X, status = rounds(bojax.sobol_search(space, q=8), 2)
    assert status == Status.OK and len(np.unique(X, axis=0)) == 16 and (X.sum(axis=1) <= 1.0 + 1e-6).all()


def test_study_exposes_the_algorithms_at_the_top_level():
    for name in ("grid_search", "sobol_search", "tpe"):
        assert name in bojax.__all__ and name in loop.__all__
