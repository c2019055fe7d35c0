"""Observations: what a study has seen, in a buffer of fixed shape.

A compiled program is tied to the shapes of its arguments. The buffer therefore has room for `capacity` rows, a mask
marks the real ones, and the capacity grows by a constant factor when needed: n observations cost O(log n) compilations.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from bojax._runtime import under_own_settings
from bojax._types import Array, Bool, Float, Int

MIN_CAPACITY = 16
"""Smallest capacity that `next_capacity` returns: below it a factorization costs less than a program launch."""

DOUBLING = 128
"""Up to this capacity, capacities double. Above it padding is expensive, since a factorization costs capacity cubed,
and there are four capacities to a power of two (benchmarks/results/surrogates.md)."""


class Column(NamedTuple):
    """A number reported beside each value, or one per input.

    Attributes:
        fill: the value of rows where nothing was reported.
        per_dim: whether the column has one entry per input, [n, d]; otherwise it is [n].
        units: its units as a power of those of y. Scaling y by s, which may be negative, multiplies the column by
            s ** units.
        must: the requirement on reported values, for error messages.
        allowed: `allowed(values) -> bool`, elementwise, for NumPy and JAX arrays. NaN, where allowed, means unknown.
        read_by: an algorithm that uses the column, for error messages.
    """

    fill: float
    per_dim: bool
    units: int
    must: str
    allowed: Callable[[Any], Any]
    read_by: str

    def check(self, name: str, values: Any) -> None:
        """Raises ValueError unless all `values` are allowed; tracers pass."""
        if not isinstance(values, Tracer) and not np.all(self.allowed(values)):
            raise ValueError(f"`{name}` must be {self.must}, got {values}.")


COLUMNS: Mapping[str, Column] = {
    "noise_var": Column(
        fill=np.nan,
        per_dim=False,
        units=2,
        must="finite and not negative",
        allowed=lambda v: (v >= 0) & (v < np.inf),
        read_by="bojax.bayesopt(space)",
    ),
    "cost": Column(
        fill=0.0,
        per_dim=False,
        units=0,
        must="positive and finite, or NaN where it is not known",
        allowed=lambda v: ((v > 0) & (v < np.inf)) | (v != v),
        read_by="bojax.loop.cost_aware(space)",
    ),
    "grad": Column(
        fill=np.nan,
        per_dim=True,
        units=1,
        must="numbers",
        allowed=lambda v: (v == v) | (v != v),
        read_by="bojax.gradient_bayesopt(space)",
    ),
}
"""Columns that may be reported beside values: noise variances, 0 for exact values; evaluation costs; derivatives of y
with respect to the coordinates of the cube. To add a column, add a row here and code that reads
`Observations.columns`."""


class Observations(NamedTuple):
    """A masked buffer of observations.

    Attributes:
        X: [capacity, d] points in the unit cube. Padding rows hold 0.5, since padding must be finite.
        y: [capacity] values, larger is better. A failed observation keeps its non-finite value here.
        mask: [capacity] which rows hold a finite observation; only these reach the surrogate.
        count: number of rows reported, failed ones included. More than `capacity` means that rows were lost.
        columns: the stored columns of `COLUMNS`, each [capacity] or [capacity, d], with the column's `fill` where
            nothing was reported. Their names are static.
    """

    X: Float[Array, "*b n d"]
    y: Float[Array, "*b n"]
    mask: Bool[Array, "*b n"]
    count: Int[Array, "*b"]
    columns: dict[str, Array] = {}  # noqa: RUF012 (never written to)

    @property
    def capacity(self) -> int:
        """Number of rows in the buffer."""
        return self.X.shape[-2]

    @property
    def told(self) -> Bool[Array, "*b n"]:
        """Which rows were reported, failed ones included."""
        rows = jax.lax.broadcasted_iota(jnp.int32, self.mask.shape, self.mask.ndim - 1)
        return rows < jnp.asarray(self.count)[..., None]

    def with_columns(self, **columns: Array | None) -> "Observations":
        """The observations with these columns added or replaced; None removes a column."""
        merged = self.columns | columns
        return self._replace(columns={name: column for name, column in merged.items() if column is not None})


class Told(NamedTuple):
    """All data reported to a study, on the host.

    Attributes:
        X: [n, d] points in the unit cube.
        y: [n] values, larger is better, NaN where the evaluation failed.
        pending: [p, d] points asked for but not yet reported.
        columns: columns of `COLUMNS`, each [n] or [n, d], with the column's `fill` where nothing was reported. An
            algorithm's state holds only the columns that the algorithm uses.
    """

    X: np.ndarray
    y: np.ndarray
    pending: np.ndarray
    columns: Mapping[str, np.ndarray] = {}


class Pending(NamedTuple):
    """Points that were asked for but not yet reported.

    Attributes:
        X: [p, d] points in the unit cube.
        mask: [p] which rows are pending.
    """

    X: Float[Array, "*b p d"]
    mask: Bool[Array, "*b p"]


def next_capacity(count: int, minimum: int = MIN_CAPACITY) -> int:
    """The smallest capacity that is at least `count` and at least `minimum`.

    Capacities are the powers of two up to 128, and four to a power of two above: 160, 192, 224, 256, 320, 384, ...
    They are multiples of 32 there, which suits matrix products.
    """
    power = 1 << max(count - 1, 0).bit_length()
    step = power if power <= DOUBLING else power // 8
    return max(minimum, -(-count // step) * step)


def empty(num_dims: int, capacity: int, dtype=None, *, columns: Iterable[str] = ("noise_var",)) -> Observations:
    """An empty buffer with these `columns`.

    Raises:
        ValueError: when `capacity` is below 1.
        TypeError: when a column is not in `COLUMNS`.
    """
    if capacity < 1:
        raise ValueError(f"`capacity` must be at least 1, got {capacity}.")
    columns = known_columns(columns)
    dtype = jnp.zeros((), dtype).dtype
    return Observations(
        X=jnp.full((capacity, num_dims), 0.5, dtype),
        y=jnp.zeros(capacity, dtype),
        mask=jnp.zeros(capacity, bool),
        count=jnp.zeros((), jnp.int32),
        columns={name: jnp.full(_shape(name, capacity, num_dims), COLUMNS[name].fill, dtype) for name in columns},
    )


def empty_pending(num_dims: int, capacity: int, dtype=None) -> Pending:
    """An empty pending buffer; `capacity` may be 0."""
    return Pending(X=jnp.full((capacity, num_dims), 0.5, dtype), mask=jnp.zeros(capacity, bool))


def append(observations: Observations, X: Float[Array, "k d"], y: Float[Array, "k"], **columns: Any) -> Observations:
    """Add k observations.

    Call `resize` first if they do not fit: extra rows are dropped but counted, so `count > capacity` reveals the loss.

    Args:
        observations: the data so far.
        X: [k, d] points in the unit cube.
        y: [k] their values; NaN or infinite for a failed evaluation, which is stored with its mask off.
        **columns: columns that the observations store, [k] or [k, d]; missing ones get their `fill`.

    Raises:
        ValueError: the observations do not store a given column.
        TypeError: a column is not in `COLUMNS`.
    """
    columns = kept_columns(columns, observations.columns)
    rows = observations.count + jnp.arange(X.shape[0], dtype=jnp.int32)
    # Without the barrier XLA may compute y twice, rounded differently, for the value and for the mask.
    y = jax.lax.optimization_barrier(y.astype(observations.y.dtype))

    def extended(name, buffer):
        return buffer.at[rows].set(jnp.asarray(columns.get(name, COLUMNS[name].fill), buffer.dtype), mode="drop")

    return Observations(
        X=observations.X.at[rows].set(X.astype(observations.X.dtype), mode="drop"),
        y=observations.y.at[rows].set(y, mode="drop"),
        mask=observations.mask.at[rows].set(jnp.isfinite(y) & jnp.all(jnp.isfinite(X), axis=-1), mode="drop"),
        count=observations.count + jnp.int32(X.shape[0]),
        columns={name: extended(name, buffer) for name, buffer in observations.columns.items()},
    )


def resize(observations: Observations, capacity: int) -> Observations:
    """The same observations in a buffer of another capacity; the caller ensures `capacity >= count`."""
    grown = empty(observations.X.shape[-1], capacity, observations.X.dtype, columns=observations.columns)
    rows = min(capacity, observations.capacity)
    moved = jax.tree.map(
        lambda new, old: new.at[:rows].set(old[:rows]) if new.ndim else old, grown, observations
    )  # `count` is the one scalar
    return moved


@under_own_settings
def from_numpy(X: np.ndarray, y: np.ndarray, capacity: int, dtype, **columns: np.ndarray | None) -> Observations:
    """A buffer filled on the host.

    Args:
        X: [n, d] points in the unit cube.
        y: [n] values, NaN where failed.
        capacity: rows of the buffer, at least n.
        dtype: float type of the buffer.
        **columns: the columns that it keeps, [n] or [n, d]; None for one of which nothing was reported.
    """
    return jax.tree.map(jnp.asarray, host_buffer(X, y, capacity, dtype, **columns))


def host_buffer(X: np.ndarray, y: np.ndarray, capacity: int, dtype, **columns: np.ndarray | None) -> Observations:
    """The same of NumPy arrays, which compiled code accepts as they are: no array is moved to a device by itself."""
    count, num_dims = X.shape

    def padded(values, fill, shape=(capacity,), dtype=dtype) -> Any:
        out = np.full(shape, fill, dtype)
        if values is not None:
            out[:count] = values
        return out

    known: Any = np.asarray(count, np.int32)
    return Observations(
        X=padded(X, 0.5, (capacity, num_dims)),
        y=padded(y, 0.0),
        mask=padded(np.isfinite(y), False, dtype=bool),
        count=known,
        columns={
            name: padded(columns[name], COLUMNS[name].fill, _shape(name, capacity, num_dims))
            for name in known_columns(columns)
        },
    )


def known_columns(names: Iterable[str]) -> tuple[str, ...]:
    """The names as a tuple. Raises TypeError if one is not in `COLUMNS`."""
    names = tuple(names)
    for name in names:
        if name not in COLUMNS:
            raise TypeError(f"`{name}` is no column of the data, which are {', '.join(COLUMNS)}.")
    return names


def kept_columns(columns: Mapping[str, Any], kept: Iterable[str]) -> dict[str, Any]:
    """The given columns, i.e. those that are not None.

    Raises:
        ValueError: one of them is not `kept` and would be lost.
        TypeError: one is not in `COLUMNS`.
    """
    given = {name: columns[name] for name in known_columns(columns) if columns[name] is not None}
    for name in given:
        if name not in kept:
            raise ValueError(unread_column(name))
    return given


def unread_column(name: str) -> str:
    """The error message for a column that the algorithm does not use."""
    return f"`{name}` must be left out: this algorithm learns nothing from it. {COLUMNS[name].read_by} does."


def as_column(name: str, values: Any, X: Float[Array, "k d"]) -> Array:
    """Reported values of a column as they are stored, with its `fill` where nothing is known.

    Args:
        name: of the column.
        values: [k, d] if the column is `per_dim`, otherwise [k] or a scalar.
        X: [k, d] the points.

    Raises:
        ValueError: the shape is wrong, or a value is not allowed (compiled code treats such values as not reported).
    """
    column = COLUMNS[name]
    values = jnp.asarray(values, X.dtype)
    if not column.per_dim:
        values = jnp.broadcast_to(values, X.shape[:1])
    elif values.shape != X.shape:
        raise ValueError(f"`{name}` must have the shape of `X`, {list(X.shape)}, got {list(values.shape)}.")
    column.check(name, values)
    return jnp.where(column.allowed(values) & jnp.isfinite(values), values, column.fill)


def _shape(name: str, capacity: int, num_dims: int) -> tuple[int, ...]:
    return (capacity, num_dims) if COLUMNS[name].per_dim else (capacity,)


@under_own_settings
def pending_from_numpy(X: np.ndarray, capacity: int, dtype) -> Pending:
    """A pending buffer filled on the host. X: [k, d] with k at most `capacity`."""
    return jax.tree.map(jnp.asarray, host_pending(X, capacity, dtype))


def host_pending(X: np.ndarray, capacity: int, dtype) -> Pending:
    """The same of NumPy arrays, as `host_buffer`."""
    padded: Any = np.full((capacity, X.shape[1]), 0.5, dtype)
    padded[: len(X)] = X
    mask: Any = np.arange(capacity) < len(X)
    return Pending(padded, mask)


def add_pending(pending: Pending, X: Float[Array, "q d"], valid: Bool[Array, "q"]) -> Pending:
    """Store q points in the free slots; when none is left, the first slots are overwritten.

    A buffer without slots stores nothing. It suits callers that `tell` before they `ask` again.
    """
    if pending.X.shape[0] == 0:
        return pending
    if pending.X.shape[0] < X.shape[0]:
        raise ValueError(f"`pending` must have room for {X.shape[0]} points, got {pending.X.shape[0]} slots.")
    order = jnp.argsort(pending.mask, stable=True)  # free slots first
    slots = order[: X.shape[0]]
    return Pending(
        X=pending.X.at[slots].set(X.astype(pending.X.dtype)),
        mask=pending.mask.at[slots].set(valid),
    )


def remove_pending(pending: Pending, X: Float[Array, "k d"]) -> Pending:
    """Remove points that have now been reported; each row of X clears at most one equal pending row."""
    if pending.X.shape[0] == 0:
        return pending

    def clear(mask, x):
        hit = mask & jnp.all(pending.X == x[None, :], axis=-1)
        first = jnp.argmax(hit)
        return mask.at[first].set(jnp.where(jnp.any(hit), False, mask[first])), None

    mask, _ = jax.lax.scan(clear, pending.mask, X.astype(pending.X.dtype))
    return Pending(X=pending.X, mask=mask)
