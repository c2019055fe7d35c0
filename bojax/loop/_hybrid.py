"""Bayesian optimization and local gradient steps that compete for evaluations.

A Gaussian process models the whole cube; a quasi-Newton step needs only the neighborhood of one point. Each proposes a
point with its expected gain, and the larger gain is evaluated:

* the GP with gradients: the expected improvement at its candidate;
* a trust-region step from the best point, on the quadratic model that BFGS builds from the gradients around it. If the
  full step s is cut to t s, its predicted gain is g.s (t - t^2 / 2), capped at the GP's mean plus `OPTIMISM` standard
  deviations.

The radius follows from the data, so a study resumes from its data alone: twice the distance from the best point to its
nearest neighbor if that was evaluated before it (the last step was good), half of it otherwise. There is no local
proposal if the GP rejects the gradients. Local steps win in many dimensions only (benchmarks/results/algorithms.md).
Competing on predicted improvement is the idea of LAGO (2026, arXiv:2603.02970).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bojax._errors import Status
from bojax._types import Array, Bool, Float, Int
from bojax.acquisition import (
    AcquisitionFn,
    BatchAcquisition,
    as_batch,
    batch_log_ei,
    check_acquisition,
    is_log_improvement,
)
from bojax.data import Observations
from bojax.loop._algorithm import Algorithm
from bojax.loop._bayesopt import greedy, incumbent, parts_of
from bojax.loop._defaults import default_gradient_surrogate
from bojax.loop._design import seen_points
from bojax.loop._model_based import Rule, model_based, without_failures
from bojax.optim import CandidateOptimizer, is_seen
from bojax.space import Space
from bojax.surrogates import standardize, unwrapped

NUM_NEIGHBORS = 10
"""Number of points around the best one whose gradients define the quadratic model."""
RADIUS_BOUNDS = (1e-3, 0.25)
"""Of the trust radius, times the square root of the number of dimensions."""
OPTIMISM = 1.0
"""Cap on a step's estimate of its gain, in standard deviations above the mean (benchmarks/results/algorithms.md)."""


class HybridInfo(NamedTuple):
    """Diagnostics of an `ask`.

    Attributes:
        status: a `Status` code.
        valid: [q] which points are suggestions.
        acquisition: [q] the acquisition at each of the GP's candidates when it was chosen.
        is_local: whether the first point is a local step.
        local_gain: expected gain of the local step, in standard deviations of y; minus infinity if there is none.
        global_gain: expected improvement at the GP's first candidate, in standard deviations of y; NaN in the initial
            design.
    """

    status: Int[Array, ""]
    valid: Bool[Array, "q"]
    acquisition: Float[Array, "q"]
    is_local: Bool[Array, ""]
    local_gain: Float[Array, ""]
    global_gain: Float[Array, ""]


def hybrid(
    space: Space,
    *,
    q: int = 1,
    capacity: int = 64,
    num_initial: int | None = None,
    acquisition: AcquisitionFn | BatchAcquisition | None = None,
    optimizer: CandidateOptimizer | None = None,
    max_pending: int | None = None,
) -> Algorithm:
    """Bayesian optimization with gradients, in which local steps compete with the first candidate of each batch.

    Its surrogate is `default_gradient_surrogate()`.

    Args:
        space: the search space. Local steps move Floats only.
        q: number of points each `ask` returns, >= 1.
        capacity: room for this many observations, >= 1.
        num_initial: points of the initial design, >= 1; 3 by default.
        acquisition: `batch_log_ei(...)` (the default), `batch_log_nei(...)` for noisy objectives, or `log_ei`.
        optimizer: how it is maximized; `multistart()` by default.
        max_pending: maximum number of pending points.

    Returns:
        An `Algorithm` whose `ask` returns a `HybridInfo`, and whose `tell` accepts `grad`.

    Raises:
        ValueError: when a number is out of range, or the acquisition is not one of these.
        TypeError: when a part has the wrong type.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.loop.hybrid(bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> state = algorithm.init(jax.random.key(0))
        >>> X, state, info = algorithm.ask(jax.random.key(1), state)
        >>> X.shape
        (1, 1)
    """
    acquisition = batch_log_ei() if acquisition is None else acquisition
    check_acquisition(acquisition)
    if not is_log_improvement(acquisition):
        raise ValueError(
            "`acquisition` must be batch_log_ei(), batch_log_nei() or log_ei: a local step competes with the "
            f"improvement that it expects, got {getattr(acquisition, '__name__', type(acquisition).__name__)}."
        )
    noisy = as_batch(acquisition).noisy
    parts = parts_of(space, default_gradient_surrogate(noisy=noisy), acquisition, optimizer)
    _, sees = unwrapped(parts.surrogate)
    moves = ~(jnp.asarray(space.is_categorical) | (jnp.asarray(space.num_values) > 0))

    def propose(key, asked):
        proposal, model = greedy(key, asked, parts)
        X, values, here = proposal.X, proposal.details[0], asked.lattice
        modeled = jnp.isfinite(values[0]) & model.params.believed
        seen = sees(without_failures(asked.state.observations))
        x, gain = local_step(seen, moves & jnp.isnan(here.held))
        x = here.snap(x)
        mean, var = model.posterior.mean_var(x[None])
        best, _ = incumbent(model.posterior, seen)
        local_gain = jnp.minimum(
            gain / standardize(seen.y, seen.mask)[1].scale, mean[0] - best + OPTIMISM * jnp.sqrt(var[0])
        )
        global_gain = jnp.exp(values[0])
        before = seen_points(asked.state.observations, asked.state.pending, 0)
        is_new = (
            ~is_seen(here, x[None], before.X, before.mask)[0] & ~is_seen(here, x[None], X[1:], proposal.valid[1:])[0]
        )
        is_local = modeled & proposal.valid[0] & is_new & here.is_inside(x) & (local_gain > global_gain)
        X = X.at[0].set(jnp.where(is_local, x, X[0]))
        return proposal._replace(X=X, details=(values, is_local, local_gain, global_gain))

    def describe(asked, X, status, valid, details):
        del asked, X
        values, is_local, local_gain, global_gain = details
        return HybridInfo(status, valid, values, is_local & (status == Status.OK), local_gain, global_gain)

    def no_details(dtype):
        nan = jnp.full(q, jnp.nan, dtype)
        return nan, jnp.bool_(False), jnp.full((), -jnp.inf, dtype), nan[0]

    frame = {"q": q, "capacity": capacity, "num_initial": num_initial, "max_pending": max_pending}
    rule = Rule(propose, describe, no_details)
    return model_based(space, rule, surrogate=parts.surrogate, repeats=noisy, **frame)


