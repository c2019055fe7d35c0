"""Maximize a function on the unit cube by a batched quasi-Newton search from the best of many quasi-random samples.

    raw samples --values--> starts --BFGS (all lanes in one batch)--> best lane

With discrete columns the search alternates. First it relaxes ordered columns (treats them as continuous) and fixes only
categories. It snaps the result to the lattice, improves it by greedy moves to neighbors, and polishes the continuous
columns with all discrete ones fixed; the last two steps repeat. A small finite space is enumerated.

With constraints all samples, moves and results are feasible. The quasi-Newton search pays a penalty for violations, and
each of its results is moved toward its feasible start until it is feasible, too.

Seen points are never proposed. If every search ends at one, nothing better is left nearby, and the raw sample farthest
from all seen points is proposed. On a finite space the result says when no point is left. The whole search is one
compiled program that contains the function two or three times.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from bojax._bfgs import minimize_lanes
from bojax._qmc import shifted, sobol_integers, to_unit
from bojax._types import Array, Bool, Float, Key
from bojax.optim._chunked import check_mesh, chunked, sharded
from bojax.optim._lattice import all_points, is_seen, nearby_unseen, neighbors
from bojax.space import Lattice

SWEEPS = 3
"""Rounds of snapping, greedy moves and polishing in mixed spaces."""
MAX_HOPS = 8
"""Maximum number of greedy moves in one round."""
MAX_ROWS = 2048
"""Points evaluated at a time: with 1,000 observations and 64 samples they take about 110 MB."""
PENALTY = 1e3
"""Weight of the squared scaled violations, in units of the function's spread."""
LOCAL_SHARE = 4
"""One in this many raw samples is drawn near `center`, where late acquisitions have narrow peaks."""

BatchFn = Callable[[Float[Array, "k d"]], Float[Array, "k"]]


class CandidateInfo(NamedTuple):
    """Diagnostics of the search.

    Attributes:
        value: the function at the candidate; NaN if every search ended at a seen point, since the candidate is then
            another point that is not evaluated.
        valid: whether the candidate is a new point; false only when a finite space is exhausted.
        raw_value: the best value among the raw samples (among all points if the space was enumerated).
    """

    value: Float[Array, ""]
    valid: Bool[Array, ""]
    raw_value: Float[Array, ""]


class Seen(NamedTuple):
    """Points not to propose again: X [n, d] where mask [n]."""

    X: Float[Array, "n d"]
    mask: Bool[Array, "n"]


class MultistartSettings(NamedTuple):
    """The checked arguments of `multistart`; a batch is searched with them in turns (`_in_turn`)."""

    num_restarts: int
    raw_samples: int
    max_evals: int
    max_rows: int
    mesh: Mesh | None


@runtime_checkable
class CandidateOptimizer(Protocol):
    """Finds the point of the unit cube where a function is largest.

    One that treats a lattice as data, as the default does, has an attribute `padded` that is True; studies of many
    spaces then share a program.
    """

    def __call__(
        self, key: Key, lattice: Lattice, fn: BatchFn, seen: Seen, center: Float[Array, "d"]
    ) -> tuple[Float[Array, "d"], CandidateInfo]:
        """The candidate and how it was found.

        Args:
            key: random key.
            lattice: the columns of the cube; the candidate is one of its points.
            fn: maps [k, d] points to [k] values, each row independently; larger is better.
            seen: points not to propose again.
            center: a good point to search around, such as the best one observed.
        """
        ...


