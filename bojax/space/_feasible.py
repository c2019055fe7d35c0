"""The feasible part of a constrained cube, known by its *anchors*: feasible points that fill it.

    random points --inside?--> anchors;  none: differential evolution of the violation;  few: walks from those found

Anchors are found once, on the host. From them compiled code makes any point feasible at a fixed cost: it bisects the
segment from an anchor to the point. So tight constraints cost no more than loose ones.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._errors import BojaxError
from bojax._namespace import namespace

NUM_ANCHORS, MAX_ANCHORS = 256, 1024
"""Anchors of an infinite space; and of a finite one, all of whose feasible points are anchors if they are so few."""
CHUNK, NUM_TRIED = 4096, 65536
"""Random points that are tried at a time and in all. A finite space of so many points is enumerated."""
POPULATION, GENERATIONS = 64, 400
"""Of the search that minimizes the violation where none of these is feasible."""
NUM_WALKS, NUM_SHRINKS = 30, 30
"""Steps of random walks where few feasible points are found, and how often a step is shortened."""
STEPS, FEW_STEPS = 30, 12
"""Bisections of a segment: to reach the boundary, and to know about where it is."""
INWARD = 1e-6
"""Share of a segment by which a point stays off the boundary, so that rounding does not carry it across."""
GOLDEN = 0.6180339887498949


class Part(NamedTuple):
    """A part of the cube.

    Attributes:
        inside: which points [..., d] belong to it.
        violation: [n] how far points [n, d] are outside, 0 inside.
        snap: the nearest points that the space can represent, with the held coordinates.
        coordinates: points of positions [n, d] of values.
        sizes: [d] number of values of each column, 0 for a continuous one, 1 for one that is held.
    """

    inside: Callable[[Any], Any]
    violation: Callable[[Any], Any]
    snap: Callable[[Any], Any]
    coordinates: Callable[[Any], Any]
    sizes: np.ndarray


class Anchors(NamedTuple):
    """Feasible points [k, d] of a part, far ones first, and how many different ones it has; None if not counted."""

    points: np.ndarray
    count: int | None


def find_anchors(part: Part, where: str) -> Anchors:
    """The anchors of a part, on the host.

    Args:
        part: the part of the cube; its functions take NumPy arrays.
        where: what it is, for messages.

    Raises:
        BojaxError: no feasible point is found.
    """
    rng, d = np.random.default_rng(0), len(part.sizes)
    sizes = np.maximum(part.sizes, 0).astype(np.float64)
    total = float(np.prod(sizes)) if (sizes > 0).all() else np.inf
    if total <= NUM_TRIED + 0.5:
        return _enumerated(part, where, rng, round(total))
    wanted = NUM_ANCHORS if np.isinf(total) else MAX_ANCHORS
    found, nearest = np.zeros((0, d)), np.zeros((0, d))
    for _ in range(NUM_TRIED // CHUNK):
        X = part.snap(rng.random((CHUNK, d)))
        inside = part.inside(X)
        found = _distinct(np.concatenate([found, X[inside]]))
        if len(found) >= wanted:
            break
        if not len(found):
            both = np.concatenate([nearest, X])
            nearest = both[np.argsort(part.violation(both), kind="stable")[:POPULATION]]
    if not len(found):
        found = _evolved(part, nearest, rng)
    if not len(found):
        raise BojaxError(
            f"no feasible point of {where} was found: {NUM_TRIED} random points and {POPULATION * GENERATIONS} points "
            "of a search that minimizes the violation were tried. Do the constraints contradict each other or the "
            "ranges?"
        )
    if len(found) < wanted:
        found = _walked(part, found, wanted, rng)
    return Anchors(_far_first(found[:wanted]), None)


def _enumerated(part, where, rng, total):
    strides = np.cumprod(np.concatenate([[1], part.sizes[::-1]]))[:-1][::-1]
    P = (np.arange(total)[:, None] // strides[None, :] % part.sizes[None, :]).astype(np.int32)
    X = _distinct(part.snap(part.coordinates(P)))
    X = X[part.inside(X)]
    if not len(X):
        raise BojaxError(f"none of the {total} points of {where} is feasible: loosen the constraints or the ranges.")
    some = X if len(X) <= MAX_ANCHORS else X[np.sort(rng.permutation(len(X))[:MAX_ANCHORS])]
    return Anchors(_far_first(some), len(X))


def _distinct(X):
    """The rows without repeats, in order."""
    _, first = np.unique(X, axis=0, return_index=True)
    return X[np.sort(first)]


def _evolved(part, X, rng):
    """The feasible rows after differential evolution of the violation, of which about half are feasible at the end."""
    values = part.violation(X)
    for _ in range(GENERATIONS):
        inside = part.inside(X)
        if 2 * np.count_nonzero(inside) >= len(X):
            break
        draws = rng.random((len(X), X.shape[1] + 3)), rng.integers(0, len(X), (len(X), 3))
        X, values = evolved(part, X, values, *draws)
    return _distinct(X[part.inside(X)])


def evolved(part: Part, X: Any, values: Any, units: Any, others: Any) -> Any:
    """One generation of differential evolution (Storn and Price 1997): points [n, d] and their violations [n].

    A third of the trial points start from the best point, a third from another one, and a third from the point itself,
    with steps of all sizes, so that not all of them gather at one place.

    Args:
        part: the part of the cube.
        X: [n, d] the points before.
        values: [n] their violations.
        units: [n, d + 3] random numbers of the unit interval.
        others: [n, 3] random rows of X.
    """
    xp = namespace(X, values, units, others)
    kind, crossover = units[:, :1], xp.maximum(units[:, 1:2] ** 2, 0.1)
    best = X[xp.argmin(values)][None, :]
    base = xp.where(kind < 1 / 3, best, xp.where(kind < 2 / 3, X[others[:, 2]], X))
    scale = xp.where(kind < 2 / 3, 0.3 + 0.6 * units[:, 2:3], 10.0 ** (-5.0 * units[:, 2:3]))
    mutant = xp.clip(base + scale * (X[others[:, 0]] - X[others[:, 1]]), 0.0, 1.0)
    trial = part.snap(xp.where(units[:, 3:] <= crossover, mutant, X))
    new = part.violation(trial)
    better = new <= values
    return xp.where(better[:, None], trial, X), xp.where(better, new, values)


def _walked(part, found, wanted, rng):
    """`wanted` points by random walks from those found, which leave the uniform distribution as it is.

    Each step is uniform on a segment along one column, a random direction, or the difference of two points; outside of
    the part the segment shrinks toward the point (slice sampling: Neal 2003).
    """
    n, d = wanted, found.shape[1]
    X = found[np.arange(n) % len(found)]
    for _ in range(NUM_WALKS):
        kind, one = rng.integers(0, 3, (n, 1)), np.arange(d)[None, :] == rng.integers(0, d, (n, 1))
        apart = X[rng.integers(0, n, n)] - X[rng.integers(0, n, n)]
        step = np.where(kind == 0, one, np.where(kind == 1, 2.0 * apart, rng.normal(size=(n, d))))
        low, high, start, left = -np.ones(n), np.ones(n), X, np.ones(n, bool)
        for _ in range(NUM_SHRINKS):
            share = low + (high - low) * rng.random(n)
            free = start + share[:, None] * step
            Y = part.snap(np.clip(free, 0.0, 1.0))
            now = left & part.inside(Y) & _in_cube(free)
            X, left = np.where(now[:, None], Y, X), left & ~now
            low, high = np.where(share < 0, share, low), np.where(share < 0, high, share)
            if not left.any():
                break
    return np.concatenate([found, X[len(found) :]])


def _far_first(X):
    """The rows so ordered that each is far from those before it."""
    if len(X) > MAX_ANCHORS or len(X) < 3:
        return X
    order, near = [0], np.sum((X - X[0]) ** 2, axis=1)
    near[0] = -1.0
    for _ in range(len(X) - 1):
        i = int(np.argmax(near))
        order.append(i)
        near = np.minimum(near, np.sum((X - X[i]) ** 2, axis=1))
        near[order] = -1.0
    return X[order]


# Functions of compiled code, and of NumPy arrays.


def pulled(part: Part, X: Any, start: Any) -> Any:
    """The points [n, d] that are inside, and the others moved toward points [n, d] or [d] that are, until they are."""
    xp = namespace(X, start)
    start = xp.broadcast_to(start, X.shape)

    def along(share):
        return start + share[:, None] * (X - start)

    reach = _reach(part, along, X, STEPS)
    both = xp.concatenate([X, part.snap(along(reach * (1.0 - INWARD)))])
    was, now = xp.split(part.inside(both), 2)
    moved = xp.where(now[:, None], both[X.shape[0] :], xp.where((reach > 0)[:, None], part.snap(along(reach)), start))
    return xp.where(was[:, None], X, moved)


def spread(part: Part, X: Any, anchors: Any, count: Any, offset: Any = 0) -> Any:
    """The points [n, d] that are inside; in place of the others, points within that fill the part.

    Each is a step from an anchor along the line to the point it replaces, uniform on what of the line is inside: if
    the anchors are uniform, so are these (hit-and-run: Smith 1984).

    Args:
        part: the part of the cube.
        X: [n, d] points.
        anchors: [k, d] points inside, of which the first `count` are used in turn.
        count: [] number of anchors.
        offset: [] the number of the first anchor, an integer.
    """
    xp = namespace(X, anchors)
    rows = xp.arange(X.shape[0], dtype=np.int32)
    start = xp.asarray(anchors)[(offset + rows) % xp.maximum(count, 1)]

    back_and_forth = xp.concatenate([start - X, X - start])

    def along(share):
        return xp.concatenate([start, start]) + share[:, None] * back_and_forth

    back, forth = xp.split(_reach(part, along, back_and_forth, FEW_STEPS), 2)
    share = -back + (back + forth) * ((0.5 + GOLDEN * rows) % 1.0).astype(X.dtype)  # evenly spread in [0, 1)
    both = xp.concatenate([X, start + share[:, None] * (X - start)])
    snapped = part.snap(both)
    was, now = xp.split(part.inside(snapped) & _in_cube(both), 2)
    return xp.where(was[:, None], X, xp.where(now[:, None], snapped[X.shape[0] :], start))


def repaired(part: Part, X: Any, anchors: Any, count: Any) -> Any:
    """The points [n, d] that are inside, and the others moved toward the nearest anchor until they are."""
    xp = namespace(X, anchors)
    squares = xp.sum((X[:, None, :] - anchors[None, :, :]) ** 2, axis=-1)
    squares = xp.where(xp.arange(anchors.shape[0])[None, :] < count, squares, xp.inf)
    return pulled(part, X, xp.asarray(anchors)[xp.argmin(squares, axis=1)])


def held_anchors(part: Part, anchors: Any, count: Any) -> tuple[Any, Any]:
    """Anchors [k, d] with held coordinates, in compiled code, and their number; 0 if none is found."""
    k, d = anchors.shape
    X = part.snap(anchors)

    def searching(carry):
        i, X, _ = carry
        return (i < GENERATIONS) & ~jnp.any(part.inside(X))

    def generation(carry):
        i, X, values = carry
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), i))
        units = jax.random.uniform(keys[0], (k, d + 3), X.dtype)
        return i + 1, *evolved(part, X, values, units, jax.random.randint(keys[1], (k, 3), 0, k))

    real = jnp.arange(k) < count
    values = jnp.where(real, part.violation(X), jnp.inf)
    _, X, _ = jax.lax.while_loop(searching, generation, (jnp.int32(0), X, values))
    ok = part.inside(X)
    return X[jnp.argsort(~ok, stable=True)], jnp.sum(ok, dtype=jnp.int32)


def _in_cube(X):
    return namespace(X).all((X >= 0) & (X <= 1), axis=-1)


def _reach(part, along, X, steps):
    """[n] about the largest share of each segment that ends inside, in the cube; 0 if only its start does."""
    xp = namespace(X)

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        points = along(middle)
        inside = part.inside(part.snap(points)) & _in_cube(points)
        return xp.where(inside, middle, low), xp.where(inside, high, middle)

    ends: Any = (xp.zeros(X.shape[0], X.dtype), xp.ones(X.shape[0], X.dtype))
    if xp is jnp:
        return jax.lax.fori_loop(0, steps, halve, ends)[0]
    for i in range(steps):
        ends = halve(i, ends)
    return ends[0]
