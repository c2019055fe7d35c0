"""The interface of every algorithm: three pure functions of a state.

    state = algorithm.init(key)
    X, state, info = algorithm.ask(key, state)      # X [q, d] in the unit cube
    X, state, info = algorithm.ask(key, state, held)   # held [d]: fixed coordinates, NaN where free
    state = algorithm.tell(state, X, y)             # y [q], larger is better

`init`, `ask` and `tell` are pure: they can be jitted, scanned and vmapped. A State is a NamedTuple with at least the
fields `observations` and `pending`, so `restore` can rebuild it from the data alone. Its other fields (hyperparameters
of the last fit, the shift of a quasi-random sequence) must be safe to reset. An Info is a NamedTuple of diagnostics
with at least `status` (a `Status` code, int32) and `valid` ([q] bool: which rows of X are suggestions; all of them,
unless a finite space is exhausted).
"""

import functools
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from bojax import data
from bojax._errors import BojaxError, Status
from bojax._runtime import as_key, own_settings, under_own_settings
from bojax._types import Array, Bool, Int
from bojax.loop._contracts import (
    AskFn,
    BeginFn,
    HostAskFn,
    HostPredictFn,
    InitFn,
    OnFn,
    PredictFn,
    TellFn,
)
from bojax.space import Lattice, Space

StateT = TypeVar("StateT", bound=Any)


class Host(NamedTuple):
    """The functions of an algorithm that works in Python, as a study calls them.

    Attributes:
        ask: `ask(words, shift [d], told, held=None) -> (X [q, d], valid [q], status)`, NumPy arrays.
        predict: `predict(words, told, X [k, d]) -> (mean [k], std [k])`; None for an algorithm without a surrogate.
    """

    ask: HostAskFn
    predict: HostPredictFn | None = None


class Algorithm(NamedTuple):
    """An optimization algorithm for one space, as three pure functions.

    Attributes:
        init: `init(key) -> state`.
        ask: `ask(key, state, held=None) -> (X [q, d], state, info)`; the points are stored as pending. `held` [d] fixes
            coordinates of all points, NaN where they are free.
        tell: `tell(state, X [k, d], y [k], **columns) -> state`; y is maximized, non-finite y means a failed
            evaluation. Columns are those of `bojax.data.COLUMNS` that the algorithm uses: `noise_var` [k], known noise
            variances, 0 for exact values; `cost` [k]; `grad` [k, d], dy/dx in the unit cube, NaN where unknown. Any
            other column is an error.
        space: the search space; its `decode` turns X into native values.
        q: number of points each `ask` returns.
        repeats: whether a point may be suggested again, which suits noisy objectives; otherwise every point is new,
            and a finite space can be exhausted.
        predict: `predict(key, state, X [k, d]) -> (mean [k], std [k])`, the surrogate's prediction of the noise-free
            objective, in the units of y; None for an algorithm without a surrogate.
        columns: names of the columns that the algorithm uses, those of `state.observations.columns`.
        begin: `begin(shift [d], told, held=None) -> (X [q, d], valid [q]) or None`, on the host: the points of the
            initial design, NumPy arrays; None once `ask` must choose. None for an algorithm whose `ask` does that, too.
        on: `on(lattice) -> Algorithm`, the same algorithm for a `Lattice`, whose arrays may be traced. A study compiles
            that once for all spaces of a size class. None for an algorithm that needs its space exactly.
        host: the functions of an algorithm that works in Python, which a study calls in place of `ask` and `predict`.
            None for an algorithm that is compiled.
    """

    init: InitFn
    ask: AskFn
    tell: TellFn
    space: Space | Lattice
    q: int = 1
    repeats: bool = False
    predict: PredictFn | None = None
    columns: tuple[str, ...] = ("noise_var",)
    begin: BeginFn | None = None
    on: OnFn | None = None
    host: Host | None = None


class Info(NamedTuple):
    """The diagnostics that every algorithm returns.

    Attributes:
        status: a `bojax._errors.Status` code.
        valid: [q] which rows of X are suggestions.
    """

    status: Int[Array, ""]
    valid: Bool[Array, "q"]


def compiled_ask(ask: AskFn) -> AskFn:
    """A compiled `ask` that accepts any kind of key under any of JAX's settings."""
    program = jax.jit(ask)

    @functools.wraps(ask)
    def outer(key, state, *args, **kwargs):
        with own_settings():
            return program(as_key(key), state, *args, **kwargs)

    outer._cache_size = lambda: program._cache_size()  # type: ignore[attr-defined]
    return outer


def keyed_init(init: InitFn) -> InitFn:
    """An `init` that accepts any kind of key under any of JAX's settings."""

    @functools.wraps(init)
    def outer(key):
        with own_settings():
            return init(as_key(key))

    return outer


MIN_PENDING = 8
"""Default number of slots for pending points."""


def status_of(status: Any, state: Any, valid: Bool[Array, "q"]) -> Int[Array, ""]:
    """The status of an `ask`: `status`, unless the space is exhausted or a buffer of `state` is too small.

    Args:
        status: status of the suggestion.
        state: the state before the points are added to the pending ones.
        valid: [q] which points are suggestions.

    Returns:
        A `Status` code, int32.

    Example:
        >>> import jax, bojax
        >>> state = bojax.random_search(bojax.Space(x=bojax.Float(0.0, 1.0))).init(jax.random.key(0))
        >>> bojax.Status(int(bojax.loop.status_of(bojax.Status.OK, state, jax.numpy.ones(1, bool)))).name
        'OK'
    """
    slots = state.pending.X.shape[-2]
    crowded = (jnp.sum(state.pending.mask) + valid.shape[0] > slots) & (slots > 0)
    full = state.observations.count > state.observations.capacity
    status = jnp.where(jnp.all(valid), status, Status.EXHAUSTED)
    return jnp.where(full | crowded, Status.OVERFLOW, status).astype(jnp.int32)


