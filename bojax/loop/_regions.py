"""Trust regions as a function of the observations: lengths, counters and members, replayed row by row.

A region is a box around its best point. Its side is doubled after several improving batches in a row and halved after
several evaluations without improvement; below a minimum side the region restarts with a new design and drops its
members. None of this is stored between calls: all of it follows from the ordered rows, so a study that is resumed from
its trials continues exactly where it stopped. The cost is one pass over the rows, far below that of a fit.

A row does not record which region asked for it, so rows are assigned by position. While a region gathers its design it
owns new rows, except those close to a point that a region stands at or left (evaluations that were running when it
restarted). Otherwise a row belongs to the nearest center, with distances in units of the regions' sides.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bojax import data
from bojax._qmc import random_shift, shifted, sobol_integers, to_unit
from bojax._types import Array, Bool, Float, Int
from bojax.optim import Lattice

LENGTH_INIT, LENGTH_MIN, LENGTH_MAX = 0.8, 0.5**7, 1.6
"""Sides of a region in units of the cube (Eriksson et al. 2019)."""
IMPROVEMENT = 1e-3
"""Smallest improvement that counts, as a fraction of |best| or of the gain since the design, whichever is less. With
|best| alone, adding a constant to all values would change the suggestions."""
CLOSE = 0.1
"""Rows closer than this (over the number of regions) to a region's center in every column do not belong to a design."""
NUM_MOVED = 20
"""Approximate number of coordinates in which a candidate differs from the best point."""
LONGEST = 1.0
"""Cap on lengthscales, in sides of the cube: longer ones say no more than that a column hardly matters."""


class Rules(NamedTuple):
    """The settings of regions; plain numbers.

    Attributes:
        num_regions: number of regions.
        num_initial: points of each region's design.
        q: points of a batch. Rows are grouped into batches in the order in which they are reported.
        success_tolerance: batches in a row that improve, after which a region grows.
        failure_tolerance: evaluations in a row that do not improve, after which it shrinks.
    """

    num_regions: int
    num_initial: int
    q: int
    success_tolerance: int
    failure_tolerance: int


class Regions(NamedTuple):
    """The state of m regions.

    Attributes:
        count: [m] rows since the region started, observed or pending.
        num_finite: [m] how many of them have a value.
        best: [m] the largest value.
        base: [m] the largest value of the design.
        center: [m, d] location of the best value.
        length: [m] side of the box.
        successes: [m] improving batches in a row.
        failures: [m] evaluations in a row that did not improve.
        restarts: [m] number of restarts.
        left: [m, d] its center before the last restart.
        hits: [m] evaluations in the present batch.
        won: [m] whether one of them improved.
    """

    count: Int[Array, "m"]
    num_finite: Int[Array, "m"]
    best: Float[Array, "m"]
    base: Float[Array, "m"]
    center: Float[Array, "m d"]
    length: Float[Array, "m"]
    successes: Int[Array, "m"]
    failures: Int[Array, "m"]
    restarts: Int[Array, "m"]
    left: Float[Array, "m d"]
    hits: Int[Array, "m"]
    won: Bool[Array, "m"]