def multistart(
    *,
    num_restarts: int = 10,
    raw_samples: int = 512,
    max_evals: int = 100,
    max_rows: int = MAX_ROWS,
    mesh: Mesh | None = None,
) -> CandidateOptimizer:
    """The default candidate optimizer: a batched quasi-Newton search from the best of many samples.

    Args:
        num_restarts: lanes of the quasi-Newton search, >= 1 and at most `raw_samples`.
        raw_samples: points evaluated to choose the starts.
        max_evals: maximum number of batched evaluations in one run of the search, >= 1.
        max_rows: maximum number of points evaluated at a time, >= 1. Bounds memory: with n observations and s samples,
            an acquisition holds about 48 n + 96 s bytes per point in float64.
        mesh: devices (a `jax.sharding.Mesh` of one axis) among which raw samples and restarts are divided.

    Returns:
        A `CandidateOptimizer`.

    Raises:
        ValueError: when a number is out of range.

    Example:
        Maximize a parabola on the unit square:

        >>> import jax, jax.numpy as jnp, bojax
        >>> from bojax.optim import Lattice, Seen
        >>> lattice = Lattice.of(bojax.Space(x=bojax.Float(0.0, 1.0), y=bojax.Float(0.0, 1.0)))
        >>> fn = lambda X: -jnp.sum((X - 0.25) ** 2, axis=-1)
        >>> nothing = Seen(jnp.zeros((0, 2)), jnp.zeros(0, bool))
        >>> x, info = multistart(raw_samples=32)(jax.random.key(0), lattice, fn, nothing, jnp.full(2, 0.5))
        >>> [round(float(value), 2) for value in x]
        [0.25, 0.25]
    """
    if not 1 <= num_restarts <= raw_samples:
        raise ValueError(
            f"`num_restarts` must be at least 1 and at most `raw_samples`, got {num_restarts} of {raw_samples}."
        )
    for name, value in (("max_evals", max_evals), ("max_rows", max_rows)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    check_mesh(mesh)

    def maximize(key, lattice, fn, seen, center):
        fn = chunked(fn, max_rows)
        values_of = evaluated(fn, mesh)
        if lattice.kind.max_points:
            return _enumerate(lattice, values_of, seen, center.dtype)
        # One draw for everything: each separate draw adds a third of a second of compilation.
        num_bits = num_raw_bits(raw_samples, lattice.num_dims)
        bits = jax.random.bits(key, (raw_samples + num_bits,), jnp.uint32)
        raw = raw_points(bits[raw_samples:], lattice, raw_samples, center)
        values = values_of(raw)
        starts = raw[choose_starts(bits[:raw_samples], values, num_restarts)]
        scale = scale_of(values)
        search = sharded(lambda starts: local_search(key, lattice, fn, starts, scale, max_evals), mesh)
        X, lane_values = search(starts)
        return best_unseen(lattice, X, lane_values, seen, raw, jnp.max(values))

    settings = MultistartSettings(num_restarts, raw_samples, max_evals, max_rows, mesh)
    maximize.settings = settings  # type: ignore[attr-defined]
    maximize.padded = True  # type: ignore[attr-defined]
    return maximize


def num_raw_bits(num_points: int, num_dims: int) -> int:
    """Number of random integers that `raw_points` takes.

    Args:
        num_points: number of points.
        num_dims: dimension of the cube.

    Returns:
        1 for every local point, and 1 more than their number for every column.

    Example:
        >>> num_raw_bits(8, 1)
        5
    """
    num_local = num_points // LOCAL_SHARE
    return num_local + num_dims * (1 + num_local)


def raw_points(bits: Array, lattice: Lattice, num_points: int, center: Float[Array, "d"]) -> Float[Array, "n d"]:
    """Quasi-random points of the whole cube and some around a center, snapped to the lattice, and feasible.

    Args:
        bits: [num_raw_bits(num_points, d)] random 32-bit integers.
        lattice: the columns of the cube.
        num_points: number of points; one in `LOCAL_SHARE` is local.
        center: [d] the center of the local points, whose distances are log-uniform between 0.001 and 0.3 of the cube's
            side.

    Returns:
        [num_points, d] points.

    Example:
        >>> import bojax, jax, jax.numpy as jnp
        >>> from bojax.optim import Lattice
        >>> line = Lattice.of(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> bits = jax.random.bits(jax.random.key(0), (num_raw_bits(8, 1),), jnp.uint32)
        >>> raw_points(bits, line, 8, jnp.array([0.5])).shape
        (8, 1)
    """
    num_local, d, dtype = num_points // LOCAL_SHARE, lattice.num_dims, center.dtype
    # Column by column, so that further columns change nothing in those before them.
    by_column = bits[num_local:].reshape(d, 1 + num_local)
    spread = shifted(sobol_integers(num_points - num_local, d), by_column[:, 0], dtype)
    radius = 10.0 ** (-3.0 + 2.5 * to_unit(bits[:num_local], dtype))
    direction = 2.0 * to_unit(by_column[:, 1:].T, dtype) - 1.0
    local = jnp.clip(center[None, :] + radius[:, None] * direction, 0.0, 1.0)
    if not lattice.is_constrained:
        return lattice.snap(jnp.concatenate([spread, local]))
    near = lattice.pulled(lattice.snap(local), lattice.repaired(lattice.snap(center[None, :]))[0])
    return jnp.concatenate([lattice.spread(lattice.snap(spread), by_column[0, 0] >> 12), near])


def choose_starts(bits: Array, values: Float[Array, "n"], num_starts: int):
    """Indices of the starts: the best sample, and others with probability proportional to 1 / rank.

    Ranks make the choice independent of the function's scale; randomness spreads the starts over several peaks.

    Args:
        bits: [n] random 32-bit integers.
        values: [n] values of the samples.
        num_starts: number of starts.
    """
    above = values[None, :] > values[:, None]
    rank = 1.0 + jnp.sum(above, axis=1, dtype=values.dtype)
    gumbel = -jnp.log(-jnp.log(to_unit(bits, values.dtype)))
    score = jnp.where(jnp.isfinite(values), gumbel - jnp.log(rank), -jnp.inf)
    best = jnp.arange(values.shape[0]) == jnp.argmax(values)
    return jax.lax.top_k(jnp.where(best, jnp.inf, score), num_starts)[1]


def nan_as_lowest(values: Float[Array, "*k"]) -> Float[Array, "*k"]:
    """The values with minus infinity in place of NaN."""
    return jnp.where(jnp.isnan(values), -jnp.inf, values)


def evaluated(fn: BatchFn, mesh: Mesh | None) -> BatchFn:
    """The function with minus infinity in place of NaN, its rows divided among the devices."""
    return sharded(lambda X: nan_as_lowest(fn(X)), mesh)


def scale_of(values):
    """The divisor of the function: its spread if below one, so that tolerances suit tiny functions."""
    finite = jnp.isfinite(values)
    best = jnp.max(jnp.where(finite, values, -jnp.inf))
    worst = jnp.min(jnp.where(finite, values, jnp.inf))
    spread = best - worst
    return jnp.where(jnp.isfinite(spread) & (spread > 0), jnp.minimum(spread, 1.0), 1.0)


def penalty(lattice: Lattice, X: Float[Array, "k d"]) -> Float[Array, "k"]:
    """What is added to a function that is minimized where points are infeasible; 0 without constraints.

    Args:
        lattice: the columns of the cube.
        X: [k, d] points.

    Returns:
        [k] the weighted sum of the squared scaled violations.

    Example:
        >>> import bojax, jax.numpy as jnp
        >>> from bojax.optim import Lattice
        >>> space = bojax.Space({"x": bojax.Float(0.0, 1.0)}, constraints=[bojax.linear({"x": 1.0}, at_most=0.5)])
        >>> [round(float(value), 1) for value in penalty(Lattice.of(space), jnp.array([[0.4], [0.65]]))]
        [0.0, 10.0]
    """
    if not lattice.is_constrained:
        return jnp.zeros(X.shape[0], X.dtype)
    return PENALTY * jnp.sum(jnp.minimum(lattice.margins(X), 0.0) ** 2, axis=-1)


def local_search(key, lattice, fn, starts, scale, max_evals):
    """Local search from every start, which must be feasible.

    Args:
        key: random key.
        lattice: the columns of the cube.
        fn: maps [k, d] points to [k] values. Rows of one start are adjacent, in the order of the starts, so every start
            may have its own function.
        starts: [r, d] points.
        scale: the divisor of values.
        max_evals: maximum number of batched evaluations in one run of the search.

    Returns:
        The end points [r, d] and their values [r].

    Example:
        >>> import bojax, jax, jax.numpy as jnp
        >>> from bojax.optim import Lattice
        >>> line = Lattice.of(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> X, values = local_search(
        ...     jax.random.key(0), line, lambda X: -((X[:, 0] - 0.25) ** 2), jnp.array([[0.9]]), jnp.float32(1.0), 50
        ... )
        >>> round(float(X[0, 0]), 2)
        0.25
    """
    discrete = jnp.asarray(lattice.is_discrete)

    def value_and_grad(X, active):
        del active
        value, pullback = jax.vjp(fn, X)
        value, slope = -value / scale, -pullback(jnp.ones_like(value))[0] / scale
        if not lattice.is_constrained:
            return value, slope
        more, pullback = jax.vjp(lambda X: penalty(lattice, X), X)
        return value + more, slope + pullback(jnp.ones_like(more))[0]

    def polish(X, fixed):
        lower = jnp.where(fixed[None, :], X, 0.0)
        upper = jnp.where(fixed[None, :], X, 1.0)
        float64 = jnp.finfo(X.dtype).bits >= 64
        gtol, ftol = (1e-6, 1e-10) if float64 else (1e-4, 1e-6)
        result = minimize_lanes(value_and_grad, X, lower, upper, max_evals=max_evals, gtol=gtol, ftol=ftol)
        return result.x, -result.f * scale

    if not lattice.has_discrete:
        X, values = polish(starts, jnp.zeros(lattice.num_dims, bool))
        if lattice.is_constrained:
            X = lattice.pulled(X, starts)
            values = fn(X)
        return X, values

    categorical = jnp.asarray(lattice.is_categorical)

    def sweep(i, carry):
        X, _ = carry
        moved, _ = polish(X, jnp.where(i == 0, categorical, discrete))
        return _hop(jax.random.fold_in(key, i), lattice, fn, lattice.pulled(lattice.snap(moved), X))

    return jax.lax.fori_loop(0, SWEEPS, sweep, (starts, jnp.full(starts.shape[0], -jnp.inf, starts.dtype)))


def _hop(key, lattice, fn, X):
    """Greedy moves of every lane to its best neighbor, until no lane improves."""

    def improving(carry):
        hops, _, _, improved = carry
        return (hops < MAX_HOPS) & improved

    def hop(carry):
        hops, X, values, _ = carry
        around = neighbors(jax.random.fold_in(key, hops), lattice, X)
        found = fn(around.reshape(-1, X.shape[-1])).reshape(around.shape[:2])
        found = nan_as_lowest(found)
        if lattice.is_constrained:  # the first is the point itself, which is feasible
            found = jnp.where(lattice.is_inside(around), found, -jnp.inf)
        best = jnp.argmax(found, axis=1)
        X = jnp.take_along_axis(around, best[:, None, None], axis=1)[:, 0]
        new_values = jnp.max(found, axis=1)
        return hops + 1, X, new_values, jnp.any(new_values > values)

    start = (jnp.int32(0), X, jnp.full(X.shape[0], -jnp.inf, X.dtype), jnp.bool_(True))
    _, X, values, _ = jax.lax.while_loop(improving, hop, start)
    return X, values


def best_unseen(lattice, X, values, seen, raw, raw_value):
    """The best unseen lane; else an unseen point, near the best lane in a finite space, far from all seen otherwise."""
    values = nan_as_lowest(values)
    old = is_seen(lattice, X, seen.X, seen.mask)
    best_new = jnp.argmax(jnp.where(old, -jnp.inf, jnp.maximum(values, jnp.finfo(X.dtype).min)))
    if not lattice.is_finite:
        other, any_left = jax.lax.cond(jnp.all(old), lambda: farthest(raw, seen), lambda: X[best_new]), jnp.bool_(True)
    else:
        other, any_left = nearby_unseen(lattice, X[jnp.argmax(values)], seen.X, seen.mask)
    x = jnp.where(old[best_new], other, X[best_new])
    value = jnp.where(old[best_new], jnp.nan, values[best_new])
    return x, CandidateInfo(value, any_left, raw_value)


def farthest(X: Float[Array, "k d"], seen: Seen) -> Float[Array, "d"]:
    """The point of X that is farthest from all seen ones."""
    squares = jnp.sum((X[:, None, :] - seen.X[None, :, :]) ** 2, axis=-1)
    return X[jnp.argmax(jnp.min(jnp.where(seen.mask[None, :], squares, jnp.inf), axis=1, initial=jnp.inf))]


def _enumerate(lattice, fn, seen, dtype):
    X, real = all_points(lattice, dtype)
    values = jnp.where(real, fn(X), -jnp.inf)
    old = is_seen(lattice, X, seen.X, seen.mask) | ~real
    best = jnp.argmax(jnp.where(old, -jnp.inf, jnp.where(values == -jnp.inf, jnp.finfo(dtype).min, values)))
    return X[best], CandidateInfo(values[best], ~jnp.all(old), jnp.max(values))
