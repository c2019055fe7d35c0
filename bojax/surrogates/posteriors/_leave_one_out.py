"""Leave-one-out diagnostics from the cached factor, without refitting.

Given K^-1, the prediction of y_i from all others has mean y_i - alpha_i / K^-1_ii and variance 1 / K^-1_ii,
noise included (Sundararajan and Keerthi 2001; Rasmussen and Williams 2006, section 5.4.2). Hyperparameters are not
refitted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bojax._types import Array, Float
from bojax.surrogates._marginal_likelihood import HALF_LOG_2PI
from bojax.surrogates.posteriors._posterior import GPPosterior

COVERAGE_Z = 1.959963984540054
"""Half width of the central 95 % interval of a normal, in standard deviations."""


class LeaveOneOut(NamedTuple):
    """Predictions of each observation from all others, and their quality.

    Attributes:
        mean: [n] predicted values, in the units of y (meaningless on padding).
        std: [n] predicted standard deviations, noise included, in the units of y.
        rmse: root mean square error relative to the standard deviation of y; 1 is no better than predicting their mean.
        log_density: mean log predictive density, in the units of y.
        coverage: fraction of observations inside their 95 % interval; about 0.95 for a good surrogate.
    """

    mean: Float[Array, "n"]
    std: Float[Array, "n"]
    rmse: Float[Array, ""]
    log_density: Float[Array, ""]
    coverage: Float[Array, ""]


@jax.jit
def leave_one_out(posterior: GPPosterior) -> LeaveOneOut:
    """Leave-one-out predictions and their summary.

    Args:
        posterior: a fitted Gaussian process with at least one observation.

    Returns:
        Predictions in the units of y, and their quality.

    Raises:
        TypeError: the rows of the posterior are not observations, for example with `sparse_gp`.
    """
    if posterior.residual is None:
        raise TypeError("`posterior` must be that of an exact Gaussian process: its rows must be observations.")
    mask = posterior.mask
    count = jnp.maximum(jnp.sum(mask), 1)
    precision = jnp.sum(posterior.L_inv**2, axis=0)
    error = jnp.where(mask, posterior.alpha / precision, 0.0)
    std = 1.0 / jnp.sqrt(precision)
    z = error / std
    scale = posterior.scale.scale
    y = posterior.residual + posterior.law.mean(posterior.X)
    density = log_densities(posterior)
    return LeaveOneOut(
        mean=posterior.scale.loc + scale * (y - error),
        std=std * scale,
        rmse=jnp.sqrt(jnp.sum(error**2) / count),
        log_density=jnp.sum(jnp.where(mask, density, 0.0)) / count,
        coverage=jnp.sum(mask & (jnp.abs(z) <= COVERAGE_Z)) / count,
    )


def log_densities(posterior: GPPosterior) -> Float[Array, "n"]:
    """The log density of each observation given all others, units of y; meaningless on padding."""
    precision = jnp.sum(posterior.L_inv**2, axis=0)
    z2 = posterior.alpha**2 / precision
    return -0.5 * z2 + 0.5 * jnp.log(precision) - jnp.log(posterior.scale.scale) - HALF_LOG_2PI
