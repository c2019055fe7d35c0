"""Input warping: the closed form, its ends, and what it is for."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from bojax import surrogates
from bojax.surrogates.parts._warping import kumaraswamy
from tests.helpers import observe


def test_the_map_is_kumaraswamys():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, a, b = rng.uniform(0.001, 0.999, 20), rng.uniform(0.1, 10, 20), rng.uniform(0.1, 10, 20)
        got = kumaraswamy(jnp.asarray(x)[None], jnp.log(jnp.asarray(a)), jnp.log(jnp.asarray(b)))[0]
        want = [float(1 - (1 - mpmath.mpf(u) ** p) ** r) for u, p, r in zip(x, a, b, strict=True)]
        assert np.allclose(got, want, rtol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_identity_and_both_ends(dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(np.concatenate([[0.0, 1.0], np.logspace(-9, -0.01, 40)])[:, None], dtype)
        zero = jnp.zeros(1, dtype)
        assert np.allclose(kumaraswamy(x, zero, zero), x, atol=1e-9 if dtype == "float64" else 1e-6)
        for log_a in (-2.3, 0.0, 2.3):
            for log_b in (-2.3, 0.0, 2.3):
                a, b = jnp.full(1, log_a, dtype), jnp.full(1, log_b, dtype)
                values, pull = jax.vjp(kumaraswamy, x, a, b)
                assert values.dtype == dtype and np.all(np.isfinite(values))
                assert all(np.all(np.isfinite(g)) for g in pull(jnp.ones_like(values)))
                order = np.argsort(np.asarray(x)[:, 0])
                assert np.all(np.diff(np.asarray(values)[order, 0]) >= -1e-6)


@pytest.mark.long
def test_a_logarithmic_function_is_predicted_better():
    with jax.enable_x64(True):
        x = np.random.default_rng(0).random((24, 1))
        y = np.sin(3.0 * np.log(x[:, 0] + 0.005))
        observations = observe(x, y, capacity=32)
        errors = {}
        for name, kernel in {
            "plain": surrogates.matern52(),
            "warped": surrogates.warped(surrogates.matern52()),
        }.items():
            surrogate = surrogates.gp(kernel, num_restarts=4)
            params, info = surrogate.fit(jax.random.key(0), observations, surrogate.init(1, jnp.float64))
            assert info.ok
            errors[name] = float(surrogates.leave_one_out(surrogate.posterior(params, observations)).log_density)
        assert errors["warped"] > errors["plain"] + 0.3


@pytest.mark.long
def test_fixed_columns_and_features():
    with jax.enable_x64(True):
        kernel = surrogates.warped(surrogates.matern52(categorical_dims=(1,)), fixed_dims=(1,))
        params = kernel.init(2, jnp.float64)
        params = params._replace(log_a=jnp.array([0.5, 2.0]), log_b=jnp.array([-0.4, 2.0]))
        X = jnp.asarray(np.stack([np.linspace(0.1, 0.9, 5), (np.arange(5) % 2 + 0.5) / 2], axis=1))
        again = params._replace(log_a=jnp.array([0.5, 0.0]), log_b=jnp.array([-0.4, 0.0]))
        assert np.array_equal(kernel.matrix(params, X, X), kernel.matrix(again, X, X))
        phi = kernel.features.apply(params, kernel.features.draw(jax.random.key(0), 2, 50_000, jnp.float64), X)
        assert np.max(np.abs(phi @ phi.T - kernel.matrix(params, X, X))) < 0.05
