"""Observations: what a study has seen, in a buffer of fixed shape.

Compiled programs depend on shapes, so data that grow by a row would compile anew for every row. The buffer has room
for `capacity` rows, a mask says which are real, and its capacity doubles, so n observations cost O(log n) programs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._types import Array, Bool, Float, Int

MIN_CAPACITY = 16
"""Smallest buffer that `next_capacity` gives: below it a factorisation costs less than starting the program."""


class Observations(NamedTuple):
    """A masked buffer of observations.

    Attributes:
        X: [capacity, d] points in the unit cube. Padding rows stand at 0.5: padding must be finite.
        y: [capacity] values as told, larger is better. A failed observation keeps its non-finite value here.
        mask: [capacity] which rows hold a finite observation; only these reach the surrogate.
        count: how many rows were told, failed ones included. More than `capacity` means that rows were lost.
        noise_var: [capacity] variance of the noise of each value as far as it was told, in squared units of y; 0 for
            exact values, NaN where nothing was told. None says that nothing was told of any.
        cost: [capacity] what each evaluation cost, 0 where that was not told. None where costs are not kept.
        grad: [capacity, d] derivatives of y by the coordinates of the cube, NaN where not told. None where gradients
            are not kept.
    """

    X: Float[Array, "*b n d"]
    y: Float[Array, "*b n"]
    mask: Bool[Array, "*b n"]
    count: Int[Array, "*b"]
    noise_var: Float[Array, "*b n"] | None = None
    cost: Float[Array, "*b n"] | None = None
    grad: Float[Array, "*b n d"] | None = None

    @property
    def capacity(self) -> int:
        """How many rows the buffer holds."""
        return self.X.shape[-2]

    @property
    def told(self) -> Bool[Array, "*b n"]:
        """Which rows were told, failed ones included."""
        rows = jax.lax.broadcasted_iota(jnp.int32, self.mask.shape, self.mask.ndim - 1)
        return rows < jnp.asarray(self.count)[..., None]


class Pending(NamedTuple):
    """Points that were asked for and not yet told.

    Attributes:
        X: [p, d] points in the unit cube.
        mask: [p] which rows are pending.
    """

    X: Float[Array, "*b p d"]
    mask: Bool[Array, "*b p"]


def next_capacity(count: int, minimum: int = MIN_CAPACITY) -> int:
    """The smallest power of two that holds `count` rows and is not below `minimum`."""
    return max(minimum, 1 << max(count - 1, 0).bit_length())


def empty(num_dims: int, capacity: int, dtype=None, *, gradients: bool = False) -> Observations:
    """A buffer with no observation, with room for `gradients` if so wished.

    Raises:
        ValueError: when `capacity` is below 1.
    """
    if capacity < 1:
        raise ValueError(f"`capacity` must be at least 1, got {capacity}.")
    dtype = jnp.zeros((), dtype).dtype
    return Observations(
        X=jnp.full((capacity, num_dims), 0.5, dtype),
        y=jnp.zeros(capacity, dtype),
        mask=jnp.zeros(capacity, bool),
        count=jnp.zeros((), jnp.int32),
        noise_var=jnp.full(capacity, jnp.nan, dtype),
        grad=jnp.full((capacity, num_dims), jnp.nan, dtype) if gradients else None,
    )


def empty_pending(num_dims: int, capacity: int, dtype=None) -> Pending:
    """A pending buffer with no point; `capacity` may be 0."""
    return Pending(X=jnp.full((capacity, num_dims), 0.5, dtype), mask=jnp.zeros(capacity, bool))


def append(
    observations: Observations,
    X: Float[Array, "k d"],
    y: Float[Array, "k"],
    noise_var: Float[Array, "k"] | None = None,
    cost: Float[Array, "k"] | None = None,
    grad: Float[Array, "k d"] | None = None,
) -> Observations:
    """Add k observations.

    Rows that do not fit are dropped but still counted, so `count > capacity` tells of them; `resize` first.

    Args:
        observations: what was seen so far.
        X: [k, d] points in the unit cube.
        y: [k] their values; NaN or infinite for a failed evaluation, which is stored with its mask off.
        noise_var: [k] variances of their noise, 0 where they are exact, NaN where not known; not known by default.
        cost: [k] what the evaluations cost, 0 where not known; for observations that keep costs.
        grad: [k, d] gradients, NaN where not known; for observations that keep them.

    Raises:
        ValueError: costs or gradients are given to observations that keep none.
    """
    if cost is not None and observations.cost is None:
        raise ValueError("`cost` must be left out: these observations keep no costs. Use bojax.loop.cost_aware.")
    if grad is not None and observations.grad is None:
        raise ValueError("`grad` must be left out: these observations keep no gradients. Use bayesopt(gradients=True).")
    rows = observations.count + jnp.arange(X.shape[0], dtype=jnp.int32)
    # Without the barrier XLA may compute y twice, with other rounding, for the value and for the mask.
    y = jax.lax.optimization_barrier(y.astype(observations.y.dtype))
    before = jnp.full_like(observations.y, jnp.nan) if observations.noise_var is None else observations.noise_var
    return Observations(
        X=observations.X.at[rows].set(X.astype(observations.X.dtype), mode="drop"),
        y=observations.y.at[rows].set(y, mode="drop"),
        mask=observations.mask.at[rows].set(jnp.isfinite(y) & jnp.all(jnp.isfinite(X), axis=-1), mode="drop"),
        count=observations.count + jnp.int32(X.shape[0]),
        noise_var=before.at[rows].set(_or_nans(noise_var, y), mode="drop"),
        cost=None if observations.cost is None else observations.cost.at[rows].set(_or_zeros(cost, y), mode="drop"),
        grad=None if observations.grad is None else observations.grad.at[rows].set(_or_nans(grad, X), mode="drop"),
    )


def resize(observations: Observations, capacity: int) -> Observations:
    """The same observations in a buffer of another capacity; the caller keeps it at `count` or more."""
    old = observations.capacity
    if capacity <= old:
        return observations._replace(
            X=observations.X[:capacity],
            y=observations.y[:capacity],
            mask=observations.mask[:capacity],
            noise_var=None if observations.noise_var is None else observations.noise_var[:capacity],
            cost=None if observations.cost is None else observations.cost[:capacity],
            grad=None if observations.grad is None else observations.grad[:capacity],
        )
    unknown = jnp.full(capacity, jnp.nan, observations.y.dtype)
    grown = empty(observations.X.shape[-1], capacity, observations.X.dtype, gradients=observations.grad is not None)
    return Observations(
        X=grown.X.at[:old].set(observations.X),
        y=grown.y.at[:old].set(observations.y),
        mask=grown.mask.at[:old].set(observations.mask),
        count=observations.count,
        noise_var=None if observations.noise_var is None else unknown.at[:old].set(observations.noise_var),
        cost=None if observations.cost is None else grown.y.at[:old].set(observations.cost),
        grad=None if grown.grad is None else grown.grad.at[:old].set(observations.grad),
    )


def from_numpy(
    X: np.ndarray,
    y: np.ndarray,
    capacity: int,
    dtype,
    noise_var: np.ndarray | None = None,
    cost: np.ndarray | None = None,
    grad: np.ndarray | None = None,
) -> Observations:
    """A buffer filled on the host, without compiling anything.

    X: [n, d]; y: [n], NaN where failed; noise_var: [n], NaN where not told; cost: [n] and grad: [n, d], None where
    they are not kept.
    """
    count, num_dims = X.shape
    padded_X = np.full((capacity, num_dims), 0.5, dtype)
    padded_X[:count] = X
    mask = np.zeros(capacity, bool)
    mask[:count] = np.isfinite(y)

    def padded(values, fill=0.0):
        out = np.full(capacity, fill, dtype)
        out[:count] = fill if values is None else values
        return jnp.asarray(out)

    padded_grad = np.full((capacity, num_dims), np.nan, dtype)
    padded_grad[:count] = np.nan if grad is None else grad
    return Observations(
        X=jnp.asarray(padded_X),
        y=padded(y),
        mask=jnp.asarray(mask),
        count=jnp.asarray(np.int32(count)),
        noise_var=padded(noise_var, np.nan),
        cost=None if cost is None else padded(cost),
        grad=None if grad is None else jnp.asarray(padded_grad),
    )


def pending_from_numpy(X: np.ndarray, capacity: int, dtype) -> Pending:
    """A pending buffer filled on the host. X: [k, d] with k at most `capacity`."""
    padded = np.full((capacity, X.shape[1]), 0.5, dtype)
    padded[: len(X)] = X
    return Pending(jnp.asarray(padded), jnp.asarray(np.arange(capacity) < len(X)))


def add_pending(pending: Pending, X: Float[Array, "q d"], valid: Bool[Array, "q"]) -> Pending:
    """Remember q points in the free slots; when there are none left, the first slots are used again.

    A buffer without slots remembers nothing: for callers who tell before they ask again.
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
    """Forget the points that are told now; each told row clears at most one equal pending row."""
    if pending.X.shape[0] == 0:
        return pending

    def clear(mask, x):
        hit = mask & jnp.all(pending.X == x[None, :], axis=-1)
        first = jnp.argmax(hit)
        return mask.at[first].set(jnp.where(jnp.any(hit), False, mask[first])), None

    mask, _ = jax.lax.scan(clear, pending.mask, X.astype(pending.X.dtype))
    return Pending(X=pending.X, mask=mask)


def _or_zeros(values, like):
    return jnp.zeros_like(like) if values is None else jnp.asarray(values, like.dtype)


def _or_nans(values, like):
    return jnp.full_like(like, jnp.nan) if values is None else jnp.asarray(values, like.dtype)
