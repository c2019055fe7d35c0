"""Values that say nothing are no flat function: as long as all are equal, the space is filled on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data, loop, surrogates
from bojax._errors import Status

CUBE = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(3)})
SQUARE = bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(2)})
KEYS = jax.random.split(jax.random.key(0), 12)


def window(p):
    return jnp.where(jnp.abs(p["x1"] - 0.37) < 0.05, 0.2, 0.1)


def bump(p):
    return jnp.where((p["x0"] - 0.7) ** 2 + (p["x1"] - 0.2) ** 2 < 0.13**2, 1.0, 0.0)


def zero_or_one(p):
    return jnp.where((p["x0"] > 0.8) & (p["x1"] > 0.6), 1.0, 0.0)


def staircase(p):
    return jnp.floor(p["x0"] * 10) / 10 - jnp.floor(p["x1"] * 5) / 5


def mostly_failing(p):
    inside = (jnp.abs(p["x0"] - 0.55) < 0.2) & (jnp.abs(p["x1"] - 0.4) < 0.2)
    return jnp.where(inside, 1.0 - (p["x0"] - 0.5) ** 2 - (p["x1"] - 0.3) ** 2, jnp.nan)


def plateau_with_dips(p):
    better = jnp.where(jnp.abs(p["x1"] - 0.63) < 0.05, 1.0, 0.0)
    return jnp.where(p["x0"] < 0.3, -1.0 - p["x0"], better)


def found(factory, space, f, num_trials, goal):
    """How many of 12 studies see a value of at least `goal`."""
    y = bojax.run_many(KEYS, factory(space), f, num_trials).observations.y
    return int(np.sum(np.nanmax(y, axis=1) >= goal))


@pytest.mark.long
def test_a_window_in_a_plateau_is_found_as_often_as_by_random_search():
    ours = found(bojax.bayesopt, CUBE, window, 30, 0.15)
    assert ours >= found(bojax.random_search, CUBE, window, 30, 0.15) and ours >= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("f", "num_trials", "goal"),
    [
        (bump, 40, 0.5),
        (zero_or_one, 20, 0.5),
        (staircase, 20, 0.85),
        (mostly_failing, 40, 0.98),
        (plateau_with_dips, 30, 0.5),
    ],
)
@pytest.mark.parametrize("factory", [bojax.bayesopt, bojax.thompson, bojax.turbo])
def test_steps_plateaus_and_failures_are_searched_as_well_as_by_random_search(factory, f, num_trials, goal):
    # One study of twelve is within the error of either count.
    assert found(factory, SQUARE, f, num_trials, goal) >= found(bojax.random_search, SQUARE, f, num_trials, goal) - 1


@pytest.mark.long
@pytest.mark.parametrize("factory", [bojax.bayesopt, bojax.thompson, bojax.turbo])
@pytest.mark.parametrize("values", [[0.1] * 12, [np.nan] * 11 + [0.5], [0.1, np.nan] * 6, [1e20] * 12])
def test_equal_values_ask_for_points_of_the_design(factory, values):
    algorithm = factory(SQUARE, capacity=16)
    state = algorithm.init(jax.random.key(1))
    X = np.random.default_rng(0).random((12, 2))
    state = loop.restore(state, bojax.data.Told(X, np.asarray(values), X[:0]))
    points = []
    for i in range(4):
        asked, state, info = algorithm.ask(jax.random.key(i), state)
        assert info.status == Status.INITIAL
        points.append(np.asarray(asked[0]))
    gaps = np.linalg.norm(np.array(points)[:, None] - np.concatenate([X, points])[None], axis=-1)
    assert np.sort(gaps, axis=1)[:, 1].min() > 1e-3
    assert not np.isin(points, [0.0, 1.0]).any()


@pytest.mark.long
def test_one_value_that_differs_brings_the_surrogate():
    algorithm = bojax.bayesopt(SQUARE, capacity=16)
    X = np.random.default_rng(0).random((12, 2))
    state = loop.restore(
        algorithm.init(jax.random.key(1)), bojax.data.Told(X, np.array([0.1] * 11 + [0.1 + 1e-6]), X[:0])
    )
    assert algorithm.ask(jax.random.key(0), state)[2].status == Status.OK


@pytest.mark.long
def test_the_better_half_may_be_equal():
    """The surrogate still sees where values are worse."""
    y, mask = jnp.array([1.0, 1.0, 1.0, 1.0, 0.0, -5.0]), jnp.ones(6, bool)
    for transform in (surrogates.half_rank, surrogates.log_tail, surrogates.bilog, surrogates.power):
        z = np.asarray(transform(y, mask))
        assert z[3] > z[4] > z[5], transform
    seen = data.append(data.empty(1, 8), jnp.linspace(0.0, 1.0, 6)[:, None], y)
    model = surrogates.with_output_transform(surrogates.gp(), surrogates.half_rank)
    params, _ = model.fit(jax.random.key(0), seen, model.init(1, seen.X.dtype))
    mean = model.posterior(params, seen).mean(seen.X)
    assert mean[5] < mean[0] - 0.1
