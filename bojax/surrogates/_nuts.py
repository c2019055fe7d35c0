"""The No-U-Turn sampler, in one compiled loop and in the caller's dtype.

A Markov chain with stationary density exp(log_density). Every transition follows Hamiltonian dynamics with a random
momentum in both directions of time, doubling the trajectory until it turns back on itself, and picks one of its points
with probability proportional to its weight (Hoffman and Gelman 2014, arXiv:1111.4246; weights and the test for a turn:
Betancourt 2017, arXiv:1701.02434). A subtree is grown leaf by leaf, with the momenta at the left ends of unfinished
subtrees kept in a table of the depth of the tree, so nothing recurses (Phan, Pradhan, Jankowiak 2019, arXiv:1912.11554;
Lao and Dillon 2019). During warm-up the step length follows dual averaging towards an acceptance of `TARGET_ACCEPT`,
and the mass of every coordinate is set twice to its inverse variance so far.

bojax has its own sampler because it must run inside a compiled suggestion, in the caller's dtype and under `vmap`,
without another dependency. Comparison of speed with other libraries: `benchmarks/results/surrogates.md`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._types import Array, Bool, Float, Int, Key

TARGET_ACCEPT = 0.8
FIRST_STEP = 0.3
DIVERGENT = 1000.0
"""A larger increase of the energy is a failure of the integrator (a divergence) and not a rounding error."""
WINDOW_ENDS = (0.35, 0.85)
"""Fractions of the warm-up after which the masses are set. The first window begins at 0.1, the second where it ends."""
WINDOW_BEGIN = 0.1


class NutsResult(NamedTuple):
    """The result of a chain.

    Attributes:
        samples: [m, p] every `thinning`-th state after the warm-up.
        num_divergent: number of divergent transitions after the warm-up.
        num_evals: number of gradient evaluations.
        accept: mean acceptance probability after the warm-up.
        step_size: length of the steps, in standard deviations.
    """

    samples: Float[Array, "m p"]
    num_divergent: Int[Array, ""]
    num_evals: Int[Array, ""]
    accept: Float[Array, ""]
    step_size: Float[Array, ""]


class _Point(NamedTuple):
    """A point of phase space, with log density and gradient."""

    q: Float[Array, "p"]
    r: Float[Array, "p"]
    value: Float[Array, ""]
    slope: Float[Array, "p"]


class _Tree(NamedTuple):
    """A piece of a trajectory and the point picked from it."""

    left: _Point
    right: _Point
    picked: _Point
    log_weight: Float[Array, ""]
    r_sum: Float[Array, "p"]
    turned: Bool[Array, ""]
    diverged: Bool[Array, ""]
    accept_sum: Float[Array, ""]
    num_leaves: Int[Array, ""]


class _Adaptation(NamedTuple):
    """State of the warm-up: dual averaging of the log step length, running moments of the window."""

    log_step: Float[Array, ""]
    log_step_mean: Float[Array, ""]
    error_sum: Float[Array, ""]
    center: Float[Array, ""]
    since: Float[Array, ""]
    count: Float[Array, ""]
    mean: Float[Array, "p"]
    squares: Float[Array, "p"]
    inverse_mass: Float[Array, "p"]


def nuts(
    key: Key,
    log_density: Callable[[Float[Array, "p"]], Float[Array, ""]],
    start: Float[Array, "p"],
    *,
    num_warmup: int,
    num_samples: int,
    thinning: int = 1,
    max_depth: int = 6,
) -> NutsResult:
    """Sample from exp(log_density).

    Args:
        key: random key.
        log_density: maps [p] to a scalar, differentiable. The chain does not enter regions where it is not finite.
        start: [p] where the chain starts; the density must be finite there.
        num_warmup: number of transitions that are discarded.
        num_samples: number of transitions after them, a multiple of `thinning`.
        thinning: every `thinning`-th transition is kept.
        max_depth: a trajectory has at most 2^max_depth - 1 steps.
    """
    value_and_grad = jax.value_and_grad(log_density)
    value, slope = value_and_grad(start)
    dtype, zero = start.dtype, jnp.zeros((), start.dtype)
    log_step = jnp.log(jnp.asarray(FIRST_STEP, dtype))
    ones = jnp.ones_like(start)
    adaptation = _Adaptation(log_step, log_step, zero, log_step, zero, zero, 0 * ones, 0 * ones, ones)
    collects, ends = _windows(num_warmup, num_samples)

    def transition(carry, item):
        q, value, slope, adaptation = carry
        key, warming, collecting, ending = item
        step = jnp.exp(jnp.where(warming, adaptation.log_step, adaptation.log_step_mean))
        keys = jax.random.split(key)
        r = jax.random.normal(keys[0], q.shape, dtype) / jnp.sqrt(adaptation.inverse_mass)
        begin = _Point(q, r, value, slope)
        tree = _trajectory(keys[1], begin, step, adaptation.inverse_mass, value_and_grad, max_depth)
        picked = tree.picked
        accept = tree.accept_sum / tree.num_leaves.astype(dtype)
        adapted = _adapt(adaptation, picked.q, accept, collecting, ending)
        adaptation = jax.tree.map(lambda new, old: jnp.where(warming, new, old), adapted, adaptation)
        carry = picked.q, picked.value, picked.slope, adaptation
        return carry, (picked.q, tree.diverged & ~warming, tree.num_leaves, jnp.where(warming, 0.0, accept))

    num_steps = num_warmup + num_samples
    warming = jnp.arange(num_steps) < num_warmup
    items = (jax.random.split(key, num_steps), warming, jnp.asarray(collects), jnp.asarray(ends))
    last, (q, diverged, leaves, accepts) = jax.lax.scan(transition, (start, value, slope, adaptation), items)
    return NutsResult(
        samples=q[num_warmup + thinning - 1 :: thinning],
        num_divergent=jnp.sum(diverged, dtype=jnp.int32),
        num_evals=jnp.sum(leaves, dtype=jnp.int32) + jnp.int32(1),
        accept=jnp.sum(accepts) / num_samples,
        step_size=jnp.exp(last[3].log_step_mean),
    )


def _windows(num_warmup: int, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Which transitions enter the estimate of the masses, and after which the masses are set."""
    index = np.arange(num_warmup + num_samples)
    ends = np.array([round(part * num_warmup) for part in WINDOW_ENDS])
    collects = (index >= round(WINDOW_BEGIN * num_warmup)) & (index < ends[-1])
    return collects, np.isin(index, ends - 1) & (index < num_warmup)


