"""The log marginal likelihood of masked Gaussian observations, with an explicit gradient.

For observations y = m + f + noise with covariance K (noise included), r = y - m and alpha = K^-1 r,

    log p(y) = -r^T alpha / 2 - sum_i log L_ii - n log(2 pi) / 2
    d log p / dK = (alpha alpha^T - K^-1) / 2,    d log p / dr = -alpha

Padding rows get a unit diagonal, no covariance and no residual, so they do not affect the value or the gradient
(Rasmussen and Williams 2006, chapter 5). The explicit inverse makes value and gradient 2 to 2.7 times faster than
differentiating through the Cholesky factorization.
"""

import math

import jax
import jax.numpy as jnp

from bojax._linalg import inverse, matmul
from bojax._types import Array, Bool, Float

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def masked_covariance(
    K: Float[Array, "n n"], noise_var: Float[Array, "..."], mask: Bool[Array, "n"]
) -> Float[Array, "n n"]:
    """K with the noise ([] or [n]) on its diagonal, and the identity in the rows and columns of padding."""
    both = mask[:, None] & mask[None, :]
    return jnp.where(both, K, 0.0) + jnp.diag(jnp.where(mask, noise_var, 1.0).astype(K.dtype))


def log_marginal_likelihood(
    K: Float[Array, "n n"], residual: Float[Array, "n"], mask: Bool[Array, "n"]
) -> Float[Array, ""]:
    """log p(y) of the masked observations; NaN if K is not positive definite.

    Args:
        K: [n, n] result of `masked_covariance`.
        residual: [n] y minus the mean, 0 on padding.
        mask: [n] which rows are real.
    """
    return _log_density(K, residual) - HALF_LOG_2PI * jnp.sum(mask).astype(K.dtype)


@jax.custom_vjp
def _log_density(K, residual):
    return _log_density_fwd(K, residual)[0]


def _log_density_fwd(K, residual):
    L, L_inv, K_inv = inverse(K)
    z = matmul(L_inv, residual)
    alpha = matmul(L_inv.T, z)
    value = -0.5 * jnp.sum(z * z) - jnp.sum(jnp.log(jnp.diagonal(L)))
    return value, (K_inv, alpha)


def _log_density_bwd(residuals, g):
    K_inv, alpha = residuals
    K_bar = (0.5 * g) * (alpha[:, None] * alpha[None, :] - K_inv)
    return K_bar, -g * alpha


_log_density.defvjp(_log_density_fwd, _log_density_bwd)
