"""Monotone maps of values: order, masks, magnitudes, and SciPy's figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bojax import surrogates
from bojax.surrogates.outputs._output import yeo_johnson
from tests.helpers import observe, smooth

TRANSFORMS = {name: getattr(surrogates, name) for name in ("log_output", "log_tail", "bilog", "power", "half_rank")}
TRANSFORMS["composed"] = surrogates.compose(surrogates.half_rank, surrogates.bilog)


@pytest.mark.long
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_order_is_kept_and_masked_rows_do_not_matter(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(0)
        for y in (
            rng.normal(size=12),
            -np.exp(3 * rng.normal(size=12)),
            1e6 + rng.normal(size=12),
            1e-9 * rng.normal(size=12),
        ):
            y = y.astype(dtype)
            mask = np.arange(16) < 12
            padded = np.concatenate([y, [np.nan, 3.0, -np.inf, 0.0]]).astype(dtype)
            other = np.concatenate([y, [0.0, 0.0, 0.0, 0.0]]).astype(dtype)
            got = np.asarray(TRANSFORMS[name](jnp.asarray(padded), jnp.asarray(mask)))
            assert got.dtype == dtype and np.all(np.isfinite(got))
            assert np.array_equal(got[:12], np.asarray(TRANSFORMS[name](jnp.asarray(other), jnp.asarray(mask)))[:12])
            order = np.argsort(y)
            assert np.all(np.diff(got[:12][order]) >= 0)
            distinct = np.diff(y[order].astype(float)) > 1e-3 * np.ptp(y.astype(float))
            assert np.all(np.diff(got[:12][order])[distinct] > 0)


@pytest.mark.long
@pytest.mark.parametrize("name", TRANSFORMS)
def test_few_or_equal_values_do_no_harm(name):
    for count in (0, 1, 5):
        y, mask = jnp.full(6, 2.0), jnp.arange(6) < count
        assert np.all(np.isfinite(TRANSFORMS[name](y, mask)))


@pytest.mark.long
@pytest.mark.parametrize("name", ["log_output", "log_tail", "bilog", "power", "half_rank"])
def test_derivatives_are_slopes(name):
    """Of a map that all values together chose, and that none of them moves."""
    with jax.enable_x64(True):
        for y in (jnp.array([-3.0, -1.0, -0.5, 2.0, jnp.nan]), jnp.array([-13.0, -11.0, -10.5, -10.0, 9.0])):
            transform, mask = TRANSFORMS[name], jnp.arange(5) < 4
            slopes = jax.jacfwd(lambda y: transform(y, mask))(y)[:4, :4]  # noqa: B023
            assert np.array_equal(slopes, np.diag(np.diagonal(slopes)))
            z = np.asarray(transform(y, mask))[:4]
            low, high = np.sort(np.stack([np.diagonal(slopes)[:-1], np.diagonal(slopes)[1:]]), axis=0)
            secants = np.diff(z) / np.diff(np.asarray(y[:4]))
            inside = (low <= secants + 1e-9) & (secants <= high + 1e-9)
            assert np.all(low > 0) and inside.sum() >= 2  # power bends one way and bilog the other at the mean


@pytest.mark.long
def test_powers_are_those_of_scipy():
    with jax.enable_x64(True):
        z = np.random.default_rng(1).normal(size=40) * 2
        for exponent in (-1.5, 0.0, 0.7, 1.0, 2.0, 3.1):
            assert np.allclose(yeo_johnson(jnp.asarray(z), jnp.asarray(exponent)), stats.yeojohnson(z, exponent))
        y = -np.exp(1.5 * np.random.default_rng(2).normal(size=60))
        good = y[y >= np.median(y)]
        standard = (y - np.median(y)) / np.sqrt(np.mean((good - np.median(y)) ** 2))
        _, best = stats.yeojohnson(standard)
        got = surrogates.power(jnp.asarray(y), jnp.ones(60, bool))
        near = stats.yeojohnson(standard, np.clip(np.round(best, 1), -2, 4))
        assert np.allclose(got, near, atol=0.1 * np.ptp(near))
        assert abs(stats.skew(np.asarray(got))) < 0.6 < 2.0 < abs(stats.skew(y))


def test_losses_become_logarithms():
    with jax.enable_x64(True):
        loss = np.array([1e-4, 0.1, 3.0, 500.0])
        got = surrogates.log_output(jnp.asarray(-loss), jnp.ones(4, bool))
        assert np.allclose(np.diff(got), -np.diff(np.log(loss)), rtol=1e-6)


@pytest.mark.long
def test_a_transformed_surrogate_models_transformed_values():
    with jax.enable_x64(True):
        X = np.random.default_rng(0).random((8, 2))
        y = -np.exp(smooth(X))
        observations = observe(X, y).with_columns(noise_var=jnp.full(8, 0.04))
        inner = surrogates.gp(noise=surrogates.fixed_noise(1e-4))
        outer = surrogates.with_output_transform(inner, surrogates.log_output)
        params = outer.init(2, jnp.float64)
        got = outer.posterior(params, observations).mean(observations.X)
        changed = observations._replace(y=jnp.asarray(-np.log(-y))).with_columns(noise_var=jnp.asarray(0.04 / y**2))
        posterior = inner.posterior(params, changed)
        assert np.allclose(np.ptp(got - posterior.mean(observations.X)), 0.0, atol=1e-6)


@pytest.mark.long
def test_gradients_go_through_the_slope():
    with jax.enable_x64(True):
        X = np.random.default_rng(5).random((6, 2))
        seen = observe(X, np.asarray(smooth(jnp.asarray(X))), capacity=8)
        seen = seen.with_columns(grad=jnp.ones((8, 2)).at[0, 1].set(jnp.nan))
        echo = surrogates.gp()._replace(posterior=lambda params, observations, num_spare: observations)
        got = surrogates.with_output_transform(echo, surrogates.bilog).posterior(None, seen)
        np.testing.assert_allclose(got.y, surrogates.bilog(seen.y, seen.mask), rtol=1e-12)
        slope = jnp.diagonal(jax.jacfwd(lambda y: surrogates.bilog(y, seen.mask))(seen.y))
        assert np.ptp(slope[:6]) > 0.01
        np.testing.assert_allclose(got.columns["grad"][:6], slope[:6, None] * seen.columns["grad"][:6], rtol=1e-12)


@pytest.mark.long
def test_log_tail_leaves_the_better_half_and_has_slopes():
    with jax.enable_x64(True):
        y, mask = jnp.asarray(-np.exp(2 * np.random.default_rng(3).normal(size=21))), jnp.ones(21, bool)
        got = surrogates.log_tail(y, mask)
        good = y >= jnp.median(y)
        np.testing.assert_allclose(got[good], y[good], rtol=1e-12)
        below, spread = jnp.median(y) - y[~good], jnp.max(y) - jnp.median(y)
        np.testing.assert_allclose(got[~good], jnp.median(y) - spread * jnp.log1p(below / spread), rtol=1e-12)
        slope = jnp.diagonal(jax.jacfwd(lambda y: surrogates.log_tail(y, mask))(y))
        np.testing.assert_allclose(slope, jnp.where(good, 1.0, 1 / (1 + jnp.maximum(jnp.median(y) - y, 0) / spread)))
        np.testing.assert_allclose(surrogates.half_rank(got, mask), surrogates.half_rank(y, mask), rtol=1e-12)
