"""Whole studies in one program: `run` is the Python loop, `run_many` is many runs, in every precision."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data, objectives
from bojax._runtime import host_scope
from tests.helpers import SPACES, run_python, small_bayesopt

BRANIN = objectives.branin()


def negative_branin(params):
    return -BRANIN(params)


@pytest.fixture(scope="module")
def algorithm():
    return small_bayesopt(BRANIN.space)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(3), 3)


STEPS = 8


@pytest.fixture(scope="module")
def single(algorithm, keys):
    return [bojax.run(key, algorithm, negative_branin, STEPS) for key in keys]


def best(final):
    return np.max(np.where(final.observations.mask, final.observations.y, -np.inf))


@pytest.mark.long
def test_run_is_a_loop_of_ask_and_tell(algorithm, keys, single):
    key_init, key_steps = jax.random.split(keys[0])
    with host_scope():
        state = algorithm.init(key_init)
        state = state._replace(observations=data.resize(state.observations, STEPS))
        for key in jax.random.split(key_steps, STEPS):
            X, state, _ = algorithm.ask(key, state)
            # `run` evaluates the objective in the caller's precision, float32 here.
            params = {k: v.astype(jnp.float32) for k, v in algorithm.space.decode(X).items()}
            with jax.enable_x64(False):
                y = negative_branin(params)
            state = algorithm.tell(state, X, y)
        state = jax.device_get(state)
    np.testing.assert_allclose(single[0].observations.X, state.observations.X, atol=1e-3)
    np.testing.assert_allclose(best(single[0]), best(state), atol=1e-3)


def test_the_result_is_numpy_in_float64_and_exactly_as_long_as_the_study(single):
    for leaf in jax.tree.leaves(single[0]):
        assert isinstance(leaf, (np.ndarray, np.generic))
    observations = single[0].observations
    assert observations.X.dtype == observations.y.dtype == np.float64
    assert observations.X.shape == (STEPS, 2) and observations.mask.all() and observations.count == STEPS
    assert jnp.zeros(()).dtype == jnp.float32, "the setting of JAX is as it was"


def test_running_again_gives_the_same(algorithm, keys, single):
    again = bojax.run(keys[0], algorithm, negative_branin, STEPS)
    jax.tree.map(np.testing.assert_array_equal, again, single[0])


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["map", "vmap"])
def test_run_many_is_many_runs(algorithm, keys, single, parallel):
    finals = bojax.run_many(keys, algorithm, negative_branin, STEPS, parallel=parallel)
    assert finals.observations.X.shape == (3, STEPS, 2)
    for i, one in enumerate(single):
        np.testing.assert_allclose(finals.observations.X[i, :3], one.observations.X[:3], atol=1e-6)
        np.testing.assert_allclose(best(jax.tree.map(lambda leaf, i=i: leaf[i], finals)), best(one), atol=1e-3)


@pytest.mark.long
def test_studies_divided_among_devices_are_the_same_studies():
    """Five studies on four (pretended) devices, so that one has to be padded."""
    code = """
import jax, numpy as np, bojax
space = bojax.Space(x=bojax.Float(0.0, 1.0), n=bojax.Int(1, 9))
algorithm = bojax.random_search(space, q=2)
f = lambda params: params["x"] * params["n"]
keys = jax.random.split(jax.random.key(0), 5)
assert jax.local_device_count() == 4
shard = bojax.run_many(keys, algorithm, f, 3)
one = bojax.run_many(keys, algorithm, f, 3, parallel="map")
jax.tree.map(np.testing.assert_array_equal, shard, one)
print(shard.observations.y.shape)
"""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    assert run_python(code, timeout=200, env=env).stdout.strip() == "(5, 6)"


def test_a_study_goes_on_from_a_state():
    algorithm = bojax.random_search(SPACES["mixed"](), q=2)

    def f(params):
        return params["a"] * params["b"]

    first = bojax.run(jax.random.key(0), algorithm, f, 3)
    second = bojax.run(jax.random.key(1), algorithm, f, 2, state=first)
    assert second.observations.count == 10 and second.observations.X.shape[0] == 10
    np.testing.assert_array_equal(second.observations.y[:6], first.observations.y)


def test_objectives_of_scalars_and_of_arrays_are_the_same():
    algorithm = bojax.random_search(SPACES["mixed"](), q=3)

    def of_scalars(params):
        a, c = (jnp.reshape(params[name], ()) for name in "ac")  # a TypeError for arrays of three
        return jnp.where(c == 1, a, -1.0)

    def of_arrays(params):
        return jnp.where(params["c"] == 1, params["a"], -1.0)

    one, other = (bojax.run(jax.random.key(0), algorithm, f, 2) for f in (of_scalars, of_arrays))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_failures_inside_of_a_compiled_study():
    algorithm = bojax.random_search(SPACES["continuous"](), q=4)
    final = bojax.run(jax.random.key(0), algorithm, lambda p: jnp.where(p["a"] < 0.5, jnp.nan, p["a"]), 8)
    observations = final.observations
    np.testing.assert_array_equal(observations.mask, observations.X[:, 0] >= 0.5)
    assert observations.mask.any() and not observations.mask.all()
    assert np.isfinite(observations.y[observations.mask]).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda a, f: bojax.run(jax.random.key(0), a, f, 0), "num_steps"),
        (lambda a, f: bojax.run_many(jax.random.key(0), a, f, 2), "vector"),
        (lambda a, f: bojax.run_many(jax.random.split(jax.random.key(0)), a, f, 2, parallel="both"), "parallel"),
        (lambda a, f: bojax.run(jax.random.key(0), a, lambda params: params, 2), "one value a point"),
    ],
)
def test_mistakes_are_told(call, match):
    with pytest.raises(ValueError, match=match):
        call(bojax.random_search(SPACES["continuous"]()), lambda params: params["a"])


@pytest.mark.slow
def test_float32_stays_finite_for_40_steps(algorithm):
    """Inside a compiled function `run` keeps the precision that holds there."""
    final = jax.jit(lambda key: bojax.run(key, algorithm, negative_branin, 40))(jax.random.key(0))
    assert final.observations.X.dtype == jnp.float32
    observations = final.observations
    assert all(np.isfinite(leaf).all() for leaf in (observations.X, observations.y, *jax.tree.leaves(final.params)))
    assert final.observations.mask.all()
    assert best(final) > -1.0, "Branin's optimum is -0.4; the first points lie below -10"
