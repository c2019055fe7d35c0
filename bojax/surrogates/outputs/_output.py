"""Monotone maps of the observed values, for objectives far from normal.

Each is a function `(y [n], mask [n]) -> y [n]` that keeps the order of the masked values (larger stays better) and is
finite outside the mask too. `bayesopt(output_transform=...)` and `with_output_transform` take them; `half_rank` is
another. What is stored and told stays as it is. Their derivative is the slope of the map at each value, with what was
estimated from all values (median, spread, exponent) held: by it told noise and gradients are transformed. What is
estimated comes from the better half of the values (`better_part`): a bad value, however large, changes nothing of it.

    log_output    -log(c - y), c a little above the largest value: losses told as -loss get the scale of log(loss)
    power         Yeo and Johnson's (2000) power transformation of (y - median) / spread, exponent by likelihood
    log_tail      logarithmic below the median; the only one with slopes that gradients can go through everywhere
    bilog         sign(z) log(1 + |z|) of z = (y - median) / spread (Eriksson and Poloczek 2021, arXiv:2002.08526)
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float
from bojax.data import COLUMNS, Observations
from bojax.surrogates._base import Surrogate
from bojax.surrogates._inputs import bound
from bojax.surrogates.outputs._standardize import better_part

GAP = 1e-3
"""The value that `log_output` sends to infinity lies above the best one by this part of the spread."""
REACH = 1e6
"""Spreads up to which transforms see the size of a value; beyond they see its logarithm."""
EXPONENTS = (-2.0, 4.0)
NUM_EXPONENTS = 61


@runtime_checkable
class OutputTransform(Protocol):
    """A monotone map of the observed values; larger stays better."""

    def __call__(self, y: Float[Array, "n"], mask: Bool[Array, "n"], /) -> Float[Array, "n"]:
        """The values [n] transformed, finite outside the mask too."""
        ...


def log_output(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Minus the logarithm of a loss told as -loss.

    If all masked values are negative, they are taken as minus a positive loss, and -log(-y / s) is given, s the spread
    of the better half. Otherwise zero is no natural bound, and the distance to a point just above the best value takes
    the loss's place.

    Args:
        y: [n] values, larger is better.
        mask: [n] which values count.
    """
    y = jnp.where(mask, y, -1.0)
    part = better_part(jax.lax.stop_gradient(y), mask)
    natural = jnp.all(y < 0.0)
    half_loss = jnp.where(natural, -0.5 * y, 0.5 * part.best - 0.5 * y + 0.5 * GAP * part.scale)
    size = _reined(jnp.maximum(half_loss, jnp.finfo(y.dtype).tiny) / (0.5 * part.scale))
    return jnp.where(mask, -jnp.log(size), 0.0)


