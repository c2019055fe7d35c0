"""The size of a bad finite value does not matter, up to the largest float, in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import surrogates

SPACE = bojax.Space(x=bojax.Float(0.0, 1.0), y=bojax.Float(0.0, 1.0))
ROBUST = {name: getattr(surrogates, name) for name in ("half_rank", "log_tail", "bilog", "power", "log_output")}
SIZES = {"float32": (1e8, 1e20, 3.3e38), "float64": (1e10, 1e20, 1e200, 1.7e308)}
GOOD = np.array([-1.0, -0.2, -0.7, -0.4, -0.1, -0.3])


def transformed(transform, y, dtype):
    with jax.enable_x64(dtype == "float64"):
        return np.asarray(transform(jnp.asarray(y, dtype), jnp.ones(len(y), bool)), float)


@pytest.mark.long
@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("num_bad", [1, 4, 20])
def test_ranks_forget_the_size_of_bad_values(dtype, num_bad):
    """Few, nearly half and most values are penalties."""
    first = None
    for size in SIZES[dtype]:
        y = np.concatenate([GOOD, np.full(num_bad, -size)])
        z = transformed(surrogates.half_rank, y, dtype)
        assert np.isfinite(z).all() and np.abs(z).max() < 10.0
        first = z if first is None else first
        np.testing.assert_allclose(z, first, rtol=1e-6, atol=1e-6)
        assert np.array_equal(np.argsort(z[:6]), np.argsort(GOOD)) and z[6:].max() < z[:6].min()


@pytest.mark.long
@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("num_bad", [1, 20])
def test_differences_of_good_values_stay_visible(dtype, name, num_bad):
    """Beside the least noise of a model, whose relative deviation is 1e-3 (float32: 1e-2)."""
    for size in SIZES[dtype]:
        y = np.concatenate([GOOD, np.full(num_bad, -size)])
        z = transformed(ROBUST[name], y, dtype)
        assert np.isfinite(z).all()
        seen = (z - z.mean()) / z.std()
        assert np.array_equal(np.argsort(seen[:6]), np.argsort(GOOD))
        if name in ("half_rank", "log_tail", "bilog"):
            assert np.min(np.diff(np.sort(seen[:6]))) > 1e-2
        assert np.ptp(seen[:6]) > 1e-2


@pytest.mark.long
@pytest.mark.parametrize("dtype", SIZES)
def test_values_at_both_ends_of_the_floats(dtype):
    most = float(np.finfo(dtype).max)
    for y in ([most, -most, 0.0, 1.0], [-most, -most, -most], [most, most, 0.0], [-most, -most, -most / 2, 1.0, 2.0]):
        for transform in ROBUST.values():
            z = transformed(transform, y, dtype)
            assert np.isfinite(z).all() and np.all(np.diff(z[np.argsort(y)]) >= 0)


def penalized(size):
    def f(p):
        inside = p["x"] + p["y"] < 1.2
        return jnp.where(inside, -((p["x"] - 0.6) ** 2) - (p["y"] - 0.5) ** 2, -size)

    return f


@pytest.mark.long
@pytest.mark.parametrize("x64", [False, True])
def test_a_study_does_not_see_the_size_of_a_penalty(x64):
    algorithm = bojax.bayesopt(SPACE, capacity=16)
    sizes = (1e4, 1e30) if not x64 else (1e4, 1e300)
    runs = []
    for size in sizes:
        with jax.enable_x64(x64):
            state = algorithm.init(jax.random.key(3))
            for i in range(14):
                X, state, _ = algorithm.ask(jax.random.key(i), state)
                state = algorithm.tell(state, X, jax.vmap(penalized(size))(SPACE.decode(X)))
        runs.append(np.asarray(state.observations.X[:14]))
        assert np.max(np.asarray(state.observations.y[:14])) > -0.01
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-6 if x64 else 1e-3)


@pytest.mark.long
def test_most_evaluations_may_be_penalties():
    def f(p):
        inside = (jnp.abs(p["x"] - 0.5) < 0.25) & (jnp.abs(p["y"] - 0.6) < 0.25)
        return jnp.where(inside, -((p["x"] - 0.4) ** 2) - (p["y"] - 0.5) ** 2, -1e30)

    y = bojax.run(jax.random.key(0), bojax.bayesopt(SPACE), f, 30).observations.y
    assert y.max() > -1e-3


def test_an_infinite_value_of_the_bad_sign_is_a_failure():
    algorithm = bojax.bayesopt(SPACE)
    state = algorithm.tell(algorithm.init(jax.random.key(0)), jnp.array([[0.5, 0.5]]), jnp.array([-jnp.inf]))
    assert not state.observations.mask.any() and state.observations.count == 1
