"""Conformance check for surrogates."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bojax import data
from bojax.surrogates import Surrogate
from bojax.testing import _checks as checks
from bojax.testing._checks import expect


def check_surrogate(
    surrogate: Surrogate, *, num_dims: int = 2, dtypes: Sequence[str] = checks.DTYPES, tolerance: float = 1e-2
) -> None:
    """Check that a surrogate consists of pure functions and its posterior is consistent.

    In each dtype it checks:

    * a fit preserves the type of the hyperparameters, depends on the key alone, is traced once, and agrees under `vmap`
      and in a loop;
    * `mean`, `var`, `mean_var`, `joint` and `sample` agree with each other, and variances are positive;
    * `append` preserves the type and reduces the variance at the new point;
    * gradients with respect to X are finite, at observed points too;
    * masked rows have no effect;
    * results are finite without data, with one observation and with equal values.

    Args:
        surrogate: the `Surrogate` to check.
        num_dims: number of columns of the test data, 2 by default.
        dtypes: which of "float32" and "float64" to check; both by default.
        tolerance: largest difference between the losses of vmapped and looped fits, relative and absolute, 1e-2 by
            default.

    Raises:
        AssertionError: a check fails; the message says what is wrong.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.surrogates import gp
        >>> surrogate = gp()._replace(init=lambda num_dims, dtype: jnp.zeros(num_dims, jnp.float32))
        >>> check_surrogate(surrogate, dtypes=["float64"])
        Traceback (most recent call last):
        AssertionError: the hyperparameters of `init`: itself has dtype float32, expected float64.
    """
    for dtype in dtypes:
        with checks.dtype_scope(dtype) as scope_dtype:
            _check(surrogate, num_dims, scope_dtype, tolerance)


def _check(surrogate, num_dims, dtype, tolerance):
    keys = jax.random.split(jax.random.key(0), 2)
    observations = _observations(num_dims, 6, 8, dtype)
    params = surrogate.init(num_dims, dtype)
    checks.expect_dtype(params, dtype, "the hyperparameters of `init`")
    checks.expect_round_trip(params, "the hyperparameters")

    fit = checks.Traced(surrogate.fit)
    fitted, info = fit(keys[0], observations, params)
    checks.expect_same_type(params, fitted, "hyperparameters before and after `fit`")
    checks.expect_finite(fitted, "fitted hyperparameters")
    checks.expect_fields(info, ("loss", "losses", "num_evals", "ok"), "the FitInfo")
    expect(info.ok, f"`fit` failed on smooth data: {info}.")
    checks.expect_finite(info.loss, "`FitInfo.loss`")
    checks.expect_equal((fitted, info), fit(keys[0], observations, params), "two fits with the same key")
    plain = surrogate.fit(keys[0], observations, params)[1]
    checks.expect_close(plain.loss, info.loss, "the loss of a fit without and with jit", tolerance=tolerance)
    again = fit(keys[1], observations, fitted)[1]
    expect(
        again.loss <= info.loss + tolerance * (1 + abs(info.loss)),
        f"a fit that starts from the last one ends above it: {again.loss} against {info.loss}.",
    )

    def scanned(keys):
        step = jax.vmap(surrogate.fit, (0, None, None))
        return jax.lax.scan(lambda c, ks: (c, step(ks, observations, params)[1].loss), None, keys[None])[1][0]

    losses = jnp.stack([fit(key, observations, params)[1].loss for key in keys])
    checks.expect_close(jax.jit(scanned)(keys), losses, "losses vmapped in a scan and looped", tolerance=tolerance)

    _check_posterior(surrogate, fitted, observations, keys[0], dtype)
    _check_masks(surrogate, fitted, observations, dtype)
    for poor in _poor_data(num_dims, dtype):
        fitted_poor, _ = fit(keys[0], poor, params)
        mean, var = surrogate.posterior(fitted_poor, poor).mean_var(observations.X)
        checks.expect_finite((mean, var), f"mean and variance after {int(poor.mask.sum())} observations of {poor.y}")
    expect(fit.count == 1, f"`fit` was traced {fit.count} times for one shape.")


def _check_posterior(surrogate, params, observations, key, dtype):
    posterior = surrogate.posterior(params, observations, 1)
    checks.expect_round_trip(posterior, "the posterior")
    X = jnp.concatenate([observations.X[:2], jax.random.uniform(key, (3, observations.X.shape[1]), dtype)])
    ask = checks.Traced(lambda posterior, X: (*posterior.mean_var(X), posterior.joint(X)))
    mean, var, (joint_mean, cov) = ask(posterior, X)
    k = X.shape[0]
    for what, array, shape in (("mean", mean, (k,)), ("var", var, (k,)), ("cov", cov, (k, k))):
        expect(array.shape == shape, f"`{what}` must have shape {shape}, got {array.shape}.")
    checks.expect_dtype((mean, var, cov), dtype, "the posterior's answers")
    checks.expect_finite((mean, var, cov), "the posterior's answers")
    expect(np.all(var > 0), f"variances must be positive, got {var}.")
    rounding = 2e4 * float(jnp.finfo(dtype).eps)
    scale = 1 + float(np.max(np.abs(cov)))
    plain = posterior.mean_var(X)
    checks.expect_close(plain, (mean, var), "`mean_var` without and with jit", tolerance=rounding)
    checks.expect_close(posterior.mean(X), mean, "`mean` against `mean_var`", tolerance=rounding)
    checks.expect_close(posterior.var(X), var, "`var` against `mean_var`", tolerance=rounding)
    checks.expect_close(joint_mean, mean, "the mean of `joint` against `mean_var`", tolerance=rounding)
    checks.expect_close(np.diagonal(cov), var, "the diagonal of `joint` against `var`", tolerance=rounding * scale)
    checks.expect_close(cov, np.transpose(cov), "the covariance against its transpose", tolerance=rounding * scale)
    lowest = np.linalg.eigvalsh(np.asarray(cov, np.float64)).min()
    expect(lowest > -rounding * scale, f"the covariance of `joint` has a negative eigenvalue {lowest}.")

    samples = posterior.sample(key, X, 4)
    expect(samples.shape == (4, k), f"`sample` must give [s, q] = [4, {k}], got {samples.shape}.")
    checks.expect_dtype(samples, dtype, "`sample`")
    checks.expect_finite(samples, "`sample`")
    checks.expect_equal(samples, posterior.sample(key, X, 4), "two samples with the same key")

    more = posterior.append(X[-1], mean[-1])
    checks.expect_same_type(posterior, more, "the posterior before and after `append`")
    expect(more.var(X)[-1] < var[-1], f"`append` must make its point more certain: {var[-1]} to {more.var(X)[-1]}.")
    checks.expect_close(more.mean(X)[-1], mean[-1], "the mean after appending the mean", tolerance=1e-2)

    standardized = posterior.standardized()
    checks.expect_same_type(posterior, standardized, "the posterior before and after `standardized`")
    order = np.argsort(standardized.mean(X))
    expect(np.array_equal(order, np.argsort(mean)), "`standardized` must not change the order of the means.")

    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), posterior)
    vmapped = jax.jit(jax.vmap(lambda p: p.mean_var(X)))(both)
    checks.expect_close(checks.take(vmapped, 1), (mean, var), "a vmapped and a single posterior", tolerance=rounding)
    for what, fn in (("mean", posterior.mean), ("variance", posterior.var)):
        gradient = jax.jit(jax.grad(lambda X, fn=fn: fn(X).sum()))(X)
        checks.expect_finite(gradient, f"the gradient of the {what} (the first two points are observed ones)")
    expect(ask.count == 1, f"the posterior was traced {ask.count} times for one shape.")


def _check_masks(surrogate, params, observations, dtype):
    """A failed row and more padding do not change the posterior."""
    X = jnp.linspace(0.0, 1.0, 5, dtype=dtype)[:, None] * jnp.ones((1, observations.X.shape[1]), dtype)
    want = surrogate.posterior(params, observations).mean_var(X)
    failed = data.append(observations, X[2:3], jnp.full(1, jnp.nan, dtype))
    wide = data.resize(failed, 2 * failed.capacity)
    tolerance = 1e4 * float(jnp.finfo(dtype).eps)
    for what, other in (("a failed observation", failed), ("more padding", wide)):
        got = surrogate.posterior(params, other).mean_var(X)
        checks.expect_close(got, want, f"mean and variance with and without {what}", tolerance=tolerance)


def _observations(num_dims, count, capacity, dtype):
    X = jax.random.uniform(jax.random.key(7), (count, num_dims), dtype)
    return data.append(data.empty(num_dims, capacity, dtype), X, jnp.sin(6.0 * X).sum(axis=-1))


def _poor_data(num_dims, dtype):
    """No observation, one, only failed ones, all equal, and one point repeatedly."""
    empty = data.empty(num_dims, 8, dtype)
    X = jax.random.uniform(jax.random.key(8), (4, num_dims), dtype)
    yield empty
    yield data.append(empty, X[:1], jnp.ones(1, dtype))
    yield data.append(empty, X, jnp.full(4, jnp.nan, dtype))
    yield data.append(empty, X, jnp.full(4, 3.0, dtype))
    yield data.append(empty, jnp.broadcast_to(X[:1], X.shape), jnp.arange(4, dtype=dtype))
