"""Standardising the observed values, safe for any magnitude."""

from typing import NamedTuple

import jax.numpy as jnp

from bojax._types import Array, Bool, Float

CONSTANT = 1e-12
"""A spread below this part of the largest |y| is taken for rounding: the values count as all equal."""

FAR = (1e4, 1e6, 1e8, 1e10, 1e12)
"""The better quarter, eighth, ... counts in place of the better half where the last value of that half is so many times
as far from the best one. A model whose least noise has a relative deviation of 1e-3 cannot see differences that small
beside the others; the fewer values are left, the more likely is a few of them being close by chance."""


class Scale(NamedTuple):
    """y = loc + scale * standardised y."""

    loc: Float[Array, ""]
    scale: Float[Array, ""]


def variance_floor(dtype) -> float:
    """The smallest standardised variance given back: below it there is only rounding."""
    return 1e-12 if jnp.finfo(dtype).bits >= 64 else 1e-7


def standardize(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> tuple[Float[Array, "n"], Scale]:
    """The values with mean 0 and standard deviation 1 over the mask, and 0 elsewhere.

    Values are divided by their largest magnitude first, so squares neither overflow nor vanish. Values that are all
    equal become zeros with a scale of that magnitude (1 if they are zero).

    Args:
        y: [n] values; non-finite ones must be masked out.
        mask: [n] which values count.

    Returns:
        The standardized values, and the location and scale that undo it.

    Example:
        >>> import jax.numpy as jnp
        >>> values, scale = standardize(jnp.array([1.0, 2.0, 3.0]), jnp.ones(3, bool))
        >>> values.round(3).tolist(), round(float(scale.loc), 3), round(float(scale.scale), 3)
        ([-1.0, 0.0, 1.0], 2.0, 1.0)
    """
    y = jnp.where(mask, y, 0.0)
    largest = jnp.max(jnp.abs(y), initial=0.0)
    unit = jnp.where(largest > 0, largest, 1.0)
    y = y / unit
    count = jnp.maximum(jnp.sum(mask), 1).astype(y.dtype)
    loc = jnp.sum(y) / count
    residual = jnp.where(mask, y - loc, 0.0)
    # The sample standard deviation (n - 1), as BoTorch and scikit-learn's users expect of standardised values.
    std = jnp.sqrt(jnp.sum(residual**2) / jnp.maximum(count - 1.0, 1.0))
    scale = jnp.where(std > jnp.maximum(CONSTANT, 4.0 * jnp.finfo(y.dtype).eps), std, 1.0)
    return residual / scale, Scale(loc=loc * unit, scale=scale * unit)


def is_constant(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Bool[Array, ""]:
    """Tell whether all values of the mask are equal, except for rounding; fewer than two always are.

    Args:
        y: [n] values.
        mask: [n] which values count.

    Returns:
        A boolean [].

    Example:
        >>> import jax.numpy as jnp
        >>> bool(is_constant(jnp.array([2.0, 2.0, 9.0]), jnp.array([True, True, False])))
        True
    """
    largest = jnp.max(jnp.where(mask, y, -jnp.inf), initial=-jnp.inf)
    smallest = jnp.min(jnp.where(mask, y, jnp.inf), initial=jnp.inf)
    tolerance = jnp.maximum(CONSTANT, 4.0 * jnp.finfo(y.dtype).eps)
    size = jnp.maximum(jnp.abs(largest), jnp.abs(smallest))
    return ~(0.5 * largest - 0.5 * smallest > 0.5 * tolerance * size)


class BetterPart(NamedTuple):
    """The values that a robust transform keeps as they are.

    Attributes:
        loc: the least of them: the median, as a rule.
        scale: their root mean square distance from it, > 0.
        best: the largest value.
        share: the share of the values that lies below, 1/2 as a rule.
    """

    loc: Float[Array, ""]
    scale: Float[Array, ""]
    best: Float[Array, ""]
    share: Float[Array, ""]


def better_part(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> BetterPart:
    """The better half of the values and its size, untouched by the size of the others.

    Where the worst value of that half is `FAR` times as far from the best one as the value that halves it again, most
    evaluations were bad (penalties, say), and the better quarter counts, and so on. Halves of values are subtracted, so
    that nothing overflows up to the largest float. Where all values of the better half are equal, the distance to the
    next worse value is the scale.

    Args:
        y: [n] values, larger is better; non-finite ones must be masked out.
        mask: [n] which values count.
    """
    count = jnp.maximum(jnp.sum(mask), 1)
    ordered = jnp.sort(jnp.where(mask, y, jnp.inf))
    best = jnp.max(jnp.where(mask, y, -jnp.inf), initial=-jnp.inf)
    best = jnp.where(jnp.isfinite(best), best, 0.0)
    loc, share = _between(ordered, count), jnp.full((), 0.5, y.dtype)
    size = (count + 1) // 2
    for far in FAR:
        size = (size + 1) // 2
        inner = ordered[count - size]
        near = 0.5 * best - 0.5 * inner
        moves = (near > 0) & (0.5 * best - 0.5 * loc > far * near)
        loc = jnp.where(moves, inner, loc)
        share = jnp.where(moves, 1.0 - size.astype(y.dtype) / count.astype(y.dtype), share)
    good = mask & (y >= loc)
    half = jnp.where(good, 0.5 * y - 0.5 * loc, 0.0)
    unit = jnp.max(half, initial=0.0)
    mean_square = jnp.sum((half / jnp.where(unit > 0, unit, 1.0)) ** 2) / jnp.maximum(jnp.sum(good), 1)
    next_worse = jnp.max(jnp.where(mask & (y < loc), y, -jnp.inf), initial=-jnp.inf)
    gap = jnp.where(jnp.isfinite(next_worse), 0.5 * loc - 0.5 * next_worse, 0.5)
    scale = 2.0 * jnp.minimum(jnp.where(unit > 0, unit * jnp.sqrt(mean_square), gap), jnp.finfo(y.dtype).max / 4)
    return BetterPart(loc, scale, best, jnp.maximum(share, 0.5))


def _between(ordered, count):
    """The median of the first `count` values; 0 where it is not finite."""
    median = 0.5 * ordered[(count - 1) // 2] + 0.5 * ordered[count // 2]
    return jnp.where(jnp.isfinite(median), median, 0.0)
