"""Sampled objectives against brute-force Gaussian conditioning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bojax import surrogates
from tests.helpers import observe, smooth, tol


def posterior_of(num_spare=0, scale=1.0):
    X = np.random.default_rng(0).random((9, 2))
    observations = observe(X, scale * smooth(X) + 3.0, capacity=12)
    surrogate = surrogates.gp(noise=surrogates.fixed_noise(1e-3))
    params = surrogate.init(2, observations.X.dtype)
    return surrogate.posterior(params, observations, num_spare)


UNIT = surrogates.Scale(0.0, 1.0)
KINDS = {
    "gp": lambda posterior, *args: posterior.fantasies(*args),
    "generic": lambda posterior, *args: surrogates.from_law(posterior, UNIT, 2).fantasies(*args),
}


def brute_force(posterior, P, values, X):
    """Mean and covariance at X given noise-free values [s, m] at P, by conditioning the joint law."""
    mean, cov = (np.asarray(a) for a in posterior.joint(jnp.concatenate([P, X])))
    m = len(P)
    gain = np.linalg.solve(cov[:m, :m], cov[:m, m:]).T
    return mean[None, m:] + (np.asarray(values) - mean[None, :m]) @ gain.T, cov[m:, m:] - gain @ cov[:m, m:]


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_fantasies_are_conditioned_on_their_values(kind, scale):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        posterior = posterior_of(scale=scale)
        P, X = jnp.asarray(rng.random((5, 2))), jnp.asarray(rng.random((4, 2)))
        mask = jnp.array([True, False, True, True, False])
        base = jnp.asarray(rng.normal(size=(6, 7)))
        fantasies = KINDS[kind](posterior, P, mask, base[:, :5], 2)
        fixed = P[mask]
        _, cov = posterior.joint(fixed)
        want = posterior.mean(fixed)[None] + base[:, :5][:, mask] @ np.linalg.cholesky(cov).T
        assert np.allclose(fantasies.values[:, :5][:, mask], want, rtol=1e-8)
        assert np.all(np.isneginf(fantasies.values[:, [1, 4, 5, 6]]))

        for step in range(2):
            x = jnp.asarray(rng.random(2))
            fantasies = fantasies.append(x, base[:, 5 + step])
            fixed = jnp.concatenate([fixed, x[None]])
        values = jnp.concatenate([fantasies.values[:, :5][:, mask], fantasies.values[:, 5:]], axis=1)
        mean, cov = brute_force(posterior, fixed, values, X)
        got_mean, got_var = fantasies.mean_var(X)
        joint_mean, joint_cov = fantasies.joint(X)
        assert np.allclose(got_mean, mean, rtol=1e-6, atol=1e-6 * scale)
        assert np.allclose(joint_mean, mean, rtol=1e-6, atol=1e-6 * scale)
        assert np.allclose(got_var, np.diag(cov)[None], rtol=1e-4, atol=1e-7 * scale**2)
        assert np.allclose(joint_cov[0], cov, rtol=1e-4, atol=1e-7 * scale**2)


@pytest.mark.long
def test_values_have_the_law_of_the_posterior():
    with jax.enable_x64(True):
        posterior = posterior_of()
        P = jnp.asarray(np.random.default_rng(2).random((3, 2)))
        s = 20_000
        base = jax.random.normal(jax.random.key(0), (s, 3), jnp.float64)
        values = posterior.fantasies(P, jnp.ones(3, bool), base).values
        mean, cov = posterior.joint(P)
        std = np.sqrt(np.diag(cov))
        assert np.all(np.abs(values.mean(axis=0) - mean) < 5 * std / s**0.5)
        assert np.allclose(np.cov(values.T) / np.outer(std, std), cov / np.outer(std, std), atol=5 * (2 / s) ** 0.5)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_no_fixed_point_leaves_the_posterior_and_dtype_is_kept(kind):
    for dtype in (jnp.float32, jnp.float64):
        with jax.enable_x64(dtype == jnp.float64):
            posterior = posterior_of()
            X = jnp.asarray(np.random.default_rng(3).random((4, 2)), dtype)
            empty = jnp.zeros((0, 2), dtype), jnp.zeros(0, bool), jnp.zeros((3, 0), dtype), 1
            fantasies = jax.jit(lambda p, kind=kind, empty=empty: KINDS[kind](p, *empty))(posterior)
            mean, var = fantasies.mean_var(X)
            assert mean.dtype == var.dtype == dtype and mean.shape == (3, 4)
            assert np.allclose(mean, posterior.mean(X)[None], atol=tol(dtype))
            assert np.allclose(var, posterior.var(X)[None], atol=tol(dtype))
            more = fantasies.append(X[0], jnp.ones(3, dtype))
            gradient = jax.grad(lambda X: sum(jnp.sum(a) for a in more.mean_var(X)))(X)  # noqa: B023
            assert np.all(np.isfinite(gradient))
