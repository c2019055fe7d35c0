"""The log-domain functions against mpmath over their whole range, in both dtypes, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from bojax import _numerics

FUNCTIONS = ("h", "log_h", "ndtr", "log_ndtr")
FAR = 200.0
"""Beyond, the asymptotic series of the reference has over 40 right digits and the closed form loses too many."""


def grid(dtype):
    """Points over the range each dtype is used in, dense around 0, out to the far left tail."""
    reach, top = (100, 40.0) if dtype == np.float64 else (15, 10.0)
    left = -np.logspace(-12, reach, 90)
    near = np.linspace(-12.0, 8.0, 81)
    right = np.concatenate([np.logspace(-12, 0, 9), np.linspace(1.0, top, 25)])
    return np.unique(np.concatenate([left, near, [0.0], right]).astype(dtype))


@functools.cache
def mills(u):
    """R0 and R1 = 1 - u R0 for u > 0, to 40 digits."""
    if u > FAR:
        double = mp.mpf(u) ** -2
        terms = [(-1) ** k * mp.fac2(2 * k + 1) * double ** (k + 1) for k in range(12)]
        R1 = mp.fsum(terms)
        return (1 - R1) / u, R1
    with mp.workdps(80):
        R0 = mp.sqrt(mp.pi / 2) * mp.exp(u * u / 2) * mp.erfc(u / mp.sqrt(2))
        return R0, 1 - u * R0


def reference(name, z):
    """Value and derivative at z, 40 digits."""
    with mp.workdps(50):
        z = mp.mpf(float(z))
        log_phi = -z * z / 2 - mp.log(2 * mp.pi) / 2
        if z < 0:
            R0, R1 = mills(-z)
            log_cdf, log_h, dlog_cdf, dlog_h = log_phi + mp.log(R0), log_phi + mp.log(R1), 1 / R0, R0 / R1
        else:
            cdf = 1 - mp.erfc(z / mp.sqrt(2)) / 2
            h = mp.exp(log_phi) + z * cdf
            log_cdf, log_h = mp.log(cdf), mp.log(h)
            dlog_cdf, dlog_h = mp.exp(log_phi) / cdf, cdf / h
        if name == "log_h":
            return log_h, dlog_h
        if name == "log_ndtr":
            return log_cdf, dlog_cdf
        if name == "h":
            return mp.exp(log_h), mp.exp(log_cdf)
        return mp.exp(log_cdf), mp.exp(log_phi)


def evaluate(name, z):
    with jax.enable_x64(z.dtype == np.float64):
        fn = jax.jit(jax.vmap(jax.value_and_grad(getattr(_numerics, name))))
        value, gradient = (np.asarray(out) for out in fn(jnp.asarray(z)))
    assert value.dtype == gradient.dtype == z.dtype
    return value, gradient


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name, dtype):
    z = grid(dtype)
    value, gradient = evaluate(name, z)
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    is_log = name.startswith("log")
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    for i, point in enumerate(z):
        for what, got, want in zip(("value", "gradient"), (value[i], gradient[i]), reference(name, point), strict=True):
            # exp(-z^2 / 2) multiplies the rounding of z^2 by z^2; logarithms near 0 are exact absolutely.
            condition = 1.0 if is_log else 1.0 + float(point) ** 2
            # In the right half 1 - Phi is below the rounding of Phi, so the log's slope is exact only absolutely.
            absolute = 8 * eps if is_log and (what == "value" or point > 0) else 8 * tiny / eps * eps
            error = abs(mp.mpf(float(got)) - want)
            bound = 100 * eps * condition * abs(want) + absolute
            assert error <= bound, f"{what} of {name} at {point!r}: {got!r}, not {mp.nstr(want, 17)}"


@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_monotone(name, dtype):
    top = 8.0 if dtype == np.float64 else 5.0  # ndtr is 1 beyond, to rounding
    z = np.unique(np.concatenate([grid(dtype), np.linspace(-30, top, 3001)]).astype(dtype))
    value, gradient = evaluate(name, z)
    steps = np.diff(value.astype(np.float64))
    slack = 8 * np.finfo(dtype).eps * np.maximum(np.abs(value[1:]), np.finfo(dtype).tiny)
    slack = slack * np.where(name.startswith("log"), 1.0, np.minimum(1.0 + z[1:].astype(float) ** 2, 1e4))
    assert (steps >= -slack).all()
    assert (gradient >= 0).all()
    if name.startswith("log"):
        left = z < -0.01
        assert (gradient[left] > 0).all(), "a flat tail leaves an optimizer nothing to climb"


@pytest.mark.long
def test_beyond_the_range_nothing_becomes_nan(x64):
    for name in FUNCTIONS:
        fn = jax.value_and_grad(getattr(_numerics, name))
        for z in (-1e150, -40.0, 0.0, -0.0, 60.0, 1e10):
            value, gradient = fn(jnp.asarray(z))
            assert np.isfinite(value) and np.isfinite(gradient), (name, z)


@pytest.mark.long
def test_second_derivatives_of_the_helpers_are_finite(x64):
    z = jnp.linspace(-30.0, 10.0, 41)
    for name in ("log_h", "log_ndtr"):
        second = jax.vmap(jax.grad(jax.grad(getattr(_numerics, name))))(z)
        assert np.isfinite(second).all()
        assert (second <= 1e-12).all(), f"{name} is concave"


def test_the_derivative_of_the_largest_is_that_of_the_first(x64):
    values = np.random.default_rng(0).normal(size=(4, 7))
    values[2, 5] = values[2, 1] = 9.0
    np.testing.assert_array_equal(_numerics.largest(values), values.max(axis=1))
    slopes = jax.grad(lambda x: _numerics.largest(x).sum())(jnp.asarray(values))
    np.testing.assert_array_equal(slopes, np.arange(7) == values.argmax(axis=1)[:, None])