def replay(rules: Rules, observations: data.Observations, pending: data.Pending) -> tuple[Regions, Int[Array, "n"]]:
    """The regions after all observations, and the region of each row.

    Args:
        rules: the settings of the regions.
        observations: the observations, in order.
        pending: the pending points; they count for designs only.

    Returns:
        The regions, and the region of every row of the observations, or -1 if it has none (any more).
    """
    n, d = observations.X.shape
    m, p = rules.num_regions, pending.X.shape[0]
    dtype = observations.X.dtype
    finite_X = jnp.all(jnp.isfinite(observations.X), axis=-1)

    def padded(leaf, fill):
        return jnp.concatenate([leaf, jnp.full((p, *leaf.shape[1:]), fill, leaf.dtype)])

    rows = (
        jnp.concatenate([jnp.where(finite_X[:, None], observations.X, 0.5), pending.X]),
        padded(observations.y, jnp.nan),
        padded(observations.told, False),
        padded(observations.mask, False),
        jnp.concatenate([observations.told, pending.mask]),
        padded((jnp.arange(n) + 1) % rules.q == 0, False),
    )
    none = jnp.zeros(m, jnp.int32)
    start = Regions(
        count=none,
        num_finite=none,
        best=jnp.full(m, -jnp.inf, dtype),
        base=jnp.full(m, -jnp.inf, dtype),
        center=jnp.full((m, d), 0.5, dtype),
        length=jnp.full(m, LENGTH_INIT, dtype),
        successes=none,
        failures=none,
        restarts=none,
        left=jnp.full((m, d), jnp.inf, dtype),
        hits=none,
        won=jnp.zeros(m, bool),
    )
    regions, visits = jax.lax.scan(lambda regions, row: _tell(rules, regions, *row), start, rows)
    visits = visits[:n]
    current = (visits >= 0) & (visits // m == regions.restarts[visits % m])
    return regions, jnp.where(current, visits % m, -1)


def starting(rules: Rules, regions: Regions) -> Bool[Array, "m"]:
    """Which regions still gather their design: too few points, or too few of them with a value."""
    return (regions.count < rules.num_initial) | (regions.num_finite < min(2, rules.num_initial))


def box(
    lattice: Lattice, center: Float[Array, "d"], length: Float[Array, ""], lengthscale: Float[Array, "d"]
) -> tuple[Float[Array, "d"], Float[Array, "d"]]:
    """A region's box: sides in proportion to the lengthscales, with `length` as their geometric mean.

    In discrete ordered columns it reaches at least the adjacent values; in categorical columns it spans the cube.
    """
    ordered = ~lattice.is_categorical
    log_scale = jnp.log(jnp.minimum(lengthscale, LONGEST))
    mean = jnp.sum(jnp.where(ordered, log_scale, 0.0)) / jnp.maximum(1, jnp.sum(ordered))
    half = 0.5 * length * jnp.exp(log_scale - mean)
    lower, upper = center - half, center + half
    if lattice.has_discrete:
        P = lattice.positions(center)
        discrete = lattice.is_discrete
        lower = jnp.where(discrete, jnp.minimum(lower, lattice.coordinates(P - 1, center)), lower)
        upper = jnp.where(discrete, jnp.maximum(upper, lattice.coordinates(P + 1, center)), upper)
    lower, upper = jnp.where(ordered, lower, 0.0), jnp.where(ordered, upper, 1.0)
    return jnp.clip(lower, 0.0, 1.0), jnp.clip(upper, 0.0, 1.0)


def candidates(
    key,
    lattice: Lattice,
    center: Float[Array, "d"],
    length: Float[Array, ""],
    lengthscale: Float[Array, "d"],
    num_candidates: int,
) -> Float[Array, "k d"]:
    """Quasi-random points of a region's box that keep some coordinates of the center.

    Each column moves with probability min(20 / d, 1), a categorical one with that times the region's side (at most 1),
    and at least one column moves.
    """
    d, dtype = lattice.num_dims, center.dtype
    lower, upper = box(lattice, center, length, lengthscale)
    keys = jax.random.split(key, 3)
    spread = shifted(sobol_integers(num_candidates, d), random_shift(keys[0], d), dtype)
    X = lower[None, :] + (upper - lower)[None, :] * spread
    categorical = lattice.is_categorical
    if d > NUM_MOVED or categorical.any():
        chance = min(NUM_MOVED / d, 1.0) * jnp.where(categorical, jnp.minimum(length, 1.0), 1.0)
        moves = to_unit(jax.random.bits(keys[1], (num_candidates, d), jnp.uint32), dtype) < chance[None, :]
        surely = jax.random.randint(keys[2], (num_candidates, 1), 0, d)
        X = jnp.where(moves | (surely == jnp.arange(d)[None, :]), X, center[None, :])
    return lattice.snap(X)


def _tell(rules, regions, x, y, told, finite, counted, ends_batch):
    """Process one row: assign its region, update it, and at the end of a batch adjust the region."""
    m = rules.num_regions
    young = starting(rules, regions)
    home = _home(regions, young, x)
    mine = (jnp.arange(m) == home) & counted
    visit = jnp.where(told & (home < m), home + m * regions.restarts[jnp.minimum(home, m - 1)], -1)

    better = mine & finite & (y > regions.best)
    gained = jnp.where(young, 0.0, regions.best - regions.base)
    margin = IMPROVEMENT * jnp.minimum(jnp.abs(regions.best), gained)
    at_work = mine & told & ~young
    regions = regions._replace(
        count=regions.count + mine,
        num_finite=regions.num_finite + (mine & finite),
        best=jnp.where(better, y, regions.best),
        base=jnp.where(better & young, y, regions.base),
        center=jnp.where(better[:, None], x[None, :], regions.center),
        hits=regions.hits + at_work,
        won=regions.won | (at_work & better & (y > regions.best + margin)),
    )
    after = _after_batch(rules, regions)
    done = told & ends_batch
    return jax.tree.map(lambda new, old: jnp.where(done, new, old), after, regions), visit.astype(jnp.int32)


def _home(regions, young, x):
    """The region of a row; the number of regions if it has none."""
    m = regions.count.shape[0]
    scaled = jnp.sum((x[None, :] - regions.center) ** 2, axis=1) / regions.length**2
    nearest = jnp.argmin(jnp.where(young, jnp.inf, scaled))

    def close(points):
        return jnp.max(jnp.abs(x[None, :] - points), axis=1) < CLOSE / m

    visiting = close(regions.center) & ~young
    stray = jnp.where(jnp.any(visiting), nearest, m)
    from_design = ~jnp.any(visiting | close(regions.left))
    return jnp.where(jnp.any(young), jnp.where(from_design, jnp.argmax(young), stray), nearest)


def _after_batch(rules, regions):
    """Grow, shrink or restart regions."""
    successes = jnp.where(regions.won, regions.successes + 1, jnp.where(regions.hits > 0, 0, regions.successes))
    failures = jnp.where(regions.won, 0, regions.failures + regions.hits)
    grows, shrinks = successes >= rules.success_tolerance, failures >= rules.failure_tolerance
    length = jnp.where(grows, jnp.minimum(2.0 * regions.length, LENGTH_MAX), regions.length)
    length = jnp.where(shrinks, 0.5 * length, length)
    over = length < LENGTH_MIN
    return Regions(
        count=jnp.where(over, 0, regions.count),
        num_finite=jnp.where(over, 0, regions.num_finite),
        best=jnp.where(over, -jnp.inf, regions.best),
        base=jnp.where(over, -jnp.inf, regions.base),
        center=regions.center,
        length=jnp.where(over, LENGTH_INIT, length).astype(length.dtype),
        successes=jnp.where(grows | over, 0, successes),
        failures=jnp.where(shrinks | over, 0, failures),
        restarts=regions.restarts + over,
        left=jnp.where(over[:, None], regions.center, regions.left),
        hits=jnp.zeros_like(regions.hits),
        won=jnp.zeros_like(regions.won),
    )
