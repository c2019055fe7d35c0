"""Conformance check for acquisition functions of single points."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bojax.acquisition import AcquisitionFn
from bojax.testing import _checks as checks
from bojax.testing._checks import expect
from bojax.testing._mock import MockPosterior

MEANS = (0.0, 1e-3, 1.0, 30.0, 1e3)
STDS = (1e-5, 1e-2, 1.0, 1e2)
"""Standardized means and standard deviations, from certain to vague, near the incumbent and far from it."""


def check_acquisition(acquisition: AcquisitionFn, *, dtypes: Sequence[str] = checks.DTYPES) -> None:
    """Check that an acquisition function is pure, works row by row, and has finite values and gradients.

    In each dtype it checks:

    * the result has shape [k] and the dtype of X, and each row is independent of the others;
    * results agree with and without `jit`, under `vmap` and in a `scan`, and the function is traced once;
    * values and gradients with respect to X are finite for means within 1000 of the incumbent (in standardized units)
      and standard deviations from 1e-5 to 100.

    Args:
        acquisition: function `(posterior, X [k, d], best_f) -> [k]`.
        dtypes: which of "float32" and "float64" to check; both by default.

    Raises:
        AssertionError: a check fails; the message says what is wrong.

    Example:
        >>> def total(posterior, X, best_f):
        ...     return posterior.mean(X).sum()
        >>> check_acquisition(total, dtypes=["float32"])
        Traceback (most recent call last):
        AssertionError: total must give one value a row, [6], got ().
    """
    for dtype in dtypes:
        with checks.dtype_scope(dtype) as scope_dtype:
            _check(acquisition, scope_dtype)


def _check(acquisition, dtype):
    rounding = 100 * float(jnp.finfo(dtype).eps)
    posterior = MockPosterior(lambda X: jnp.sin(5.0 * X).sum(axis=-1), lambda X: 0.1 + (X**2).sum(axis=-1))
    X = jax.random.uniform(jax.random.key(0), (6, 2), dtype)
    best_f = jnp.asarray(1.2, dtype)

    def value(X, best_f):
        return acquisition(posterior, X, best_f)

    values = value(X, best_f)
    expect(values.shape == (6,), f"{_name(acquisition)} must give one value a row, [6], got {values.shape}.")
    expect(values.dtype == dtype, f"{_name(acquisition)} must keep the dtype {dtype}, got {values.dtype}.")
    compiled = checks.Traced(value)
    checks.expect_close(values, compiled(X, best_f), "values without and with jit", tolerance=rounding)
    compiled(X + 0.01, best_f + 1.0)
    expect(compiled.count == 1, f"{_name(acquisition)} was traced {compiled.count} times for one shape.")

    one_row = checks.Traced(value)
    rows = np.concatenate([one_row(X[i : i + 1], best_f) for i in range(6)])
    checks.expect_close(values, rows, "values of many rows and of each row alone", tolerance=rounding)
    incumbents = best_f + np.arange(3, dtype=dtype)
    loop = np.stack([compiled(X, b) for b in incumbents])
    vmapped = jax.jit(jax.vmap(value, (None, 0)))(X, incumbents)
    checks.expect_close(vmapped, loop, "values vmapped and looped", tolerance=rounding)
    scanned = jax.jit(lambda bs: jax.lax.scan(lambda c, b: (c, value(X, b)), None, bs)[1])(incumbents)
    checks.expect_close(scanned, loop, "values scanned and looped", tolerance=rounding)
    _check_range(acquisition, dtype)


def _check_range(acquisition, dtype):
    """Encode mean and standard deviation of each row in its coordinates, so that gradients reach them through X."""
    offsets = [sign * mean for mean in MEANS for sign in (-1.0, 1.0)]
    table = jnp.asarray([(offset, np.log(std)) for offset in offsets for std in STDS], dtype)
    posterior = MockPosterior(lambda X: X[:, 0], lambda X: jnp.exp(2.0 * X[:, 1]))

    def value(X):
        return acquisition(posterior, X, jnp.zeros((), dtype))

    @jax.jit
    def with_gradient(table):
        values, pullback = jax.vjp(value, table)
        return values, pullback(jnp.ones_like(values))[0]

    values, gradients = with_gradient(table)
    for row, v, g in zip(np.asarray(table), np.asarray(values), np.asarray(gradients), strict=True):
        where = f"{_name(acquisition)} at mean - best_f = {row[0]}, standard deviation {np.exp(row[1]):.3g}, {dtype}"
        expect(np.isfinite(v), f"the value of {where} is {v}.")
        expect(np.isfinite(g).all(), f"the gradient of {where} is {g}.")


def _name(acquisition) -> str:
    return getattr(acquisition, "__name__", repr(acquisition))
