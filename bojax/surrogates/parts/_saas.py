"""Sparse axis-aligned subspaces: Gaussian processes for many inputs of which few matter.

The covariance is Matern-5/2 of r^2 = sum_i rho_i (x_i - z_i)^2. The prior keeps most inverse squared lengthscales rho_i
near zero and allows a few to be large:

    tau ~ half-Cauchy(0.1),    rho_i ~ half-Cauchy(tau)

(Eriksson and Jankowiak 2021, arXiv:2103.00349). The sampler works with log tau and u_i = log(rho_i / tau), which are
independent under the prior, each with the density sech(u) / pi around its center.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from bojax._types import Array, Float
from bojax.surrogates.parts._kernels import (
    LOG_OUTPUTSCALE_STD,
    OUTPUTSCALE_BOUNDS,
    Kernel,
    KernelParams,
    matern52,
)

GLOBAL_SCALE = 0.1
"""Scale of the half-Cauchy prior of tau."""
REACH = 12.0
"""Largest distance of log tau and log(rho / tau) from the centers of their priors; more has probability 4e-6."""


class SaasParams(NamedTuple):
    """Hyperparameters of a sparse axis-aligned kernel.

    Attributes:
        log_ratio: [d] logarithms of rho_i / tau.
        log_tau: logarithm of tau.
        log_outputscale: logarithm of the prior variance, in standardized units.
    """

    log_ratio: Float[Array, "d"]
    log_tau: Float[Array, ""]
    log_outputscale: Float[Array, ""]


def saas_kernel(*, categorical_dims: tuple[int, ...] | None = None) -> Kernel:
    """Matern-5/2 with the sparse prior, for `fully_bayesian_gp`.

    Args:
        categorical_dims: columns that hold categories, compared by equality. By default an algorithm fills in those of
            its space.
    """
    base = matern52(categorical_dims=categorical_dims)

    def init(num_dims, dtype):
        tau = jnp.asarray(math.log(GLOBAL_SCALE), dtype)
        return SaasParams(jnp.zeros(num_dims, dtype), tau, jnp.zeros((), dtype))

    def matrix(params, X, Z):
        return base.matrix(_plain(params), X, Z)

    def diagonal(params, X):
        return base.diagonal(_plain(params), X)

    def log_prior(params):
        z = params.log_outputscale / LOG_OUTPUTSCALE_STD
        return jnp.sum(_log_sech(params.log_ratio)) + _log_sech(params.log_tau - math.log(GLOBAL_SCALE)) - 0.5 * z**2

    def bounds(params):
        low, high = (
            SaasParams(
                jnp.full_like(params.log_ratio, side * REACH),
                jnp.full_like(params.log_tau, math.log(GLOBAL_SCALE) + side * REACH),
                jnp.full_like(params.log_outputscale, math.log(outputscale)),
            )
            for side, outputscale in zip((-1.0, 1.0), OUTPUTSCALE_BOUNDS, strict=True)
        )
        return low, high

    def bind(inputs):
        return kernel if categorical_dims is not None else saas_kernel(categorical_dims=inputs.categorical_dims)

    kernel = Kernel(init, matrix, diagonal, log_prior, bounds, bind=bind)
    return kernel


def _plain(params: SaasParams) -> KernelParams:
    return KernelParams(-0.5 * (params.log_ratio + params.log_tau), params.log_outputscale)


def _log_sech(u):
    """log sech(u) + log(1/2) without overflow."""
    return -jnp.abs(u) - jnp.log1p(jnp.exp(-2.0 * jnp.abs(u)))
