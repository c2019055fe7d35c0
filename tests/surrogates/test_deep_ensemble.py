"""The ensemble of networks: certain near data, uncertain away from it, and consistent as one Gaussian belief."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import objectives, surrogates
from tests.helpers import observe


@pytest.mark.long
def test_certain_near_the_data_and_not_away_from_it():
    with jax.enable_x64(True):
        x = np.concatenate([np.linspace(0.0, 0.35, 12), np.linspace(0.75, 1.0, 8)])[:, None]
        y = np.sin(8.0 * x[:, 0])
        observations = observe(x, y, capacity=24)
        surrogate = surrogates.deep_ensemble(8, num_steps=400)
        params, info = surrogate.fit(jax.random.key(0), observations, surrogate.init(1, jnp.float64))
        assert info.ok and info.losses.shape == (8,)
        posterior = surrogate.posterior(params, observations)
        near, far = jnp.asarray([[0.1], [0.2], [0.9]]), jnp.asarray([[0.5], [0.55], [0.6]])
        assert np.max(np.abs(posterior.mean(near) - np.sin(8.0 * np.asarray(near)[:, 0]))) < 0.2
        assert np.min(posterior.var(far)) > 2.0 * np.max(posterior.var(near))
        gap = jnp.linspace(0.0, 1.0, 101)[:, None]
        error = np.sin(8.0 * np.asarray(gap)[:, 0]) - posterior.mean(gap)
        z = error / np.sqrt(posterior.var(gap) + posterior.observation_noise())
        assert np.mean(np.abs(z) < 2.5) > 0.8


@pytest.mark.long
def test_an_appended_observation_is_learned_where_it_was_made():
    with jax.enable_x64(True):
        x = np.random.default_rng(0).random((10, 2))
        observations = observe(x, x.sum(axis=1), capacity=12)
        surrogate = surrogates.deep_ensemble(4, num_steps=50, widths=(16,))
        posterior = surrogate.posterior(surrogate.init(2, jnp.float64), observations, 3)
        point = jnp.array([0.3, 0.6])
        more = posterior.append(point, posterior.mean(point[None])[0] + 1.0)
        rise = more.mean(point[None])[0] - posterior.mean(point[None])[0]
        share = posterior.var(point[None])[0] / (posterior.var(point[None])[0] + posterior.observation_noise())
        assert np.isclose(rise, share, rtol=1e-9)
        samples = more.sample(jax.random.key(0), jnp.asarray(x[:3]), 20_000)
        mean, cov = more.joint(jnp.asarray(x[:3]))
        assert np.allclose(samples.mean(axis=0), mean, atol=5 * float(jnp.sqrt(cov.max())) / 20_000**0.5)
        assert np.allclose(np.cov(samples.T), cov, atol=0.05 * float(cov.max()))


@pytest.mark.slow
def test_a_study_beats_random_search(x64):
    branin = objectives.branin()
    algorithm = bojax.bayesopt(branin.space, surrogate=surrogates.deep_ensemble(8, num_steps=300))
    keys = jax.random.split(jax.random.key(0), 3)
    finals = bojax.run_many(keys, algorithm, lambda p: -branin(p), num_steps=30)
    baseline = bojax.run_many(keys, bojax.random_search(branin.space), lambda p: -branin(p), num_steps=30)
    regret, other = (np.median(-np.max(f.observations.y, axis=1)) - branin.optimum for f in (finals, baseline))
    assert regret < 0.7 * other


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="num_members"):
        surrogates.deep_ensemble(1)
    with pytest.raises(ValueError, match="learning_rate"):
        surrogates.deep_ensemble(learning_rate=0.0)
