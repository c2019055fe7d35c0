"""Thompson sampling: maxima of drawn functions, batches without repeats, regret."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import loop, objectives, surrogates
from bojax.loop._thompson import maximize_each
from bojax.optim import Lattice
from tests.helpers import SPACES, observe, smooth


@pytest.mark.long
@pytest.mark.parametrize("chunk", [100, 3])
def test_every_function_is_maximised(x64, chunk):
    X = np.random.default_rng(0).random((9, 2))
    observations = observe(X, smooth(X))
    surrogate = surrogates.gp(noise=surrogates.fixed_noise(1e-2))
    posterior = surrogate.posterior(surrogate.init(2, observations.X.dtype), observations)
    functions = surrogates.sample_paths(jax.random.key(0), posterior, 7, num_features=128)
    raw = jnp.asarray(np.random.default_rng(1).random((64, 2)))
    lattice = Lattice.of(SPACES["continuous"]())
    points, values = maximize_each(jax.random.key(0), lattice, functions, raw, num_restarts=3, chunk=chunk)
    grid = jnp.stack(jnp.meshgrid(jnp.linspace(0, 1, 60), jnp.linspace(0, 1, 60)), -1).reshape(-1, 2)
    best = functions.at_all(grid).max(axis=1)
    assert points.shape == (7, 2) and np.all((points >= 0) & (points <= 1))
    assert np.allclose(functions.at_own(points[:, None])[:, 0], values, rtol=1e-9)
    assert np.mean(values > best - 1e-2) >= 0.8  # a few may end in a lower hill
    assert len(np.unique(points, axis=0)) == 7


@pytest.mark.long
@pytest.mark.parametrize("name", ["mixed", "finite"])
def test_points_of_mixed_spaces_are_valid_and_differ(x64, name):
    space = SPACES[name]()
    algorithm = bojax.thompson(space, q=6, num_initial=2, num_features=32, raw_samples=32, num_restarts=1, capacity=16)
    X = np.asarray(space.round(jnp.asarray(np.random.default_rng(0).random((5, space.num_dims)))))
    y = np.cos(3.0 * X).sum(axis=1)
    state = loop.restore(algorithm.init(jax.random.key(0)), bojax.data.Told(X[:4], y[:4], X[4:]))
    asked, state, info = algorithm.ask(jax.random.key(1), state)
    assert int(info.status) == 0 and np.all(info.valid)
    assert np.array_equal(np.asarray(space.round(asked)), np.asarray(asked))
    both = np.concatenate([asked, X]) if name == "finite" else np.asarray(asked)
    assert len(np.unique(both, axis=0)) == len(np.unique(X, axis=0)) * (name == "finite") + 6


@pytest.mark.slow
def test_a_study_beats_random_search(x64):
    branin = objectives.branin()
    algorithm = bojax.thompson(branin.space, q=4, num_features=256, raw_samples=256, capacity=32)
    keys = jax.random.split(jax.random.key(0), 4)
    finals = bojax.run_many(keys, algorithm, lambda p: -branin(p), num_steps=8)
    baseline = bojax.run_many(keys, bojax.random_search(branin.space, q=4), lambda p: -branin(p), num_steps=8)
    regret, other = (np.median(-np.max(f.observations.y, axis=1)) - branin.optimum for f in (finals, baseline))
    assert regret < 0.1 and regret < 0.5 * other


def test_bad_numbers_are_named():
    space = SPACES["continuous"]()
    for name in ("q", "num_features", "num_restarts", "byte_budget"):
        with pytest.raises(ValueError, match=name):
            bojax.thompson(space, **{name: 0})
    with pytest.raises(ValueError, match="raw_samples"):
        bojax.thompson(space, raw_samples=1)
