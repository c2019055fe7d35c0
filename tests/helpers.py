"""Registries of what is tested, and the few tools tests share. Entries are factories: nothing is built on import."""

import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import bojax
from bojax import acquisition, data, objectives, optim, surrogates
from bojax._background import workers
from bojax.optim import Lattice, multistart

SPACES = {
    "continuous": lambda: bojax.Space(a=bojax.Float(0.0, 1.0), b=bojax.Float(0.1, 10.0, log=True)),
    "mixed": lambda: bojax.Space(
        a=bojax.Float(0.0, 1.0),
        b=bojax.Int(1, 9),
        c=bojax.Categorical(["u", "v", "w"]),
        d=bojax.Ordinal([1, 2, 4, 8]),
    ),
    "finite": lambda: bojax.Space(a=bojax.Int(1, 6), b=bojax.Categorical(["u", "v", "w"])),
    "tree": lambda: bojax.Space(
        a=bojax.Categorical(["u", "v"]),
        b=bojax.Float(0.0, 1.0, when={"a": "v"}),
        c=bojax.Int(1, 5, when={"a": "u"}),
        d=bojax.Float(0.1, 10.0, log=True, when={"c": [2, 3, 4, 5]}),
    ),
}

SURROGATES = {
    "matern52": lambda: surrogates.gp(num_restarts=2, max_evals=40),
    "rbf-zero-mean": lambda: surrogates.gp(
        surrogates.rbf(), surrogates.zero_mean(), surrogates.learned_noise(loc=-2.0), num_restarts=1, max_evals=40
    ),
    "categorical-known-noise": lambda: surrogates.gp(
        surrogates.matern52(categorical_dims=(1,)), noise=surrogates.known_noise(1e-2), num_restarts=1, max_evals=40
    ),
    "warped": lambda: surrogates.gp(surrogates.warped(surrogates.rbf()), num_restarts=1, max_evals=40),
    "sparse": lambda: surrogates.sparse_gp(5, max_evals=40),
    "deep-ensemble": lambda: surrogates.deep_ensemble(3, widths=(16,), num_steps=60),
    "transformed": lambda: surrogates.with_output_transform(
        surrogates.gp(num_restarts=1, max_evals=40), surrogates.bilog
    ),
    "map-ensemble": lambda: surrogates.map_ensemble(num_members=3, num_restarts=1, max_evals=40),
    "fully-bayesian": lambda: surrogates.fully_bayesian_gp(
        num_warmup=16, num_samples=32, thinning=16, max_depth=3, num_restarts=1, max_evals=40
    ),
    "gradient-gp": lambda: surrogates.gradient_gp(max_evals=40),
    "saas": lambda: surrogates.saas(num_warmup=16, num_samples=32),
    "fixed-noise": lambda: surrogates.gp(noise=surrogates.fixed_noise(1e-3), num_restarts=1, max_evals=40),
}

ACQUISITIONS = {
    name: (lambda name=name: getattr(acquisition, name))
    for name in ("ei", "log_ei", "log_pi", "pi", "posterior_mean", "ucb")
}

BATCH_ACQUISITIONS = {
    "kriging_believer": lambda: acquisition.kriging_believer(acquisition.log_ei, in_logs=True),
    "batch_log_ei": lambda: acquisition.batch_log_ei(num_samples=16),
    "batch_log_nei": lambda: acquisition.batch_log_nei(num_samples=16, num_baseline=4),
    "batch_log_pi": lambda: acquisition.batch_log_pi(num_samples=16),
    "batch_ucb": lambda: acquisition.batch_ucb(num_samples=16),
    "mes": lambda: acquisition.mes(num_samples=8, num_candidates=32),
    "gibbon": lambda: acquisition.gibbon(num_samples=8, num_candidates=32),
    "jes": lambda: acquisition.jes(num_samples=8, num_candidates=32),
    "knowledge_gradient": lambda: acquisition.knowledge_gradient(num_fantasies=8, num_points=8),
    "batch_simple_regret": lambda: acquisition.batch_simple_regret(num_samples=16),
}

OPTIMIZERS = {
    "multistart": optim.multistart(num_restarts=4, raw_samples=64),
}

PROBLEMS = {
    "branin": objectives.branin,
    "hartmann6": objectives.hartmann6,
    "mixed": objectives.mixed,
}


def small_gp(*args, max_evals=30, **kwargs):
    """The default surrogate with quick fits, or with another kernel, mean or noise."""
    model = surrogates.gp(*args, num_restarts=1, max_evals=max_evals, **kwargs)
    return surrogates.with_output_transform(model, surrogates.half_rank)


def small_bayesopt(space, *, num_restarts=2, raw_samples=32, **kwargs):
    """A `bayesopt` that does little work in each `ask`."""
    optimizer = multistart(num_restarts=num_restarts, raw_samples=raw_samples)
    settings = {"num_initial": 3, "capacity": 16, "surrogate": small_gp(), "optimizer": optimizer}
    return bojax.bayesopt(space, **(settings | kwargs))