def local_step(observations: Observations, moves: Bool[Array, "d"]) -> tuple[Float[Array, "d"], Float[Array, ""]]:
    """A trust-region step of a quasi-Newton model from the best point, and its expected gain.

    Args:
        observations: the observations with gradients, as the GP sees them.
        moves: [d] which columns may move.

    Returns:
        The point, and the gain in units of y: minus infinity if the best point has no gradient.
    """
    X, d = observations.X, observations.X.shape[-1]
    if "grad" not in observations.columns:
        raise ValueError("`observations` must hold gradients.")
    grad = observations.columns["grad"]
    known = observations.mask & jnp.any(jnp.isfinite(grad), axis=-1)
    G = jnp.where(jnp.isfinite(grad) & moves[None, :], grad, 0.0)
    best = jnp.argmax(jnp.where(observations.mask, observations.y, -jnp.inf))
    x, g = X[best], G[best]
    outward = ((x <= 0) & (g < 0)) | ((x >= 1) & (g > 0))
    g = jnp.where(outward, 0.0, g)

    distance = jnp.sqrt(jnp.sum((X - x[None]) ** 2, axis=-1))
    distance = jnp.where(observations.mask & (distance > 0), distance, jnp.inf)
    nearest = jnp.argmin(distance)
    root = jnp.sqrt(jnp.asarray(d, X.dtype))
    # Without a neighbor the distance is infinite, and the radius is the largest.
    radius = distance[nearest] * jnp.where(nearest < best, 2.0, 0.5)
    radius = jnp.clip(radius, RADIUS_BOUNDS[0] * root, RADIUS_BOUNDS[1] * root)

    far_to_near = jnp.argsort(jnp.where(known, distance, jnp.inf))[: min(NUM_NEIGHBORS, X.shape[0])][::-1]
    usable = jnp.isfinite(distance[far_to_near]) & known[far_to_near]
    S = jnp.where(moves[None, :], X[far_to_near] - x[None], 0.0)
    D = jnp.where(usable[:, None], G[best][None] - G[far_to_near], 0.0)  # of -y, so that curvature is positive
    step = inverse_hessian_product(S, D, g, radius)
    step = jnp.where(outward, 0.0, step)
    slope = jnp.sum(step * g)
    length = jnp.sqrt(jnp.sum(step**2))
    share = jnp.minimum(1.0, radius / jnp.where(length > 0, length, 1.0))
    usable_step = known[best] & (slope > 0) & jnp.isfinite(slope)
    gain = jnp.where(usable_step, slope * (share - 0.5 * share**2), -jnp.inf)
    return jnp.clip(x + jnp.where(usable_step, share * step, 0.0), 0.0, 1.0), gain


def inverse_hessian_product(
    S: Float[Array, "m d"], D: Float[Array, "m d"], g: Float[Array, "d"], radius: Float[Array, ""]
) -> Float[Array, "d"]:
    """H g by the two loops of limited-memory BFGS (Nocedal 1980); without a usable pair, a step of length `radius`.

    Args:
        S: [m, d] differences of points, the most trusted last.
        D: [m, d] differences of gradients, in the same order; rows without positive curvature are left out.
        g: [d] the vector.
        radius: length of the step if the curvature is unknown.
    """
    curvature = jnp.sum(S * D, axis=-1)
    squares = jnp.sum(D * D, axis=-1)
    good = curvature > 1e-10 * jnp.sqrt(jnp.sum(S * S, axis=-1) * squares)
    rho = jnp.where(good, 1.0 / jnp.where(good, curvature, 1.0), 0.0)

    def back(q, row):
        s, y, rho = row
        a = rho * jnp.sum(s * q)
        return q - a * y, a

    def forth(r, row):
        s, y, rho, a = row
        return r + s * (a - rho * jnp.sum(y * r)), None

    q, a = jax.lax.scan(back, g, (S, D, rho), reverse=True)
    last = jnp.argmax(jnp.where(good, jnp.arange(len(good)), -1))
    plain = radius / jnp.maximum(jnp.sqrt(jnp.sum(g * g)), jnp.finfo(g.dtype).tiny)
    scale = jnp.where(jnp.any(good), curvature[last] / jnp.where(good[last], squares[last], 1.0), plain)
    return jax.lax.scan(forth, scale * q, (S, D, rho, a))[0]
