"""The feasible region of a space: its constraints, their scales, and its anchors."""

import functools
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._alike import Alike
from bojax._namespace import AnyArray, namespace
from bojax._types import Float, Int
from bojax.space import _conditions
from bojax.space import _encoding as encoding
from bojax.space._constraints import (
    NUM_SAMPLES,
    Constraint,
    Linear,
    Rows,
    check_constraints,
    check_values,
    function_margins,
    functions_of,
    named,
    rows_of,
    tolerance,
)
from bojax.space._feasible import Anchors, Part, find_anchors, spread

if TYPE_CHECKING:
    from bojax.space._space import Space

ROUNDING = 8.0
"""How many units in the last place a scaled margin of a suggested point may be below 0."""


class Region(NamedTuple):
    """What a space knows of its constraints.

    Attributes:
        key: the constraints as something that is equal for functions of the same code and values.
        rows: the linear ones, scaled.
        scales: the scales of the functions.
        anchors: feasible points, and their number in a finite space.
    """

    key: Alike
    rows: Rows
    scales: tuple[float, ...]
    anchors: Anchors


MIN_ROWS = 4
"""The smallest size class of linear constraints."""


class Feasible(NamedTuple):
    """The feasible part of a lattice.

    Attributes:
        rows: the linear constraints, scaled; padding always holds.
        anchors: [k, d] feasible points that fill it; all of them, if the space is finite and has at most 1,024.
        count: [] how many of them are not padding; 0 if none was found for held coordinates.
    """

    rows: Rows
    anchors: Float[AnyArray, "*b k d"]
    count: Int[AnyArray, "*b"] | np.integer


Found = tuple[Rows, tuple[float, ...], Anchors]


def checked_constraints(space: "Space", given: Any) -> tuple[tuple[Constraint, ...], Alike | None]:
    """The constraints of a space that is being made, and their key; None without constraints."""
    constraints = check_constraints(space, given)
    return constraints, Alike(constraints) if constraints else None


def region_of(space: "Space", key: Alike, found: Found | None = None) -> Region:
    """Evaluate the functions, and look for feasible points, unless they were found before.

    Raises:
        ValueError: a function is NaN somewhere.
        BojaxError: no feasible point is found.
    """
    if found is not None:
        return Region(key, *found)
    rng = np.random.default_rng(0)
    X = _snapped(space, rng.random((NUM_SAMPLES, space.num_dims)))
    scales = check_values(space, X) if functions_of(space) else ()
    rows = rows_of(space)
    columns = encoding.make_columns(space.parameters, np.dtype(np.float64))

    def margins(X):
        return _margins(space, rows, scales, X)

    def coordinates(P):
        return encoding.coordinates(columns, P, np.full(P.shape, 0.5), np)

    part = part_of(
        margins, lambda X: _snapped(space, X), coordinates, np.array(space.num_values), all(space.num_values)
    )
    return Region(key, rows, scales, find_anchors(part, "the space"))


def part_of(margins: Any, snap: Any, coordinates: Any, sizes: Any, is_finite: bool) -> Part:
    """A part of the cube from its scaled margins; see `Part`."""

    def inside(X):
        slack = tolerance(X.dtype) if is_finite else ROUNDING * float(jnp.finfo(X.dtype).eps)
        return namespace(X).all(margins(X) >= -slack, axis=-1)

    def violation(X):
        xp, found = namespace(X), margins(X)
        return xp.sum(xp.where(xp.isnan(found), xp.inf, xp.maximum(-found, 0.0)), axis=-1)

    return Part(inside, violation, snap, coordinates, sizes)


def scaled_margins(space: Any, rows: Rows, scales: tuple[float, ...], X: Any, columns: Any, conditions: Any) -> Any:
    """[..., m] scaled margins of points [..., d], of linear constraints and then of the functions of `space`."""
    xp = namespace(X, rows.limits, conditions.parents)
    margins = []
    if rows.limits.shape[-1]:
        margins.append(rows.margins(native_values(columns, conditions, X, xp)))
    if scales:
        margins.append(function_margins(space, X) / np.array(scales, X.dtype).reshape((1,) * (X.ndim - 1) + (-1,)))
    return margins[0] if len(margins) == 1 else xp.concatenate(margins, axis=-1)


def _margins(space, rows, scales, X):
    """The scaled margins of points of a space."""
    columns = encoding.make_columns(space.parameters, np.dtype(X.dtype))
    return scaled_margins(space, rows, scales, X, columns, space.conditions)


