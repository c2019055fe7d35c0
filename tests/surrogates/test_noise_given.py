"""Noise told with each observation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import data, surrogates
from tests.helpers import SPACES, observe, small_bayesopt, smooth


@pytest.mark.long
def test_the_posterior_is_that_of_dense_linear_algebra():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        X, noise_var = rng.random((9, 2)), rng.uniform(0.001, 0.3, 9)
        y = smooth(X)
        observations = observe(X, y, capacity=12).with_columns(
            noise_var=jnp.asarray(np.append(noise_var, [9.0, 9.0, 9.0]))
        )
        surrogate = surrogates.gp(mean=surrogates.zero_mean(), noise=surrogates.fixed_noise(0.0))
        params = surrogate.init(2, jnp.float64)
        posterior = surrogate.posterior(params, observations)
        Z = jnp.asarray(rng.random((5, 2)))
        mean, var = posterior.mean_var(Z)

        kernel = surrogates.matern52()
        K = np.asarray(kernel.matrix(params.kernel, jnp.asarray(X), jnp.asarray(X)))
        k = np.asarray(kernel.matrix(params.kernel, Z, jnp.asarray(X)))
        scale = y.std(ddof=1)
        A = K + np.diag(noise_var / scale**2)
        want = y.mean() + scale * k @ np.linalg.solve(A, (y - y.mean()) / scale)
        want_var = scale**2 * (
            np.diag(np.asarray(kernel.matrix(params.kernel, Z, Z))) - np.sum(k * np.linalg.solve(A, k.T).T, 1)
        )
        assert np.allclose(mean, want, rtol=1e-9) and np.allclose(var, want_var, rtol=1e-7)


@pytest.mark.long
def test_buffers_keep_it(x64):
    observations = data.append(
        data.empty(1, 4), jnp.array([[0.1], [0.2]]), jnp.array([1.0, 2.0]), noise_var=jnp.array([0.5, 0.0])
    )
    observations = data.append(observations, jnp.array([[0.3]]), jnp.array([3.0]))
    for buffer in (observations, data.resize(observations, 8), data.resize(data.resize(observations, 8), 3)):
        assert np.array_equal(buffer.columns["noise_var"][:3], [0.5, 0.0, np.nan], equal_nan=True)
    filled = data.from_numpy(np.zeros((2, 1)), np.zeros(2), 4, np.float64, noise_var=np.array([0.1, 0.2]))
    assert np.array_equal(filled.columns["noise_var"], [0.1, 0.2, np.nan, np.nan], equal_nan=True)


def test_telling_it(x64):
    algorithm = small_bayesopt(SPACES["continuous"]())
    state = algorithm.init(jax.random.key(0))
    X = jnp.array([[0.1, 0.2], [0.3, 0.4]])
    state = algorithm.tell(state, X, jnp.array([1.0, 2.0]), noise_var=jnp.array([0.1, 0.2]))
    assert np.array_equal(state.observations.columns["noise_var"][:2], [0.1, 0.2])
    for bad in (-0.1, np.nan):
        with pytest.raises(ValueError, match="noise_var"):
            algorithm.tell(state, X[:1], jnp.array([1.0]), noise_var=jnp.array([bad]))


@pytest.mark.long
def test_a_study_keeps_it_over_a_resume(tmp_path):
    url = f"sqlite:///{tmp_path}/noise.db"
    space = SPACES["continuous"]()

    def algorithm(space, q):
        return small_bayesopt(space, q=q)

    def study_of(url, noise):
        study = bojax.Study(space, storage=url, name="n", seed=0, algorithm=algorithm)
        for i in range(5):
            trial = study.ask(1)[0]
            study.tell(trial, float(np.cos(3.0 * i)), noise_var=noise * (i + 1) if noise else None)
        return study

    noisy = study_of(url, 0.3)
    asked = study_of(None, 0.3).ask(1)[0].params
    again = bojax.Study(space, storage=url, name="n", seed=0, algorithm=algorithm)
    assert again.ask(1)[0].params == asked
    assert noisy.trials[1].user_attrs["bojax:noise_var"] == pytest.approx(0.6)
    quiet = study_of(None, 0.0)
    assert quiet.ask(1)[0].params != study_of(None, 0.3).ask(1)[0].params
    with pytest.raises(ValueError, match="noise_var"):
        quiet.tell(quiet.ask(1)[0], 1.0, noise_var=-1.0)
