"""The sparse Gaussian process against GPJax's collapsed bound and the exact process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import data, surrogates
from bojax.surrogates._gp import gp_model, initial_params, log_posterior
from bojax.surrogates._sparse_gp import choose_inducing, evidence_bound
from tests.helpers import observe, smooth


def dense_bound(model, params, observations, Z):
    """Titsias' bound by dense linear algebra."""
    mask = np.asarray(observations.mask)
    X, y = np.asarray(observations.X)[mask], np.asarray(observations.y)[mask]
    y = (y - y.mean()) / y.std(ddof=1)
    k = lambda A, B: np.asarray(model.kernel.matrix(params.kernel, jnp.asarray(A), jnp.asarray(B)))  # noqa: E731
    noise = float(np.exp(params.log_noise_var))
    Kzz = k(Z, Z) + 1e-8 * np.diag(np.diag(k(Z, Z)))
    Q = k(X, Z) @ np.linalg.solve(Kzz, k(Z, X))
    r = y - float(params.mean)
    S = Q + noise * np.eye(len(y))
    log_density = -0.5 * r @ np.linalg.solve(S, r) - 0.5 * np.linalg.slogdet(2 * np.pi * S)[1]
    return log_density - 0.5 * np.trace(k(X, X) - Q) / noise


def test_the_bound_is_titsias():
    with jax.enable_x64(True):
        X = np.random.default_rng(0).random((30, 2))
        observations = observe(X, smooth(X), capacity=40, rows=np.arange(5, 35))
        model = gp_model()
        params = initial_params(model, 2, jnp.float64)._replace(log_noise_var=jnp.log(0.03))
        Z = jnp.asarray(np.random.default_rng(1).random((6, 2)))
        want = dense_bound(model, params, observations, Z)
        assert np.isclose(evidence_bound(model, params, observations, Z), want, rtol=1e-8)


def test_with_all_points_inducing_it_is_the_exact_process():
    with jax.enable_x64(True):
        X = np.random.default_rng(0).random((20, 2))
        observations = observe(X, smooth(X), capacity=24)
        exact, sparse = surrogates.gp(), surrogates.sparse_gp(20)
        params = exact.init(2, jnp.float64)._replace(log_noise_var=jnp.log(1e-2))
        Z = jnp.asarray(np.random.default_rng(1).random((5, 2)))
        one, other = exact.posterior(params, observations, 2), sparse.posterior(params, observations, 2)
        answers = [(*p.mean_var(Z), p.joint(Z)[1], p.cov(Z[:2], Z)) for p in (one, other)]
        for a, b in zip(*answers, strict=True):
            assert np.allclose(a, b, rtol=1e-4, atol=1e-6)
        one, other = one.append(Z[0], jnp.array(2.0)), other.append(Z[0], jnp.array(2.0))
        assert np.allclose(one.mean(Z), other.mean(Z), rtol=1e-4, atol=1e-5)
        assert np.allclose(one.var(Z), other.var(Z), rtol=1e-3, atol=1e-6)


def test_the_bound_rises_with_inducing_points_to_the_likelihood():
    with jax.enable_x64(True):
        X = np.random.default_rng(0).random((40, 2))
        observations = observe(X, smooth(X))
        model = gp_model()
        params = initial_params(model, 2, jnp.float64)._replace(log_noise_var=jnp.log(1e-2))
        values = []
        for m in (2, 5, 10, 20, 40):
            Z = choose_inducing(model, params, observations, m)
            assert len(np.unique(Z, axis=0)) == m
            values.append(float(evidence_bound(model, params, observations, Z)))
        assert np.all(np.diff(values) > -1e-6)
        prior = model.kernel.log_prior(params.kernel) + model.mean.log_prior(params.mean)
        prior = prior + model.noise.log_prior(params.log_noise_var)
        assert np.isclose(values[-1], log_posterior(model, params, observations) - prior, atol=1e-3)


@pytest.mark.slow
def test_a_thousand_points_are_learned():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        X = rng.random((1100, 3))
        y = smooth(X) + 0.1 * rng.normal(size=1100)
        surrogate = surrogates.sparse_gp(64, max_evals=30)
        observations = data.from_numpy(X[:1000], y[:1000], 1024, np.float64)
        params, info = surrogate.fit(jax.random.key(0), observations, surrogate.init(3, jnp.float64))
        assert info.ok
        posterior = surrogate.posterior(params, observations)
        mean, var = posterior.mean_var(jnp.asarray(X[1000:]))
        truth = smooth(X[1000:])
        assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.06
        z = (y[1000:] - mean) / np.sqrt(var + posterior.observation_noise())
        assert 0.8 < np.std(z) < 1.25


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="num_inducing"):
        surrogates.sparse_gp(0)
