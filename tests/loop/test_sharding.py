"""Eight devices, forced on the CPU, give what one gives. In a fresh process: devices are counted at its start."""

import os

import pytest

from tests.helpers import run_python

CODE = """
import jax, jax.numpy as jnp, numpy as np, bojax
from bojax.data import Told
from bojax.loop import restore
from bojax.optim import multistart
from bojax.surrogates import gp, half_rank, with_output_transform

assert jax.device_count() == 8
mesh = jax.make_mesh((8,), ("restarts",))
space = bojax.Space(a=bojax.Float(0.0, 1.0), b=bojax.Int(1, 9), c=bojax.Float(0.0, 1.0))
rng = np.random.default_rng(0)
X = np.asarray(space.round(jnp.asarray(rng.random((8, 3)))))
y = np.sin(5 * X).sum(axis=1)
surrogate = with_output_transform(gp(num_restarts=1, max_evals=20), half_rank)

with jax.enable_x64(True):
    asked = {}
    for name, more in {"one": {}, "eight": {"mesh": mesh}, "chunks": {"max_rows": 7}}.items():
        optimizer = multistart(num_restarts=5, raw_samples=30, **more)
        algorithm = bojax.bayesopt(space, q=2, surrogate=surrogate, optimizer=optimizer)
        state = restore(algorithm.init(jax.random.key(0)), Told(X, y, X[:0]))
        chosen, _, info = algorithm.ask(jax.random.key(1), state)
        assert int(info.status) == 0, info
        asked[name] = np.asarray(chosen)
    for name in ("eight", "chunks"):
        np.testing.assert_allclose(asked[name], asked["one"], atol=1e-6, err_msg=name)

def f(params):
    return -((params["a"] - 0.3) ** 2) - 0.01 * params["b"] + params["c"]

algorithm = bojax.random_search(space, q=2)
keys = jax.random.split(jax.random.key(2), 11)
finals = {way: bojax.run_many(keys, algorithm, f, num_steps=4, parallel=way) for way in ("map", "shard")}
np.testing.assert_allclose(finals["shard"].observations.X, finals["map"].observations.X, atol=1e-6)
np.testing.assert_allclose(finals["shard"].observations.y, finals["map"].observations.y, atol=1e-6)
print("same")
"""


@pytest.mark.long
def test_eight_devices_give_what_one_gives():
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    assert "same" in run_python(CODE, timeout=250, env=env).stdout
