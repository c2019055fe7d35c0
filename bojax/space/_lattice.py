"""The columns of the unit cube as data: what compiled code needs to know of a space.

    Space --Lattice.of--> its exact columns, NumPy constants of a program
    Space --Lattice.padded--> columns padded to a size class, arguments of a program

A program that takes a padded lattice as an argument serves every space of its class. Static are only the number of
columns (4, 8, 16, ...), whether any is discrete, whether the space is finite and small, and the number of moves to
neighbors, each rounded up, and whether columns exist only under conditions, with room for these. A padding column is
one that is held: every point has 0.5 there, as in the columns of inactive parameters.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from bojax._namespace import AnyArray, namespace
from bojax._types import Bool, Float, Int
from bojax.space import _encoding as encoding
from bojax.space import _feasible, _region
from bojax.space._conditions import INACTIVE, Conditions, active
from bojax.space._parameters import Float as FloatParameter
from bojax.space._region import ByContent, Feasible, feasible_of, filled
from bojax.space._space import Space

ENUMERATE = 1024
"""Finite spaces up to this size are enumerated, which costs no more than a search."""
MAX_MOVES = 128
"""Largest number of neighbors that are evaluated in one step; of more, a random subset is used."""
LONG_STEP = 8
"""Ordered columns with more than twice this number of values also move by an eighth of their range."""
MIN_DIMS, MIN_MOVES, FEW_POINTS = 4, 16, 128
"""The smallest size classes of columns, of moves, and of the points of a finite space."""
MIN_CONDITIONS, MIN_ENTRIES = 2, 8
"""The smallest size classes of the conditions of a column, and of the values of a column that decides."""


class Kind(NamedTuple):
    """What of a lattice is static in compiled code.

    Attributes:
        has_discrete: whether columns may be discrete.
        is_finite: whether all columns are.
        max_points: room for the points of a finite space that is enumerated; 0 if it is not.
        max_moves: room for the moves of a point to its neighbors, the point itself included.
    """

    has_discrete: bool
    is_finite: bool
    max_points: int
    max_moves: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lattice:
    """The representable points of a space, and the columns of the unit cube. A pytree.

    `positions` are indices of values; two discrete values are equal exactly if their positions are. Functions of points
    return NumPy arrays for NumPy arrays.

    Example:
        >>> import bojax, numpy as np
        >>> lattice = Lattice.of(bojax.Space(n=bojax.Int(1, 4)))
        >>> lattice.snap(np.array([[0.3]])).tolist()
        [[0.375]]

    Attributes:
        num_values: [d] number of values of each column, int32; 0 for a continuous one.
        is_categorical: [d] which columns have no order.
        live: [d] which columns belong to the space; the others are padding.
        held: [d] fixed coordinates of every point, NaN where a column is free.
        conditions: under which values of others a column exists: `parents` [d, c] and `allowed` [d, c, w]; c is 0 if
            all always do.
        table: [p, d] positions of all points of a small finite space with conditions; p is 0 for other spaces.
        columns: the constants of the encoding; None for exact columns, whose constants follow from `space`.
        space: the space of exact columns (static); None for padded ones.
        kind: what is static of them.
        feasible: the part of the points that satisfies the constraints; None without any. Constraint functions are
            those of `space`, so padded columns have linear ones only.
    """

    num_values: Int[AnyArray, "*b d"]
    is_categorical: Bool[AnyArray, "*b d"]
    live: Bool[AnyArray, "*b d"]
    held: Float[AnyArray, "*b d"]
    conditions: Conditions
    table: Int[AnyArray, "*b p d"]
    columns: encoding.Columns | None
    space: Space | None = dataclasses.field(metadata={"static": True})
    kind: Kind = dataclasses.field(metadata={"static": True})
    feasible: Feasible | None = None

    @classmethod
    def of(cls, space: Any) -> "Lattice":
        """The exact columns of a space, as constants.

        Args:
            space: a `bojax.Space`; a `Lattice` is returned as it is.

        Returns:
            The lattice of its representable points.

        Raises:
            TypeError: when `space` is neither.

        Example:
            >>> import bojax
            >>> lattice = Lattice.of(bojax.Space(x=bojax.Float(0.0, 1.0), n=bojax.Int(1, 4)))
            >>> lattice.num_values.tolist()
            [0, 4]
        """
        if isinstance(space, Lattice):
            return space
        if not isinstance(space, Space):
            raise TypeError(f"`space` must be a bojax.Space, got {type(space).__name__}. Wrap it: bojax.Space(...).")
        found = feasible_of(space, _kind(space).max_points)
        return cls(*_described(space, space.num_dims), columns=None, space=space, kind=_kind(space), feasible=found)

    @classmethod
    def padded(cls, space: Space, num_dims: int | None = None, room: "Room | None" = None) -> "Lattice":
        """The columns of a space, padded to a size class, as arguments of a program.

        Args:
            space: the space.
            num_dims: number of columns, at least those of the space; by default the smallest class that has room.
            room: room for conditions, at least what the space needs; by default the smallest class that has room.

        Returns:
            A lattice of 4, 8, 16, ... columns.

        Raises:
            ValueError: a constraint of the space is a function, which arrays cannot describe.

        Example:
            >>> import bojax
            >>> lattice = Lattice.padded(bojax.Space(x=bojax.Float(0.0, 1.0), n=bojax.Int(1, 4)))
            >>> lattice.num_dims, lattice.live.tolist()
            (4, [True, True, False, False])
        """
        if space.functions():
            raise ValueError(f"`space` must have linear constraints only to be padded, got {space!r}. Use Lattice.of.")
        kind = _kind(space)
        num_dims = max(MIN_DIMS, _power(space.num_dims)) if num_dims is None else num_dims
        padding = (FloatParameter(0.0, 1.0),) * (num_dims - space.num_dims)
        columns = encoding.make_columns((*space.parameters, *padding), np.dtype(np.float64))
        none = np.full(num_dims, -1, np.int32)  # tables differ in size; positions are the same without them
        rough = Kind(
            kind.has_discrete,
            kind.is_finite,
            max_points=0 if kind.max_points == 0 else FEW_POINTS if kind.max_points <= FEW_POINTS else ENUMERATE,
            max_moves=min(MAX_MOVES, max(MIN_MOVES, _power(kind.max_moves))) if kind.has_discrete else 1,
        )
        room = _room(space, rough) if room is None else room
        return cls(
            *_described(space, num_dims, room),
            columns=columns._replace(start=none, values_at=none, table=np.zeros(1)),
            space=None,
            kind=rough,
            feasible=feasible_of(space, rough.max_points, num_dims),
        )

    @classmethod
    def stack(cls, spaces: Sequence[Space]) -> "Lattice":
        """The columns of several spaces, padded alike and stacked, for studies of all of them in one program.

        Args:
            spaces: b spaces; all finite or none, and if finite all small (at most 1,024 points) or none.

        Returns:
            A lattice whose arrays have a first axis of length b. `bojax.run_many` takes it as `settings`.

        Raises:
            ValueError: no space is given, they differ in whether they are finite and small or constrained, or a
                constraint is a function.

        Example:
            >>> import bojax
            >>> spaces = [bojax.Space(x=bojax.Float(0.0, 1.0)), bojax.Space(n=bojax.Int(1, 4), x=bojax.Float(0.0, 1.0))]
            >>> Lattice.stack(spaces).num_values.shape
            (2, 4)
        """
        if not spaces:
            raise ValueError("`spaces` must hold at least one space, got none.")
        lattices = [cls.padded(space) for space in spaces]
        kinds = [lattice.kind for lattice in lattices]
        if len({(kind.is_finite, kind.max_points > 0) for kind in kinds}) > 1:
            raise ValueError(
                "`spaces` must be of one class: all finite or none, and all with at most "
                f"{ENUMERATE} points or none, got {[space.cardinality for space in spaces]} points (None is infinite)."
            )
        if len({None if lattice.feasible is None else len(lattice.feasible.rows.limits) for lattice in lattices}) > 1:
            raise ValueError(f"`spaces` must all have constraints, of about the same number, or none, got {spaces!r}.")
        num_dims = max(lattice.num_dims for lattice in lattices)
        kind = Kind(*(max(values) for values in zip(*kinds, strict=True)))
        rooms = [_room(space, kind) for space in spaces]
        room = Room(*(max(values) for values in zip(*rooms, strict=True)))
        alike = [dataclasses.replace(cls.padded(space, num_dims, room), kind=kind) for space in spaces]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *alike)

    @property
    def num_dims(self) -> int:
        """Number of columns d, padding included."""
        return self.num_values.shape[-1]

    @property
    def num_live(self) -> Any:
        """Number of columns that are not padding."""
        return namespace(self.live).sum(self.live, dtype=np.int32)

    @property
    def has_discrete(self) -> bool:
        """Whether columns may be discrete; False means that none is."""
        return self.kind.has_discrete

    @property
    def is_finite(self) -> bool:
        """Whether all columns are discrete."""
        return self.kind.is_finite

    @property
    def is_discrete(self) -> Any:
        """[d] which columns are discrete."""
        return self.num_values > 0

    @property
    def is_conditional(self) -> bool:
        """Whether columns may be inactive; False means that none is."""
        return self.conditions.parents.shape[-1] > 0

    @property
    def num_moves(self) -> Any:
        """[d] moves to neighbors along each column: to every other category, or up and down, near and far."""
        return _num_moves(self.num_values, self.is_categorical)

    @property
    def is_constrained(self) -> bool:
        """Whether points may be infeasible; False means that all are feasible."""
        return self.feasible is not None

    def margins(self, X: Float[AnyArray, "*b d"]) -> Any:
        """The scaled margins of all constraints, [..., m], at least 0 where they hold."""
        assert self.feasible is not None
        scales = () if self.space is None or self.space.region is None else self.space.region.scales
        return _region.scaled_margins(self.space, self.feasible.rows, scales, X, self._columns(X), self.conditions)

    def is_inside(self, X: Float[AnyArray, "*b d"]) -> Any:
        """Whether points may be suggested, [...]: feasible, in an infinite space up to rounding only."""
        return self._part().inside(X) if self.is_constrained else namespace(X).ones(X.shape[:-1], bool)

    def pulled(self, X: Float[AnyArray, "n d"], start: Float[AnyArray, "*n d"]) -> Any:
        """The points; infeasible ones are moved toward feasible ones [n, d] or [d] until they are feasible."""
        return _feasible.pulled(self._part(), X, start) if self.is_constrained else X

    def repaired(self, X: Float[AnyArray, "n d"]) -> Any:
        """The points; infeasible ones are moved toward the nearest anchor until they are feasible."""
        if self.feasible is None:
            return X
        return _feasible.repaired(self._part(), X, self.feasible.anchors.astype(X.dtype), self.feasible.count)

    def spread(self, X: Float[AnyArray, "n d"], offset: Any = 0) -> Any:
        """The points; in place of infeasible ones, points that fill the feasible part. `offset` [] varies them."""
        if self.feasible is None:
            return X
        return _feasible.spread(self._part(), X, self.feasible.anchors.astype(X.dtype), self.feasible.count, offset)

    def active(self, X: Float[AnyArray, "*b d"]) -> Any:
        """Which columns exist at the points, [..., d]; padding does, as what is held."""
        if not self.is_conditional:
            return namespace(X).ones(X.shape, bool)
        xp = namespace(X, self.num_values, self.conditions.parents)
        return active(self.conditions, self.positions(X), xp)

    def positions(self, X: Float[AnyArray, "*b d"]) -> Any:
        """The position of the value in each discrete column, and 0 in continuous ones."""
        return encoding.positions(self._columns(X), X, namespace(X, self.num_values))

    def cells(self, X: Float[AnyArray, "*b d"]) -> Any:
        """The lower and upper ends of the cells that points lie in, two arrays [..., d].

        In a discrete column all coordinates of a cell stand for one value; in a continuous one both ends are X itself.
        """
        return encoding.cells(self._columns(X), X, namespace(X, self.num_values))

    def coordinates(self, P: Int[AnyArray, "*b d"], X: Float[AnyArray, "*b d"]) -> Any:
        """The points X with the discrete columns replaced by those of positions P, and held columns as held."""
        xp = namespace(P, X, self.num_values)
        P, X = xp.broadcast_arrays(P, X)
        return self.pin(encoding.coordinates(self._columns(X), P, X, xp) if self.has_discrete else X)

    def snap(self, X: Float[AnyArray, "*b d"]) -> Any:
        """The nearest points of the lattice; continuous columns are kept unless held."""
        return self.coordinates(self.positions(X), X) if self.has_discrete else self.pin(X)

    def round(self, X: Float[AnyArray, "*b d"]) -> Any:
        """The points as an objective sees them: in the cube, and snapped where the dtype resolves the cells."""
        return self.pin(encoding.round_to_cells(self._columns(X), X, namespace(X, self.num_values)))

    def pin(self, X: Float[AnyArray, "*b d"]) -> Any:
        """The points with the held coordinates, and with those of inactive columns."""
        if not (isinstance(self.held, np.ndarray) and np.isnan(self.held).all()):
            xp = namespace(X, self.held)
            held = xp.asarray(self.held, X.dtype).reshape((1,) * (X.ndim - 1) + (-1,))
            X = xp.where(xp.isnan(held), X, held)
        if not self.is_conditional:
            return X
        exists = self.active(X)
        return namespace(X, exists).where(exists, X, X.dtype.type(INACTIVE))

    def hold(self, held: Float[AnyArray, "d"] | None) -> "Lattice":
        """The lattice with these coordinates held; NaN leaves a column free, None leaves all as they are."""
        if held is None:
            return self
        xp = namespace(held, self.held)
        there = dataclasses.replace(self, held=xp.where(xp.isnan(held), self.held, held))
        return there if self.feasible is None else there._with_anchors(self.feasible)

    def _with_anchors(self, feasible: Feasible) -> "Lattice":
        """The lattice with feasible points that have the held coordinates.

        Raises:
            BojaxError: on the host, if none is found; compiled code sets their number to 0.
        """
        if namespace(self.held, feasible.anchors, self.num_values) is np:
            if np.isnan(self.held[self.live]).all():
                return self
            anchors, count = filled(_held_anchors(ByContent(self)).points, len(feasible.anchors))
        else:
            anchors, count = _feasible.held_anchors(self._part(), feasible.anchors, feasible.count)
        return dataclasses.replace(self, feasible=feasible._replace(anchors=anchors, count=count))

    def _part(self) -> _feasible.Part:
        sizes = self.num_values
        if namespace(sizes, self.held) is np:
            sizes = np.where(np.isnan(self.held), sizes, 1)

        def coordinates(P):
            return self.coordinates(P, np.full(P.shape, 0.5))

        return _region.part_of(self.margins, self.snap, coordinates, sizes, self.is_finite)

    def _columns(self, X: Any) -> encoding.Columns:
        if self.columns is not None:
            return self.columns
        return encoding.make_columns(self.space.parameters, np.dtype(X.dtype))  # type: ignore[union-attr]


@functools.lru_cache(maxsize=32)
def _held_anchors(key: ByContent) -> _feasible.Anchors:
    """The anchors of a lattice with held coordinates, on the host."""
    return _feasible.find_anchors(key.tree._part(), "the space with the held values")


def _num_moves(num_values, is_categorical):
    xp = namespace(num_values, is_categorical)
    ordered = xp.where(num_values > 2 * LONG_STEP, 4, 2)
    return xp.where(num_values > 1, xp.where(is_categorical, num_values - 1, ordered), 0)


class Room(NamedTuple):
    """The sizes of the arrays that describe conditions: of `parents`, `allowed` and `table`."""

    num_conditions: int
    num_entries: int
    num_points: int


def _room(space: Space, kind: Kind) -> Room:
    """The smallest size class that has room for the conditions of a space."""
    if not space.is_conditional:
        return Room(0, 0, 0)
    c, w = space.conditions.allowed.shape[1:]
    return Room(max(MIN_CONDITIONS, _power(c)), max(MIN_ENTRIES, _power(w)), kind.max_points)


def _described(space: Space, num_dims: int, room: Room | None = None) -> tuple[Any, ...]:
    """The first fields: values, order, which columns are live, what padding holds, conditions, table of points."""
    padding = num_dims - space.num_dims
    live = np.arange(num_dims) < space.num_dims
    num_values = np.array((*space.num_values, *(0,) * padding), np.int32)
    is_categorical = np.array((*space.is_categorical, *(False,) * padding))
    held, table = np.where(live, np.nan, 0.5), np.zeros((0, num_dims), np.int32)
    rows = space.all_positions() if space.is_conditional and _kind(space).max_points else table
    if room is None:
        return num_values, is_categorical, live, held, space.conditions, rows
    wide = np.pad(rows, ((0, max(room.num_points - len(rows), 0)), (0, num_dims - rows.shape[1])), mode="edge")
    tables = space.conditions_of(num_dims, room.num_conditions, room.num_entries)
    return num_values, is_categorical, live, held, tables, wide if len(rows) else table


def _kind(space: Space) -> Kind:
    cardinality = math.inf if space.cardinality is None else space.cardinality
    moves = 1 + int(_num_moves(np.array(space.num_values, np.int64), np.array(space.is_categorical)).sum())
    return Kind(
        has_discrete=any(space.num_values),
        is_finite=space.cardinality is not None,
        max_points=int(cardinality) if cardinality <= ENUMERATE else 0,
        max_moves=min(moves, MAX_MOVES),
    )


def _power(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()
