"""The probability that an evaluation succeeds, learned from where evaluations failed.

A latent Gaussian process g with success probability Phi(g(x)), conditioned on which told rows have a finite value, by
Laplace's approximation: g at the told points is taken as normal around its most probable values, found by Newton's
method. With K the prior covariance, s_i = 1 for a success and -1 for a failure, W the negative second derivative of
sum_i log Phi(s_i g_i) and B = I + W^1/2 K W^1/2 (eigenvalues of 1 and above, so it is factored safely in any dtype):

    mean(x) = m + k(x, X) alpha,     alpha = d log Phi(s g) / dg at the mode
    var(x)  = k(x, x) - |L^-1 W^1/2 k(X, x)|^2,     B = L L^T
    log p(success at x) = log Phi(mean(x) / sqrt(1 + var(x)))

The constant mean m makes the prior probability of success that of the told rows, shrunk towards `PRIOR_SUCCESS`, so
that a region nobody has looked at is not avoided. Lengthscale and variance are those of a small grid whose
approximate evidence is largest.

Source: Williams and Barber (1998); Rasmussen and Williams (2006), "Gaussian processes for machine learning", sections
3.4 to 3.6. A probability of success as the weight of an acquisition: Gelbart, Snoek, Adams (2014), arXiv:1403.5607.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax import _numerics
from bojax._linalg import factor, matmul
from bojax._types import Array, Bool, Float
from bojax.data import Observations
from bojax.surrogates._kernels import Kernel, KernelParams, matern52

PRIOR_SUCCESS = 0.9
"""Probability of success before anything is told, with the weight of `PRIOR_ROWS` rows."""
PRIOR_ROWS = 5.0
LENGTHSCALES = (1.0, 0.5, 0.25, 0.12)
"""Tried lengthscales, times the square root of the number of dimensions."""
VARIANCES = (1.0, 16.0)
"""Tried variances of the latent function: failures by chance, and failures with a sharp boundary."""
NEWTON_STEPS = 8
STEP_SIZES = (1.0, 0.5, 0.25, 0.0)
"""A full Newton step may overshoot where many rows disagree with the start; the best of these is taken."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SuccessModel:
    """How likely an evaluation is to succeed, given which ones did.

    Attributes:
        X: [n, d] told points, padding included.
        alpha: [n] slope of the log likelihood at the mode; 0 on padding.
        root: [n, n] L^-1 W^1/2, whose product with k(X, x) is what the told rows explain.
        mean: prior mean of the latent function.
        kernel_params: hyperparameters of its kernel.
        any_failed: whether a told row failed; without one the probability is 1 everywhere.
        log_evidence: the approximate log probability of the told outcomes.
        kernel: the covariance function (static).
    """

    X: Float[Array, "n d"]
    alpha: Float[Array, "n"]
    root: Float[Array, "n n"]
    mean: Float[Array, ""]
    kernel_params: KernelParams
    any_failed: Bool[Array, ""]
    log_evidence: Float[Array, ""]
    kernel: Kernel = dataclasses.field(metadata={"static": True})

    def log_probability(self, X: Float[Array, "k d"]) -> Float[Array, "k"]:
        """Logarithm of the probability that an evaluation at each of k points succeeds; exactly 0 with no failure."""
        k = self.kernel.matrix(self.kernel_params, X, self.X)
        explained = matmul(k, self.root.T)
        mean = self.mean + matmul(k, self.alpha)
        var = self.kernel.diagonal(self.kernel_params, X) - jnp.sum(explained * explained, axis=-1)
        value = _numerics.log_ndtr(mean / jnp.sqrt(1.0 + jnp.maximum(var, 0.0)))
        return jnp.where(self.any_failed, value, 0.0)


class _Mode(NamedTuple):
    """The approximation for one choice of hyperparameters."""

    alpha: Float[Array, "n"]
    root: Float[Array, "n n"]
    mean: Float[Array, ""]
    kernel_params: KernelParams
    log_evidence: Float[Array, ""]


