"""Grid search: every point of a grid once, in an order that the key of `init` determines.

The grid is never stored. Point i of the order is computed from i: the branch of a conditional space, then one digit a
column, then a random map of the digits onto themselves that leaves no point out and repeats none:

    i --> branch, t --> digits (t mod s_1, t // s_1 mod s_2, ...) --> digit_k + hash(other digits) mod s_k --> point

Branches (the values of the columns that others depend on) take turns until each is exhausted.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax import data
from bojax._errors import Status
from bojax._types import Array, Int
from bojax.loop._algorithm import MIN_PENDING, Algorithm, Info, compiled_ask, keyed_init, status_of, tell_state
from bojax.loop._design import seen_points
from bojax.loop._model_based import check_counts
from bojax.loop._sequence import first_unseen
from bojax.optim import Lattice
from bojax.space import Categorical, Space

NUM_POINTS = 10
"""Points of a continuous column unless stated."""
MAX_POINTS = 10_000
"""Most points of a continuous column: closer ones than 1e-4 count as nearly the same."""
MAX_BRANCHES = 1 << 16
"""Most combinations of values on which other columns depend: their table has this many rows."""
LIMIT = 1 << 30
"""Points of larger grids are counted up to here; no buffer holds so many."""
ROUNDS = 2
"""Times that each digit is moved by the others. After two each depends on all."""


class GridSearchState(NamedTuple):
    """What the next `ask` of grid search needs.

    Attributes:
        observations: the observations.
        pending: the pending points.
        order: [2, 2, d] random integers that determine the order, uint32.
    """

    observations: data.Observations
    pending: data.Pending
    order: Int[Array, "2 2 d"]


class Grid(NamedTuple):
    """A grid as arrays.

    Attributes:
        sizes: [c, d] number of points of each column in each branch; 1 where the branch or a condition fixes it.
        branches: [c, d] positions of the columns that others depend on; 0 elsewhere.
        fixed: [c, d] which of them are fixed by the branch: those that exist there.
        steps: [d] factors of the digits, without a common divisor with the column's number of points.
        places: [p] coordinates of the points of continuous columns, one column after another.
        positions: [r] positions of those values of discrete columns that are used, where not all are.
        place_at: [d] where a column begins in `places`; -1 for a discrete one.
        position_at: [d] where it begins in `positions`; -1 if all its values are used.
    """

    sizes: np.ndarray
    branches: np.ndarray
    fixed: np.ndarray
    steps: np.ndarray
    places: np.ndarray
    positions: np.ndarray
    place_at: np.ndarray
    position_at: np.ndarray


def grid_search(
    space: Space, *, q: int = 1, num_points: int | Mapping[str, int] | None = None, capacity: int = 64
) -> Algorithm:
    """Every point of a grid exactly once.

    Discrete columns have all their values, continuous ones evenly spaced points from end to end (on the log scale if
    the parameter has one). The grid may be arbitrarily large, since it is not stored. The order looks random, so that a
    search that is stopped early has seen all of the grid; the branches of a conditional space take turns. When all
    points are told or pending, `Info.status` is `Status.EXHAUSTED` and `Info.valid` false, and `Study.ask` raises
    `SpaceExhaustedError`. Points that were told but are not on the grid do not matter.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1.
        num_points: number of points of each continuous column, 1 to 10,000 (one point is the middle), 10 by default; or
            a mapping from names to numbers, which may name ordered discrete columns, too.
        capacity: room for this many observations, >= 1.

    Returns:
        An `Algorithm` whose `ask` returns an `Info`. Its key has no influence.

    Raises:
        ValueError: when a number is out of range, a column cannot be thinned out, a name is unknown, `num_points` has
            no effect, or more than 65,536 combinations of values decide which columns exist.
        TypeError: when `space` is not a `Space`, or `num_points` is neither.

    Example:
        >>> import jax, bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0), kind=bojax.Categorical(["a", "b"]))
        >>> algorithm = bojax.grid_search(space, q=6, num_points=3)
        >>> X, state, info = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
        >>> sorted(X.tolist())
        [[0.0, 0.25], [0.0, 0.75], [0.5, 0.25], [0.5, 0.75], [1.0, 0.25], [1.0, 0.75]]
        >>> state = algorithm.tell(state, X, jax.numpy.zeros(6))
        >>> X, state, info = algorithm.ask(jax.random.key(2), state)
        >>> bojax.Status(int(info.status)).name
        'EXHAUSTED'
    """
    lattice = Lattice.of(space)
    check_counts(q=q, capacity=capacity)
    grid = _grid(space, _resolution(space, num_points))

    @keyed_init
    def init(key):
        return GridSearchState(
            observations=data.empty(space.num_dims, capacity),
            pending=data.empty_pending(space.num_dims, max(q, MIN_PENDING)),
            order=jax.random.bits(key, (2, ROUNDS, space.num_dims), jnp.uint32),
        )

    @compiled_ask
    def ask(key, state, held=None):
        del key
        seen, dtype = seen_points(state.observations, state.pending, q), state.observations.X.dtype
        here = lattice.hold(held)
        free = jnp.isnan(jnp.asarray(here.held))
        sizes = jnp.where(free[None, :], grid.sizes, 1)
        wanted = here.positions(jnp.where(free, 0.5, here.held).astype(dtype))
        impossible = jnp.any(grid.fixed & ~free[None, :] & (grid.branches != wanted[None, :]), axis=1)
        turns = _turns(jnp.where(impossible, 0, _product(sizes)))

        def points(numbers):
            branch, number = turns.of(numbers)
            digits = _mixed(state.order, _digits(number, sizes[branch]), sizes[branch], grid.steps)
            P = jnp.where(jnp.asarray(grid.fixed)[branch], jnp.asarray(grid.branches)[branch], digits)
            few, place = grid.position_at[None, :], grid.place_at[None, :]
            P = jnp.where(few < 0, P, jnp.asarray(grid.positions)[P + np.maximum(few, 0)])
            X = jnp.where(place < 0, 0.5, jnp.asarray(grid.places, dtype)[digits + np.maximum(place, 0)])
            return here.round(here.coordinates(P, X))

        unseen = first_unseen(here, points, turns.total, seen, q)
        valid = jnp.arange(q) < unseen.found
        pending = data.add_pending(state.pending, unseen.X, valid)
        return unseen.X, state._replace(pending=pending), Info(status_of(Status.OK, state, valid), valid)

    def tell(state, X, y, **columns):
        return tell_state(space, state, X, y, **columns)

    return Algorithm(init=init, ask=ask, tell=tell, space=space, q=q)


class _Turns(NamedTuple):
    """The order of the branches, shortest first: in segment k those from k on take turns.

    Attributes:
        order: [c] the branches by their number of points.
        begins: [c] the number of points of a branch that were visited before segment k.
        ends: [c] the number of all points up to the end of segment k.
    """

    order: Any
    begins: Any
    ends: Any

    @property
    def total(self) -> Any:
        """The number of points of all branches."""
        return self.ends[-1]

    def of(self, numbers: Any) -> tuple[Any, Any]:
        """The branch of each point, and the point's number in it."""
        last = self.ends.shape[0] - 1
        k = jnp.minimum(jnp.searchsorted(self.ends, numbers, side="right"), last).astype(jnp.int32)
        offset = numbers - jnp.where(k > 0, self.ends[k - 1], 0)
        alive = last + 1 - k
        return self.order[jnp.minimum(k + offset % alive, last)], self.begins[k] + offset // alive


