"""Freeze-thaw Bayesian optimization: training runs are paused, and resumed if they look promising.

A basket of training runs ("members") is frozen at the rungs of a ladder of steps. In every round a Gaussian process is
fitted to all values at all rungs (see `freeze_thaw_kernel`), and predicts the final value of each frozen member and of
many new configurations. The q with the largest expected improvement of the final value train up to their next rung, one
vmapped program per rung, and are frozen again. The q are chosen one after another, with earlier ones fantasized to end
at their mean.

The published method chooses one run at a time by entropy search in a small basket; this one chooses a batch by expected
improvement and drops only failed runs.

Source: Swersky, Snoek, Adams (2014), "Freeze-thaw Bayesian optimization", arXiv:1406.3896.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax import data
from bojax._qmc import sobol
from bojax._runtime import as_key, host_scope
from bojax._types import Array, Bool, Float, Int, Key
from bojax.acquisition import FAILURE_AVERSION, log_ei
from bojax.multifidelity._basket import Basket, Curves, observed_rows
from bojax.multifidelity._curve_kernel import freeze_thaw_kernel
from bojax.multifidelity._history import History
from bojax.multifidelity._stored_population import kept_in
from bojax.multifidelity._trainable import Trainable
from bojax.space import Lattice, Space, to_space
from bojax.surrogates import (
    Inputs,
    Posterior,
    SuccessModel,
    Surrogate,
    bound,
    fit_success,
    gp,
    half_rank,
    with_output_transform,
)

MIN_CAPACITY = 128
"""Smallest buffer of values and of members: at 256 rows a fit takes 70 ms, and compiling one 4 s on a CPU core."""
NUM_CANDIDATES = 512
"""New candidate configurations in every round: half of them quasi-random, half around the best members."""
NUM_BEST = 8
"""Number of members around which new configurations are drawn."""
STEPS_AWAY = (0.02, 0.2)
"""Their distances: log-uniform between these, in units of the cube."""
RESAMPLED = 0.2
"""Probability that a categorical column near a good member is redrawn."""
MAX_NEW = 0.5
"""Maximum fraction of new configurations in a batch while a frozen member can be thawed. New ones have the largest
variance and expected improvement: without a limit most steps went into first rungs, and often no run finished."""
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Default rungs, as fractions of a full run."""


class Choice(NamedTuple):
    """What trains next.

    Attributes:
        index: [q] a member's number; for a new configuration, at least the number of rows in the table of members.
        x: [q, d] the configurations.
        valid: [q] which entries count, since candidates or steps may run out.
    """

    index: Int[Array, "q"]
    x: Float[Array, "q d"]
    valid: Bool[Array, "q"]