ALGORITHMS = {
    "random_search": lambda: bojax.random_search(SPACES["mixed"](), q=2),
    "random_search-finite": lambda: bojax.random_search(SPACES["finite"](), q=2, capacity=32),
    "random_search-tree": lambda: bojax.random_search(SPACES["tree"](), q=2),
    "grid_search": lambda: bojax.grid_search(SPACES["mixed"](), q=2, num_points=5),
    "grid_search-tree": lambda: bojax.grid_search(SPACES["tree"](), q=3, num_points=2, capacity=32),
    "sobol_search": lambda: bojax.sobol_search(SPACES["mixed"](), q=2),
    "tpe": lambda: bojax.tpe(SPACES["mixed"](), q=2, num_initial=4),
    "tpe-tree": lambda: bojax.tpe(SPACES["tree"](), q=2, num_initial=4),
    "bayesopt-tree": lambda: small_bayesopt(SPACES["tree"](), q=2),
    "bayesopt": lambda: small_bayesopt(SPACES["continuous"]()),
    "bayesopt-mixed-batch": lambda: small_bayesopt(SPACES["mixed"](), q=2),
    "thompson": lambda: bojax.thompson(
        SPACES["mixed"](),
        q=3,
        num_initial=3,
        capacity=32,
        num_features=32,
        raw_samples=16,
        num_restarts=1,
        surrogate=small_gp(max_evals=20),
    ),
    "hybrid": lambda: bojax.loop.hybrid(
        SPACES["mixed"](), q=2, num_initial=3, optimizer=multistart(num_restarts=2, raw_samples=32), capacity=16
    ),
    "bayesopt-finite": lambda: small_bayesopt(SPACES["finite"]()),
    "turbo": lambda: bojax.turbo(
        SPACES["mixed"](),
        q=2,
        num_regions=2,
        num_initial=3,
        capacity=16,
        num_candidates=40,
        num_features=32,
        surrogate=small_gp(max_evals=20),
    ),
    "genetic": lambda: bojax.genetic(SPACES["tree"](), q=2, popsize=4, capacity=16),
    "pso": lambda: bojax.pso(SPACES["mixed"](), q=3, popsize=4, capacity=32),
    "differential_evolution": lambda: bojax.differential_evolution(SPACES["finite"](), q=2, popsize=4, capacity=16),
    "cma_es": lambda: bojax.cma_es(SPACES["continuous"](), q=2, popsize=4, capacity=16),
    "forest": lambda: bojax.forest(SPACES["mixed"](), q=2, num_trees=4, num_candidates=60, num_initial=3, capacity=16),
    "forest-finite": lambda: bojax.forest(SPACES["finite"](), q=2, num_trees=4, num_candidates=60, capacity=32),
}


def random_with_gradients(space, q):
    """Random search that keeps gradients, as algorithms that learn from them do."""
    plain = bojax.random_search(space, q=q)
    columns = ("noise_var", "grad")

    def init(key):
        state = plain.init(key)
        kept = data.empty(space.num_dims, state.observations.capacity, columns=columns)
        return state._replace(observations=kept)

    return plain._replace(init=init, columns=columns)


def tol(dtype) -> float:
    """The tolerance of results that only rounding separates."""
    return 1e-10 if jnp.finfo(dtype).bits >= 64 else 1e-4


def count_traces(fn):
    """A jitted form of `fn` and a list that gains an entry at every trace."""
    traces = []

    def counted(*args):
        traces.append(None)
        return fn(*args)

    return jax.jit(counted), traces


def make_lattice(space):
    """The lattice of a space, as candidate optimizers take it."""
    return Lattice.of(space)


def observe(X, y, capacity=None, rows=None):
    """Observations of X and y in the default dtype of the moment, on given rows of a buffer (the first by default).

    Rows in between hold finite rubbish that the mask hides.
    """
    n, d = np.shape(X)
    capacity = n if capacity is None else capacity
    rows = np.arange(n) if rows is None else np.asarray(rows)
    rng = np.random.default_rng(n)
    all_X, all_y, mask = rng.random((capacity, d)), rng.normal(size=capacity), np.zeros(capacity, bool)
    all_X[rows], all_y[rows], mask[rows] = X, y, True
    return data.Observations(jnp.asarray(all_X), jnp.asarray(all_y), jnp.asarray(mask), jnp.int32(capacity))


def smooth(X):
    """A smooth function of points [n, d], NumPy or JAX."""
    xp = jnp if isinstance(X, jax.Array) else np
    return xp.sum(xp.sin(5.0 * X), axis=-1) + X[..., 0] ** 2


THEIRS = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning", "ResourceWarning")
STRICT = ["-Werror", *(f"-Wdefault::{kind}" for kind in THEIRS)]
"""The rules of pyproject.toml, as far as Python's options can say them."""


def run_python(code: str, *, timeout: float, prefix=(), env=None) -> subprocess.CompletedProcess:
    """A fresh process, with the tests' rules for warnings; its output is kept, and a failure shows it."""
    command = [*prefix, sys.executable, *STRICT, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def idle():
    """Wait until no thread compiles, as an objective that takes long enough does."""
    deadline = time.monotonic() + 120.0
    while workers.threads and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not workers.threads
