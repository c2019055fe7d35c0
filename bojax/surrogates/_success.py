"""The probability that an evaluation succeeds, learned from successes and failures.

A latent Gaussian process g with success probability Phi(m + g(x)) is conditioned on which evaluated rows have a finite
value, by expectation propagation. The factor Phi(s_i (m + g_i)) of row i, with s_i = 1 for a success and -1 for a
failure, is replaced by a normal one, exp(nu_i g_i - tau_i g_i^2 / 2), chosen such that mean and variance of g_i are
those under the true factor and the normal factors of the other rows. With K the prior covariance, T = diag(tau) and
B = I + T^1/2 K T^1/2 = L L^T (eigenvalues of at least 1, so the factorization is safe in every dtype):

    mean(x) = m + k(x, X) alpha,                 alpha = nu - T^1/2 B^-1 T^1/2 K nu
    var(x)  = k(x, x) - |L^-1 T^1/2 k(X, x)|^2
    log p(success at x) = log Phi(mean(x) / sqrt(1 + var(x)))

The constant m makes the prior probability of success the observed one, shrunk towards `PRIOR_SUCCESS`, so that
unexplored regions are not avoided. The hyperparameters maximize the approximate evidence: first over a small grid of
one lengthscale and the variance, then for one dimension after another with its lengthscale multiplied by `STRETCH`
(usually few parameters decide what fails), last with a larger variance (sharp boundaries). Each candidate starts from
the factors of the best one so far and takes 3 to 5 sweeps over the rows.

Laplace's approximation is cheaper, but its probabilities are too close to one half, because the mode of g is much
smaller than its mean (`benchmarks/results/surrogates.md`).

Source: Minka (2001); Rasmussen and Williams (2006), "Gaussian processes for machine learning", section 3.6, here with
damped parallel updates of all rows. A probability of success as the weight of an acquisition: Gelbart, Snoek, Adams
(2014), arXiv:1403.5607.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax import _numerics
from bojax._linalg import factor, matmul
from bojax._types import Array, Bool, Float
from bojax.data import Observations
from bojax.surrogates._inputs import Inputs, PaddedInputs, bound
from bojax.surrogates.parts._kernels import Kernel, KernelParams, matern52

PRIOR_SUCCESS = 0.9
"""Probability of success before any evaluation, with the weight of `PRIOR_ROWS` rows."""
PRIOR_ROWS = 5.0
LENGTHSCALES = (1.0, 0.5, 0.25, 0.12)
"""Grid of lengthscales, times the square root of the number of dimensions."""
VARIANCES = (1.0, 16.0)
"""Grid of variances of the latent function: random failures, and failures with a sharp boundary."""
STRETCH = 8.0
SHARPEN = 6.0
"""Factors of a single dimension's lengthscale, and of the variance, tried after the grid."""
MAX_SWEEPS = 20
MAX_ROWS = 512
"""Most rows: the latest failures, at most half of them if successes fill the rest, and the latest successes. The cost
grows with their cube."""
ENOUGH = 1e-2
"""Sweeps end when no factor changes by more, relative to one plus its size: probabilities are accurate to 0.001."""
DAMPING = 0.9
"""How far each sweep moves towards the new factors; without damping they may oscillate."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SuccessModel:
    """Model of the probability that an evaluation succeeds. `fit_success` makes it.

    Attributes:
        X: [n, d] evaluated points, padding included.
        alpha: [n] weights of the kernel functions in the latent mean; 0 on padding.
        root: [n, n] L^-1 T^1/2; the squared norm of its product with k(X, x) is the reduction of the latent variance.
        mean: prior mean of the latent function.
        kernel_params: hyperparameters of its kernel.
        any_failed: whether an evaluation failed; if none did, the probability is 1 everywhere.
        log_evidence: the approximate log probability of the observed successes and failures.
        kernel: the covariance function (static).

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import fit_success
        >>> seen = data.append(data.empty(1, 4), jnp.array([[0.1], [0.3]]), jnp.array([1.0, 2.0]))
        >>> fit_success(seen).log_probability(jnp.array([[0.2]])).tolist()  # no failure: probability 1
        [0.0]
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
        """Logarithm of the probability that an evaluation at each of k points succeeds; exactly 0 without failures."""

        def learned(X):
            k = self.kernel.matrix(self.kernel_params, X, self.X)
            explained = matmul(k, self.root.T)
            mean = self.mean + matmul(k, self.alpha)
            var = self.kernel.diagonal(self.kernel_params, X) - jnp.sum(explained * explained, axis=-1)
            return _numerics.log_ndtr(mean / jnp.sqrt(1.0 + jnp.maximum(var, 0.0)))

        return jax.lax.cond(self.any_failed, learned, lambda X: jnp.zeros(X.shape[0], X.dtype), X)


