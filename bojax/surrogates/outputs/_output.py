"""Monotone maps of the observed values, for objectives that are far from normally distributed.

Each is a function `(y [n], mask [n]) -> y [n]` that preserves the order of the values in the mask (larger stays better)
and is finite outside the mask too. Pass them to `with_output_transform`; `half_rank` is another one. Stored values
do not change.

The derivative of a transform is its slope at each value, with the quantities estimated from all values (median, spread,
exponent) held constant. Reported noise and gradients are multiplied by it. These quantities are estimated from the
better half of the values (`better_part`), so an extremely bad value does not affect them.

    log_output    -log(c - y), c slightly above the largest value: for losses reported as -loss, the scale of log(loss)
    power         Yeo and Johnson's (2000) power transformation of (y - median) / spread, exponent by likelihood
    log_tail      logarithmic below the median; the only one whose slope is useful for gradients everywhere
    bilog         sign(z) log(1 + |z|) of z = (y - median) / spread (Eriksson and Poloczek 2021, arXiv:2002.08526)
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float
from bojax.data import COLUMNS, Observations
from bojax.surrogates._base import Surrogate
from bojax.surrogates._inputs import accept_padding, bound, takes_padding
from bojax.surrogates.outputs._standardize import better_part

GAP = 1e-3
"""The value that `log_output` maps to infinity exceeds the best value by this fraction of the spread."""
REACH = 1e6
"""Values farther away than this number of spreads enter transforms logarithmically."""
EXPONENTS = (-2.0, 4.0)
NUM_EXPONENTS = 61


@runtime_checkable
class OutputTransform(Protocol):
    """A monotone map of the observed values; larger stays better."""

    def __call__(self, y: Float[Array, "n"], mask: Bool[Array, "n"], /) -> Float[Array, "n"]:
        """The values [n] transformed, finite outside the mask too."""
        ...


def log_output(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Minus the logarithm of a loss that was reported as y = -loss.

    If all values in the mask are negative, y is taken as minus a positive loss, and the result is -log(-y / s) with s
    the spread of the better half of the values. Otherwise zero is not a natural bound, and -log((c - y) / s) is given
    with c = best + 0.001 s.

    Args:
        y: [n] values, larger is better; those outside the mask may be anything.
        mask: [n] which values count.

    Returns:
        [n] transformed values; 0 outside the mask.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> values = jax.jit(log_output)(jnp.array([-100.0, -10.0, -1.0]), jnp.ones(3, bool))
        >>> [round(value, 1) for value in values.tolist()]
        [-2.8, -0.5, 1.9]
    """
    y = jnp.where(mask, y, -1.0)
    part = better_part(jax.lax.stop_gradient(y), mask)
    natural = jnp.all(y < 0.0)
    half_loss = jnp.where(natural, -0.5 * y, 0.5 * part.best - 0.5 * y + 0.5 * GAP * part.scale)
    size = _reined(jnp.maximum(half_loss, jnp.finfo(y.dtype).tiny) / (0.5 * part.scale))
    return jnp.where(mask, -jnp.log(size), 0.0)


