"""Points of a fixed sequence that were not told yet: what a search of known order asks for next.

The place in the sequence is not stored but found: the first points that are neither observed nor pending. So a study
that is rebuilt from its trials goes on where it stopped, and points whose evaluation was lost are asked for again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._types import Array, Bool, Float, Int
from bojax.optim import Seen, is_seen
from bojax.space import Lattice

BLOCK = 256
"""Points of the sequence that are compared with the seen ones at a time."""


class Unseen(NamedTuple):
    """The first unseen points of a sequence.

    Attributes:
        X: [k, d] the points, in the order of the sequence; rows that are not found hold its first point.
        found: how many rows are found.
    """

    X: Float[Array, "k d"]
    found: Int[Array, ""]


def first_unseen(
    lattice: Lattice,
    points: Callable[[Int[Array, "b"]], Float[Array, "b d"]],
    total: Any,
    seen: Seen,
    count: int,
) -> Unseen:
    """The first unseen points of a sequence of distinct points, without those that break a constraint of the space.

    Args:
        lattice: the columns of the cube, by which points are compared.
        points: from numbers [b] to the points [b, d] of the sequence.
        total: length of the sequence, or of the part that is searched, [] int32.
        seen: the points not to repeat.
        count: number of points to look for.

    Returns:
        The points, and how many there are.
    """
    offsets = jnp.arange(BLOCK, dtype=jnp.int32)
    first = points(jnp.zeros(1, jnp.int32))

    def unfinished(carry: tuple[Any, Unseen]) -> Bool[Array, ""]:
        start, unseen = carry
        return (unseen.found < count) & (start < total)

    def step(carry: tuple[Any, Unseen]) -> tuple[Any, Unseen]:
        start, unseen = carry
        X = points(start + offsets)
        fresh = ~is_seen(lattice, X, seen.X, seen.mask) & (start + offsets < total) & lattice.is_inside(X)
        row = unseen.found + jnp.cumsum(fresh, dtype=jnp.int32) - 1
        rows = unseen.X.at[jnp.where(fresh, row, count)].set(X, mode="drop")
        return start + BLOCK, Unseen(rows, jnp.minimum(unseen.found + jnp.sum(fresh, dtype=jnp.int32), count))

    nothing = Unseen(jnp.broadcast_to(first, (count, lattice.num_dims)), jnp.int32(0))
    return jax.lax.while_loop(unfinished, step, (jnp.int32(0), nothing))[1]
