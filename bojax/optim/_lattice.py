"""Discrete dimensions: snapping, neighbors, and unseen points.

A `Lattice` defines which columns of the cube are discrete, and maps between coordinates and positions (integer indices
of values). Two discrete points are equal exactly when their positions are.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._types import Array, Bool, Float, Int, Key
from bojax.space import Space

MAX_MOVES = 128
"""Maximum number of neighbors evaluated in one step; of more, a random subset is used."""
LONG_STEP = 8
"""Ordered columns with more than twice this number of values also move by an eighth of their range."""
SAME = 1e-5
"""Points closer than this in every continuous column, and equal in the others, count as the same point. Native units
and storage round points, and closer points add nothing about a noiseless objective."""


class Lattice(NamedTuple):
    """The discrete columns of the unit cube. Static: fully known before compilation.

    Attributes:
        num_values: [d] number of values of each column; 0 for a continuous one.
        is_categorical: [d] which columns have no order.
        positions: `positions(X [..., d]) -> int32 [..., d]`, 0 in continuous columns.
        coordinates: `coordinates(P [..., d], X [..., d]) -> X`, the discrete columns of X replaced by positions P.
        held: [d] fixed coordinates of every point, NaN where a column is free; None if all are free.
    """

    num_values: tuple[int, ...]
    is_categorical: tuple[bool, ...]
    positions: Callable[..., Int[Array, "*b d"]]
    coordinates: Callable[..., Float[Array, "*b d"]]
    held: Float[Array, "d"] | None = None

    @classmethod
    def of(cls, space: Any) -> "Lattice":
        """The columns of a space.

        Args:
            space: a `bojax.Space`.

        Returns:
            The lattice of its representable points.

        Raises:
            TypeError: when `space` is not a `Space`.

        Example:
            >>> import bojax
            >>> Lattice.of(bojax.Space(x=bojax.Float(0.0, 1.0), n=bojax.Int(1, 4))).discrete
            (1,)
        """
        if not isinstance(space, Space):
            raise TypeError(f"`space` must be a bojax.Space, got {type(space).__name__}. Wrap it: bojax.Space(...).")
        return cls(space.num_values, space.is_categorical, space.positions, space.coordinates)

    @property
    def num_dims(self) -> int:
        """Number of columns."""
        return len(self.num_values)

    @property
    def discrete(self) -> tuple[int, ...]:
        """The discrete columns."""
        return tuple(i for i, k in enumerate(self.num_values) if k)

    @property
    def cardinality(self) -> int | None:
        """Number of points; None if a column is continuous."""
        return math.prod(self.num_values) if all(self.num_values) else None

    def snap(self, X: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """The nearest points of the lattice; continuous columns are kept unless held."""
        return self.coordinates(self.positions(X), X) if self.discrete else self.pin(X)

    def pin(self, X: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """The points with the held coordinates."""
        return X if self.held is None else jnp.where(jnp.isnan(self.held), X, self.held.astype(X.dtype))

    def hold(self, held: Float[Array, "d"] | None) -> "Lattice":
        """The lattice with these coordinates held; NaN leaves a column free, None leaves all free."""
        if held is None:
            return self
        fixed = self._replace(held=held)
        return fixed._replace(coordinates=lambda P, X: fixed.pin(self.coordinates(P, X)))


def all_points(lattice: Lattice, dtype) -> Float[Array, "n d"]:
    """Every point of a finite lattice, [cardinality, d]."""
    grid = np.indices(lattice.num_values).reshape(lattice.num_dims, -1).T
    return lattice.coordinates(jnp.asarray(grid, jnp.int32), jnp.full(grid.shape, 0.5, dtype))


def is_seen(
    lattice: Lattice, X: Float[Array, "r d"], seen_X: Float[Array, "n d"], seen_mask: Bool[Array, "n"]
) -> Bool[Array, "r"]:
    """Whether each point coincides with a seen one: equal discrete values, the rest closer than `SAME`.

    Args:
        lattice: the columns of the cube.
        X: [r, d] points.
        seen_X: [n, d] seen points.
        seen_mask: [n] which of them count.

    Returns:
        [r] whether each point was seen.

    Example:
        >>> import jax.numpy as jnp
        >>> line = Lattice((0,), (False,), lambda X: jnp.zeros(X.shape, jnp.int32), lambda P, X: X)
        >>> is_seen(line, jnp.array([[0.5], [0.7]]), jnp.array([[0.5]]), jnp.array([True])).tolist()
        [True, False]
    """
    same = jnp.broadcast_to(seen_mask[None, :], (X.shape[0], seen_X.shape[0]))
    if lattice.discrete:
        columns = np.asarray(lattice.discrete)
        P, seen_P = lattice.positions(X)[:, columns], lattice.positions(seen_X)[:, columns]
        same &= jnp.all(P[:, None, :] == seen_P[None, :, :], axis=-1)
    if lattice.cardinality is None:
        columns = np.flatnonzero(np.asarray(lattice.num_values) == 0)
        near = jnp.abs(X[:, None, columns] - seen_X[None, :, columns]) < SAME
        same &= jnp.all(near, axis=-1)
    return jnp.any(same, axis=-1)


def nearby_unseen(
    lattice: Lattice, x: Float[Array, "d"], seen_X: Float[Array, "n d"], seen_mask: Bool[Array, "n"]
) -> tuple[Float[Array, "d"], Bool[Array, ""]]:
    """A point of a finite lattice that was not seen, and whether there is one.

    Enumerates the lattice from x, with the last columns varying fastest. At most n points are seen, so checking n + 1
    distinct points is enough.

    Args:
        lattice: the columns of the cube, all of them discrete.
        x: [d] a point of the lattice.
        seen_X: [n, d] seen points.
        seen_mask: [n] which of them count.

    Returns:
        The point [d], and whether it is unseen.

    Example:
        >>> import jax.numpy as jnp
        >>> two = Lattice((2,), (True,), lambda X: (2 * X).astype(jnp.int32), lambda P, X: (P + 0.5) / 2)
        >>> point, unseen = nearby_unseen(two, jnp.array([0.25]), jnp.array([[0.25]]), jnp.array([True]))
        >>> point.tolist(), bool(unseen)
        ([0.75], True)
    """
    needed = seen_X.shape[0] + 1
    columns, total = [], 1
    for column in reversed(lattice.discrete):
        if total >= needed:
            break
        columns.append(column)
        total *= lattice.num_values[column]
    count = min(total, needed)
    digits = np.zeros((count, lattice.num_dims), np.int32)
    rest = np.arange(count)
    for column in columns:
        digits[:, column] = rest % lattice.num_values[column]
        rest = rest // lattice.num_values[column]
    sizes = np.maximum(np.asarray(lattice.num_values, np.int32), 1)
    P = (lattice.positions(x)[None, :] + jnp.asarray(digits)) % jnp.asarray(sizes)[None, :]
    X = lattice.coordinates(P, jnp.broadcast_to(x, (count, x.shape[-1])))
    fresh = ~is_seen(lattice, X, seen_X, seen_mask)
    return X[jnp.argmax(fresh)], jnp.any(fresh)


class Moves(NamedTuple):
    """Steps to neighbors: in `column`, by `delta` positions, with or without wrapping. The first step is no move."""

    column: np.ndarray
    delta: np.ndarray
    wraps: np.ndarray


def moves(lattice: Lattice) -> Moves:
    """All steps to neighbors: every other category, and adjacent values (and a long step) of ordered columns."""
    rows = [(0, 0, False)]
    for column in lattice.discrete:
        k = lattice.num_values[column]
        if lattice.is_categorical[column]:
            rows += [(column, delta, True) for delta in range(1, k)]
        else:
            steps = {1, max(1, k // LONG_STEP)} if k > 2 * LONG_STEP else {1}
            rows += [(column, sign * step, False) for step in sorted(steps) for sign in (-1, 1)]
    column, delta, wraps = zip(*rows, strict=True)
    return Moves(np.array(column, np.int32), np.array(delta, np.int32), np.array(wraps, bool))


def neighbors(key: Key, lattice: Lattice, steps: Moves, X: Float[Array, "r d"]) -> Float[Array, "r m d"]:
    """The neighbors of each point, starting with the point itself; a random subset if there are many."""
    count = len(steps.column)
    chosen = jnp.arange(count)
    if count > MAX_MOVES:
        others = 1 + jax.random.permutation(key, count - 1)[: MAX_MOVES - 1]
        chosen = jnp.concatenate([jnp.zeros(1, others.dtype), others])
    column = jnp.asarray(steps.column)[chosen]
    delta = jnp.asarray(steps.delta)[chosen]
    wraps = jnp.asarray(steps.wraps)[chosen]

    P = lattice.positions(X)
    size = jnp.maximum(jnp.asarray(np.asarray(lattice.num_values, np.int32)), 1)[column][None, :]
    moved = P[:, column] + delta[None, :]
    moved = jnp.where(wraps[None, :], moved % size, jnp.clip(moved, 0, size - 1))
    hit = column[:, None] == jnp.arange(lattice.num_dims)[None, :]
    new_P = jnp.where(hit[None, :, :], moved[:, :, None], P[:, None, :])
    return lattice.coordinates(new_P, jnp.broadcast_to(X[:, None, :], new_P.shape))
