"""Standardization of the observed values, safe for any magnitude."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bojax._namespace import AnyArray, namespace
from bojax._types import Array, Bool, Float

CONSTANT = 1e-12
"""Relative spread of the values below which they count as equal: smaller differences are rounding errors."""

FAR = (1e4, 1e6, 1e8, 1e10, 1e12)
"""The better quarter replaces the better half if the worst value of the half is this many times as far from the best
value as the worst value of the quarter; then the eighth replaces the quarter, and so on. A model whose smallest noise
has a relative deviation of 1e-3 cannot resolve both scales. The ratio grows because a few values may be close by
chance."""


class Scale(NamedTuple):
    """y = loc + scale * standardized y."""

    loc: Float[Array, ""]
    scale: Float[Array, ""]


def variance_floor(dtype) -> float:
    """The smallest standardized variance that is returned; smaller values are rounding errors."""
    return 1e-12 if jnp.finfo(dtype).bits >= 64 else 1e-7


def standardize(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> tuple[Float[Array, "n"], Scale]:
    """Shift and scale the values in the mask to mean 0 and standard deviation 1.

    Values are divided by their largest magnitude first, so that squares neither overflow nor vanish. If all values are
    equal, they become zeros with a scale of that magnitude (1 if they are zero).

    Args:
        y: [n] values; non-finite ones must be masked out.
        mask: [n] which values count.

    Returns:
        The standardized values [n], 0 outside the mask, and the `Scale` that undoes the standardization.

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
    # The sample standard deviation (n - 1), as users of BoTorch expect of standardized values.
    std = jnp.sqrt(jnp.sum(residual**2) / jnp.maximum(count - 1.0, 1.0))
    scale = jnp.where(std > jnp.maximum(CONSTANT, 4.0 * jnp.finfo(y.dtype).eps), std, 1.0)
    return residual / scale, Scale(loc=loc * unit, scale=scale * unit)


def is_constant(y: Float[AnyArray, "n"], mask: Bool[AnyArray, "n"]) -> Any:
    """Tell whether all values in the mask are equal up to rounding; fewer than two always are.

    Args:
        y: [n] values; NumPy arrays are looked at on the host.
        mask: [n] which values count.

    Returns:
        A boolean [].

    Example:
        >>> import jax.numpy as jnp
        >>> bool(is_constant(jnp.array([2.0, 2.0, 9.0]), jnp.array([True, True, False])))
        True
    """
    xp = namespace(y, mask)
    largest = xp.max(xp.where(mask, y, -np.inf), initial=-np.inf)
    smallest = xp.min(xp.where(mask, y, np.inf), initial=np.inf)
    tolerance = xp.maximum(CONSTANT, 4.0 * jnp.finfo(y.dtype).eps)
    size = xp.maximum(xp.abs(largest), xp.abs(smallest))
    return ~(0.5 * largest - 0.5 * smallest > 0.5 * tolerance * size)


class BetterPart(NamedTuple):
    """The better part of the values, from which robust transforms estimate location and scale.

    Attributes:
        loc: its smallest value, usually the median of all values.
        scale: the root mean square distance from `loc`, > 0.
        best: the largest value.
        share: the fraction of all values below `loc`, usually 1/2.
    """

    loc: Float[Array, ""]
    scale: Float[Array, ""]
    best: Float[Array, ""]
    share: Float[Array, ""]


def better_part(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> BetterPart:
    """The better half of the values and its spread, independent of the size of the others.

    If the worst value of that half is `FAR` times as far from the best one as the value that halves it again, most
    evaluations were bad (penalties, for example). The better quarter then counts, and so on. Halves of values are
    subtracted, so that nothing overflows up to the largest float. If all values of the better half are equal, the
    distance to the next worse value is the scale.

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
