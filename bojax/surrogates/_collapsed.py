"""The collapsed bound of a sparse Gaussian process, with an explicit gradient.

With inducing values of covariance K_zz = L L^T, cross covariance K_zx, diagonal noise S and residuals r,

    A = L^-1 K_zx S^-1/2,    B = I + A A^T,    t = S^-1/2 r,    u = B^-1 A t,    s = t - A^T u

the bound of the log marginal likelihood (Titsias 2009, "Variational learning of inducing variables in sparse Gaussian
processes") is

    F = log N(r | 0, K_xz K_zz^-1 K_zx + S) - tr(S^-1 (K_xx - K_xz K_zz^-1 K_zx)) / 2
      = (- log|B| - t.t + t.A^T u + tr(A A^T) - tr(S^-1 K_xx) - log|2 pi S|) / 2.

Let E = L^-T ((I - B^-1) A + u s^T), the gradient with respect to K_zx S^-1/2. Because A times the gradient of A is the
symmetric matrix H = B - 2 I + B^-1 + u u^T, the factorization of K_zz needs no separate reverse rule:

    dF/dK_zx = E S^-1/2,    dF/dK_zz = - L^-T H L^-1 / 2,    dF/dr = - S^-1/2 s,
    dF/d(1/sqrt(S_jj)) = sum_i E_ij (K_zx)_ij - s_j r_j   (of the first four terms).

A value and its gradient take three products of m x m by m x n; differentiating the formulas above takes five.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bojax._linalg import matmul, stable_factor
from bojax._types import Array, Bool, Float

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def inducing_jitter(dtype) -> float:
    """Relative term added to the diagonal of K_zz; points that reduce the variance by less are not used."""
    return 1e-8 if jnp.finfo(dtype).bits >= 64 else 1e-5


class Factors(NamedTuple):
    """The factors of the bound and the posterior, as defined above.

    Attributes:
        L_inv: [m, m] inverse Cholesky factor of K_zz.
        A: [m, n] L^-1 K_zx S^-1/2.
        L_B: [m, m] Cholesky factor of B.
        L_B_inv: [m, m] its inverse.
        c: [m] L_B^-1 A t.
    """

    L_inv: Float[Array, "m m"]
    A: Float[Array, "m n"]
    L_B: Float[Array, "m m"]
    L_B_inv: Float[Array, "m m"]
    c: Float[Array, "m"]


def factorize(
    Kzz: Float[Array, "m m"], Kzx: Float[Array, "m n"], root: Float[Array, "n"], residual: Float[Array, "n"]
) -> Factors:
    """The factors above.

    Args:
        Kzz: [m, m] covariance of the inducing values, the identity in rows that are not used.
        Kzx: [m, n] covariance with the observations, 0 in rows that are not used.
        root: [n] one over the standard deviation of each observation's noise, 0 on padding.
        residual: [n] y minus the mean.
    """
    jitter = inducing_jitter(Kzz.dtype)
    _, L_inv, _ = stable_factor(Kzz, first_jitter=jitter)
    A = matmul(L_inv, Kzx * root[None, :])
    B = jnp.eye(Kzz.shape[0], dtype=Kzz.dtype) + matmul(A, A.T)
    L_B, L_B_inv, _ = stable_factor(B, first_jitter=jitter)
    return Factors(L_inv, A, L_B, L_B_inv, matmul(L_B_inv, matmul(A, root * residual)))


def collapsed_bound(
    Kzz: Float[Array, "m m"],
    Kzx: Float[Array, "m n"],
    Kxx_diagonal: Float[Array, "n"],
    noise_var: Float[Array, "n"],
    residual: Float[Array, "n"],
    mask: Bool[Array, "n"],
) -> Float[Array, ""]:
    """The lower bound of log p(y) of the masked observations; NaN if K_zz cannot be made positive definite.

    Args:
        Kzz: [m, m] covariance of the inducing values, the identity in rows that are not used.
        Kzx: [m, n] covariance with the observations, 0 in rows that are not used.
        Kxx_diagonal: [n] prior variance of the objective at the observations.
        noise_var: [n] noise variance of each observation, > 0.
        residual: [n] y minus the mean.
        mask: [n] which observations are real.
    """
    root, residual = roots(noise_var, mask), jnp.where(mask, residual, 0.0)
    constant = -HALF_LOG_2PI * jnp.sum(mask).astype(Kzz.dtype)
    constant = constant - 0.5 * jnp.sum(jnp.where(mask, jnp.log(noise_var), 0.0))
    return _explained(Kzz, Kzx, root, residual) - 0.5 * jnp.sum(root**2 * Kxx_diagonal) + constant


def roots(noise_var: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """One over the standard deviation of each observation's noise, 0 on padding."""
    return jnp.where(mask, 1.0 / jnp.sqrt(noise_var), 0.0)


@jax.custom_vjp
def _explained(Kzz, Kzx, root, residual):
    """(- log|B| - t.t + t.A^T u + tr(A A^T)) / 2."""
    return _explained_fwd(Kzz, Kzx, root, residual)[0]


def _explained_fwd(Kzz, Kzx, root, residual):
    factors = factorize(Kzz, Kzx, root, residual)
    t = root * residual
    log_det = jnp.sum(jnp.log(jnp.diagonal(factors.L_B)))
    value = -log_det + 0.5 * (jnp.sum(factors.A**2) - jnp.sum(t**2) + jnp.sum(factors.c**2))
    return value, (factors, Kzx, root, residual)


def _explained_bwd(residuals, g):
    (L_inv, A, L_B, L_B_inv, c), Kzx, root, residual = residuals
    eye = jnp.eye(L_inv.shape[0], dtype=L_inv.dtype)
    B_inv = matmul(L_B_inv.T, L_B_inv)
    u = matmul(L_B_inv.T, c)
    s = root * residual - matmul(u, A)
    E = matmul(matmul(L_inv.T, eye - B_inv), A) + matmul(L_inv.T, u)[:, None] * s[None, :]
    H = matmul(L_B, L_B.T) - 2.0 * eye + B_inv + u[:, None] * u[None, :]
    Kzz_bar = -0.5 * matmul(L_inv.T, matmul(H, L_inv))
    root_bar = jnp.sum(E * Kzx, axis=0) - s * residual
    return g * Kzz_bar, g * (E * root[None, :]), g * root_bar, -g * root * s


_explained.defvjp(_explained_fwd, _explained_bwd)