class _Fit(NamedTuple):
    """The approximation for one set of hyperparameters."""

    tau: Float[Array, "n"]
    nu: Float[Array, "n"]
    alpha: Float[Array, "n"]
    root: Float[Array, "n n"]
    mean: Float[Array, ""]
    kernel_params: KernelParams
    log_evidence: Float[Array, ""]


def fit_success(observations: Observations, *, inputs: Inputs | PaddedInputs | None = None) -> SuccessModel:
    """Fit a model of the probability of success: rows with a finite value succeeded, the other evaluated rows failed.

    It takes about 3 ms with 64 rows and 16 ms with 128 on one CPU core (4 dimensions), and almost no time if no row
    failed.

    Args:
        observations: the data; rows with a point that is not finite are left out.
        inputs: which columns hold categories, compared by equality, and which are padding. None by default.

    Returns:
        A `SuccessModel`, without derivatives with respect to the observations.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data
        >>> X, y = jnp.array([[0.1], [0.3], [0.9]]), jnp.array([1.0, 2.0, jnp.nan])
        >>> model = fit_success(data.append(data.empty(1, 4), X, y))
        >>> bool(model.log_probability(jnp.array([[0.2]]))[0] > model.log_probability(jnp.array([[0.9]]))[0])
        True
    """
    observations = jax.lax.stop_gradient(observations)
    finite_X = jnp.all(jnp.isfinite(observations.X), axis=-1)
    X = jnp.where(finite_X[:, None], observations.X, 0.5)
    sign = jnp.where(observations.mask, 1.0, -1.0).astype(X.dtype) * (observations.told & finite_X)
    if X.shape[0] > MAX_ROWS:
        rows = _latest(sign)
        X, sign = X[rows], sign[rows]
    dtype, (n, num_dims) = X.dtype, X.shape
    kernel = matern52() if inputs is None else bound(matern52(), inputs, "kernel")

    num_real = jnp.sum(sign != 0.0).astype(dtype)
    num_success = jnp.sum(sign > 0.0).astype(dtype)
    share = (num_success + PRIOR_ROWS * PRIOR_SUCCESS) / (num_real + PRIOR_ROWS)
    prior_score = jax.scipy.special.ndtri(share)

    def candidate(best, move):
        from_best, allowed, delta = move
        params = jax.tree.map(lambda old, change: jnp.where(from_best, old, 0.0) + change, best.kernel_params, delta)
        mean = prior_score * jnp.sqrt(1.0 + jnp.exp(params.log_outputscale))
        fit = _propagate(kernel, params, mean, X, sign, best.tau, best.nu)
        better = allowed & (fit.log_evidence > best.log_evidence)
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), fit, best), None

    zero, zeros = jnp.zeros((), dtype), jnp.zeros(n, dtype)
    nothing = _Fit(
        tau=zeros,
        nu=zeros,
        alpha=zeros,
        root=jnp.zeros((n, n), dtype),
        mean=prior_score,
        kernel_params=KernelParams(jnp.zeros(num_dims, dtype), zero),
        log_evidence=jnp.full((), -jnp.inf, dtype),
    )
    any_failed = num_success < num_real

    def search(_):
        return jax.lax.scan(candidate, nothing, _moves(num_dims, inputs, dtype))[0]

    best = jax.lax.cond(any_failed, search, lambda _: nothing, None)
    return SuccessModel(
        X=X,
        alpha=best.alpha,
        root=best.root,
        mean=best.mean,
        kernel_params=best.kernel_params,
        any_failed=any_failed,
        log_evidence=best.log_evidence,
        kernel=kernel,
    )


