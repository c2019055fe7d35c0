"""Conformance check for batch acquisitions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bojax import data
from bojax.acquisition import BatchAcquisition, Context
from bojax.surrogates import Surrogate, gp
from bojax.testing import _checks as checks
from bojax.testing._checks import expect

NUM_PENDING = 2

LOWEST = -1e4
"""Logarithms below are those of no utility; what they are exactly is decided by rounding."""


def check_batch_acquisition(
    acquisition: BatchAcquisition,
    *,
    surrogate: Surrogate | None = None,
    dtypes: Sequence[str] = checks.DTYPES,
    tolerance: float = 1e-6,
) -> None:
    """Check that a batch acquisition consists of pure functions and has finite values and gradients.

    In each dtype, without pending points and with one, it checks:

    * `begin`, `value` and `add` preserve the type of the state, depend on the key alone, and are traced once;
    * rows of `value` are independent of each other, at observed, pending and chosen points too, and keep the dtype;
    * values and gradients are finite for q points in turn;
    * masked pending rows have no effect;
    * results agree with and without `jit` and `vmap`;
    * `joint`, if there is one, has finite values and gradients, and batches are independent of each other.

    Args:
        acquisition: the `BatchAcquisition` to check.
        surrogate: the surrogate whose posterior is used; `gp` by default.
        dtypes: which of "float32" and "float64" to check; both by default.
        tolerance: largest difference of values between programs in float64, 1e-6 by default; 1e4 times as much in
            float32.

    Raises:
        AssertionError: a check fails; the message says what is wrong.

    Example:
        >>> from bojax.acquisition import kriging_believer
        >>> from bojax.surrogates import Surrogate
        >>> from bojax.testing import MockPosterior
        >>> surrogate = Surrogate(
        ...     init=lambda num_dims, dtype: (),
        ...     fit=lambda key, observations, params: (params, None),
        ...     posterior=lambda params, observations, num_spare: MockPosterior(lambda X: X[:, 0]),
        ... )
        >>> total = kriging_believer(lambda posterior, X, best_f: posterior.mean(X).sum())
        >>> check_batch_acquisition(total, surrogate=surrogate, dtypes=["float32"])
        Traceback (most recent call last):
        AssertionError: `value` must give one value a row, [5], got ().
    """
    surrogate = gp(num_restarts=1, max_evals=20) if surrogate is None else surrogate
    for dtype in dtypes:
        with checks.dtype_scope(dtype) as scope_dtype:
            loose = tolerance * (1.0 if jnp.finfo(scope_dtype).bits >= 64 else 1e4)
            _check(acquisition, surrogate, scope_dtype, loose)


def _check(acquisition, surrogate, dtype, tolerance):
    q, num_dims = 3, 2
    keys = jax.random.split(jax.random.key(0), 2)
    X = jax.random.uniform(keys[0], (6, num_dims), dtype)
    observations = data.append(data.empty(num_dims, 8, dtype), X, jnp.sin(6.0 * X).sum(axis=-1))
    params, _ = surrogate.fit(keys[1], observations, surrogate.init(num_dims, dtype))
    posterior = surrogate.posterior(params, observations, NUM_PENDING + q).standardized()
    best_f = jnp.max(posterior.mean(X))

    def context(mask, filler):
        pending = jnp.stack([jnp.array([0.3, 0.7], dtype), jnp.full(num_dims, filler, dtype)])
        return Context(best_f, observations.X, observations.mask, pending, jnp.asarray(mask))

    def floored(values):
        return jnp.maximum(values, LOWEST) if acquisition.in_logs else values

    begin = checks.Traced(lambda key, context: acquisition.begin(key, posterior, context, q))
    value, add = checks.Traced(acquisition.value), checks.Traced(acquisition.add)
    gradient = jax.jit(jax.grad(lambda state, X: acquisition.value(state, X).sum(), argnums=1))
    for mask in ([False, False], [True, False]):
        state = begin(keys[0], context(mask, 0.5))
        checks.expect_round_trip(state, "the state of `begin`")
        checks.expect_equal(state, begin(keys[0], context(mask, 0.5)), "two states of `begin` with the same key")
        other = begin(keys[0], context(mask, 0.25))
        for _ in range(q):
            points = jnp.concatenate([X[:2], jnp.full((1, num_dims), 0.45, dtype), X[2:3] + 1e-4])
            points = jnp.concatenate([points, jnp.array([[0.3, 0.7]], dtype)])
            values = value(state, points)
            expect(values.shape == (5,), f"`value` must give one value a row, [5], got {values.shape}.")
            checks.expect_dtype(values, dtype, "`value`")
            checks.expect_finite(values, f"`value` with pending {mask}")
            checks.expect_finite(gradient(state, points), f"the gradient of `value` with pending {mask}")
            values, reordered = floored(values), floored(value(state, points[::-1])[::-1])
            checks.expect_close(values, reordered, "values of rows in another order", tolerance=tolerance)
            masked = floored(value(other, points))
            checks.expect_close(values, masked, "values with other masked points", tolerance=tolerance)
            both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
            vmapped = floored(jax.jit(jax.vmap(acquisition.value, (0, None)))(both, points))
            checks.expect_close(vmapped[1], values, "values vmapped and alone", tolerance=tolerance)
            new, other = add(state, points[2]), add(other, points[2])
            checks.expect_same_type(state, new, "the state before and after `add`")
            state = new
        if acquisition.joint is not None:
            _check_joint(acquisition, begin(keys[0], context(mask, 0.5)), q, dtype, tolerance)
    expect(begin.count == 1, f"`begin` was traced {begin.count} times for one shape.")
    expect(value.count == 1, f"`value` was traced {value.count} times for one shape.")
    expect(add.count == 1, f"`add` was traced {add.count} times for one shape.")


def _check_joint(acquisition, state, q, dtype, tolerance):
    batches = jax.random.uniform(jax.random.key(3), (4, q, 2), dtype)
    batches = batches.at[1, 1].set(batches[1, 0])  # a point twice
    joint = jax.jit(acquisition.joint)
    values = joint(state, batches)
    expect(values.shape == (4,), f"`joint` must give one value a batch, [4], got {values.shape}.")
    checks.expect_dtype(values, dtype, "`joint`")
    checks.expect_finite(values, "`joint`")
    alone = np.concatenate([joint(state, batches[i : i + 1]) for i in range(4)])
    checks.expect_close(values, alone, "`joint` of many batches and of each alone", tolerance=tolerance)
    gradient = jax.jit(jax.grad(lambda X: acquisition.joint(state, X).sum()))(batches)
    checks.expect_finite(gradient, "the gradient of `joint`")
