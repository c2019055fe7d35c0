"""Batched fits do not dead-lock on two threads.

With jaxlib 0.10 on CPU two batched LAPACK calls that are ready at once wait for each other for ever when there are no
more than two threads. A process of its own runs batched fits under a watchdog, which kills it if it hangs.
"""

import os
import shutil

import pytest

from tests.helpers import run_python

CODE = """
import jax, jax.numpy as jnp, numpy as np
from bojax import data, surrogates

ROUNDS, PROBLEMS = {rounds}, 8
surrogate = surrogates.gp(num_restarts=2, max_evals=8)

@jax.jit
@jax.vmap
def study(key, observations):
    params, info = surrogate.fit(key, observations, surrogate.init(2, observations.X.dtype))
    posterior = surrogate.posterior(params, observations, 1)
    posterior = posterior.append(observations.X[0], observations.y[0])
    samples = jax.vmap(lambda k: posterior.sample(k, observations.X[:8], 2))(jax.random.split(key, 4))
    slope = jax.grad(lambda X: posterior.joint(X)[1].sum())(observations.X[:8])
    return info.loss, samples, slope

rng = np.random.default_rng(0)
with jax.enable_x64(True):
    for i in range(ROUNDS):
        n = (16, 32, 64)[i * 3 // ROUNDS]
        X = rng.random((PROBLEMS, n, 2))
        seen = jax.vmap(lambda X: data.append(data.empty(2, n), X, jnp.sin(5 * X).sum(-1)))(jnp.asarray(X))
        out = study(jax.random.split(jax.random.key(i), PROBLEMS), seen)
        if i % 20 == 0:
            assert all(bool(jnp.isfinite(leaf).all()) for leaf in out)
    jax.block_until_ready(out)
print("done")
"""


def on_two_threads(rounds, timeout):
    cores = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []
    prefix = ["taskset", "-c", ",".join(map(str, cores))] if cores and shutil.which("taskset") else []
    done = run_python(CODE.format(rounds=rounds), timeout=timeout, prefix=prefix)
    assert done.stdout.strip() == "done"


def test_200_batched_fits():
    on_two_threads(200, 240)


@pytest.mark.slow
@pytest.mark.timeout(620)
def test_2000_batched_fits():
    on_two_threads(2000, 600)