def _adapt(state: _Adaptation, q, accept, collecting, ending) -> _Adaptation:
    """One step of the warm-up: dual averaging, the moments of the window, and at its end new masses."""
    since = state.since + 1.0
    error_sum = state.error_sum + TARGET_ACCEPT - accept
    log_step = state.center - error_sum / (0.05 * jnp.sqrt(since) * (1.0 + 10.0 / since))
    weight = since**-0.75
    log_step_mean = weight * log_step + (1.0 - weight) * jnp.where(state.since == 0, log_step, state.log_step_mean)

    count = state.count + collecting.astype(q.dtype)
    shift = jnp.where(collecting, q - state.mean, 0.0)
    mean = state.mean + shift / jnp.maximum(count, 1.0)
    squares = state.squares + shift * (q - mean)
    # With few samples, shrink towards the previous masses.
    inverse_mass = (squares + 5.0 * state.inverse_mass) / (count + 4.0)
    zero, zeros = jnp.zeros_like(count), jnp.zeros_like(q)
    ended = _Adaptation(log_step_mean, log_step_mean, zero, log_step_mean, zero, zero, zeros, zeros, inverse_mass)
    going = _Adaptation(
        log_step, log_step_mean, error_sum, state.center, since, count, mean, squares, state.inverse_mass
    )
    return jax.tree.map(lambda a, b: jnp.where(ending, a, b), ended, going)