def _turns(counts):
    order = jnp.argsort(counts).astype(jnp.int32)
    ends = counts[order]
    begins = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]])
    alive = jnp.arange(ends.shape[0], 0, -1, dtype=jnp.int32)
    lengths = jnp.where(ends - begins > LIMIT // alive, LIMIT, (ends - begins) * alive)
    return _Turns(order, begins, jax.lax.associative_scan(lambda a, b: jnp.minimum(a + b, LIMIT), lengths))


def _product(sizes):
    """The number of points of each branch [c], at most `LIMIT`."""

    def times(count, size):
        return jnp.where(count > LIMIT // size, LIMIT, count * size), None

    return jax.lax.scan(times, jnp.ones(sizes.shape[0], jnp.int32), sizes.T)[0]


def _digits(number, sizes):
    """The digits [b, d] of numbers [b], the first column varying fastest."""

    def split(rest, size):
        return rest // size, rest % size

    return jax.lax.scan(split, number, sizes.T)[1].T


def _mixed(order, digits, sizes, steps):
    """Other digits [b, d]: a map of all digits onto themselves, one reversible step after another."""
    sizes, digits = sizes.astype(jnp.uint32), digits.astype(jnp.uint32)

    def double(j, carry):  # steps times digits modulo sizes, bit by bit, within 32 bits
        product, power = carry
        product = jnp.where((steps >> j & 1).astype(bool)[None, :], (product + power) % sizes, product)
        return product, (power + power) % sizes

    digits, _ = jax.lax.fori_loop(0, 32, double, (jnp.zeros_like(digits), digits % sizes))
    num_dims = digits.shape[1]

    def move(i, digits):
        r, k = i // num_dims, i % num_dims
        terms = order[0, r][None, :] * (digits + 1)
        others = jnp.sum(jnp.where(jnp.arange(num_dims)[None, :] == k, jnp.uint32(0), terms), axis=1, dtype=jnp.uint32)
        shift = _hash(others + order[1, r, k]) % sizes[:, k]
        return digits.at[:, k].set((digits[:, k] + shift) % sizes[:, k])

    return jax.lax.fori_loop(0, ROUNDS * num_dims, move, digits).astype(jnp.int32)


def _hash(bits):
    """A well-mixed function of 32-bit integers: two rounds of shift and multiplication by odd numbers."""
    for factor in (0x7FEB352D, 0x846CA68B):
        bits = (bits ^ (bits >> 16)) * jnp.uint32(factor)
    return bits ^ (bits >> 16)


def _resolution(space, num_points):
    """The number of points of each column."""
    continuous = [name for name, size in zip(space.names, space.num_values, strict=True) if not size]
    if num_points is None:
        num_points = {}
    elif isinstance(num_points, Mapping):
        for name in num_points:
            space[name]  # raises for an unknown one
    elif isinstance(num_points, bool) or not isinstance(num_points, int | np.integer):
        raise TypeError(f"`num_points` must be an integer or map names to integers, got {num_points!r}.")
    elif not continuous:
        raise ValueError(
            f"`num_points` must be left out, got {num_points}: the space has no continuous parameter, and of discrete "
            "ones all values are visited. To visit fewer, map names to numbers."
        )
    else:
        num_points = dict.fromkeys(continuous, int(num_points))
    return [_points_of(space, name, num_points.get(name)) for name in space.names]


def _points_of(space, name, wanted):
    parameter, size = space[name], space[name].num_values
    if wanted is None:
        return size or NUM_POINTS
    if isinstance(wanted, bool) or not isinstance(wanted, int | np.integer):
        raise TypeError(f"`num_points` of `{name}` must be an integer, got {wanted!r}.")
    if isinstance(parameter, Categorical) or space.names.index(name) in _deciding(space):
        raise ValueError(
            f"`num_points` must not name `{name}`, got {wanted}: all values of a Categorical, and of a parameter that "
            "others depend on, are visited."
        )
    if not 1 <= wanted <= (size or MAX_POINTS):
        raise ValueError(f"`num_points` of `{name}` must be between 1 and {size or MAX_POINTS}, got {wanted}.")
    return int(wanted)


def _deciding(space):
    """The columns on which others depend."""
    parents, allowed = space.conditions
    return sorted({int(parent) for parent in parents[~allowed.all(axis=-1)]})


def _grid(space, sizes):
    lattice, d = Lattice.of(space), space.num_dims
    deciding = _deciding(space)
    count = math.prod(sizes[i] for i in deciding)
    if count > MAX_BRANCHES:
        names = [space.names[i] for i in deciding]
        raise ValueError(
            f"`space` must have at most {MAX_BRANCHES} combinations of values of parameters that others depend on, "
            f"got {count} of {names}. Use bojax.sobol_search(space)."
        )
    branches, rest = np.zeros((count, d), np.int32), np.arange(count)
    for i in deciding:
        branches[:, i], rest = rest % sizes[i], rest // sizes[i]
    exists = np.asarray(lattice.active(lattice.snap(lattice.coordinates(branches, np.full((count, d), 0.5)))))
    decides = np.isin(np.arange(d), deciding)
    kept = ~np.any(decides & ~exists & (branches > 0), axis=1)  # of branches that are the same, the first
    branches, exists = branches[kept], exists[kept]
    is_place = np.array([not size for size in space.num_values])
    is_thin = np.array([0 < size < full for size, full in zip(sizes, space.num_values, strict=True)])
    places = [np.linspace(0.0, 1.0, size) if size > 1 else np.array([0.5]) for size in sizes]
    thin = [
        np.rint(place * (full - 1)).astype(np.int32) if few else None
        for place, full, few in zip(places, space.num_values, is_thin, strict=True)
    ]
    return Grid(
        sizes=np.where(exists & ~decides, sizes, 1).astype(np.int32),
        branches=branches,
        fixed=exists & decides,
        steps=np.array([_step(size) for size in sizes], np.uint32),
        **_tables("place", [place if use else None for place, use in zip(places, is_place, strict=True)], np.float64),
        **_tables("position", thin, np.int32),
    )


def _tables(name, parts, dtype):
    """The arrays end to end, and where each begins; -1 for None."""
    lengths = np.array([0 if part is None else len(part) for part in parts])
    starts = np.where(lengths > 0, np.cumsum(lengths) - lengths, -1).astype(np.int32)
    table = np.concatenate([np.zeros(0, dtype), *(part for part in parts if part is not None)]).astype(dtype)
    return {f"{name}s": table if len(table) else np.zeros(1, dtype), f"{name}_at": starts}


def _step(size):
    """The number nearest to the golden section of a size that has no common divisor with it: its multiples spread."""
    near = round(size * 0.6180339887)
    return next(
        k for offset in range(size + 1) for k in (near + offset, near - offset) if k > 0 and math.gcd(k, size) == 1
    )
