"""Bayesian optimization where evaluations differ in cost.

    costs --known function, or a second surrogate of their logarithm--> cost(x)
    x = argmax  log expected improvement(x) - a log cost(x)

The cost is a known function, such as epochs times width squared, or it is reported with each value and learned by a
Gaussian process of log cost. With a budget the exponent a falls from 1 to 0 as the budget is spent
(`acquisition/_cost.py`). Regrets at equal cost are in benchmarks/results/algorithms.md.

Snoek, Larochelle, Adams (2012), arXiv:1206.2944; Lee, Perrone, Archambeau, Seeger (2020), arXiv:2003.10870.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax import data
from bojax._types import Array, Bool, Float, Int
from bojax.acquisition import (
    AcquisitionFn,
    BatchAcquisition,
    as_batch,
    batch_log_ei,
    cooled,
    on_params,
    per_cost,
)
from bojax.loop._algorithm import Algorithm
from bojax.loop._arguments import check_cost
from bojax.loop._bayesopt import greedy, no_details, parts_of
from bojax.loop._defaults import bound_surrogate
from bojax.loop._model_based import Rule, model_based
from bojax.optim import CandidateOptimizer
from bojax.space import Space
from bojax.surrogates import Surrogate, gp


class CostAwareInfo(NamedTuple):
    """Diagnostics of an `ask`; the first five fields as in `BayesoptInfo`.

    Attributes:
        status: a `Status` code.
        valid: [q] which points are suggestions.
        acquisition: [q] the acquisition per cost at each point; NaN in the initial design.
        fit_loss: negative log posterior of the hyperparameters; NaN in the initial design.
        fit_evals: evaluations of the fit.
        cost: [q] the cost of each point, known or expected.
        spent: total known cost of all reported rows, failed ones included.
    """

    status: Int[Array, ""]
    valid: Bool[Array, "q"]
    acquisition: Float[Array, "q"]
    fit_loss: Float[Array, ""]
    fit_evals: Int[Array, ""]
    cost: Float[Array, "q"]
    spent: Float[Array, ""]


def cost_aware(
    space: Space,
    *,
    cost: Callable[[dict[str, Array]], Any] | Surrogate | None = None,
    budget: float | None = None,
    q: int = 1,
    capacity: int = 64,
    num_initial: int | None = None,
    surrogate: Surrogate | None = None,
    acquisition: AcquisitionFn | BatchAcquisition | None = None,
    optimizer: CandidateOptimizer | None = None,
    max_pending: int | None = None,
) -> Algorithm:
    """Bayesian optimization by expected improvement per cost.

    Args:
        space: the search space.
        cost: the cost of one evaluation as a traceable function of the decoded parameters (a dict of scalars), > 0. By
            default costs are learned from reported ones: `tell(state, X, y, cost=cost)`, or `Study.tell(trial, value,
            cost=cost)`; the cost model skips rows without one. A `Surrogate` replaces the default Gaussian process of
            log cost.
        budget: total cost that will be spent, > 0: costs matter less as it is spent. The study does not stop by itself
            when it is used up.
        q: number of points each `ask` returns, >= 1.
        capacity: room for this many observations, >= 1.
        num_initial: points of the initial design, as for `bayesopt`.
        surrogate: the model of the values, as for `bayesopt`.
        acquisition: what is divided by the cost; `batch_log_ei()` by default.
        optimizer: how it is maximized; `multistart()` by default.
        max_pending: maximum number of pending points.

    Returns:
        An `Algorithm` whose `ask` returns a `CostAwareInfo`. Its `tell` accepts `cost` if costs are learned.

    Raises:
        ValueError: when a number is out of range.
        TypeError: when a part has the wrong type.

    Example:
        >>> import jax, bojax
        >>> space = bojax.Space(width=bojax.Int(8, 512, log=True), rate=bojax.Float(1e-4, 1.0, log=True))
        >>> algorithm = bojax.loop.cost_aware(space, cost=lambda p: p["width"] ** 2.0, budget=1e6)
        >>> learning = bojax.loop.cost_aware(space)
        >>> state = learning.tell(learning.init(jax.random.key(0)), [[0.3, 0.7]], [-1.2], cost=[15.0])
        >>> float(state.observations.columns["cost"][0])
        15.0
    """
    if budget is not None and not budget > 0:
        raise ValueError(f"`budget` must be positive, got {budget}.")
    acquisition = batch_log_ei() if acquisition is None else as_batch(acquisition)
    parts = parts_of(space, surrogate, acquisition, optimizer)
    model = bound_surrogate(space, cost if isinstance(cost, Surrogate) else gp(), "cost")
    known = None if cost is None or isinstance(cost, Surrogate) else _log_of(space, cost)

    def init_params(dtype):
        costs = () if known is not None else model.init(space.num_dims, dtype)
        return parts.surrogate.init(space.num_dims, dtype), costs

    def prepare(key, state):
        observations = state.observations
        if known is not None:
            log_cost, params = known, ()
            paid = jnp.where(observations.told, jnp.exp(known(observations.X)), 0.0)
        else:
            log_cost, params = _learned(model, jax.random.split(key)[0], observations, state.params[1])
            told = observations.columns["cost"]
            paid = jnp.where(told > 0.0, told, 0.0)  # `Told` may hold NaN
        spent = jnp.sum(jnp.where(observations.told, paid, 0.0))
        return Costs(log_cost, params, spent)

    def propose(key, asked):
        costs = asked.prepared
        exponent = 1.0 if budget is None else cooled(costs.spent, budget)
        weighed = per_cost(acquisition, costs.log_cost, exponent=exponent)
        params = asked.state.params[0]
        proposal, _ = greedy(jax.random.split(key)[1], asked, parts, params=params, acquisition=weighed)
        return proposal._replace(params=(proposal.params, costs.params))

    def describe(asked, X, status, valid, details):
        costs = asked.prepared
        return CostAwareInfo(status, valid, *details, cost=jnp.exp(costs.log_cost(X)), spent=costs.spent)

    rule = Rule(propose, describe, lambda dtype: no_details(q, dtype), init_params, prepare)
    frame = {"q": q, "capacity": capacity, "num_initial": num_initial, "max_pending": max_pending}
    columns = parts.surrogate.columns + (("cost",) if known is None else ())
    return model_based(space, rule, surrogate=parts.surrogate, repeats=acquisition.noisy, columns=columns, **frame)


def _log_of(space: Space, cost: Callable[..., Any]) -> Callable[[Array], Array]:
    """The logarithm of a known cost, as a function of X [k, d]."""
    check_cost(space, cost)
    return on_params(space, lambda params: jnp.log(cost(params)))


class Costs(NamedTuple):
    """A model of costs: log cost as a function of X, its hyperparameters, and the sum of the known costs."""

    log_cost: Callable[[Array], Array]
    params: Any
    spent: Array


def _learned(model, key, observations, params):
    """log cost as the mean of a surrogate of the reported costs, and its hyperparameters."""
    cost = observations.columns["cost"]
    real = observations.told & (cost > 0.0) & jnp.all(jnp.isfinite(observations.X), axis=-1)
    seen = data.Observations(
        X=jnp.where(real[:, None], observations.X, 0.5),
        y=jnp.where(real, jnp.log(jnp.where(real, cost, 1.0)), 0.0),
        mask=real,
        count=observations.count,
    )
    params, _ = model.fit(key, seen, params)
    posterior = model.posterior(params, seen)
    return posterior.mean, params
