import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from bojax.surrogates import half_rank


def reference(y):
    median = np.median(y)
    spread = np.sqrt(np.mean((y[y >= median] - median) ** 2))
    rank = np.array([np.sum(y < v) + 0.5 * np.sum(y == v) for v in y]) / len(y)
    return np.where(y < median, median + spread * norm.ppf(rank), y)


@pytest.mark.long
@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_equals_the_reference_and_ignores_padding(x64, n):
    y = -np.exp(np.random.default_rng(n).normal(0.0, 3.0, n))
    padded, mask = np.append(y, [np.nan, np.inf]), np.append(np.ones(n, bool), [False, False])
    warped = np.asarray(half_rank(jnp.asarray(padded), jnp.asarray(mask)))
    np.testing.assert_allclose(warped[:n], reference(y), rtol=1e-9, atol=1e-9)
    assert (np.argsort(warped[:n]) == np.argsort(y)).all() and np.isfinite(warped).all()


@pytest.mark.long
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_scales_with_the_values(size):
    y = np.array([-5.0, -1.0, 0.5, 1.0, 2.0], np.float32)
    warped = half_rank(jnp.asarray(y * np.float32(size)), jnp.ones(5, bool))
    np.testing.assert_allclose(np.asarray(warped, float) / size, reference(y.astype(float)), rtol=1e-5)


@pytest.mark.long
def test_equal_values_and_no_values_stay_finite():
    assert (half_rank(jnp.full(4, 3.0), jnp.ones(4, bool)) == 3.0).all()
    assert jnp.isfinite(half_rank(jnp.zeros(4), jnp.zeros(4, bool))).all()
