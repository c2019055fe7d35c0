"""Standardising the observed values, safe for any magnitude."""

from typing import NamedTuple

import jax.numpy as jnp

from bojax._types import Array, Bool, Float

CONSTANT = 1e-12
"""A spread below this part of the largest |y| is taken for rounding: the values count as all equal."""


class Scale(NamedTuple):
    """y = loc + scale * standardised y."""

    loc: Float[Array, ""]
    scale: Float[Array, ""]


def standardize(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> tuple[Float[Array, "n"], Scale]:
    """The values with mean 0 and standard deviation 1 over the mask, and 0 elsewhere.

    Values are divided by their largest magnitude first, so squares neither overflow nor vanish. Values that are all
    equal become zeros with a scale of that magnitude (1 if they are zero).

    Args:
        y: [n] values; non-finite ones must be masked out.
        mask: [n] which values count.

    Returns:
        The standardised values, and the location and scale that undo it.
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


def masked_median(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, ""]:
    """The median of y [n] over the mask; 0 where nothing counts."""
    count = jnp.maximum(jnp.sum(mask), 1)
    ordered = jnp.sort(jnp.where(mask, y, jnp.inf))
    median = 0.5 * (ordered[(count - 1) // 2] + ordered[count // 2])
    return jnp.where(jnp.isfinite(median), median, 0.0)
