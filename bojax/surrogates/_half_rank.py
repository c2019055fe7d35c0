"""Half-rank warping: bad values keep their order and lose their size.

Objectives of hyperparameters are skewed: a learning rate ten times too large costs more than all the differences
between good ones. Values below the median are replaced by what a normal distribution would have at their rank, with
the median as its mean and the spread of the better half as its standard deviation; values above stay as they are. The
order of all values is kept, and so is the optimum.

Source: Song et al. (2024), "The Vizier Gaussian process bandit algorithm", arXiv:2408.11527. Over 96 studies of Branin
(25 evaluations) it lowered the median regret from 0.0060 to 0.00016; on Hartmann-6 (40) it changed little.
"""

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float
from bojax.surrogates._standardize import masked_median, standardize


def half_rank(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Warp the worse half of the masked values.

    Args:
        y: [n] values, larger is better; those outside the mask may be anything.
        mask: [n] which values count.

    Returns:
        [n] warped values in the units of y; outside the mask they are meaningless but finite.
    """
    standard, scale = standardize(y, mask)  # squares of very large or small values would not be finite
    count = jnp.maximum(jnp.sum(mask), 1)
    median = masked_median(standard, mask)
    good = mask & (standard >= median)
    spread = jnp.sqrt(jnp.sum(jnp.where(good, (standard - median) ** 2, 0.0)) / jnp.maximum(jnp.sum(good), 1))
    below = jnp.sum((standard[None, :] < standard[:, None]) & mask[None, :], axis=1)
    equal = jnp.sum((standard[None, :] == standard[:, None]) & mask[None, :], axis=1)
    rank = (below + 0.5 * equal).astype(y.dtype) / count.astype(y.dtype)
    normal = jnp.minimum(jax.scipy.special.ndtri(jnp.clip(rank, 1e-6, 0.5)), 0.0)
    warped = jnp.where(mask & (standard < median), median + spread * normal, standard)
    return scale.loc + scale.scale * warped
