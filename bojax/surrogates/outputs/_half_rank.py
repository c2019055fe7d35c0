"""Half-rank warping: bad values keep their rank and lose their size.

Objectives of hyperparameters are skewed: a learning rate ten times too large costs more than all the differences
between good ones. Values below the median are replaced by what a normal distribution would have at their rank, with
the median as its mean and the spread of the better half as its standard deviation; values above stay as they are. The
order of all values is kept, and so is the optimum. However large bad values are, up to the largest float, nothing but
their order matters (see `better_part` for the case that most values are bad).

Source: Song et al. (2024), "The Vizier Gaussian process bandit algorithm", arXiv:2408.11527. What it gains:
`benchmarks/results/surrogates.md`.
"""

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float
from bojax.surrogates.outputs._standardize import better_part


def half_rank(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Warp the worse half of the masked values.

    Args:
        y: [n] values, larger is better; those outside the mask may be anything.
        mask: [n] which values count.

    Returns:
        [n] warped values in the units of y; outside the mask they are meaningless but finite. Their derivative by y is
        1 above the median; below it is the warped distance from the median over the true one.
    """
    held = jax.lax.stop_gradient(jnp.where(mask, y, 0.0))
    part = better_part(held, mask)
    count = jnp.maximum(jnp.sum(mask), 1).astype(y.dtype)
    below = jnp.sum((held[None, :] < held[:, None]) & mask[None, :], axis=1)
    equal = jnp.sum((held[None, :] == held[:, None]) & mask[None, :], axis=1)
    rank = (below + 0.5 * equal).astype(y.dtype) / count * 0.5 / part.share
    normal = jnp.minimum(jax.scipy.special.ndtri(jnp.clip(rank, 1e-6, 0.5)), 0.0)
    worse = mask & (held < part.loc)
    most = jnp.finfo(y.dtype).max
    warped = jnp.where(worse, jnp.maximum(part.loc + jnp.minimum(part.scale, most / 16) * normal, -most / 2), held)
    half = 0.5 * part.loc - 0.5 * held
    slope = jnp.where(worse, (0.5 * part.loc - 0.5 * warped) / jnp.where(worse, half, 1.0), 1.0)
    return warped + (jnp.where(mask, y, 0.0) - held) * slope
