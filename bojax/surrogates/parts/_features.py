"""Random features: finitely many random functions whose products equal a kernel in expectation.

A stationary kernel is the characteristic function of its spectral density (Bochner), so with frequencies w drawn from
it and phases b uniform, sqrt(2) cos(w . x / lengthscale + b) has covariance k. For the squared exponential w is
standard normal; for the Matern kernel of smoothness nu it is multivariate t with 2 nu degrees of freedom (Rasmussen and
Williams 2006, section 4.2.1; Rahimi and Recht 2007). A factor e^(-[x != z] / l) of a categorical dimension is the mean
of s(x) s(z), where s is 1 for all categories with probability e^(-1/l) and else an independent random sign a category.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._linalg import matmul
from bojax._types import Array, Float, Key
from bojax.surrogates.parts._contracts import ApplyFn, DrawFn

CELLS = 2.0**20
"""Coordinates of categories are told apart by their integer part in this unit."""


class Features(NamedTuple):
    """Random features phi with E phi(x) . phi(z) = k(x, z).

    Attributes:
        draw: `draw(key, num_dims, num_features, dtype) -> draws`, independent of the hyperparameters.
        apply: `apply(params, draws, X [n, d]) -> [n, num_features]`.
    """

    draw: DrawFn
    apply: ApplyFn


class Draws(NamedTuple):
    """The random numbers of the features of a stationary kernel.

    Attributes:
        frequency: [f, d] in units of the lengthscale.
        phase: [f] in [0, 2 pi].
        share: [f, d] uniform numbers; below e^(-1/l) all categories of a column share one sign.
        seed: [f, d] 32 random bits from which the signs of categories are made.
    """

    frequency: Float[Array, "f d"]
    phase: Float[Array, "f"]
    share: Float[Array, "f d"]
    seed: Array


def stationary_features(degrees: int, categorical_dims: tuple[int, ...]) -> Features:
    """Features of a kernel with `log_lengthscale` [d] and `log_outputscale`.

    Args:
        degrees: degrees of freedom of the spectral density: 2 nu for a Matern kernel, 0 for the squared exponential.
        categorical_dims: columns compared by equality only.
    """
    dims = np.asarray(categorical_dims, np.int32)  # an int64 constant from an x64 scope fails to trace without x64

    def draw(key: Key, num_dims: int, num_features: int, dtype) -> Draws:
        keys = jax.random.split(key, 3)
        normals = jax.random.normal(keys[0], (num_features, num_dims + degrees), dtype)
        frequency = normals[:, :num_dims]
        if degrees:
            chi2 = jnp.sum(normals[:, num_dims:] ** 2, axis=1)
            frequency = frequency * jnp.sqrt(degrees / chi2)[:, None]
        uniform = jax.random.uniform(keys[1], (num_features, 1 + num_dims), dtype)
        seed = jax.random.bits(keys[2], (num_features, num_dims), jnp.uint32)
        return Draws(frequency, 2.0 * math.pi * uniform[:, 0], uniform[:, 1:], seed)

    def apply(params, draws: Draws, X):
        numeric = np.setdiff1d(np.arange(X.shape[-1]), dims)
        inverse = jnp.exp(-params.log_lengthscale)
        angle = matmul(X[:, numeric] * inverse[None, numeric], draws.frequency[:, numeric].T) + draws.phase[None, :]
        phi = jnp.cos(angle) * jnp.sqrt(2.0 * jnp.exp(params.log_outputscale) / draws.phase.shape[0])
        if dims.size:
            cell = jnp.round(jax.lax.stop_gradient(X[:, dims]) * CELLS).astype(jnp.uint32)
            sign = _sign(cell[:, None, :] ^ draws.seed[None, :, dims], X.dtype)
            shared = draws.share[:, dims] < jnp.exp(-inverse[dims])[None, :]
            phi = phi * jnp.prod(jnp.where(shared[None], 1.0, sign), axis=-1)
        return phi

    return Features(draw, apply)


def _sign(bits, dtype):
    """A fair sign of every 32-bit integer, by a multiplicative hash."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return jnp.where((bits ^ (bits >> 16)) & 1, 1.0, -1.0).astype(dtype)
