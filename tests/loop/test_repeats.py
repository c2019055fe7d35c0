"""No algorithm repeats itself where it need not: while points are pending, after failures, after a detour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import loop
from bojax._errors import Status
from bojax.optim import multistart

SPACE = bojax.Space(x=bojax.Float(0.0, 1.0), y=bojax.Float(1e-3, 1.0, log=True))


def distinct(points):
    return len({tuple(np.round(np.asarray(x, float), 7)) for x in points})


@pytest.mark.parametrize("factory", [pytest.param(loop.bayesopt, marks=pytest.mark.slow), loop.random_search])
def test_asking_again_before_telling_gives_other_points_and_says_when_there_is_no_room(factory):
    algorithm = factory(SPACE)
    state = algorithm.init(jax.random.key(0))
    points, codes = [], []
    for i in range(9):
        X, state, info = algorithm.ask(jax.random.key(i), state)
        points.append(X[0])
        codes.append(int(info.status))
    assert distinct(points[:8]) == 8
    assert Status.OVERFLOW not in codes[:8] and codes[8] == Status.OVERFLOW


@pytest.mark.long
def test_failures_alone_never_bring_a_point_twice():
    final = bojax.run(jax.random.key(0), loop.bayesopt(SPACE), lambda p: p["x"] * jnp.nan, num_steps=40)
    assert distinct(final.observations.X) == 40
    assert not final.observations.mask.any()


@pytest.mark.slow
def test_a_failing_region_is_left():
    def f(p):
        return jnp.where(p["x"] > 0.7, jnp.nan, -((p["x"] - 0.65) ** 2) - (jnp.log10(p["y"]) + 1.0) ** 2)

    final = bojax.run(jax.random.key(0), loop.bayesopt(SPACE), f, num_steps=25)
    assert (~final.observations.mask).sum() <= 8
    assert np.nanmax(final.observations.y) > -0.1


@pytest.mark.long
def test_design_goes_on_where_points_are_missing():
    algorithm = loop.bayesopt(SPACE, num_initial=6)
    state = algorithm.init(jax.random.key(0))
    points = []
    for i in range(5):
        X, state, _ = algorithm.ask(jax.random.key(i), state)
        points.append(np.asarray(X[0]))
    told = np.array([points[0], points[2], points[4]])  # 1 and 3 were lost
    again = loop.restore(algorithm.init(jax.random.key(0)), bojax.data.Told(told, np.zeros(3), told[:0]))
    X, again, _ = algorithm.ask(jax.random.key(9), again)
    np.testing.assert_allclose(X[0], points[1], atol=1e-6)


@pytest.mark.long
def test_a_useless_acquisition_falls_back(x64):
    algorithm = loop.bayesopt(
        SPACE,
        num_initial=2,
        acquisition=lambda posterior, X, best_f: jnp.nan * X[:, 0],
        optimizer=multistart(raw_samples=16, num_restarts=2),
    )
    state = algorithm.tell(
        algorithm.init(jax.random.key(0)), jnp.array([[0.2, 0.3], [0.8, 0.1]]), jnp.array([0.0, 1.0])
    )
    X, _, info = algorithm.ask(jax.random.key(1), state)
    assert info.status == Status.FALLBACK and jnp.isfinite(X).all()


def test_a_point_that_is_not_finite_is_no_observation():
    algorithm = loop.random_search(SPACE)
    state = algorithm.tell(algorithm.init(jax.random.key(0)), jnp.array([[jnp.nan, 0.5]]), jnp.array([1.0]))
    assert not state.observations.mask.any() and state.observations.count == 1


def test_growing_the_state_of_a_study_keeps_float64():
    final = bojax.run(jax.random.key(0), loop.random_search(SPACE), lambda p: p["x"], num_steps=3)
    grown = loop.grow(final, 8)
    assert grown.observations.X.dtype == np.float64
    np.testing.assert_array_equal(grown.observations.X[:3], final.observations.X)
