"""Maximize a function that is lowered after every maximum: the points of a batch, chosen one after another.

    raw samples --values--> pool
    best of the pool, fresh samples --values--> starts --BFGS--> best lane; values and lanes return to the pool

Each chosen point lowers the expected gain of the others, so a value from an earlier turn bounds the later ones. Only
the samples with the largest bounds are evaluated again (lazy greedy maximization: Minoux 1978). The lanes of the last
search are among them, since most peaks stay where they were. The joint polish of the batch follows, so few restarts and
evaluations suffice (figures: `benchmarks/results/algorithms.md`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bojax._types import Array, Float, Key
from bojax.optim._chunked import chunked, sharded
from bojax.optim._multistart import (
    BatchFn,
    CandidateInfo,
    MultistartSettings,
    Seen,
    best_unseen,
    choose_starts,
    evaluated,
    local_search,
    nan_as_lowest,
    num_raw_bits,
    raw_points,
    scale_of,
)
from bojax.space import Lattice

TURN_RESTARTS = 5
TURN_EVALS = 20
"""Upper limits in one turn. More make no better batches after the polish (benchmarks/results/algorithms.md)."""
KEPT_SHARE = 8
FRESH_SHARE = 2
"""One in this many raw samples is kept from the pool, and one in this many is drawn afresh, in every turn. With half as
many fresh ones a batch in thirty misses a narrow peak."""


class Pool(NamedTuple):
    """Points among which a turn looks for its starts.

    Attributes:
        X: [p, d] raw samples, and the end points of the last search.
        bounds: [p] their values when last evaluated, which later turns are expected not to exceed.
    """

    X: Float[Array, "p d"]
    bounds: Float[Array, "p"]


def first_pool(
    settings: MultistartSettings, key: Key, lattice: Lattice, fn: BatchFn, center: Float[Array, "d"]
) -> Pool:
    """The raw samples with their values.

    Args:
        settings: those of the candidate optimizer.
        key: random key.
        lattice: the columns of the cube.
        fn: maps [k, d] points to [k] values, each row independently; larger is better.
        center: [d] a good point, around which some samples are drawn.

    Returns:
        A `Pool` of the samples, with room for the lanes of a search.

    Example:
        >>> import jax, jax.numpy as jnp, bojax
        >>> from bojax.optim import Lattice, multistart
        >>> lattice = Lattice.of(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> settings = multistart(num_restarts=2, raw_samples=16).settings
        >>> pool = first_pool(settings, jax.random.key(0), lattice, lambda X: -X[:, 0], jnp.array([0.5]))
        >>> pool.X.shape
        (18, 1)
    """
    bits = jax.random.bits(key, (num_raw_bits(settings.raw_samples, lattice.num_dims),), jnp.uint32)
    raw = raw_points(bits, lattice, settings.raw_samples, center)
    spare = _num_lanes(settings)
    values = evaluated(chunked(fn, settings.max_rows), settings.mesh)(raw)
    X = jnp.concatenate([raw, jnp.broadcast_to(raw[:1], (spare, raw.shape[1]))])
    return Pool(X, jnp.concatenate([values, jnp.full(spare, -jnp.inf, values.dtype)]))


def next_candidate(
    settings: MultistartSettings,
    key: Key,
    lattice: Lattice,
    fn: BatchFn,
    seen: Seen,
    center: Float[Array, "d"],
    pool: Pool,
) -> tuple[Float[Array, "d"], CandidateInfo, Pool]:
    """The point where the function of this turn is largest.

    Args:
        settings: those of the candidate optimizer.
        key: random key.
        lattice: the columns of the cube.
        fn: maps [k, d] points to [k] values, at most those of the turn before (a heuristic where they are larger).
        seen: points not to propose again.
        center: [d] a good point to search around.
        pool: samples with bounds of their values.

    Returns:
        The candidate [d], how it was found (`CandidateInfo`), and the `Pool` for the turn after it.

    Example:
        >>> import jax, jax.numpy as jnp, bojax
        >>> from bojax.optim import Lattice, Seen, multistart
        >>> lattice = Lattice.of(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> settings, fn = multistart(num_restarts=2, raw_samples=16).settings, lambda X: -((X[:, 0] - 0.25) ** 2)
        >>> nothing, center = Seen(jnp.zeros((0, 1)), jnp.zeros(0, bool)), jnp.array([0.5])
        >>> pool = first_pool(settings, jax.random.key(0), lattice, fn, center)
        >>> x, info, pool = next_candidate(settings, jax.random.key(1), lattice, fn, nothing, center, pool)
        >>> round(float(x[0]), 2)
        0.25
    """
    lanes, kept = _num_lanes(settings), max(_num_lanes(settings), settings.raw_samples // KEPT_SHARE)
    fresh = max(1, settings.raw_samples // FRESH_SHARE)
    num_bits = num_raw_bits(fresh, lattice.num_dims)
    bits = jax.random.bits(key, (kept + fresh + num_bits,), jnp.uint32)
    _, rows = jax.lax.top_k(pool.bounds, kept)
    X = jnp.concatenate([pool.X[rows], raw_points(bits[kept + fresh :], lattice, fresh, center)])
    fn = chunked(fn, settings.max_rows)
    values = evaluated(fn, settings.mesh)(X)
    starts, scale = X[choose_starts(bits[: kept + fresh], values, lanes)], scale_of(values)
    evals = min(settings.max_evals, TURN_EVALS)
    search = sharded(lambda starts: local_search(key, lattice, fn, starts, scale, evals), settings.mesh)
    ends, end_values = search(starts)
    end_values = nan_as_lowest(end_values)
    x, info = best_unseen(lattice, ends, end_values, seen, X, jnp.max(values))
    n = settings.raw_samples
    after = Pool(pool.X.at[n:].set(ends), pool.bounds.at[rows].set(values[:kept]).at[n:].set(end_values))
    return x, info, after


def _num_lanes(settings):
    return min(settings.num_restarts, TURN_RESTARTS)
