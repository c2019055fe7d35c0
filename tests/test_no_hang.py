"""Batched fits do not dead-lock on two threads.

With jaxlib 0.10 on CPU two batched LAPACK calls that are ready at once wait for each other for ever when there are no
more than two threads. A process of its own runs batched fits under a watchdog, which kills it if it hangs.
"""

import os
import shutil

import pytest

from tests.helpers import run_python

FITS = """
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


FACTORS = """
import jax, jax.numpy as jnp, numpy as np
from bojax import _linalg

def factored(K, shift):
    return jax.vmap(_linalg.factor)(K + shift * jnp.eye(K.shape[-1])[None])[1]

@jax.jit
def rounds(K):
    def body(i, K):  # six batches of factorisations, all ready at once
        return K + 1e-6 * sum(L_inv @ L_inv.mT for L_inv in [factored(K, 1.0 + 0.1 * j) for j in range(6)])
    return jax.lax.fori_loop(0, 300, body, K)

with jax.enable_x64(True):
    A = np.random.default_rng(0).normal(size=(16, 64, 64))
    for _ in range(3):
        out = jax.block_until_ready(rounds(jnp.asarray(A @ A.swapaxes(1, 2) / 64)))
    assert jnp.isfinite(out).all()
print("done")
"""


def on_two_threads(code, timeout):
    cores = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []
    prefix = ["taskset", "-c", ",".join(map(str, cores))] if cores and shutil.which("taskset") else []
    assert run_python(code, timeout=timeout, prefix=prefix).stdout.strip() == "done"


@pytest.mark.long
def test_independent_batches_of_factorisations():
    """With plain batched LAPACK calls in `_linalg` this one hung at every try."""
    on_two_threads(FACTORS, 240)


@pytest.mark.long
def test_200_batched_fits():
    on_two_threads(FITS.format(rounds=200), 240)


@pytest.mark.slow
@pytest.mark.timeout(620)
def test_2000_batched_fits():
    on_two_threads(FITS.format(rounds=2000), 600)


HYPERGRADIENTS = """
import jax, jax.numpy as jnp, lineax as lx, numpy as np
from bojax import hypergrad as hg

A = jnp.asarray(np.random.default_rng(0).normal(size=(8, 40, 24)), jnp.float32)
inner = lambda w, h, X: jnp.mean((X @ w - 1.0) ** 2) + jnp.exp(h) * jnp.sum(w**2)
outer = lambda w, h, X: jnp.mean((X @ w - 2.0) ** 2)
solvers = [hg.Direct(), lx.GMRES(rtol=1e-4, atol=0.0), lx.LU(), hg.CG()]
methods = [hg.Implicit(solver, preconditioner=hg.Nystrom(12) if i == 3 else None) for i, solver in enumerate(solvers)]

@jax.jit
def grads(h):  # batches of factorisations of four kinds, all ready at once
    fns = [hg.hypergradient(inner, outer, method=method) for method in methods]
    return [jax.vmap(lambda X, h: fn(h, jnp.zeros(24), X, X).grad)(A, h) for fn in fns]

for i in range(60):
    out = jax.block_until_ready(grads(jnp.linspace(-3.0, -1.0, 8) + 0.01 * i))
    assert all(bool(jnp.allclose(g, out[0], rtol=1e-2)) for g in out)
print("done")
"""


@pytest.mark.long
def test_batches_of_hypergradients():
    on_two_threads(HYPERGRADIENTS, 240)
