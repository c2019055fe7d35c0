"""Space-filling suggestions: the initial design and the fallback of every algorithm.

Given NumPy arrays, `design` computes on the host, without compilation: a study's first points wait for no compiler.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bojax import data
from bojax._namespace import AnyArray, namespace
from bojax._qmc import shifted, sobol_integers
from bojax._types import Float, Int
from bojax.data import next_capacity
from bojax.optim import SAME, Seen, is_seen, nearby_unseen
from bojax.space import Lattice

DESIGN_SIZE = 4096
"""Maximum number of points of the sequence in use. They are at least 1 / DESIGN_SIZE apart in every continuous
dimension, far more than `optim._lattice.SAME`."""
FALLBACK_SIZE = 512
"""Points of the sequence among which a fallback looks for unseen ones."""
BLOCK = 256
"""Points compared with the seen ones at a time on the host."""


def design_points(
    lattice: Lattice, shift: AnyArray, seen: Seen, q: int, num_initial: int, dtype, complete: Any = True
) -> Any:
    """The first q points of a shifted Sobol sequence that are not among the seen ones, snapped to the lattice.

    With constraints, points that fill the feasible part stand in place of infeasible ones.

    Searching for missing points, rather than counting, fills the gaps left by lost evaluations.

    Args:
        lattice: the columns of the cube.
        shift: [d] digital shift of the sequence.
        seen: observed or pending points.
        q: number of points.
        num_initial: size of the design; the search for gaps extends slightly beyond it.
        dtype: float type of the points.
        complete: whether to search until q unseen points are found, [] bool. A fallback among thousands of seen points
            needs no complete search.
    """
    # With q points more than can have been seen, at least q are unseen.
    size = min(DESIGN_SIZE, next_capacity(num_initial + q + seen.X.shape[0]))
    if namespace(shift, seen.X, lattice.num_values) is np:
        return _first_unseen_on_host(lattice, shift, seen, q, size, dtype)

    def among(count):
        candidates = lattice.spread(lattice.snap(shifted(sobol_integers(count, lattice.num_dims), shift, dtype)))
        # Unseen points in order, then the others: a finite space may have fewer points than the design.
        return candidates[jnp.argsort(_coincides(candidates, seen), stable=True)[:q]]

    few = FALLBACK_SIZE + q
    return among(size) if size <= few else jax.lax.cond(complete, lambda: among(size), lambda: among(few))


def _coincides(candidates, seen):
    """[k] whether each candidate is one of the seen points."""
    xp = namespace(candidates, seen.X)
    near = xp.max(xp.abs(candidates[:, None, :] - seen.X[None, :, :]), axis=-1) < SAME
    return xp.any(near & seen.mask[None, :], axis=1)


def _first_unseen_on_host(lattice, shift, seen, q, size, dtype):
    """As `design_points`, block by block, which takes little memory."""
    candidates = lattice.spread(lattice.snap(shifted(sobol_integers(size, lattice.num_dims), shift, dtype)))
    unseen: list[int] = []
    for first in range(0, size, BLOCK):
        block = candidates[first : first + BLOCK]
        unseen += (first + np.flatnonzero(~_coincides(block, seen))).tolist()
        if len(unseen) >= q:
            return candidates[unseen[:q]]
    others = np.setdiff1d(np.arange(size), unseen)
    return candidates[np.concatenate([np.asarray(unseen, int), others])[:q]]


def design(
    lattice: Lattice, shift: AnyArray, seen: Seen, q: int, num_initial: int, dtype, *, complete: Any = True
) -> Any:
    """The next q distinct points of the design, and which of them are new; arguments as in `design_points`."""
    # Points of the sequence may coincide when coordinates are held or columns have few values.
    points = design_points(lattice, shift, seen, 4 * q + 16, num_initial, dtype, complete)
    return replace_seen(lattice, points[:q], seen, points)


def design_on_host(
    lattice: Lattice, shift: np.ndarray, told: data.Told, q: int, num_initial: int
) -> tuple[np.ndarray, np.ndarray]:
    """`design` among the data of a study, in NumPy."""
    X: Any = np.concatenate([told.X, told.pending, np.full((q, lattice.num_dims), 0.5)])
    real: Any = np.arange(len(X)) < len(X) - q
    return design(lattice, shift, Seen(X, real), q, num_initial, X.dtype)


def seen_points(observations: data.Observations, pending: data.Pending, num_spare: int) -> Seen:
    """All observed (failed ones included) and pending points, with spare rows at the end.

    Args:
        observations: the observations.
        pending: the pending points.
        num_spare: rows to add for points that are about to be chosen.

    Returns:
        Points [n + p + num_spare, d], and which of them count.

    Example:
        >>> from bojax import data, loop
        >>> loop.seen_points(data.empty(2, 4), data.empty_pending(2, 8), 1).X.shape
        (13, 2)
    """
    num_dims = observations.X.shape[-1]
    return Seen(
        X=jnp.concatenate([observations.X, pending.X, jnp.full((num_spare, num_dims), 0.5, observations.X.dtype)]),
        mask=jnp.concatenate([observations.told, pending.mask, jnp.zeros(num_spare, bool)]),
    )


def mark_seen(seen: Seen, row: Int[AnyArray, ""] | int, x: Float[AnyArray, "d"]) -> Seen:
    """Write one more point into a spare row."""
    if namespace(seen.X, x) is jnp:
        return Seen(X=seen.X.at[row].set(x), mask=seen.mask.at[row].set(True))
    X, mask = seen.X.copy(), seen.mask.copy()
    X[row], mask[row] = x, True
    return Seen(X, mask)


def _feasible_others(lattice, others):
    """Replacements with the anchors behind them, and which are feasible."""
    if lattice.feasible is None:
        return others, True
    xp = namespace(others, lattice.feasible.anchors, lattice.held)
    others = xp.concatenate([others, lattice.pin(xp.asarray(lattice.feasible.anchors, others.dtype))])
    return others, lattice.is_inside(others)


def replace_seen(lattice: Lattice, X: Float[AnyArray, "q d"], seen: Seen, others: Float[AnyArray, "m d"]) -> Any:
    """Replace seen points and duplicates in X, so that no point is evaluated twice, and make all points feasible.

    Args:
        lattice: the columns of the cube.
        X: [q, d] points.
        seen: points not to repeat; its last q rows are spare.
        others: [m, d] replacements, in this order, if the space is infinite; in a finite space unseen neighbors are
            used.

    Returns:
        The points, and which of them are new and feasible; all are, unless a finite space is exhausted or held
        coordinates leave no feasible point.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import Float, Space, data, loop
        >>> from bojax.space import Lattice
        >>> lattice = Lattice.of(Space(x=Float(0.0, 1.0)))
        >>> told = data.append(data.empty(1, 2), jnp.array([[0.5]]), jnp.ones(1))
        >>> seen = loop.seen_points(told, data.empty_pending(1, 0), num_spare=1)
        >>> loop.replace_seen(lattice, jnp.array([[0.5]]), seen, jnp.array([[0.5], [0.25]]))[0].tolist()
        [[0.25]]
    """
    q = X.shape[0]
    first_spare = seen.X.shape[0] - q
    xp = namespace(X, seen.X, others, lattice.num_values)
    others, usable = _feasible_others(lattice, others)
    X = lattice.repaired(X)

    def place(seen, item):
        i, x = item
        if lattice.is_finite:
            other, any_left = nearby_unseen(lattice, x, seen.X, seen.mask)
        else:
            fresh = usable & ~is_seen(lattice, others, seen.X, seen.mask)
            other, any_left = others[xp.argmax(fresh)], xp.bool_(True)
        x = xp.where(is_seen(lattice, x[None], seen.X, seen.mask)[0], other, x)
        return mark_seen(seen, first_spare + i, x), (x, any_left & lattice.is_inside(x))

    if xp is jnp:
        _, (X, valid) = jax.lax.scan(place, seen, (jnp.arange(q, dtype=jnp.int32), X))
        return X, valid
    placed = []
    for i in range(q):
        seen, row = place(seen, (i, X[i]))
        placed.append(row)
    return xp.stack([x for x, _ in placed]), xp.stack([any_left for _, any_left in placed])