@under_own_settings
def tell_state(space: Space | Lattice, state: StateT, X: Any, y: Any, **columns: Any) -> StateT:
    """Store observations X [k, d] and y [k] in the buffers of any state; the `tell` of every algorithm here.

    Points are first rounded to the space, so the objective, the buffer and the surrogate see the same point.

    Args:
        space: the search space.
        state: the state before these observations.
        X: [k, d] points in the unit cube.
        y: [k] values, non-finite where the evaluation failed.
        **columns: columns that the state stores, see `bojax.data.COLUMNS`; None means unknown.

    Returns:
        The state with these observations, and with their points no longer pending.

    Raises:
        ValueError: when the shapes of X, y or a column do not fit the space or each other, a column has values that
            are not allowed, or the state does not store it.
        TypeError: when there is no such column.
        BojaxError: when the buffer is full (compiled code reports it in `Info.status` instead).

    Example:
        >>> import jax, bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0))
        >>> state = bojax.random_search(space).init(jax.random.key(0))
        >>> int(bojax.loop.tell_state(space, state, [[0.3]], [1.0], noise_var=[0.1]).observations.count)
        1
    """
    dtype = state.observations.X.dtype
    X, y = jnp.asarray(X, dtype), jnp.asarray(y, dtype)
    if X.ndim != 2 or X.shape[-1] != space.num_dims:
        raise ValueError(f"`X` must have the shape [k, {space.num_dims}], got {list(X.shape)}.")
    if y.shape != X.shape[:1]:
        raise ValueError(f"`y` must have the shape [{X.shape[0]}], one value a row of `X`, got {list(y.shape)}.")
    columns = data.kept_columns(columns, state.observations.columns)
    columns = {name: data.as_column(name, values, X) for name, values in columns.items()}
    count, capacity = state.observations.count, state.observations.capacity
    if not isinstance(count, Tracer) and int(count) + X.shape[0] > capacity:
        raise BojaxError(
            f"the state holds {int(count)} of at most {capacity} observations and cannot take {X.shape[0]} more. "
            f"Enlarge it first: state = bojax.loop.grow(state, {data.next_capacity(int(count) + X.shape[0])})."
        )
    exact = space.space if isinstance(space, Lattice) else space
    return _stored(space, state, X, y, columns) if exact is None else _store(exact, state, X, y, columns)


@functools.partial(jax.jit, static_argnums=0)
def _store(space, state, X, y, columns):
    return _stored(Lattice.of(space), state, X, y, columns)


def _stored(lattice, state, X, y, columns):
    X = lattice.round(X)
    # Categories have no derivatives.
    blank = {name: data.COLUMNS[name].fill for name in columns if data.COLUMNS[name].per_dim}
    categorical = jnp.asarray(lattice.is_categorical)[None, :]
    columns = columns | {name: jnp.where(categorical, fill, columns[name]) for name, fill in blank.items()}
    return state._replace(
        observations=data.append(state.observations, X, y, **columns),
        pending=data.remove_pending(state.pending, X),
    )


def restore(state: StateT, told: data.Told) -> StateT:
    """A fresh state filled with all data of a study, on the host and without compilation.

    Capacities grow in steps (`bojax.data.next_capacity`), so n observations compile a program O(log n) times.

    Args:
        state: the result of `algorithm.init`.
        told: the observations and the pending points. Columns that the state does not store are ignored.

    Returns:
        The state with its buffers replaced.

    Example:
        >>> import jax, numpy as np, bojax
        >>> algorithm = bojax.bayesopt(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> X = np.array([[0.1], [0.5], [0.9]])
        >>> told = bojax.data.Told(X, y=np.sin(X[:, 0]), pending=X[:0])
        >>> int(bojax.loop.restore(algorithm.init(jax.random.key(0)), told).observations.count)
        3
    """
    data.known_columns(told.columns)
    dtype = state.observations.X.dtype
    num_dims = state.observations.X.shape[-1]
    X = np.asarray(told.X, dtype).reshape(-1, num_dims)
    y = np.asarray(told.y, dtype).reshape(-1)
    pending = np.asarray(told.pending, dtype).reshape(-1, num_dims)
    slots = state.pending.X.shape[-2]
    if len(pending):
        slots = data.next_capacity(len(pending) + slots, 8)
    columns = {name: told.columns.get(name) for name in state.observations.columns}
    return state._replace(
        observations=data.from_numpy(X, y, data.next_capacity(len(y)), dtype, **columns),
        pending=data.pending_from_numpy(pending, slots, dtype),
    )


@under_own_settings
def grow(state: StateT, capacity: int) -> StateT:
    """The state with room for more observations.

    Compiled functions accept it and compile once more for its shape.

    Args:
        state: a state of any algorithm.
        capacity: the new capacity, at least the present one.

    Returns:
        The state with a larger buffer.

    Raises:
        ValueError: when `capacity` is below the present one.

    Example:
        >>> import jax, bojax
        >>> state = bojax.random_search(bojax.Space(x=bojax.Float(0.0, 1.0))).init(jax.random.key(0))
        >>> state.observations.capacity, grow(state, 128).observations.capacity
        (64, 128)
    """
    if capacity < state.observations.capacity:
        raise ValueError(
            f"`capacity` must be at least the present {state.observations.capacity}, got {capacity}: "
            "a smaller buffer could lose observations."
        )
    # A study returns float64 arrays, which must not be cast to the caller's precision.
    with jax.enable_x64(bool(state.observations.X.dtype == np.float64)):
        return state._replace(observations=data.resize(state.observations, capacity))
