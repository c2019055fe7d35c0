"""The covariance of learning curves: an asymptote that varies smoothly, and a decay toward it.

Points are rows [x, t] with x in the unit cube and t, in the last column, the fraction of a full run, 0 < t <= 1. A
curve is an asymptote plus the remaining distance to it:

    k([x, t], [z, u]) = k_asymptote(x, z) + [x = z] decay(t, u),    decay(t, u) = s^2 (b / (t + u + b))^a

The asymptote is a Gaussian process with a Matern-5/2 kernel. The decay is a mixture of exponentials exp(-r t) whose
rates r have a gamma distribution with shape a and rate b, so its covariance is the Laplace transform of that
distribution; it is independent between configurations. A run's final value is the function at t = 1: its asymptote and
the rest of the decay.

Source: Swersky, Snoek, Adams (2014), "Freeze-thaw Bayesian optimization", arXiv:1406.3896.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from bojax._types import Array, Float
from bojax.surrogates import Inputs, Kernel, bound, matern52

SHAPE_LOC, SHAPE_STD, SHAPE_BOUNDS = 0.0, 1.0, (0.05, 20.0)
RATE_LOC, RATE_STD, RATE_BOUNDS = -1.5, 1.0, (0.005, 20.0)
"""b is a fraction of a full run: by t = b a curve has covered a good part of its decay."""
VARIANCE_LOC, VARIANCE_STD, VARIANCE_BOUNDS = 0.0, 1.0, (1e-4, 1000.0)


class CurveParams(NamedTuple):
    """Hyperparameters of the kernel of learning curves.

    Attributes:
        asymptote: those of the kernel of asymptotes.
        log_shape: logarithm of a.
        log_rate: logarithm of b, as a fraction of a full run.
        log_variance: logarithm of s^2, in standardized units.
    """

    asymptote: Any
    log_shape: Float[Array, ""]
    log_rate: Float[Array, ""]
    log_variance: Float[Array, ""]


def freeze_thaw_kernel(*, categorical_dims: tuple[int, ...] | None = None, asymptote: Kernel | None = None) -> Kernel:
    """The kernel of learning curves over points [x, t]; its last dimension is t.

    Args:
        categorical_dims: columns of x that hold categories, for the default `asymptote`; see `matern52`.
        asymptote: kernel of the asymptotes over x; Matern-5/2 with a lengthscale per dimension by default.

    Returns:
        A `Kernel`; its `init` takes the number of dimensions including t.

    Example:
        >>> import jax.numpy as jnp
        >>> kernel = freeze_thaw_kernel()
        >>> curve = jnp.array([[0.3, 0.1], [0.3, 1.0], [0.7, 0.1]])
        >>> kernel.matrix(kernel.init(2, jnp.float32), curve, curve).shape
        (3, 3)
    """
    base = matern52(categorical_dims=categorical_dims) if asymptote is None else asymptote

    def init(num_dims, dtype):
        return CurveParams(base.init(num_dims - 1, dtype), *(jnp.asarray(loc, dtype) for loc, _, _ in _PRIORS))

    def matrix(params, X, Z):
        same = jnp.all(X[:, None, :-1] == Z[None, :, :-1], axis=-1)
        curves = jnp.where(same, decay(params, X[:, None, -1] + Z[None, :, -1]), 0.0)
        return base.matrix(params.asymptote, X[:, :-1], Z[:, :-1]) + curves

    def diagonal(params, X):
        return base.diagonal(params.asymptote, X[:, :-1]) + decay(params, 2.0 * X[:, -1])

    def log_prior(params):
        z = jnp.stack([(value - loc) / std for value, (loc, std, _) in zip(params[1:], _PRIORS, strict=True)])
        return base.log_prior(params.asymptote) - jnp.sum(0.5 * z**2)

    def bounds(params):
        low, high = base.bounds(params.asymptote)
        limits = [[jnp.full_like(params.log_shape, math.log(limit)) for limit in pair] for _, _, pair in _PRIORS]
        return CurveParams(low, *(pair[0] for pair in limits)), CurveParams(high, *(pair[1] for pair in limits))

    def bind(inputs):
        x = Inputs(inputs.num_values[:-1], inputs.is_categorical[:-1])
        return freeze_thaw_kernel(asymptote=bound(base, x, "kernel"))

    return Kernel(init, matrix, diagonal, log_prior, bounds, bind=bind)


def decay(params: CurveParams, total: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """s^2 (b / (t + u + b))^a as a function of t + u >= 0."""
    rate = jnp.exp(params.log_rate)
    return jnp.exp(params.log_variance - jnp.exp(params.log_shape) * jnp.log1p(total / rate))


_PRIORS = (
    (SHAPE_LOC, SHAPE_STD, SHAPE_BOUNDS),
    (RATE_LOC, RATE_STD, RATE_BOUNDS),
    (VARIANCE_LOC, VARIANCE_STD, VARIANCE_BOUNDS),
)