def bilog(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Bilogarithm: logarithmic on both sides of the median.

    The result is sign(z) log(1 + |z|) with z = (y - median) / spread, both estimated from the better half of the
    values. Use it for objectives with large values of either sign.

    Args:
        y: [n] values, larger is better; those outside the mask may be anything.
        mask: [n] which values count.

    Returns:
        [n] transformed values; 0 at the median and outside the mask.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> values = jax.jit(bilog)(jnp.array([-1000.0, 0.0, 1.0]), jnp.ones(3, bool))
        >>> [round(value, 1) for value in values.tolist()]
        [-7.3, 0.0, 0.9]

    Source: Eriksson and Poloczek (2021), arXiv:2002.08526.
    """
    z = _robust(y, mask)
    return jnp.sign(z) * jnp.log1p(jnp.abs(z))


def log_tail(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Compress values below the median logarithmically and leave the others unchanged.

    A value y below the median becomes median - s log(1 + (median - y) / s), where s is the distance from the median to
    the best value. Like `half_rank` it reduces the skew of an objective. Unlike `half_rank` it has a nonzero slope
    everywhere, so reported gradients can be transformed. The slope treats the median and s as constants.

    Args:
        y: [n] values, larger is better; those outside the mask may be anything.
        mask: [n] which values count.

    Returns:
        [n] transformed values, in the units of y; 0 outside the mask.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> values = jax.jit(log_tail)(jnp.array([-1000.0, 0.0, 1.0]), jnp.ones(3, bool))
        >>> [round(value, 1) for value in values.tolist()]
        [-6.9, 0.0, 1.0]
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
    """z up to `REACH` on both sides and logarithmic beyond, so that the largest float is no outlier."""
    size = jnp.minimum(jnp.abs(z), jnp.finfo(z.dtype).max)
    far = size > REACH
    return jnp.where(far, jnp.sign(z) * REACH * (1.0 + jnp.log(jnp.where(far, size, REACH) / REACH)), z)


def _robust(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """(y - loc) / scale of the better part, whose derivative takes both for constants; 0 outside the mask."""
    y = jnp.where(mask, y, 0.0)
    part = better_part(jax.lax.stop_gradient(y), mask)
    return _reined(jnp.where(mask, (0.5 * y - 0.5 * part.loc) / (0.5 * part.scale), 0.0))


def power(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Power transformation that makes the values as nearly normal as possible.

    The transformation of Yeo and Johnson is applied to z = (y - median) / spread, both estimated from the better half
    of the values: ((1 + z)^e - 1) / e for z >= 0 and -((1 - z)^(2 - e) - 1) / (2 - e) for z < 0. The exponent e
    maximizes the normal likelihood over 61 values between -2 and 4.

    Args:
        y: [n] values, larger is better; those outside the mask may be anything.
        mask: [n] which values count.

    Returns:
        [n] transformed values; 0 at the median and outside the mask.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> values = jax.jit(power)(jnp.array([-1000.0, 0.0, 1.0]), jnp.ones(3, bool))
        >>> [round(value, 1) for value in values.tolist()]
        [-5.2, 0.0, 2.6]

    Source: Yeo and Johnson (2000), "A new family of power transformations to improve normality or symmetry".
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
    """Chain output transforms.

    Args:
        *transforms: the transforms, first to last. Without any, the result is the identity.

    Returns:
        A transform that applies them in this order.

    Example:
        >>> import jax.numpy as jnp
        >>> transform = compose(lambda y, mask: y + 1.0, lambda y, mask: 2.0 * y)
        >>> transform(jnp.array([1.0, 2.0]), jnp.ones(2, bool)).tolist()
        [4.0, 6.0]
    """

    def composed(y, mask):
        for transform in transforms:
            y = transform(y, mask)
        return y

    return composed


def transformed(observations: Observations, transform: OutputTransform) -> Observations:
    """Transform the values, and scale noise and gradients by the slope of the transform at each value.

    Args:
        observations: the data.
        transform: maps values [n] and their mask [n] to values.

    Returns:
        The same points with transformed values. Gradients become unknown (NaN) where the slope is 0.

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
    """Make a surrogate model transformed values.

    Noise and gradients given with observations are scaled by the slope of the transform at each value. The posterior
    is in the units of the transformed values.

    Args:
        surrogate: the `Surrogate` that models the transformed values.
        transform: an `OutputTransform`, such as `half_rank`, `log_output`, `power`, `log_tail` or `bilog`.

    Returns:
        A `Surrogate` with the same hyperparameters.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import gp
        >>> surrogate = with_output_transform(gp(), lambda y, mask: 10.0 * y)
        >>> seen = data.append(data.empty(1, 2), jnp.array([[0.2], [0.8]]), jnp.array([0.0, 1.0]))
        >>> params = surrogate.init(1, jnp.float32)
        >>> mean = jax.jit(lambda X: surrogate.posterior(params, seen).mean(X))(jnp.array([[0.5]]))
        >>> round(float(mean[0]), 2)
        5.0
    """
    inner, _ = unwrapped(surrogate)

    def sees(observations):
        seen = transformed(observations, transform)
        return seen if surrogate.sees is None else surrogate.sees(seen)

    def fit(key, observations, params, **trusted):
        return inner.fit(key, sees(observations), params, **trusted)

    def posterior(params, observations, num_spare=0):
        return inner.posterior(params, sees(observations), num_spare)

    def bind(inputs):
        return with_output_transform(bound(surrogate, inputs, "surrogate"), transform)

    posterior = jax.jit(posterior, static_argnums=2)
    parts = (surrogate.columns, sees, inner, surrogate.resumes)
    outer = Surrogate(surrogate.init, jax.jit(fit), posterior, bind, *parts)
    return accept_padding(outer) if takes_padding(surrogate) else outer


def unwrapped(surrogate: Surrogate) -> tuple[Surrogate, Callable[[Observations], Observations]]:
    """The model inside of all output transforms, and how it sees the observations.

    A program that fits, conditions and looks at the values transforms them once in this way.

    Args:
        surrogate: a surrogate, transformed or not.

    Returns:
        The model and the function from what was told to what it sees.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data
        >>> from bojax.surrogates import gp
        >>> model, sees = unwrapped(with_output_transform(gp(), lambda y, mask: 2.0 * y))
        >>> observations = data.append(data.empty(1, 2), jnp.array([[0.1], [0.5]]), jnp.array([1.0, 3.0]))
        >>> sees(observations).y.tolist()
        [2.0, 6.0]
    """
    if surrogate.model is None or surrogate.sees is None:
        return surrogate, lambda observations: observations
    return surrogate.model, surrogate.sees
