"""Parzen estimators on the unit cube: mixtures of products, one kernel an observation and one for the prior.

    p(x) = sum_i w_i prod_k f_ik(x_k)

In an ordered column f_ik is the normal density of center X_ik and width sigma_ik, cut off at the ends of the cube, and
in a discrete one its integral over the cell of the value. In a categorical column of c values, with n kernels, it is
(1 / n + [same value]) / (1 + c / n). The kernel of the prior has the center 0.5 and the width 1, and is uniform over
categories.

Columns that exist under the same conditions form a group. Each group has a mixture of its own, of the observations
where it exists; groups are independent.

Reference: Watanabe (2023), "Tree-structured Parzen estimator: understanding its algorithm components and their roles
for better empirical performance", arXiv:2304.11127; the values of constants are those of Optuna 5.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from bojax._numerics import log_ndtr
from bojax._types import Array, Bool, Float, Int, Key
from bojax.space import Lattice

FLAT = 25
"""The newest observations have weight 1; the weights of older ones decrease linearly to 1 / n."""
MAX_KERNELS = 100
"""Widths are at least 1 / (n + 1) for n kernels, and never below 1 / 100 of the cube ("magic clip")."""
LOG_ROOT = 0.5 * np.log(2.0 * np.pi)


class Groups(NamedTuple):
    """Columns that exist under the same conditions.

    Attributes:
        of: [d] the group of each column.
        members: [d, g] which columns belong to each group; some groups may be empty.
    """

    of: Int[Array, "d"]
    members: Bool[Array, "d g"]


class Parzen(NamedTuple):
    """A mixture; the last kernel is the prior.

    Attributes:
        centers: [n + 1, d] centers of the kernels.
        widths: [n + 1, d] their standard deviations.
        log_weights: [n + 1, g] logarithms of the weights in each group, which sum to one; -inf for unused rows.
        counts: [d] number of kernels of each column, the prior's included.
    """

    centers: Float[Array, "n d"]
    widths: Float[Array, "n d"]
    log_weights: Float[Array, "n g"]
    counts: Int[Array, "d"]


def groups_of(lattice: Lattice) -> Groups:
    """The groups of columns; one if nothing is conditional."""
    d = lattice.num_dims
    if not lattice.is_conditional:
        return Groups(jnp.zeros(d, jnp.int32), jnp.ones((d, 1), bool))
    parents, allowed = (jnp.asarray(part) for part in lattice.conditions)
    same = jnp.all(parents[:, None] == parents[None], axis=-1) & jnp.all(allowed[:, None] == allowed[None], axis=(2, 3))
    of = jnp.argmax(same, axis=1).astype(jnp.int32)
    return Groups(of, of[:, None] == jnp.arange(d)[None, :])


def without_conditions(lattice: Lattice) -> Lattice:
    """The lattice where every column exists everywhere: points keep the coordinates of inactive columns."""
    d = lattice.num_dims
    none = lattice.conditions._replace(parents=np.zeros((d, 0), np.int32), allowed=np.ones((d, 0, 0), bool))
    return dataclasses.replace(lattice, conditions=none)


def parzen(lattice: Lattice, groups: Groups, X: Float[Array, "n d"], mask: Bool[Array, "n"]) -> Parzen:
    """The estimator of points.

    Args:
        lattice: the columns of the cube.
        groups: their groups.
        X: [n, d] finite points of the lattice, oldest first.
        mask: [n] which of them count.

    Returns:
        The mixture.
    """
    exists = lattice.active(X) & mask[:, None]
    in_group = exists[:, jnp.argmax(groups.members, axis=0)] if lattice.is_conditional else mask[:, None]
    in_group = in_group & jnp.any(groups.members, axis=0)[None, :]
    weights = jnp.concatenate([_recency(in_group, X.dtype), jnp.ones((1, in_group.shape[1]), X.dtype)])
    counts = jnp.sum(exists, axis=0, dtype=jnp.int32)
    return Parzen(
        centers=jnp.concatenate([X, jnp.full_like(X[:1], 0.5)]),
        widths=jnp.concatenate([_widths(X, exists, counts), jnp.ones_like(X[:1])]),
        log_weights=jnp.log(weights) - jnp.log(jnp.sum(weights, axis=0))[None, :],
        counts=counts + 1,
    )


def _recency(mask, dtype):
    """The weights [n, g] of the observations of each group, before those are made to sum to one."""
    rank, count = jnp.cumsum(mask, axis=0) - 1, jnp.sum(mask, axis=0)[None, :]
    lowest = 1.0 / jnp.maximum(count, 1).astype(dtype)
    share = rank.astype(dtype) / jnp.maximum(count - FLAT - 1, 1).astype(dtype)
    ramp = lowest + (1.0 - lowest) * share
    return jnp.where(mask, jnp.where(rank >= count - FLAT, jnp.ones((), dtype), ramp), 0.0)


def _widths(X, exists, counts):
    """[n, d] distances to the farther of both neighbors in each column; the ends of the cube are no neighbors.

    They are those of a single observation.
    """
    places = jnp.where(exists, X, 2.0)  # rows that do not count come last
    order = jnp.argsort(places, axis=0)
    placed = jnp.take_along_axis(places, order, axis=0)
    row = jnp.arange(X.shape[0])[:, None]
    single = counts[None, :] < 2
    zeros = jnp.zeros_like(placed[:1])
    gaps = jnp.concatenate([zeros, placed[1:] - placed[:-1], zeros])
    left = jnp.where(row == 0, jnp.where(single, placed, 0.0), gaps[:-1])
    right = jnp.where(row == counts[None, :] - 1, jnp.where(single, 1.0 - placed, 0.0), gaps[1:])
    widths = jnp.take_along_axis(jnp.maximum(left, right), jnp.argsort(order, axis=0), axis=0)
    least = 1.0 / jnp.minimum(MAX_KERNELS, counts + 2).astype(X.dtype)  # counts + 1 kernels
    return jnp.clip(jnp.where(exists, widths, 1.0), least[None, :], 1.0)


def log_density(lattice: Lattice, groups: Groups, mixture: Parzen, X: Float[Array, "c d"]) -> Float[Array, "c g"]:
    """The logarithm of the density (of the probability, in discrete columns) of points in each group.

    Args:
        lattice: the columns of the cube, without conditions.
        groups: their groups.
        mixture: the estimator.
        X: [c, d] points of the lattice.

    Returns:
        [c, g] logarithms; 0 in empty groups.
    """
    factors = _log_factors(lattice, mixture, X)
    factors = jnp.where(jnp.asarray(lattice.live)[None, None, :], factors, 0.0)
    return jax.nn.logsumexp(_summed(groups, factors) + mixture.log_weights[None], axis=1)


def _summed(groups, factors):
    """[c, n, g] the factors [c, n, d] of each group, in logarithms."""
    if groups.members.shape[1] == 1:
        return jnp.sum(factors, axis=-1, keepdims=True)
    return jnp.sum(jnp.where(groups.members[None, None], factors[..., None], 0.0), axis=2)


def _log_factors(lattice, mixture, X):
    """[c, n, d] log f_ik(x_k)."""
    centers, widths = mixture.centers[None], mixture.widths[None]
    # Centers lie in the cube and widths are at most 1: no difference of tails.
    inside = jnp.log(ndtr((1.0 - centers) / widths) - ndtr(-centers / widths))
    z = (X[:, None, :] - centers) / widths
    factors = -0.5 * z**2 - LOG_ROOT - jnp.log(widths) - inside
    if not lattice.has_discrete:
        return factors
    lower, upper = lattice.cells(X)
    mass = log_mass((lower[:, None, :] - centers) / widths, (upper[:, None, :] - centers) / widths) - inside
    P, own = lattice.positions(X)[:, None, :], lattice.positions(mixture.centers)[None]
    is_prior = jnp.arange(centers.shape[1])[None, :, None] == centers.shape[1] - 1
    n = mixture.counts.astype(X.dtype)[None, None, :]
    size = jnp.maximum(jnp.asarray(lattice.num_values), 1).astype(X.dtype)[None, None, :]
    same = ((P == own) & ~is_prior).astype(X.dtype)
    share = jnp.where(is_prior, 1.0 / size, (1.0 / n + same) / (1.0 + size / n))
    ordered = jnp.where(jnp.asarray(lattice.is_discrete)[None, None, :], mass, factors)
    return jnp.where(jnp.asarray(lattice.is_categorical)[None, None, :], jnp.log(share), ordered)


def log_mass(low: Float[Array, "*b"], high: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """log(Phi(high) - Phi(low)) for low <= high, to full relative accuracy in both tails; -inf where they are equal."""
    mirrored = low + high > 0
    low, high = jnp.where(mirrored, -high, low), jnp.where(mirrored, -low, high)
    top, ratio = log_ndtr(high), log_ndtr(low) - log_ndtr(high)
    ratio = jnp.minimum(ratio, 0.0)
    # log(1 - e^ratio), by Maechler's (2012) choice of the exact form.
    near = jnp.log(-jnp.expm1(jnp.where(ratio > -0.7, ratio, -1.0)))
    far = jnp.log1p(-jnp.exp(jnp.where(ratio > -0.7, -1.0, ratio)))
    return top + jnp.where(ratio > -0.7, near, far)


def sample(key: Key, lattice: Lattice, groups: Groups, mixture: Parzen, count: int) -> Float[Array, "c d"]:
    """Points drawn from the mixture, given the held coordinates.

    Args:
        key: random key.
        lattice: the columns of the cube, without conditions.
        groups: their groups.
        mixture: the estimator.
        count: number of points c.

    Returns:
        [c, d] points of the lattice.
    """
    keys, (num_kernels, d) = jax.random.split(key, 4), mixture.centers.shape
    dtype = mixture.centers.dtype
    logits = mixture.log_weights + _held_factors(lattice, groups, mixture)
    # The axis that may be padded comes first in all draws: the others then do not depend on the padding.
    noise = jax.random.gumbel(keys[0], (logits.shape[1], count, num_kernels), dtype)
    drawn = jnp.argmax(logits.T[:, None, :] + noise, axis=-1).T
    row, column = drawn[:, groups.of], jnp.arange(d)[None, :]
    center, width = mixture.centers[row, column], mixture.widths[row, column]
    low, high = -center.T / width.T, (1.0 - center.T) / width.T
    noise = jax.random.truncated_normal(keys[1], low, high, (d, count), dtype).T
    X = jnp.clip(center + width * noise, 0.0, 1.0)
    if not lattice.has_discrete:
        return lattice.snap(X)
    size = jnp.maximum(jnp.asarray(lattice.num_values), 1)[None, :]
    own = 1.0 / (1.0 + size.astype(dtype) / mixture.counts.astype(dtype)[None, :])
    stays = (jax.random.uniform(keys[2], (d, count), dtype).T < own) & (row < num_kernels - 1)
    any_value = jnp.minimum((jax.random.uniform(keys[3], (d, count), dtype).T * size).astype(jnp.int32), size - 1)
    chosen = jnp.where(stays, lattice.positions(center), any_value)
    P = jnp.where(jnp.asarray(lattice.is_categorical)[None, :], chosen, lattice.positions(X))
    return lattice.coordinates(P, X)


def _held_factors(lattice, groups, mixture):
    """[n, g] log density of the held coordinates under each kernel: kernels near to them are drawn more often."""
    held = lattice.held
    if isinstance(held, np.ndarray) and isinstance(lattice.live, np.ndarray) and np.isnan(held[lattice.live]).all():
        return jnp.zeros((), mixture.centers.dtype)
    fixed = ~jnp.isnan(jnp.asarray(held)) & jnp.asarray(lattice.live)
    place = jnp.where(fixed, held, 0.5).astype(mixture.centers.dtype)[None]
    factors = jnp.where(fixed[None, None, :], _log_factors(lattice, mixture, place), 0.0)
    return _summed(groups, factors)[0]
