"""Trust regions: Bayesian optimization that stays near the best point, for many dimensions and many evaluations.

    observations --replay--> regions --local fit--> box --candidates--> one function each --best candidate--> q points

In many dimensions a global model is uncertain almost everywhere, and acquisitions favor far corners. A region fits a
Gaussian process to its own data and uses it only in a box around the best point, with sides proportional to the
lengthscales. Each of the q points maximizes a drawn function over random candidates in the box. In many dimensions a
candidate keeps most coordinates of the best point. The box grows and shrinks with success and restarts when it is small
(see `_regions`). Several regions compete for points through their drawn functions.
(Eriksson, Pearce, Gardner, Turner, Poloczek 2019, arXiv:1910.01833.)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bojax import data
from bojax._errors import Status
from bojax._types import Array, Bool, Float, Int
from bojax.loop._algorithm import Algorithm
from bojax.loop._defaults import bound_surrogate, default_num_initial, default_surrogate
from bojax.loop._design import replace_seen, seen_points
from bojax.loop._model_based import Proposal, Rule, check_counts, failures_as_worst, model_based
from bojax.loop._regions import Rules, candidates, replay, starting
from bojax.optim import Lattice, is_seen
from bojax.space import Space
from bojax.surrogates import Surrogate, sample_paths, unwrapped


class TurboInfo(NamedTuple):
    """Diagnostics of an `ask`.

    Attributes:
        status: a `Status` code.
        valid: [q] which points are suggestions; all of them unless a finite space is exhausted.
        region: [q] the region of each point; -1 in a design.
        length: [m] sides of the regions.
        restarts: [m] restarts of each region.
        fit_loss: [m] negative log posteriors of the local hyperparameters; NaN in a design.
    """

    status: Int[Array, ""]
    valid: Bool[Array, "q"]
    region: Int[Array, "q"]
    length: Float[Array, "m"]
    restarts: Int[Array, "m"]
    fit_loss: Float[Array, "m"]


class TrustRegion(NamedTuple):
    """How a region adapts.

    Attributes:
        success_tolerance: improving batches in a row after which its side doubles, >= 1.
        failure_tolerance: evaluations in a row without improvement after which its side halves, >= 1; None means d, but
            at least 4.
        max_local: maximum number of rows its Gaussian process sees, the nearest to its center, >= 2.
    """

    success_tolerance: int = 3
    failure_tolerance: int | None = None
    max_local: int = 256


DEFAULT_REGION = TrustRegion()
"""Tolerances as published."""


def turbo(
    space: Space,
    *,
    q: int = 1,
    num_regions: int = 1,
    capacity: int = 256,
    num_initial: int | None = None,
    surrogate: Surrogate | None = None,
    num_candidates: int | None = None,
    num_features: int = 1024,
    trust_region: TrustRegion = DEFAULT_REGION,
    max_pending: int | None = None,
) -> Algorithm:
    """Trust-region Bayesian optimization.

    A suggestion depends only on the key, the ordered observations and the pending points, so a restored study continues
    with the same points. Failed evaluations do not count as success. Pending points fill designs and are not suggested
    again; functions are drawn without them.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1.
        num_regions: number of competing regions, >= 1.
        capacity: room for this many observations; `bojax.loop.grow` enlarges a state.
        num_initial: points of each region's design, >= 1; by default d + 1, between 3 and 16.
        surrogate: a Gaussian process whose kernel has lengthscales and random features. It sees the raw values unless
            it is wrapped by `with_output_transform`; `bojax.loop.default_surrogate()` by default.
        num_candidates: random candidates in each region, >= 1; by default 200 d, between 2000 and 5000.
        num_features: random features of a drawn function, >= 1.
        trust_region: when a region grows and shrinks, and the number of rows it sees.
        max_pending: maximum number of pending points; 8, or q if that is more, by default.

    Returns:
        An `Algorithm` whose `ask` returns a `TurboInfo`.

    Raises:
        ValueError: when a number is out of range.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.turbo(bojax.Space({f"x{i}": bojax.Float(0.0, 1.0) for i in range(30)}), q=4)
        >>> X, state, info = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
        >>> X.shape
        (4, 30)
    """
    lattice = Lattice.of(space)
    d = space.num_dims
    num_initial = int(default_num_initial(d)) if num_initial is None else num_initial
    num_candidates = min(5000, max(2000, 200 * d)) if num_candidates is None else num_candidates
    success_tolerance, failure_tolerance, max_local = trust_region
    failure_tolerance = max(4, d) if failure_tolerance is None else failure_tolerance
    check_counts(q=q, num_regions=num_regions, num_initial=num_initial, num_features=num_features)
    check_counts(success_tolerance=success_tolerance, failure_tolerance=failure_tolerance)
    for name, value, least in (("num_candidates", num_candidates, q), ("max_local", max_local, 2)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    rules = Rules(num_regions, num_initial, q, success_tolerance, failure_tolerance)
    surrogate = bound_surrogate(space, default_surrogate() if surrogate is None else surrogate)
    model, sees = unwrapped(surrogate)

    def prepare(key, state):
        del key
        return replay(rules, state.observations, state.pending)

    def in_design(state, prepared):
        del state
        return jnp.any(starting(rules, prepared[0]))

    def scored(key, asked, index):
        """Candidates of a region, the q drawn functions at all of them, and the fit's loss and success."""
        keys = jax.random.split(key, 3)
        regions, member = asked.prepared
        center = regions.center[index]
        mine = local_data(asked.state.observations, member == index, center, max_local)
        local = sees(failures_as_worst(mine))
        params, fit = model.fit(keys[0], local, model.init(d, center.dtype))
        posterior = model.posterior(params, local)
        scales = lengthscales(posterior)
        X = candidates(keys[1], asked.lattice, center, regions.length[index], scales, num_candidates)
        if lattice.is_constrained:
            X = asked.lattice.pulled(X, asked.lattice.repaired(asked.lattice.snap(center)[None])[0])
        values = sample_paths(keys[2], posterior, q, num_features=num_features).at_all(X)
        return X, values, fit.loss, fit.ok

    def propose(key, asked):
        keys = jax.random.split(key, num_regions)
        X, values, loss, fit_ok = jax.lax.map(
            lambda item: scored(item[0], asked, item[1]), (keys, jnp.arange(num_regions))
        )
        X, values = X.reshape(-1, d), jnp.moveaxis(values, 0, 1).reshape(q, -1)
        before = seen_points(asked.state.observations, asked.state.pending, q)
        old = jnp.any(jnp.all(X[:, None] == asked.prepared[0].center[None], -1), axis=1)
        if lattice.is_finite:
            old |= is_seen(lattice, X, before.X, before.mask)
        rows = largest_of_each(jnp.where(old[None, :] | jnp.isnan(values), -jnp.inf, values))
        points, valid = replace_seen(asked.lattice, X[rows], before, asked.design[0])
        ok = jnp.all(fit_ok) & jnp.all(jnp.isfinite(values))
        return Proposal(points, valid, ok, (), ((rows // num_candidates).astype(jnp.int32), loss))

    def describe(asked, X, status, valid, details):
        del X
        regions, (region, loss) = asked.prepared[0], details
        region = jnp.where(status == Status.OK, region, -1)
        return TurboInfo(status, valid, region, regions.length, regions.restarts, loss)

    def no_details(dtype):
        return jnp.full(q, -1, jnp.int32), jnp.full(num_regions, jnp.nan, dtype)

    rule = Rule(propose, describe, no_details, lambda dtype: (), prepare, in_design)
    frame = {"q": q, "capacity": capacity, "num_initial": num_initial * num_regions, "max_pending": max_pending}
    return model_based(space, rule, surrogate=surrogate, failures=failures_as_worst, **frame)


def local_data(
    observations: data.Observations, chosen: Bool[Array, "n"], center: Float[Array, "d"], max_local: int
) -> data.Observations:
    """Observations with only the chosen rows nearest to a center, at most `max_local`."""
    distance = jnp.sum((observations.X - center[None, :]) ** 2, axis=1)
    score = jnp.where(chosen, -distance, -jnp.inf)
    score = jnp.where(jnp.isnan(score), jnp.finfo(score.dtype).min, score)  # observed at a point that is not finite
    rows = jax.lax.top_k(score, min(max_local, observations.capacity))[1]
    mine = chosen[rows]
    return data.Observations(
        X=jnp.where(mine[:, None], observations.X[rows], 0.5),
        y=jnp.where(mine, observations.y[rows], 0.0),
        mask=mine & observations.mask[rows],
        count=jnp.sum(mine, dtype=jnp.int32),
        columns={name: _rows_of(name, column, rows, mine) for name, column in observations.columns.items()},
    )


def _rows_of(name: str, column: Array, rows: Int[Array, "k"], mine: Bool[Array, "k"]) -> Array:
    return jnp.where(mine.reshape(-1, *[1] * (column.ndim - 1)), column[rows], data.COLUMNS[name].fill)


def lengthscales(posterior) -> Float[Array, "d"]:
    """The lengthscales of a posterior's kernel. Raises TypeError if it has none."""
    log_lengthscale = getattr(getattr(getattr(posterior, "law", None), "kernel_params", None), "log_lengthscale", None)
    if log_lengthscale is None:
        raise TypeError(
            "`surrogate` must be a Gaussian process whose kernel has a lengthscale for every column, such as "
            f"gp(matern52()), got a {type(posterior).__name__}."
        )
    return jnp.exp(log_lengthscale)


def largest_of_each(values: Float[Array, "q k"]) -> Int[Array, "q"]:
    """For each row of values, the column of its largest entry, without repeating columns."""

    def pick(taken, row):
        best = jnp.argmax(jnp.where(taken, -jnp.inf, jnp.maximum(row, jnp.finfo(row.dtype).min)))
        return taken.at[best].set(True), best.astype(jnp.int32)

    return jax.lax.scan(pick, jnp.zeros(values.shape[1], bool), values)[1]