def fit_success(observations: Observations, *, categorical_dims: tuple[int, ...] = ()) -> SuccessModel:
    """The success model of told rows: those with a finite value succeeded, the other told ones failed.

    Args:
        observations: what was told; rows with a point that is not finite are left out.
        categorical_dims: columns that hold categories, compared by equality only.

    Returns:
        A `SuccessModel`, without derivatives with respect to the observations.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data
        >>> X, y = jnp.array([[0.1], [0.3], [0.9]]), jnp.array([1.0, 2.0, jnp.nan])
        >>> model = fit_success(data.append(data.empty(1, 4), X, y))
        >>> model.log_probability(jnp.array([[0.2]])) > model.log_probability(jnp.array([[0.9]]))
        Array([ True], dtype=bool)
    """
    observations = jax.lax.stop_gradient(observations)
    dtype, num_dims = observations.X.dtype, observations.X.shape[-1]
    finite_X = jnp.all(jnp.isfinite(observations.X), axis=-1)
    X = jnp.where(finite_X[:, None], observations.X, 0.5)
    real = observations.told & finite_X
    sign = jnp.where(observations.mask, 1.0, -1.0).astype(dtype) * real
    kernel = matern52(categorical_dims=categorical_dims)

    num_real = jnp.sum(real).astype(dtype)
    num_success = jnp.sum(real & observations.mask).astype(dtype)
    share = (num_success + PRIOR_ROWS * PRIOR_SUCCESS) / (num_real + PRIOR_ROWS)
    prior_score = jax.scipy.special.ndtri(share)

    def candidate(best, hyper):
        log_lengthscale, log_variance = hyper
        params = KernelParams(jnp.full(num_dims, log_lengthscale), log_variance)
        mean = prior_score * jnp.sqrt(1.0 + jnp.exp(log_variance))
        mode = _laplace(kernel, params, mean, X, sign)
        better = mode.log_evidence > best.log_evidence
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), mode, best), None

    grid = np.array([(math.log(s * math.sqrt(num_dims)), math.log(v)) for v in VARIANCES for s in LENGTHSCALES])
    n, zero = X.shape[0], jnp.zeros((), dtype)
    nothing = _Mode(
        alpha=jnp.zeros(n, dtype),
        root=jnp.zeros((n, n), dtype),
        mean=prior_score,
        kernel_params=KernelParams(jnp.zeros(num_dims, dtype), zero),
        log_evidence=jnp.full((), -jnp.inf, dtype),
    )
    any_failed = num_success < num_real

    def search(_):
        return jax.lax.scan(candidate, nothing, tuple(jnp.asarray(grid.T, dtype)))[0]

    best = jax.lax.cond(any_failed, search, lambda _: nothing, None)
    return SuccessModel(X=X, any_failed=any_failed, kernel=kernel, **best._asdict())


def _laplace(kernel, params, mean, X, sign):
    """Newton's method for the mode; `sign` is 0 on rows that do not count."""
    K = kernel.matrix(params, X, X)
    n, dtype = X.shape[0], X.dtype
    sizes = jnp.asarray(STEP_SIZES, dtype)

    def log_joint(alpha, deviation):
        return jnp.sum(jnp.where(sign == 0.0, 0.0, _numerics.log_ndtr(sign * (mean + deviation)))) - 0.5 * jnp.dot(
            alpha, deviation
        )

    def step(_, carry):
        alpha = carry[0]
        deviation = matmul(K, alpha)
        score = sign * (mean + deviation)
        _, slope = jax.jvp(_numerics.log_ndtr, (score,), (jnp.ones_like(score),))
        W = jnp.where(sign == 0.0, 0.0, jnp.clip(slope * (slope + score), 0.0, 1.0))
        root_W = jnp.sqrt(W)
        L, L_inv = factor(jnp.eye(n, dtype=dtype) + root_W[:, None] * K * root_W[None, :])
        root = L_inv * root_W[None, :]
        log_evidence = log_joint(alpha, deviation) - jnp.sum(jnp.log(jnp.diagonal(L)))

        b = W * deviation + sign * slope
        move = b - matmul(root.T, matmul(root, matmul(K, b))) - alpha
        move_deviation = matmul(K, move)
        values = jax.vmap(lambda t: log_joint(alpha + t * move, deviation + t * move_deviation))(sizes)
        alpha = alpha + sizes[jnp.argmax(values)] * move
        return alpha, root, log_evidence

    start = (jnp.zeros(n, dtype), jnp.zeros((n, n), dtype), jnp.zeros((), dtype))
    alpha, root, log_evidence = jax.lax.fori_loop(0, NEWTON_STEPS, step, start)
    return _Mode(alpha, root, mean, params, log_evidence)
