"""Covariance matrices of stationary kernels, k = outputscale of_r2(r^2) exp(-sum_c [x_c != z_c] / lengthscale_c).

Numeric columns count by the squared scaled distance r^2, categorical ones by equality.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bojax._linalg import matmul
from bojax._types import Array, Float
from bojax.surrogates._inputs import PaddedInputs


def squared_distance(X: Float[Array, "n d"], Z: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """All squared distances by one matrix product. Center points of the cube first, which gains two bits."""
    squares = jnp.sum(X * X, axis=-1)[:, None] + jnp.sum(Z * Z, axis=-1)[None, :]
    product = matmul(X, Z.T)
    r2 = squares - 2.0 * product
    # Clamp only the value: clamping the slope would halve second derivatives at coincident points.
    return r2 + jax.lax.stop_gradient(jnp.maximum(r2, 0.0) - r2)


def exact_matrix(of_r2: Callable, categorical_dims: tuple[int, ...]) -> Callable:
    """`matrix(params, X, Z)` of columns that are known exactly."""

    def matrix(params, X, Z):
        inverse = jnp.exp(-params.log_lengthscale)
        numeric = np.setdiff1d(np.arange(X.shape[-1]), categorical_dims)
        K = jnp.ones((X.shape[0], Z.shape[0]), X.dtype)
        if numeric.size:
            scale = inverse[None, numeric]
            K = of_r2(squared_distance((X[:, numeric] - 0.5) * scale, (Z[:, numeric] - 0.5) * scale))
        if categorical_dims:
            dims = np.asarray(categorical_dims)
            K = K * categorical_factor(inverse[dims], X, Z, dims)
        return jnp.exp(params.log_outputscale) * K

    return matrix


def padded_matrix(of_r2: Callable, inputs: PaddedInputs) -> Callable:
    """As `exact_matrix`, with weights in place of the choice of columns: a column without weight changes nothing."""

    def matrix(params, X, Z):
        inverse = jnp.exp(-params.log_lengthscale)
        scale = jnp.where(inputs.live & ~inputs.is_categorical, inverse, 0.0)[None, :]
        K = of_r2(squared_distance((X - 0.5) * scale, (Z - 0.5) * scale))
        if inputs.has_categories:
            weights = jnp.where(inputs.is_categorical, inverse, 0.0)
            K = K * categorical_factor(weights, X, Z, np.arange(X.shape[-1]))
        return jnp.exp(params.log_outputscale) * K

    return matrix


def categorical_factor(
    inverse: Float[Array, "c"], X: Float[Array, "n d"], Z: Float[Array, "m d"], dims: np.ndarray
) -> Float[Array, "n m"]:
    """exp(-sum_c [x_c != z_c] / lengthscale_c) over the columns `dims` [c]; `inverse` holds 1 / lengthscale."""
    # Neighboring categories are 1/k apart in the cube, so a margin separates them in every dtype.
    differ = jnp.abs(X[:, None, dims] - Z[None, :, dims]) > 1e-6
    return jnp.exp(-jnp.sum(jnp.where(differ, inverse[None, None, :], 0.0), axis=-1))