def native_values(columns: encoding.Columns, conditions: _conditions.Conditions, X: Any, xp: ModuleType) -> Any:
    """[..., d] the numbers that `decode` gives, in the dtype of X: values of Floats and Ints, otherwise positions."""
    P = encoding.positions(columns, X, xp)
    if conditions.parents.shape[-1]:
        exists = _conditions.active(conditions, P, xp)
        X, P = xp.where(exists, X, 0.0), xp.where(exists, P, 0)
    c = columns.against(X)
    on_grid = xp.where(P >= c.last, c.end, c.origin + c.pitch * P.astype(X.dtype))
    numbers = xp.where(c.is_grid, on_grid, (c.first + c.step * P).astype(X.dtype))
    return xp.where(c.is_float, encoding.float_values(columns, X, xp), numbers)


def is_feasible(space: "Space", X: Any) -> Any:
    """[...] whether points [..., d] are feasible, up to the tolerance."""
    region = space.region
    if region is None:
        return namespace(X).ones(X.shape[:-1], bool)
    margins = _margins(space, region.rows, region.scales, X)
    return namespace(X).all(margins >= -tolerance(X.dtype), axis=-1)


def broken(space: "Space", x: np.ndarray) -> str | None:
    """The first constraint that a point [d] breaks, for messages; None if it is feasible."""
    region = space.region
    if region is None or bool(is_feasible(space, x)):
        return None
    margins = _margins(space, region.rows, region.scales, x)
    is_row = [0 if isinstance(c, Linear) else 1 for c in space.constraints]
    order = [c for c in space.constraints if isinstance(c, Linear) for b in (c.at_most, c.at_least) if b is not None]
    order += [c for c, function in zip(space.constraints, is_row, strict=True) if function]
    wrong = int(np.argmin(np.where(np.isnan(margins), -np.inf, margins)))
    return named(space, order[wrong])


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def sampled(space: "Space", key: Any, num_points: int, dtype: Any) -> Any:
    """Feasible points [num_points, d] of random ones of the cube, for a constrained space.

    Of eight times as many points the feasible ones come first; further ones lie between anchors and infeasible points.
    """
    region = space.region
    assert region is not None
    keys = jax.random.split(key)
    X = space.round(jax.random.uniform(keys[0], (8 * num_points + 64, space.num_dims), dtype))

    def margins(X):
        return _margins(space, region.rows, region.scales, X)

    part = part_of(margins, space.round, None, np.array(space.num_values), all(space.num_values))
    X = X[jnp.argsort(~part.inside(X), stable=True)[:num_points]]
    offset = jax.random.randint(keys[1], (), 0, 2**20)
    points = jnp.asarray(region.anchors.points, dtype)
    return spread(part, X, points, points.shape[0], offset)


def _snapped(space: "Space", X: np.ndarray) -> np.ndarray:
    """The nearest points that the space represents, in NumPy."""
    columns = encoding.make_columns(space.parameters, np.dtype(X.dtype))
    rounded = encoding.round_to_cells(columns, X, np)
    if not space.is_conditional:
        return rounded
    exists = _conditions.active(space.conditions, encoding.positions(columns, X, np), np)
    return np.where(exists, rounded, _conditions.INACTIVE)


def feasible_of(space: "Space", max_points: int, num_dims: int | None = None) -> Feasible | None:
    """The feasible part of the columns of a space.

    Args:
        space: the space.
        max_points: room for all points of a small finite space; 0 for other spaces.
        num_dims: number of columns if they are padded; None for exact ones.
    """
    if space.region is None:
        return None
    points, rows = space.region.anchors.points, space.region.rows
    if num_dims is None:
        return Feasible(rows, points, np.int32(len(points)))
    m, wide = len(rows.limits), ((0, 0), (0, num_dims - space.num_dims))
    more = max(MIN_ROWS, 1 << max(m - 1, 0).bit_length()) - m
    weights = np.pad(np.pad(rows.weights, wide), ((0, more), (0, 0)))
    padded = Rows(weights, np.pad(rows.limits, (0, more), constant_values=1.0))
    anchors, count = filled(points, max_points or len(points))
    return Feasible(padded, np.pad(anchors, wide, constant_values=_conditions.INACTIVE), count)


def filled(points: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.int32]:
    """The first points, repeated at the end up to a number of rows, and how many they are."""
    count = min(len(points), num_rows)
    return np.pad(points[:count], ((0, num_rows - count), (0, 0)), mode="edge"), np.int32(count)


class ByContent:
    """A tree of NumPy arrays that is equal to another one of the same content; a key of caches."""

    __slots__ = ("_key", "tree")

    def __init__(self, tree: Any) -> None:
        leaves, form = jax.tree.flatten(tree)
        self.tree, self._key = tree, (form, tuple(np.asarray(leaf).tobytes() for leaf in leaves))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByContent) and self._key == other._key
