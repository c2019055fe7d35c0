"""Input warping: a learned monotone map of every dimension before the kernel.

    w(x) = 1 - (1 - x^a)^b,    a, b > 0,

the distribution function of Kumaraswamy's law. It stretches the cube where the objective changes fast, so that an
objective that varies logarithmically or saturates becomes stationary. Log-normal priors keep a and b near 1, where w is
the identity. (Snoek, Swersky, Zemel, Adams 2014, arXiv:1402.0929, use the beta distribution in place of this closed
form.)
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._types import Array, Float
from bojax.surrogates._inputs import bound
from bojax.surrogates.parts._features import Features
from bojax.surrogates.parts._kernels import Kernel, LinearRows, matern52

LOG_STD = math.sqrt(0.75)
"""Standard deviation of log a and log b under the prior."""
LOG_BOUND = math.log(10.0)


class WarpedParams(NamedTuple):
    """Hyperparameters of a warped kernel.

    Attributes:
        kernel: hyperparameters of the kernel inside.
        log_a: [d] logarithms of the first exponent.
        log_b: [d] logarithms of the second exponent.
    """

    kernel: Any
    log_a: Float[Array, "d"]
    log_b: Float[Array, "d"]


def kumaraswamy(X: Float[Array, "n d"], log_a: Float[Array, "d"], log_b: Float[Array, "d"]) -> Float[Array, "n d"]:
    """1 - (1 - x^a)^b in every column; the identity at a = b = 1, with a finite slope up to both ends.

    Within a millionth of the ends (a ten-thousandth in float32, where 1 - x^a loses its digits) the map is linear.
    """
    edge = 1e-6 if jnp.finfo(X.dtype).bits >= 64 else 1e-4
    inner = jnp.clip(X, edge, 1.0 - edge)
    a, b = jnp.exp(log_a)[None, :], jnp.exp(log_b)[None, :]
    power = jnp.exp(a * jnp.log(inner))
    rest = jnp.exp(b * jnp.log1p(-power))
    slope = a * b * power / inner * rest / (1.0 - power)
    return 1.0 - rest + slope * (X - inner)


def warped(kernel: Kernel | None = None, *, fixed_dims: tuple[int, ...] = ()) -> Kernel:
    """Apply a kernel to learned monotone transformations of its inputs.

    Each column is transformed by w(x) = 1 - (1 - x^a)^b. The exponents a and b are hyperparameters with log-normal
    priors around 1.

    Args:
        kernel: the kernel inside; Matern-5/2 by default.
        fixed_dims: columns that are not warped. An algorithm adds the categorical columns of its space. Without an
            algorithm, list them here.

    Returns:
        A `Kernel`, for `gp(warped(matern52()))`.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.surrogates import matern52
        >>> kernel = warped(matern52())
        >>> kernel.matrix(kernel.init(2, jnp.float32), jnp.zeros((1, 2)), jnp.ones((3, 2))).shape
        (1, 3)
    """
    inner = matern52() if kernel is None else kernel

    def warp(params, X):
        free = np.setdiff1d(np.arange(X.shape[-1]), fixed_dims)
        return X.at[:, free].set(kumaraswamy(X[:, free], params.log_a[free], params.log_b[free]))

    def init(num_dims, dtype):
        # The mode of log a and log b, which the fit searches, is the identity; the mode of a and b is not.
        return WarpedParams(inner.init(num_dims, dtype), jnp.zeros(num_dims, dtype), jnp.zeros(num_dims, dtype))

    def matrix(params, X, Z):
        return inner.matrix(params.kernel, warp(params, X), warp(params, Z))

    def diagonal(params, X):
        return inner.diagonal(params.kernel, warp(params, X))

    def log_prior(params):
        squares = jnp.sum(params.log_a**2) + jnp.sum(params.log_b**2)
        return inner.log_prior(params.kernel) - 0.5 * squares / LOG_STD**2

    def bounds(params):
        low, high = inner.bounds(params.kernel)
        edge = jnp.full_like(params.log_a, LOG_BOUND)
        return WarpedParams(low, -edge, -edge), WarpedParams(high, edge, edge)

    def warped_rows(params, linear):
        # A derivative along v is one along w'(x) v of the function of w.
        X, direction = jax.jvp(lambda X: warp(params, X), (linear.X,), (linear.direction,))
        return LinearRows(X, linear.value, direction)

    def derivatives_by(of_rows):
        return lambda params, A, B: of_rows(params.kernel, warped_rows(params, A), warped_rows(params, B))

    derivatives = None if inner.derivatives is None else derivatives_by(inner.derivatives)
    features = None
    if inner.features is not None:
        base = inner.features

        def apply(params, draws, X):
            return base.apply(params.kernel, draws, warp(params, X))

        features = Features(base.draw, apply)

    def bind(inputs):
        fixed = tuple(sorted({*fixed_dims, *inputs.categorical_dims}))
        return warped(bound(inner, inputs, "kernel"), fixed_dims=fixed)

    return Kernel(init, matrix, diagonal, log_prior, bounds, None, features, derivatives, bind)
