"""The variance of the observation noise: learned, known, fixed, or reported with single observations."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from bojax._numerics import holds
from bojax._types import Array, Float
from bojax.data import Observations
from bojax.surrogates.outputs._standardize import Scale
from bojax.surrogates.parts._contracts import BoundsFn, InitNoiseFn, LogPriorFn, VarianceFn

NOISE_FLOOR_64 = 1e-6
NOISE_FLOOR_32 = 1e-4
"""Smallest relative noise variance. In float32, noise below 1e-4 leaves no correct digits in small posterior standard
deviations of a Matern kernel."""

Number = float | Array
"""A numeric setting: a number or an array [], possibly traced, so that studies can run under `vmap` over settings."""


class Noise(NamedTuple):
    """A model of the noise variance.

    Attributes:
        init: `init(dtype) -> params`.
        variance: `variance(params, scale) -> scalar`, in standardized units; `scale` is the `Scale` of the data.
        log_prior: `log_prior(params) -> scalar`, up to a constant.
        bounds: `bounds(params) -> (lower, upper)`, pytrees like params.
    """

    init: InitNoiseFn
    variance: VarianceFn
    log_prior: LogPriorFn
    bounds: BoundsFn


def noise_floor(dtype) -> float:
    """The smallest relative noise variance that is safe in a dtype."""
    return NOISE_FLOOR_64 if jnp.finfo(dtype).bits >= 64 else NOISE_FLOOR_32


def told_noise(observations: Observations, scale: Scale) -> Float[Array, "n"]:
    """The reported noise variances in standardized units.

    Args:
        observations: the data.
        scale: location and scale of y, as `standardize` gives them.

    Returns:
        [n] variances; NaN where none was reported.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import Scale
        >>> told_noise(data.empty(1, 2), Scale(jnp.float32(0.0), jnp.float32(1.0))).tolist()
        [nan, nan]
    """
    noise_var = observations.columns.get("noise_var")
    if noise_var is None:
        return jnp.full_like(observations.y, jnp.nan)
    return noise_var / scale.scale / scale.scale  # in turn, since the square of a large scale may overflow


def row_noise(told: Float[Array, "n"], own: Float[Array, "..."]) -> Float[Array, "n"]:
    """The noise variance of each row: the reported one, at least the floor, or the model's where it is NaN."""
    return jnp.where(jnp.isnan(told), own, jnp.maximum(told, noise_floor(told.dtype)))


def learned_noise(*, loc: Number = -6.0, std: Number = 2.0, upper: Number = 1.0) -> Noise:
    """Make a learned noise variance with a log-normal prior.

    The prior is log noise_var ~ N(loc, std^2). The default allows small or absent noise: deterministic objectives are
    common, and a prior around exp(-4) loses the last digits of the optimum (`benchmarks/results/surrogates.md`).

    Args:
        loc: mean of the logarithm of the variance, in standardized units, -6 by default.
        std: standard deviation of that logarithm, > 0, 2 by default.
        upper: largest variance, relative to the variance of the data, > 0. The default, 1, allows data that are pure
            noise.

    Returns:
        A `Noise` whose params are the logarithm of the variance.

    Raises:
        ValueError: `std` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.surrogates import Scale
        >>> noise, unit = learned_noise(), Scale(jnp.array(0.0), jnp.array(1.0))
        >>> noise.variance(jnp.log(jnp.array(0.25)), unit).item()
        0.25
    """
    if not holds(std > 0):
        raise ValueError(f"`std` must be positive, got {std}.")

    def init(dtype):
        return jnp.maximum(jnp.asarray(loc - std**2, dtype), math.log(noise_floor(dtype)))

    def variance(params, scale):
        del scale
        return jnp.exp(params)

    def log_prior(params):
        return -0.5 * ((params - loc) / std) ** 2 - params

    def bounds(params):
        low = math.log(noise_floor(params.dtype))
        return jnp.full_like(params, low), jnp.full_like(params, jnp.log(jnp.asarray(upper, params.dtype)))

    return Noise(init=init, variance=variance, log_prior=log_prior, bounds=bounds)


def known_noise(noise_var: Number) -> Noise:
    """Make a noise variance that is known in the units of y, such as the squared standard error of an evaluation.

    Args:
        noise_var: variance of one observation, >= 0, a number or an array [], in squared units of y.

    Returns:
        A `Noise` without parameters. Its relative variance is at least 1e-4 in float32 and 1e-6 in float64.

    Raises:
        ValueError: `noise_var` is negative or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.surrogates import Scale
        >>> known_noise(1.0).variance((), Scale(jnp.array(0.0), jnp.array(2.0))).item()  # y has standard deviation 2
        0.25
    """
    return _constant_noise(_check_variance(noise_var), lambda scale: scale.scale)


def fixed_noise(noise_var: Number = NOISE_FLOOR_64) -> Noise:
    """Make a noise variance that is fixed relative to the variance of the observed values.

    Args:
        noise_var: variance in standardized units, >= 0, a number or an array []. The default, 1e-6, is for exact
            evaluations.

    Returns:
        A `Noise` without parameters. Its variance is at least 1e-4 in float32 and 1e-6 in float64.

    Raises:
        ValueError: `noise_var` is negative or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax.surrogates import Scale
        >>> fixed_noise(0.25).variance((), Scale(jnp.array(0.0), jnp.array(2.0))).item()
        0.25
    """
    return _constant_noise(_check_variance(noise_var), lambda scale: jnp.ones_like(scale.scale))


def _constant_noise(noise_var: Number, unit: Callable) -> Noise:
    def variance(params, scale):
        del params
        # Divided twice, since the square of a large scale may overflow.
        relative = noise_var / unit(scale) / unit(scale)
        return jnp.maximum(relative, noise_floor(scale.scale.dtype)).astype(scale.scale.dtype)

    return Noise(
        init=lambda dtype: (),
        variance=variance,
        log_prior=lambda params: jnp.zeros(()),
        bounds=lambda params: ((), ()),
    )


def _check_variance(noise_var: Number) -> Number:
    if not holds((noise_var >= 0) & (noise_var < math.inf)):
        raise ValueError(f"`noise_var` must be finite and not negative, got {noise_var}.")
    return noise_var
