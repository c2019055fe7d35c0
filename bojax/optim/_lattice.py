"""Discrete columns of a lattice: neighbors, seen and unseen points, and all points of a small space.

The lattice may be exact (constants) or padded (arguments of the program); the code is the same.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax._namespace import AnyArray, namespace
from bojax._qmc import shifted, sobol_integers, to_unit
from bojax._types import Array, Bool, Float, Key
from bojax.space import LONG_STEP, MAX_MOVES, Lattice

SAME = 1e-5
"""Points closer than this in every continuous column, and equal in the others, count as the same point. Native units
and storage round points, and closer points add nothing about a noiseless objective."""
ELSEWHERE = 512
"""Further points of a large finite space with conditions among which an unseen one is looked for."""


def all_points(lattice: Lattice, dtype) -> tuple[Float[Array, "n d"], Bool[Array, "n"]]:
    """Every point of a small finite lattice, [kind.max_points, d], and which rows are points; the others repeat."""
    if lattice.feasible is not None:
        X = lattice.pin(jnp.asarray(lattice.feasible.anchors, dtype))
        return X, (jnp.arange(X.shape[0]) < lattice.feasible.count) & lattice.is_inside(X)
    if lattice.is_conditional:  # rows may repeat: where columns are held, and at the end
        X = lattice.coordinates(lattice.table, jnp.full(lattice.table.shape, 0.5, dtype))
        return X, jnp.ones(X.shape[0], bool)
    P, _ = _enumerated(lattice, lattice.kind.max_points)
    total = jnp.prod(_sizes(lattice))
    return lattice.coordinates(P, jnp.full(P.shape, 0.5, dtype)), jnp.arange(P.shape[0]) < total


def is_seen(
    lattice: Lattice, X: Float[AnyArray, "r d"], seen_X: Float[AnyArray, "n d"], seen_mask: Bool[AnyArray, "n"]
) -> Any:
    """Whether each point coincides with a seen one: equal discrete values, the rest closer than `SAME`.

    Args:
        lattice: the columns of the cube.
        X: [r, d] points.
        seen_X: [n, d] seen points.
        seen_mask: [n] which of them count.

    Returns:
        [r] whether each point was seen.

    Example:
        >>> import bojax, jax.numpy as jnp
        >>> line = Lattice.of(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> is_seen(line, jnp.array([[0.5], [0.7]]), jnp.array([[0.5]]), jnp.array([True])).tolist()
        [True, False]
    """
    xp = namespace(X, seen_X, lattice.num_values)
    same = xp.abs(X[:, None, :] - seen_X[None, :, :]) < SAME
    if lattice.has_discrete:
        equal = lattice.positions(X)[:, None, :] == lattice.positions(seen_X)[None, :, :]
        same = xp.where(lattice.is_discrete[None, None, :], equal, same)
    return xp.any(xp.all(same, axis=-1) & seen_mask[None, :], axis=-1)


def nearby_unseen(
    lattice: Lattice, x: Float[AnyArray, "d"], seen_X: Float[AnyArray, "n d"], seen_mask: Bool[AnyArray, "n"]
) -> Any:
    """A point of a finite lattice that was not seen, and whether there is one.

    Enumerates the lattice from x, with the last columns varying fastest. At most n points are seen, so checking n + 1
    distinct points is enough. With conditions, points that differ only in inactive columns are the same: small spaces
    are checked whole, of larger ones `ELSEWHERE` more points of all branches. With constraints the anchors are checked,
    which are all feasible points of a small space, and the feasible ones of n + 1 points.

    Args:
        lattice: the columns of the cube, all of them discrete.
        x: [d] a point of the lattice.
        seen_X: [n, d] seen points.
        seen_mask: [n] which of them count.

    Returns:
        The point [d], and whether it is unseen.

    Example:
        >>> import bojax, jax.numpy as jnp
        >>> two = Lattice.of(bojax.Space(x=bojax.Categorical(["a", "b"])))
        >>> point, unseen = nearby_unseen(two, jnp.array([0.25]), jnp.array([[0.25]]), jnp.array([True]))
        >>> point.tolist(), bool(unseen)
        ([0.75], True)
    """
    xp = namespace(x, seen_X, lattice.num_values)
    needed = seen_X.shape[0] + 1
    if lattice.feasible is not None and lattice.kind.max_points:
        X, real = all_points(lattice, x.dtype) if xp is jnp else _all_on_host(lattice)
        fresh = real & ~is_seen(lattice, X, seen_X, seen_mask)
        distance = xp.where(fresh, xp.sum((X - x[None, :]) ** 2, axis=1), xp.inf)
        return X[xp.argmin(distance)], xp.any(fresh)
    if lattice.is_conditional and lattice.kind.max_points:
        P = xp.asarray(lattice.table)
    else:
        digits, sizes = _enumerated(lattice, min(lattice.kind.max_points or needed, needed))
        P = (lattice.positions(x)[None, :] + digits) % sizes[None, :]
    X = lattice.coordinates(P, xp.broadcast_to(x[None, :], P.shape))
    if lattice.is_conditional:
        spread = shifted(sobol_integers(ELSEWHERE, x.shape[-1]), xp.zeros(x.shape[-1], np.uint32), x.dtype)
        X = xp.concatenate([X, lattice.snap(xp.asarray(spread))])
    if lattice.feasible is not None:
        X = xp.concatenate([X, lattice.pin(xp.asarray(lattice.feasible.anchors, x.dtype))])
        fresh = lattice.is_inside(X) & ~is_seen(lattice, X, seen_X, seen_mask)
        return X[xp.argmax(fresh)], xp.any(fresh)
    fresh = ~is_seen(lattice, X, seen_X, seen_mask)
    return X[xp.argmax(fresh)], xp.any(fresh)


def _all_on_host(lattice):
    """`all_points` of a constrained lattice in NumPy."""
    X = lattice.pin(lattice.feasible.anchors)
    return X, (np.arange(len(X)) < lattice.feasible.count) & lattice.is_inside(X)


def _sizes(lattice):
    """[d] number of values of each column; 1 where it is continuous or padding."""
    return namespace(lattice.num_values).maximum(lattice.num_values, 1)


def _enumerated(lattice, count):
    """The positions [count, d] of the first points, the last columns varying fastest, and the sizes [d]."""
    xp, sizes = namespace(lattice.num_values), _sizes(lattice)
    # Strides beyond 2^30 saturate: no index reaches them. Below 2^24 they are exact.
    strides = xp.cumprod(xp.concatenate([xp.ones(1, np.float32), sizes[::-1].astype(np.float32)]))[:-1][::-1]
    strides = xp.minimum(strides, np.float32(2**30)).astype(np.int32)
    rows = xp.arange(count, dtype=np.int32)
    return rows[:, None] // strides[None, :] % sizes[None, :], sizes


def neighbors(key: Key, lattice: Lattice, X: Float[Array, "r d"]) -> Float[Array, "r m d"]:
    """The neighbors of each point, starting with the point itself; a random subset if there are many.

    Moves lead to every other category, and to adjacent values (and a long step away) of ordered columns.
    """
    counts = jnp.asarray(lattice.num_moves)
    ends = jnp.cumsum(counts)
    slots = lattice.kind.max_moves
    chosen = jnp.arange(slots - 1, dtype=jnp.int32)  # of the moves that move
    if slots == MAX_MOVES:
        unit = to_unit(jax.random.bits(key, (slots - 1,), jnp.uint32), jnp.float32)
        drawn = jnp.minimum((unit * ends[-1]).astype(jnp.int32), ends[-1] - 1)
        chosen = jnp.where(ends[-1] >= slots, drawn, chosen)
    column = jnp.minimum(jnp.sum(chosen[:, None] >= ends[None, :], axis=1), lattice.num_dims - 1)
    number = chosen - (ends - counts)[column]
    size = jnp.asarray(_sizes(lattice))[column]
    wraps = jnp.asarray(lattice.is_categorical)[column]
    step = jnp.where(number < 2, 1, jnp.maximum(1, size // LONG_STEP)) * jnp.where(number % 2 == 0, -1, 1)
    delta = jnp.where(wraps, number + 1, step)
    delta = jnp.where(chosen < ends[-1], delta, 0)
    column, delta, wraps, size = (
        jnp.concatenate([jnp.zeros(1, a.dtype), a]) for a in (column, delta.astype(jnp.int32), wraps, size)
    )

    P = lattice.positions(X)
    moved = P[:, column] + delta[None, :]
    size = jnp.maximum(size, 1)[None, :]
    moved = jnp.where(wraps[None, :], moved % size, jnp.clip(moved, 0, size - 1))
    moved = jnp.where(delta[None, :] == 0, P[:, column], moved)
    hit = column[:, None] == jnp.arange(lattice.num_dims)[None, :]
    new_P = jnp.where(hit[None, :, :], moved[:, :, None], P[:, None, :])
    return lattice.coordinates(new_P, jnp.broadcast_to(X[:, None, :], new_P.shape))
