"""The tree-structured Parzen estimator (TPE): where good points are denser than the others.

The observations are divided into the best min(ceil(n / 10), 25) and the rest, with densities l and g (`_parzen`).
Candidates are drawn from l, and the one with the largest l(x) / g(x) is asked for: it has the largest expected
improvement over the worst of the good values, if l and g are right. All columns are modelled jointly.

Reference: Bergstra, Bardenet, Bengio and Kegl (2011), "Algorithms for hyper-parameter optimization"; Falkner, Klein and
Hutter (2018), arXiv:1807.01774, for the joint model.
"""

from typing import Any

import jax
import jax.numpy as jnp

from bojax.loop._algorithm import Algorithm, Info
from bojax.loop._design import mark_seen, replace_seen, seen_points
from bojax.loop._model_based import Proposal, Rule, check_counts, model_based
from bojax.loop._parzen import groups_of, log_density, parzen, sample, without_conditions
from bojax.optim import Lattice, Seen, is_seen
from bojax.space import Space

MAX_GOOD = 25
"""Most observations that count as good."""


def tpe(
    space: Space | Lattice,
    *,
    q: int = 1,
    capacity: int = 64,
    num_initial: int = 10,
    num_candidates: int = 24,
    max_pending: int | None = None,
) -> Algorithm:
    """The tree-structured Parzen estimator, with the settings of Optuna 5's `TPESampler`.

    It suits many evaluations and many discrete or conditional parameters, and it costs little. With few evaluations of
    a continuous function `bayesopt` finds better values. Failed evaluations count as the worst. Pending points and the
    earlier ones of a batch count as bad ("constant liar"), so that the next ones keep away from them. Parameters that
    exist under the same conditions are modelled jointly, by the observations where they exist. Unlike Optuna, it begins
    with a quasi-random design, treats an `Ordinal` as ordered, and suggests no point twice.

    Args:
        space: the search space, or a `Lattice`.
        q: number of points each `ask` returns, >= 1.
        capacity: room for this many observations, >= 1; `bojax.loop.grow` enlarges a state.
        num_initial: points of the initial design, >= 1.
        num_candidates: points drawn for each suggestion, >= 1. More make the search greedier.
        max_pending: maximum number of pending points, >= q; 8, or q if that is more, by default.

    Returns:
        An `Algorithm` whose `ask` returns an `Info`.

    Raises:
        ValueError: when a number is out of range.
        TypeError: when `space` is not a `Space`.

    Example:
        >>> import jax, bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0), kind=bojax.Categorical(["a", "b"]))
        >>> algorithm = bojax.tpe(space, q=2)
        >>> f = lambda params: -((params["x"] - 0.3) ** 2) - params["kind"]
        >>> final = bojax.run(jax.random.key(0), algorithm, f, num_steps=30)
        >>> bool(final.observations.y.max() > -1e-3)
        True
    """
    settings: dict[str, Any] = {"q": q, "capacity": capacity, "num_initial": num_initial, "max_pending": max_pending}
    Lattice.of(space)  # refuses what is neither
    check_counts(num_candidates=num_candidates, num_initial=num_initial)

    def propose(key, asked):
        here, told = asked.lattice, asked.state.observations
        everywhere, groups = without_conditions(here), groups_of(here)
        seen = seen_points(told, asked.state.pending, q)
        real = jnp.all(jnp.isfinite(seen.X), axis=-1)
        seen = Seen(jnp.where(real[:, None], seen.X, 0.5), seen.mask & real)
        rows, is_good = _good(told)
        good = parzen(here, groups, seen.X[rows], is_good)
        bad = jnp.ones(seen.X.shape[0], bool).at[jnp.where(is_good, rows, seen.X.shape[0])].set(False, mode="drop")
        first_spare = seen.X.shape[0] - q

        def choose(seen, item):
            row, key = item
            others = parzen(here, groups, seen.X, seen.mask & bad)
            X = sample(key, everywhere, groups, good, num_candidates)
            gain = log_density(everywhere, groups, good, X) - log_density(everywhere, groups, others, X)
            # Groups are independent: the best columns of each group are put together, then the second best, ...
            order = jnp.argsort(-gain, axis=0, stable=True)
            ranked = here.snap(jnp.take_along_axis(X, order[:, groups.of], axis=0))
            fresh = ~is_seen(here, ranked, seen.X, seen.mask) & here.is_inside(ranked)
            x = ranked[jnp.argmax(fresh)][None]
            spare = Seen(jnp.concatenate([seen.X, x]), jnp.append(seen.mask, False))
            x, valid = replace_seen(here, x, spare, asked.design[0])
            return mark_seen(seen, first_spare + row, x[0]), (x[0], valid[0])

        items = jnp.arange(q, dtype=jnp.int32), jax.random.split(key, q)
        _, (X, valid) = jax.lax.scan(choose, seen, items)
        return Proposal(here.round(X), valid, jnp.all(jnp.isfinite(X)), (), ())

    def describe(asked, X, status, valid, details):
        del asked, X, details
        return Info(status, valid)

    rule = Rule(propose, describe, no_details=lambda dtype: (), init_params=lambda dtype: ())
    algorithm = model_based(space, rule, surrogate=None, **settings)
    return algorithm._replace(on=lambda lattice: tpe(lattice, **settings, num_candidates=num_candidates))


def _good(told):
    """The rows of the good observations, oldest first, and which of them count."""
    values = jnp.where(told.mask, told.y, -jnp.inf)
    size = min(MAX_GOOD, told.capacity)
    _, rows = jax.lax.top_k(values, size)
    count = jnp.minimum(jnp.minimum((told.count + 9) // 10, size), jnp.sum(told.mask, dtype=jnp.int32))
    rows = jnp.sort(jnp.where(jnp.arange(size) < count, rows, told.capacity))
    return jnp.minimum(rows, told.capacity - 1), jnp.arange(size) < count