def bilog(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Logarithmic on both sides of the median: large values of either sign lose their size; arguments as in `power`."""
    z = _robust(y, mask)
    return jnp.sign(z) * jnp.log1p(jnp.abs(z))


def log_tail(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """A value that is m below the median becomes median - s log(1 + m / s), with s from the median to the best value.

    Like `half_rank` it tames a skewed objective, and it has a slope everywhere, so gradients can pass through it. The
    slope takes median and s as constants.

    Args:
        y: [n] values; those outside the mask may be anything.
        mask: [n] which values count.
    """
    y = jnp.where(mask, y, 0.0)
    part = better_part(jax.lax.stop_gradient(y), mask)
    half_spread = 0.5 * part.best - 0.5 * part.loc
    half_spread = jnp.where(half_spread > 0, half_spread, 0.5 * part.scale)
    half_below = 0.5 * part.loc - 0.5 * y
    worse = mask & (half_below > 0)
    ratio = _reined(jnp.where(worse, half_below, 0.0) / half_spread)
    return jnp.where(worse, part.loc - 2.0 * half_spread * jnp.log1p(ratio), y)


def _reined(z):
    """z up to `REACH` on both sides, and logarithmic beyond: the largest float is no outlier."""
    size = jnp.minimum(jnp.abs(z), jnp.finfo(z.dtype).max)
    far = size > REACH
    return jnp.where(far, jnp.sign(z) * REACH * (1.0 + jnp.log(jnp.where(far, size, REACH) / REACH)), z)


def _robust(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """(y - loc) / scale of the better part, whose derivative takes both for constants; 0 outside the mask."""
    y = jnp.where(mask, y, 0.0)
    part = better_part(jax.lax.stop_gradient(y), mask)
    return _reined(jnp.where(mask, (0.5 * y - 0.5 * part.loc) / (0.5 * part.scale), 0.0))


def power(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """The power transformation after which the values are most nearly normal.

    Args:
        y: [n] values; those outside the mask may be anything.
        mask: [n] which values count.
    """
    standard = _robust(y, mask)
    count = jnp.maximum(jnp.sum(mask), 1).astype(y.dtype)
    log_slope = jnp.sum(jnp.where(mask, jnp.sign(standard) * jnp.log1p(jnp.abs(standard)), 0.0))

    def log_likelihood(exponent):
        z = jnp.where(mask, yeo_johnson(standard, exponent), 0.0)
        mean = jnp.sum(z) / count
        var = jnp.sum(jnp.where(mask, (z - mean) ** 2, 0.0)) / count
        return -0.5 * count * jnp.log(jnp.maximum(var, jnp.finfo(y.dtype).tiny)) + (exponent - 1.0) * log_slope

    exponents = jnp.linspace(*EXPONENTS, NUM_EXPONENTS, dtype=y.dtype)
    values = jax.vmap(log_likelihood)(exponents)
    best = exponents[jnp.argmax(jnp.where(jnp.isfinite(values), values, -jnp.inf))]
    return jnp.where(mask, yeo_johnson(standard, best), 0.0)


def yeo_johnson(z: Float[Array, "*b"], exponent: Float[Array, ""]) -> Float[Array, "*b"]:
    """((1 + z)^e - 1) / e for z >= 0 and -((1 - z)^(2 - e) - 1) / (2 - e) below, logarithms at e = 0 and e = 2."""
    right = _box_cox(jnp.log1p(jnp.maximum(z, 0.0)), exponent)
    left = _box_cox(jnp.log1p(jnp.maximum(-z, 0.0)), 2.0 - exponent)
    return jnp.where(z >= 0.0, right, -left)


def _box_cox(log_u, exponent):
    """(u^e - 1) / e as a function of log u."""
    safe = jnp.where(jnp.abs(exponent) < 1e-6, 1.0, exponent)
    return jnp.where(jnp.abs(exponent) < 1e-6, log_u, jnp.expm1(safe * log_u) / safe)


def compose(*transforms: OutputTransform) -> OutputTransform:
    """One transform after another."""

    def composed(y, mask):
        for transform in transforms:
            y = transform(y, mask)
        return y

    return composed


def transformed(observations: Observations, transform: OutputTransform) -> Observations:
    """Values transformed, and columns by the slope of the transform at each value (`Column.units`).

    Args:
        observations: the data.
        transform: maps values [n] and their mask [n] to values.

    Returns:
        The same points with the transformed values. Derivatives where the slope is 0 become unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data
        >>> seen = data.append(data.empty(1, 2), jnp.array([[0.1], [0.5]]), jnp.array([1.0, 3.0]))
        >>> transformed(seen, lambda y, mask: 2.0 * y).y.tolist()
        [2.0, 6.0]
    """

    def apply(y):
        return transform(y, observations.mask)

    y, columns = observations.y, observations.columns
    scaled = [name for name in columns if COLUMNS[name].units]
    if not scaled:
        return observations._replace(y=apply(y))
    values, slope = jax.jvp(apply, (y,), (jnp.ones_like(y),))
    slope = jnp.where(observations.mask & jnp.isfinite(slope), slope, 0.0)

    def by_slope(name):
        column, values = COLUMNS[name], columns[name]
        factor = slope[:, None] if column.per_dim else slope
        for _ in range(column.units):
            values = factor * values
        return jnp.where(jnp.abs(factor) > 1e-6, values, column.fill) if column.per_dim else values

    return observations._replace(y=values).with_columns(**{name: by_slope(name) for name in scaled})


def with_output_transform(surrogate: Surrogate, transform: OutputTransform) -> Surrogate:
    """A surrogate of transformed values; its posterior speaks in their units.

    Noise and gradients given with observations are scaled by the slope of the transform at each value.

    Args:
        surrogate: what models the transformed values.
        transform: a map as above.
    """

    def fit(key, observations, params):
        return surrogate.fit(key, transformed(observations, transform), params)

    def posterior(params, observations, num_spare=0):
        return surrogate.posterior(params, transformed(observations, transform), num_spare)

    def bind(inputs):
        return with_output_transform(bound(surrogate, inputs, "surrogate"), transform)

    posterior = jax.jit(posterior, static_argnums=2)
    return Surrogate(init=surrogate.init, fit=jax.jit(fit), posterior=posterior, bind=bind)
