"""The sampler against known laws, and the fully Bayesian Gaussian process against a grid and on sparse functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import surrogates
from bojax.surrogates._nuts import nuts
from tests.helpers import observe


@pytest.mark.long
def test_the_sampler_has_the_law_of_a_correlated_normal():
    with jax.enable_x64(True):
        A = np.random.default_rng(0).normal(size=(3, 3))
        cov = A @ A.T + 0.1 * np.eye(3)
        precision, mean = jnp.asarray(np.linalg.inv(cov)), jnp.array([1.0, -2.0, 0.5])

        def log_density(q):
            return -0.5 * (q - mean) @ precision @ (q - mean)

        def chain(key):
            return nuts(key, log_density, jnp.zeros(3), num_warmup=200, num_samples=1000, thinning=2)

        result = jax.jit(lambda keys: jax.lax.map(chain, keys))(jax.random.split(jax.random.key(0), 4))
        samples = np.asarray(result.samples).reshape(-1, 3)
        std = np.sqrt(np.diag(cov))
        assert samples.shape == (2000, 3) and int(result.num_divergent.sum()) == 0
        assert np.all(np.abs(samples.mean(axis=0) - np.asarray(mean)) < 0.15 * std)
        assert np.allclose(np.cov(samples.T) / np.outer(std, std), cov / np.outer(std, std), atol=0.2)
        assert np.all((result.accept > 0.6) & (result.accept < 0.98))


@pytest.mark.long
def test_the_sampler_has_the_law_of_a_heavy_and_a_bounded_coordinate():
    """log of a gamma variable, and a logistic variable."""
    with jax.enable_x64(True):

        def log_density(q):
            return 3.0 * q[0] - jnp.exp(q[0]) - q[1] - 2.0 * jnp.log1p(jnp.exp(-q[1]))

        result = jax.jit(lambda key: nuts(key, log_density, jnp.zeros(2), num_warmup=300, num_samples=4000))(
            jax.random.key(1)
        )
        samples = np.asarray(result.samples)
        assert abs(np.exp(samples[:, 0]).mean() - 3.0) < 0.25
        assert abs(np.exp(samples[:, 0]).var() - 3.0) < 0.8
        assert abs(samples[:, 1].mean()) < 0.2 and abs(samples[:, 1].std() - np.pi / 3**0.5) < 0.2


@pytest.mark.slow
def test_the_sparse_prior_finds_what_matters():
    with jax.enable_x64(True):
        X = np.random.default_rng(0).random((40, 15))
        y = np.sin(5.0 * X[:, 3]) + 2.0 * (X[:, 9] - 0.5) ** 2
        observations = observe(X[:36], y[:36])
        held_out, truth = jnp.asarray(np.random.default_rng(1).random((200, 15))), None
        truth = np.sin(5.0 * np.asarray(held_out)[:, 3]) + 2.0 * (np.asarray(held_out)[:, 9] - 0.5) ** 2
        errors = {}
        for name, surrogate in {"saas": surrogates.saas(), "gp": surrogates.gp()}.items():
            params, info = surrogate.fit(jax.random.key(0), observations, surrogate.init(15, jnp.float64))
            assert info.ok
            posterior = surrogate.posterior(params, observations)
            mean, var = posterior.mean_var(held_out)
            errors[name] = float(np.mean(0.5 * (truth - mean) ** 2 / var + 0.5 * np.log(var)))
            if name == "saas":
                relevance = np.median(np.asarray(params.kernel.log_ratio), axis=0)
                assert set(np.argsort(relevance)[-2:]) == {3, 9}
        assert errors["saas"] < errors["gp"]


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="thinning"):
        surrogates.fully_bayesian_gp(num_samples=20, thinning=16)
    with pytest.raises(ValueError, match="max_depth"):
        surrogates.fully_bayesian_gp(max_depth=0)