def _latest(sign):
    """Indices [MAX_ROWS] of the latest failures, at most half, and of the latest successes."""
    failed, succeeded = sign < 0.0, sign > 0.0

    def number_from_the_end(kind):
        return jnp.cumsum(kind[::-1])[::-1]

    num_failed = jnp.minimum(jnp.sum(failed), jnp.maximum(MAX_ROWS // 2, MAX_ROWS - jnp.sum(succeeded)))
    kept = (failed & (number_from_the_end(failed) <= num_failed)) | (
        succeeded & (number_from_the_end(succeeded) <= MAX_ROWS - num_failed)
    )
    return jnp.argsort(~kept, stable=True)[:MAX_ROWS]


def _moves(num_dims, inputs, dtype):
    """The candidates in order, the grid and then changes of the best one so far; and which are no change of padding."""
    grid = [(math.log(s), math.log(v)) for v in VARIANCES for s in LENGTHSCALES]
    stretches = math.log(STRETCH) * np.eye(num_dims)
    lengthscale = np.concatenate([[[s] * num_dims for s, _ in grid], stretches, np.zeros((1, num_dims))])
    variance = np.array([v for _, v in grid] + [0.0] * num_dims + [math.log(SHARPEN)])
    from_best = jnp.arange(len(variance)) >= len(grid)
    padded = inputs if isinstance(inputs, PaddedInputs) else None
    root = 0.5 * jnp.log(jnp.asarray(num_dims if padded is None else padded.num_live, dtype))
    lengthscale = jnp.asarray(lengthscale, dtype) + jnp.where(from_best, 0.0, root)[:, None]
    live: Any = jnp.ones(num_dims, bool) if padded is None else padded.live
    allowed = jnp.ones(len(variance), bool).at[len(grid) : len(grid) + num_dims].set(live)
    return from_best, allowed, KernelParams(lengthscale, jnp.asarray(variance, dtype))


def _propagate(kernel, params, mean, X, sign, tau, nu):
    """Expectation propagation from the factors `tau`, `nu`; `sign` is 0 on padding."""
    K = kernel.matrix(params, X, X)
    n, dtype = X.shape[0], X.dtype
    real = sign != 0.0
    tiny = 1e-9 if jnp.finfo(dtype).bits >= 64 else 1e-6

    def moving(carry):
        i, change, *_ = carry
        return (i < MAX_SWEEPS) & (change > ENOUGH)

    def sweep(carry):
        i, _, tau, nu, *_ = carry
        root_T = jnp.sqrt(tau)
        L, L_inv = factor(jnp.eye(n, dtype=dtype) + root_T[:, None] * K * root_T[None, :])
        root = L_inv * root_T[None, :]
        explained = matmul(root, K)
        alpha = nu - matmul(root.T, matmul(explained, nu))
        center = matmul(K, alpha)
        var = jnp.maximum(jnp.diagonal(K) - jnp.sum(explained * explained, axis=0), tiny)

        # Cavity distribution (each row without its own factor), then the moments with the true factor.
        rest = jnp.maximum(1.0 / var - tau, tiny)
        rest_center, rest_var = (center / var - nu) / rest, 1.0 / rest
        spread = jnp.sqrt(1.0 + rest_var)
        z = sign * (mean + rest_center) / spread
        log_Z, slope = jax.jvp(_numerics.log_ndtr, (z,), (jnp.ones_like(z),))
        bend = jnp.clip(slope * (slope + z), 0.0, 1.0) / (1.0 + rest_var)
        left = 1.0 - rest_var * bend
        new_tau = jnp.where(real, bend / left, 0.0)
        new_nu = jnp.where(real, (sign * slope / spread + bend * rest_center) / left, 0.0)

        own = 1.0 / (tau + rest)
        log_evidence = (
            jnp.sum(jnp.where(real, log_Z, 0.0) + 0.5 * jnp.log1p(tau * rest_var) - jnp.log(jnp.diagonal(L)))
            + 0.5 * jnp.sum(nu * center - own * nu * nu)
            + 0.5 * jnp.sum(rest_center * rest * own * (tau * rest_center - 2.0 * nu))
        )
        change = jnp.maximum(jnp.abs(new_tau - tau) / (1.0 + tau), jnp.abs(new_nu - nu) / (1.0 + jnp.abs(nu)))
        tau, nu = tau + DAMPING * (new_tau - tau), nu + DAMPING * (new_nu - nu)
        return i + 1, jnp.max(change), tau, nu, alpha, root, log_evidence

    far, zeros = jnp.full((), jnp.inf, dtype), jnp.zeros(n, dtype)
    start = (jnp.int32(0), far, tau, nu, zeros, jnp.zeros((n, n), dtype), far)
    _, _, tau, nu, alpha, root, log_evidence = jax.lax.while_loop(moving, sweep, start)
    return _Fit(tau, nu, alpha, root, mean, params, log_evidence)
