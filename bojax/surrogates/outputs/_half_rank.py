"""Half-rank warping: values below the median are replaced according to their rank.

Objectives of hyperparameters are skewed: a learning rate ten times too large costs more than all the differences
between good ones. Values below the median are replaced by the quantiles of a normal distribution at their rank, with
the median as its mean and the spread of the better half as its standard deviation. Values above the median do not
change. The order of all values is preserved, and so is the optimum. Only the order of bad values matters, not their
size, up to the largest float (see `better_part` for the case that most values are bad).

Source: Song et al. (2024), "The Vizier Gaussian process bandit algorithm", arXiv:2408.11527. Measured effect:
`benchmarks/results/surrogates.md`.
"""

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float
from bojax.surrogates.outputs._standardize import better_part

MAX_COMPARED = 1024
"""Up to this number values are compared in pairs, which compiles faster; beyond they are sorted."""


def half_rank(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Replace the worse half of the values by normal quantiles of their ranks.

    Of n values, the one of rank i (1 is the worst) becomes median + s Phi^-1((i - 1/2) / n) if it is below the median,
    with s the spread of the better half. Its order is preserved; its size has no effect.

    Args:
        y: [n] values, larger is better; those outside the mask may be anything.
        mask: [n] which values count.

    Returns:
        [n] warped values in the units of y; outside the mask they are finite but meaningless. Their derivative with
        respect to y is 1 above the median. Below it is the ratio of the warped to the original distance from the
        median.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> values = jax.jit(half_rank)(jnp.array([-1000.0, 0.0, 1.0]), jnp.ones(3, bool))
        >>> [round(value, 1) for value in values.tolist()]
        [-0.7, 0.0, 1.0]

    Source: Song et al. (2024), arXiv:2408.11527.
    """
    held = jax.lax.stop_gradient(jnp.where(mask, y, 0.0))
    part = better_part(held, mask)
    count = jnp.maximum(jnp.sum(mask), 1).astype(y.dtype)
    below, equal = _ranks(held, mask)
    rank = (below + 0.5 * equal).astype(y.dtype) / count * 0.5 / part.share
    normal = jnp.minimum(jax.scipy.special.ndtri(jnp.clip(rank, 1e-6, 0.5)), 0.0)
    worse = mask & (held < part.loc)
    most = jnp.finfo(y.dtype).max
    warped = jnp.where(worse, jnp.maximum(part.loc + jnp.minimum(part.scale, most / 16) * normal, -most / 2), held)
    half = 0.5 * part.loc - 0.5 * held
    slope = jnp.where(worse, (0.5 * part.loc - 0.5 * warped) / jnp.where(worse, half, 1.0), 1.0)
    return warped + (jnp.where(mask, y, 0.0) - held) * slope


def _ranks(y, mask):
    """How many values in the mask are below each value, and how many are equal to it."""
    if y.shape[0] <= MAX_COMPARED:
        below = jnp.sum((y[None, :] < y[:, None]) & mask[None, :], axis=1)
        return below, jnp.sum((y[None, :] == y[:, None]) & mask[None, :], axis=1)
    ordered = jnp.sort(jnp.where(mask, y, jnp.inf))
    below = jnp.searchsorted(ordered, y, side="left")
    return below, jnp.searchsorted(ordered, y, side="right") - below