def freeze_thaw(
    objective: Trainable,
    *,
    seed: int = 0,
    budget_steps: int,
    population: int = 8,
    rungs: Sequence[int] | None = None,
    num_initial: int | None = None,
    surrogate: Surrogate | None = None,
    storage: Any = None,
) -> History:
    """Tune by pausing training runs and resuming those that are expected to end best.

    Args:
        objective: the training run.
        seed: seed of all randomness, including training.
        budget_steps: maximum total training steps of all members. Fewer than the first rung are left over unless there
            is nothing left to train.
        population: q, number of members that train in one round, >= 1.
        rungs: ascending numbers of steps at which members are evaluated and frozen; the last must be
            `objective.num_steps`. 1/16, 1/8, 1/4, 1/2 and all of a full run by default.
        num_initial: configurations started before the model chooses; the larger of `population` and d + 1 by default.
        surrogate: a model of values over points [x, t], t the fraction of a full run; by default a Gaussian process
            with `freeze_thaw_kernel`, which sees only the ranks of values worse than the median (`half_rank`). It is
            informed which columns hold categories.
        storage: where evaluations are stored, so that the same call resumes a run; see `successive_halving`.

    Returns:
        The `History` of all values.

    Raises:
        ValueError: a number is out of range, rungs do not ascend to `objective.num_steps`, or the budget is below the
            first rung.
        StudyError: the storage holds another run of that name.

    Example:
        >>> import bojax
        >>> from bojax import multifidelity
        >>> bowl = multifidelity.from_functions(
        ...     bojax.Space(x=bojax.Float(-1.0, 1.0)),
        ...     init=lambda key, hparams: 0.0,
        ...     advance=lambda state, hparams, num_steps: state + num_steps,
        ...     evaluate=lambda state, hparams: {"loss": hparams["x"] ** 2 + 1.0 / state},
        ...     metric="loss", direction="minimize", num_steps=9)
        >>> history = multifidelity.freeze_thaw(bowl, budget_steps=18, population=2, rungs=(3, 9), num_initial=9)
        >>> history.num_members, history.total_steps
        (6, 18)
    """
    rungs = check_rungs(rungs, objective.num_steps)
    if population < 1:
        raise ValueError(f"`population` must be at least 1, got {population}.")
    if num_initial is not None and num_initial < 1:
        raise ValueError(f"`num_initial` must be at least 1, got {num_initial}.")
    if budget_steps < rungs[0]:
        raise ValueError(f"`budget_steps` must reach the first rung, {rungs[0]} steps, got {budget_steps}.")
    space = to_space(objective.space)
    surrogate = curve_surrogate(space) if surrogate is None else _bound(surrogate, space)
    num_initial = max(population, space.num_dims + 1) if num_initial is None else num_initial

    settings = {"seed": seed, "budget_steps": budget_steps, "population": population, "num_initial": num_initial}
    settings |= {"rungs": list(rungs), "max_steps": rungs[-1]}
    kept = kept_in(storage, objective, "freeze_thaw", settings)
    design_key, train_key, fit_key, choose_key = jax.random.split(jax.random.key(seed), 4)
    design_key, fit_key, choose_key = (as_key(key) for key in (design_key, fit_key, choose_key))
    basket = Basket(objective, space, rungs, train_key, kept)
    with host_scope():
        design = np.asarray(Lattice.of(space).spread(space.round(sobol(design_key, num_initial, space.num_dims))))
    design = design[np.sort(np.unique(design, axis=0, return_index=True)[1])]
    params, round_number = None, 0
    while budget_steps - basket.steps_spent >= rungs[0]:
        left = budget_steps - basket.steps_spent
        if len(design):
            size = min(population, left // rungs[0])
            thawed, new_X, design = np.zeros(0, int), design[:size], design[size:]
        else:
            with host_scope():
                fit, choose_now = (jax.random.fold_in(key, round_number) for key in (fit_key, choose_key))
                posterior, params = fit_curves(fit, surrogate, basket.curves(), params, population)
                thawed, new_X = next_members(choose_now, space, posterior, basket, population, left)
        if not len(thawed) and not len(new_X):
            break
        basket.train(thawed, new_X)
        round_number += 1
    kept.close()
    return basket.history()


def check_rungs(rungs: Sequence[int] | None, num_steps: int) -> tuple[int, ...]:
    """The rungs, or the default ones; raises ValueError unless they ascend to a full run."""
    if rungs is None:
        return tuple(sorted({max(1, round(share * num_steps)) for share in SHARES}))
    rungs = tuple(int(rung) for rung in rungs)
    ascending = all(low < high for low, high in zip((0, *rungs), rungs, strict=False))
    if not rungs or not ascending or rungs[-1] != num_steps:
        raise ValueError(f"`rungs` must ascend from 1 or more to `num_steps` = {num_steps}, got {list(rungs)}.")
    return rungs


def curve_surrogate(space: Space) -> Surrogate:
    """A Gaussian process of learning curves; categories are compared by equality."""
    return _curve_surrogate(categorical_columns(space))


@functools.cache
def _curve_surrogate(categorical_dims):
    """A cached object, so that all calls share compiled programs."""
    return with_output_transform(gp(freeze_thaw_kernel(categorical_dims=categorical_dims)), half_rank)


@functools.lru_cache(maxsize=16)
def _bound(surrogate: Surrogate, space: Space) -> Surrogate:
    """A surrogate over [x, t] informed of the categories in x; cached, so that equal calls share compiled programs."""
    return bound(surrogate, Inputs((*space.num_values, 0), (*space.is_categorical, False)), "surrogate")


def categorical_columns(space: Space) -> tuple[int, ...]:
    """The columns of a space whose values have no order."""
    return tuple(i for i, is_categorical in enumerate(space.is_categorical) if is_categorical)


def fit_curves(key: Key, surrogate: Surrogate, curves: Curves, params: Any, num_spare: int) -> tuple[Posterior, Any]:
    """The posterior of all curves, and its hyperparameters; `params` are those of the last fit, or None."""
    points, y = observed_rows(curves)
    dtype = jnp.zeros(()).dtype
    observations = data.from_numpy(points, y, data.next_capacity(len(y), MIN_CAPACITY), dtype)
    params = surrogate.init(points.shape[1], dtype) if params is None else params
    params, _ = surrogate.fit(key, observations, params)
    return surrogate.posterior(params, observations, num_spare), params


def next_members(
    key: Key, space: Space, posterior: Posterior, basket: Basket, q: int, steps_left: int
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of members to thaw, and the configurations to start [k, d]; at most q in total.

    Steps are reserved for the member with the best predicted final value among those that can still finish, so that a
    study ends with a full run if its budget allows one. If nothing else is affordable, that member is thawed.
    """
    curves = basket.curves()
    num_members = len(curves.X)
    capacity = data.next_capacity(num_members, MIN_CAPACITY)
    dtype = jnp.zeros(()).dtype
    members = data.from_numpy(curves.X, np.where(curves.failed, np.nan, 0.0), capacity, dtype)
    finals = final_means(posterior, members)
    cost, reserve, leader = np.full(capacity, np.inf), 0, np.zeros(0, int)
    cost[:num_members] = basket.cost()
    to_finish = basket.rungs[-1] - np.asarray(basket.rungs)[curves.done - 1]
    open_ = ~curves.failed & (to_finish <= steps_left)
    if open_.any():
        best = np.argmax(np.where(open_, np.asarray(finals)[:num_members], -np.inf))
        reserve = int(to_finish[best])
        leader = np.array([best] if reserve else [], int)
    success = success_model(members, Inputs(space.num_values, space.is_categorical)) if curves.failed.any() else None
    steps = float(basket.rungs[0]), float(steps_left - reserve)
    choice = jax.device_get(choose(space, q, key, posterior, success, members, finals, jnp.asarray(cost), *steps))
    is_new = choice.index >= capacity
    if not choice.valid.any():
        return leader, choice.x[:0]
    return choice.index[choice.valid & ~is_new], choice.x[choice.valid & is_new]


@functools.partial(jax.jit, static_argnums=1)
def success_model(members: data.Observations, inputs: Inputs) -> SuccessModel:
    """`fit_success`, compiled."""
    return fit_success(members, inputs=inputs)


@jax.jit
def final_means(posterior: Posterior, members: data.Observations) -> Float[Array, "m"]:
    """The predicted final values of the members; minus infinity for failed ones."""
    return jnp.where(members.mask, posterior.mean(at_the_end(members.X)), -jnp.inf)


@functools.partial(jax.jit, static_argnums=(0, 1))
def choose(
    space: Space,
    q: int,
    key: Key,
    posterior: Posterior,
    success: SuccessModel | None,
    members: data.Observations,
    finals: Float[Array, "m"],
    cost: Float[Array, "m"],
    new_cost: Float[Array, ""],
    steps_left: Float[Array, ""],
) -> Choice:
    """The q candidates with the largest expected improvement of the final value, one after another.

    Args:
        space: the search space.
        q: number of choices.
        key: draws new configurations.
        posterior: the posterior of values over [x, t], with q spare rows.
        success: model of the probability of success; None if no configuration has failed.
        members: the configurations of the members, failed ones masked; their values are not used.
        finals: [m] the predicted final values of the members; minus infinity for failed ones.
        cost: [m] steps to each member's next rung; infinite if there is none.
        new_cost: steps to a new configuration's first rung.
        steps_left: steps that may be spent.
    """
    new_X = new_configurations(key, space, members.X, finals)
    known = jnp.all(new_X[:, None, :] == members.X[None, :, :], axis=-1) & members.told[None, :]
    X = jnp.concatenate([members.X, new_X])
    cost = jnp.concatenate([cost, jnp.where(jnp.any(known, axis=1), jnp.inf, new_cost)]).astype(X.dtype)
    ends, is_new = at_the_end(X), jnp.arange(X.shape[0]) >= members.capacity
    max_new = max(1, int(MAX_NEW * q))
    penalty = 0.0 if success is None else FAILURE_AVERSION * success.log_probability(X)

    def pick(carry, _):
        posterior, best, free, left, num_new = carry
        open_ = free & (cost <= left)
        within = open_ & (~is_new | (num_new < max_new))
        open_ = jnp.where(jnp.any(within), within, open_)
        scores = log_ei(posterior, ends, best) + penalty
        index = jnp.argmax(jnp.where(open_, scores, -jnp.inf))
        valid, x = open_[index], X[index]
        mean = posterior.mean(ends[index][None])[0]
        believed = posterior.append(ends[index], mean)
        posterior = jax.tree.map(lambda new, old: jnp.where(valid, new, old), believed, posterior)
        best = jnp.where(valid, jnp.maximum(best, mean), best)
        left = jnp.where(valid, left - cost[index], left)
        free &= ~jnp.all(X == x[None, :], axis=-1)
        return (posterior, best, free, left, num_new + is_new[index]), Choice(index.astype(jnp.int32), x, valid)

    best = jnp.max(finals)
    best = jnp.where(jnp.isfinite(best), best, 0.0)
    start = (posterior, best, jnp.isfinite(cost), jnp.asarray(steps_left, X.dtype), jnp.int32(0))
    return jax.lax.scan(pick, start, length=q)[1]


def at_the_end(X: Float[Array, "k d"]) -> Float[Array, "k e"]:
    """The points [x, 1] of full runs."""
    return jnp.concatenate([X, jnp.ones_like(X[:, :1])], axis=1)


def new_configurations(
    key: Key, space: Space, X: Float[Array, "m d"], finals: Float[Array, "m"]
) -> Float[Array, "c d"]:
    """Quasi-random points, and points around the members with the best predicted finals, rounded to the space."""
    spread_key, parent_key, size_key, move_key, category_key = jax.random.split(key, 5)
    half = NUM_CANDIDATES // 2
    even = sobol(spread_key, NUM_CANDIDATES, space.num_dims, X.dtype)
    values, best = jax.lax.top_k(finals, min(NUM_BEST, X.shape[0]))
    best = jnp.where(jnp.isfinite(values), best, best[0])
    parents = X[best[jax.random.randint(parent_key, (half,), 0, best.shape[0])]]
    low, high = np.log(STEPS_AWAY)
    size = jnp.exp(jax.random.uniform(size_key, (half, 1), X.dtype, low, high))
    moved = jnp.clip(parents + size * jax.random.normal(move_key, parents.shape, X.dtype), 0.0, 1.0)
    anew = jax.random.uniform(category_key, parents.shape) < RESAMPLED
    other = jnp.where(anew, even[half:], parents)
    near = jnp.where(jnp.asarray(space.is_categorical)[None, :], other, moved)
    return Lattice.of(space).spread(space.round(jnp.concatenate([even[:half], near])))