def _trajectory(key, begin: _Point, step, inverse_mass, value_and_grad, max_depth) -> _Tree:
    """Double the trajectory until it turns, diverges, or reaches the largest depth."""
    energy = _energy(begin, inverse_mass)
    zero, no = jnp.zeros_like(step), jnp.bool_(False)
    single = _Tree(begin, begin, begin, zero, begin.r, no, no, zero, jnp.int32(0))

    def going(carry):
        depth, _, tree = carry
        return (depth < max_depth) & ~tree.turned & ~tree.diverged

    def double(carry):
        depth, key, tree = carry
        key, key_side, key_grow, key_pick = jax.random.split(key, 4)
        right = jax.random.bernoulli(key_side)
        edge = _where(right, tree.right, tree.left)
        signed = jnp.where(right, step, -step)
        new = _grow(key_grow, edge, signed, depth, energy, inverse_mass, value_and_grad, max_depth)
        whole = ~(new.turned | new.diverged)
        # Biased progressive sampling: later halves are favored, which moves the chain farther.
        chance = jnp.exp(jnp.minimum(new.log_weight - tree.log_weight, 0.0))
        taken = whole & (jax.random.uniform(key_pick, (), step.dtype) < chance)
        left_end = _where(right, tree.left, new.right)
        right_end = _where(right, new.right, tree.right)
        r_sum = tree.r_sum + new.r_sum
        return (
            depth + 1,
            key,
            _Tree(
                left=left_end,
                right=right_end,
                picked=_where(taken, new.picked, tree.picked),
                log_weight=jnp.logaddexp(tree.log_weight, new.log_weight),
                r_sum=r_sum,
                turned=new.turned | _turned(left_end.r, right_end.r, r_sum, inverse_mass),
                diverged=new.diverged,
                accept_sum=tree.accept_sum + new.accept_sum,
                num_leaves=tree.num_leaves + new.num_leaves,
            ),
        )

    return jax.lax.while_loop(going, double, (jnp.int32(0), key, single))[2]


def _grow(key, edge: _Point, step, depth, energy, inverse_mass, value_and_grad, max_depth) -> _Tree:
    """A subtree of 2^depth leaves beyond an edge; `right` of the result is its far end, whatever the direction."""
    num_leaves = jnp.left_shift(jnp.int32(1), depth)
    table = jnp.zeros((max(max_depth, 1), edge.q.size), step.dtype)
    rows = jnp.arange(table.shape[0], dtype=jnp.int32)
    zero, no = jnp.zeros_like(step), jnp.bool_(False)
    empty = _Tree(edge, edge, edge, zero - jnp.inf, jnp.zeros_like(edge.r), no, no, zero, jnp.int32(0))

    def going(carry):
        tree = carry[1]
        return (tree.num_leaves < num_leaves) & ~tree.turned & ~tree.diverged

    def leaf(carry):
        key, tree, starts, sums = carry
        key, key_pick = jax.random.split(key)
        point = _leapfrog(tree.right, step, inverse_mass, value_and_grad)
        rise = _energy(point, inverse_mass) - energy
        rise = jnp.where(jnp.isnan(rise), jnp.inf, rise)
        log_weight = jnp.logaddexp(tree.log_weight, -rise)
        taken = jnp.log(jax.random.uniform(key_pick, (), step.dtype)) < -rise - log_weight
        r_sum = tree.r_sum + point.r

        # An even leaf begins subtrees; an odd leaf ends as many as its index has trailing ones in base two.
        i = tree.num_leaves
        row = jax.lax.population_count(jnp.right_shift(i, 1))
        even = i % 2 == 0
        here = (rows == row) & even
        starts = jnp.where(here[:, None], point.r[None, :], starts)
        sums = jnp.where(here[:, None], r_sum[None, :], sums)
        ended = jax.lax.population_count(i & ~(i + 1))
        closes = (rows <= row) & (rows > row - ended) & ~even
        between = r_sum[None, :] - sums + starts
        turned = jax.vmap(lambda first, total: _turned(first, point.r, total, inverse_mass))(starts, between)
        grown = _Tree(
            left=tree.left,
            right=point,
            picked=_where(taken, point, tree.picked),
            log_weight=log_weight,
            r_sum=r_sum,
            turned=jnp.any(closes & turned),
            diverged=rise > DIVERGENT,
            accept_sum=tree.accept_sum + jnp.minimum(jnp.exp(-rise), 1.0),
            num_leaves=tree.num_leaves + jnp.int32(1),
        )
        return key, grown, starts, sums

    return jax.lax.while_loop(going, leaf, (key, empty, table, table))[1]


def _leapfrog(point: _Point, step, inverse_mass, value_and_grad) -> _Point:
    r = point.r + 0.5 * step * point.slope
    q = point.q + step * inverse_mass * r
    value, slope = value_and_grad(q)
    return _Point(q, r + 0.5 * step * slope, value, slope)


def _energy(point: _Point, inverse_mass):
    return 0.5 * jnp.sum(inverse_mass * point.r**2) - point.value


def _turned(first, last, r_sum, inverse_mass):
    """Whether the ends of a piece of trajectory no longer move apart; `r_sum` is the sum of its momenta."""
    between = r_sum - 0.5 * (first + last)
    return (jnp.sum(inverse_mass * first * between) <= 0.0) | (jnp.sum(inverse_mass * last * between) <= 0.0)


def _where(condition, a, b):
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)
