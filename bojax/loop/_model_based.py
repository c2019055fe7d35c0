"""The frame of every model-based algorithm.

    observations --prepare--> derived values --design, or propose--> q points --> pending

A `Rule` defines how an algorithm proposes q points from data. The frame does the rest: the quasi-random initial design
(the first `num_initial` points, extended while all values are equal, since a surrogate fitted to equal values is most
uncertain in the corners), the fallback to that design if a proposal is not finite, pending points, held coordinates,
the status, `tell` and `predict`.

Failed evaluations follow one of two policies, each a map from the observations to what the surrogate sees:

    without_failures     failed rows stay masked. The algorithm weights its acquisition by a model of success.
    failures_as_worst    a failed row counts as the worst value seen, so the search leaves its neighborhood. For
                         algorithms that draw functions, which have no acquisition to weight.

Both are compared in benchmarks/results/failures.md.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax import data
from bojax._errors import Status
from bojax._qmc import random_shift
from bojax._types import Array, Bool, Float, Int
from bojax.loop._algorithm import (
    MIN_PENDING,
    Algorithm,
    compiled_ask,
    keyed_init,
    status_of,
    tell_state,
)
from bojax.loop._contracts import DescribeFn, DetailsFn, InDesignFn, PrepareFn, ProposeFn
from bojax.loop._defaults import default_num_initial
from bojax.loop._design import design, design_on_host, seen_points
from bojax.loop._predict import predictor
from bojax.space import Lattice, Space
from bojax.surrogates import Surrogate, is_constant


class ModelState(NamedTuple):
    """What the next `ask` of a model-based algorithm needs.

    Attributes:
        observations: the observations.
        pending: the pending points.
        params: hyperparameters from which the next fit starts; () for an algorithm that starts each fit from scratch.
        shift: [d] the random shift of the initial design.
        trusted: whether `params` are a fit of nearly the same data, so that the next fit needs no other start.
    """

    observations: data.Observations
    pending: data.Pending
    params: Any
    shift: Int[Array, "d"]
    trusted: Bool[Array, ""]


class Asked(NamedTuple):
    """The input of a rule.

    Attributes:
        lattice: the columns of the cube, with the held coordinates.
        state: the state before the new points.
        prepared: the result of the rule's `prepare`.
        design: the fallback: the next q points [q, d] of the initial design, and which of them are new [q].
    """

    lattice: Lattice
    state: ModelState
    prepared: Any
    design: tuple[Float[Array, "q d"], Bool[Array, "q"]]


class Proposal(NamedTuple):
    """What a rule proposes.

    Attributes:
        X: [q, d] points, on the lattice.
        valid: [q] which of them are suggestions; all, unless a finite space is exhausted.
        ok: whether they are usable. If not, or if X is not finite, the design's points are used.
        params: hyperparameters for the next state.
        details: diagnostics of the algorithm, a tree of arrays.
    """

    X: Float[Array, "q d"]
    valid: Bool[Array, "q"]
    ok: Bool[Array, ""]
    params: Any
    details: Any


class Rule(NamedTuple):
    """What distinguishes an algorithm from others.

    Attributes:
        propose: `propose(key, asked) -> Proposal`.
        describe: `describe(asked, X, status, valid, details) -> info`, a NamedTuple with at least `status` and
            `valid`.
        no_details: `no_details(dtype) -> details`, their placeholder in the initial design.
        init_params: `init_params(dtype) -> params`; by default those of the surrogate.
        prepare: `prepare(key, state) -> Any`, values that are needed in the initial design too; may hold functions.
        in_design: `in_design(state, prepared) -> bool`; by default, whether fewer than `num_initial` points are
            observed or pending.
    """

    propose: ProposeFn
    describe: DescribeFn
    no_details: DetailsFn
    init_params: DetailsFn | None = None
    prepare: PrepareFn | None = None
    in_design: InDesignFn | None = None


def model_based(
    space: Space | Lattice,
    rule: Rule,
    *,
    surrogate: Surrogate | None,
    failures: Callable[[data.Observations], data.Observations] | None = None,
    q: int = 1,
    capacity: int = 64,
    num_initial: int | None = None,
    max_pending: int | None = None,
    repeats: bool = False,
    columns: tuple[str, ...] | None = None,
) -> Algorithm:
    """An algorithm from a rule.

    Args:
        space: the search space, or a `Lattice`.
        rule: how points are proposed.
        surrogate: the model behind `predict`, bound to the space; None for a rule without one, whose `init_params`
            must be given.
        failures: how it sees failed evaluations, one of the policies above; `without_failures` by default.
        q: number of points each `ask` returns, >= 1.
        capacity: room for this many observations, >= 1.
        num_initial: points of the initial design, >= 1; by default d + 1, between 3 and 16, and 3 with gradients.
        max_pending: maximum number of pending points, >= q; 8, or q if that is more, by default.
        repeats: whether points may be suggested again.
        columns: the columns that states store; by default those that the surrogate uses, or `noise_var` without one.

    Returns:
        An `Algorithm` whose state is a `ModelState`.

    Raises:
        ValueError: when a number is out of range, or there is neither a surrogate nor `init_params`.

    Example:
        Propose the best of 64 random points by mean plus two standard deviations:

        >>> import jax, jax.numpy as jnp, bojax
        >>> from bojax.loop import Info, Proposal, Rule, model_based, without_failures
        >>> space, gp = bojax.Space(x=bojax.Float(0.0, 1.0)), bojax.surrogates.gp()
        >>> def propose(key, asked):
        ...     seen = without_failures(asked.state.observations)
        ...     params, fit = gp.fit(key, seen, asked.state.params)
        ...     X = asked.lattice.snap(jax.random.uniform(key, (64, 1), seen.X.dtype))
        ...     mean, var = gp.posterior(params, seen).mean_var(X)
        ...     best = jnp.argmax(mean + 2.0 * jnp.sqrt(var))
        ...     return Proposal(X[best][None], jnp.ones(1, bool), fit.ok, params, details=())
        >>> rule = Rule(propose, lambda asked, X, status, valid, details: Info(status, valid), lambda dtype: ())
        >>> algorithm = model_based(space, rule, surrogate=gp)
        >>> X, state, info = algorithm.ask(jax.random.key(1), algorithm.init(jax.random.key(0)))
        >>> bojax.Status(int(info.status)).name
        'INITIAL'
    """
    lattice = Lattice.of(space)
    if columns is None:
        columns = ("noise_var",) if surrogate is None else surrogate.columns
    room = default_num_initial(space.num_dims, columns) if num_initial is None else num_initial
    max_pending = max(q, MIN_PENDING) if max_pending is None else max_pending
    check_counts(q=q, capacity=capacity, num_initial=room)
    # Of padded columns those count that are no padding.
    enough: Any = default_num_initial(lattice.num_live, columns) if num_initial is None else num_initial
    if max_pending < q:
        raise ValueError(f"`max_pending` must hold the {q} points of one `ask`, got {max_pending}.")
    if surrogate is None and rule.init_params is None:
        raise ValueError("`surrogate` must be given unless the rule has `init_params`, got neither.")
    init_params: Any = rule.init_params
    if surrogate is not None and init_params is None:
        init_params = functools.partial(surrogate.init, space.num_dims)

    @keyed_init
    def init(key):
        observations = data.empty(space.num_dims, capacity, columns=columns)
        dtype = observations.X.dtype
        return ModelState(
            observations=observations,
            pending=data.empty_pending(space.num_dims, max_pending, dtype),
            params=init_params(dtype),
            shift=random_shift(key, space.num_dims),
            trusted=jnp.zeros((), bool),
        )

    @compiled_ask
    def ask(key, state, held=None):
        here = lattice.hold(held)
        prepared = None if rule.prepare is None else rule.prepare(key, state)
        dtype = state.observations.X.dtype
        points = seen_points(state.observations, state.pending, q)
        if rule.in_design is None:
            young = state.observations.count + jnp.sum(state.pending.mask, dtype=jnp.int32) < enough
        else:
            young = rule.in_design(state, prepared)
        says_nothing = is_constant(state.observations.y, state.observations.mask)
        filling = design(here, state.shift, points, q, room, dtype, complete=young | says_nothing)
        asked = Asked(here, state, prepared, filling)

        def initial():
            return *filling, jnp.int32(Status.INITIAL), state.params, rule.no_details(dtype)

        outcome = jax.lax.cond(young | says_nothing, initial, lambda: _proposed(rule, key, asked))
        X, valid, status, params, details = outcome
        valid = (jnp.ones(q, bool) if repeats else valid) & here.is_inside(X)
        info = rule.describe(asked, X, status, valid, details)
        info = info._replace(status=status_of(status, state, valid))
        pending = data.add_pending(state.pending, X, valid)
        return X, state._replace(params=params, pending=pending, trusted=jnp.zeros((), bool)), info

    def tell(state, X, y, **columns):
        return tell_state(lattice, state, X, y, **columns)

    def begin(shift, told, held=None):
        young = len(told.y) + len(told.pending) < enough
        if not young and not is_constant(told.y, np.isfinite(told.y)):
            return None
        here = lattice.hold(held)
        X, valid = design_on_host(here, shift, told, q, room)
        return X, here.is_inside(X) if repeats else valid

    sees = without_failures if failures is None else failures
    predict = None if surrogate is None else predictor(surrogate, sees)
    parts = {"repeats": repeats, "predict": predict, "columns": columns}
    return Algorithm(init, ask, tell, space, q, **parts, begin=begin if rule.in_design is None else None)


def _proposed(rule, key, asked):
    """The proposal; the design if that is not finite."""
    X, valid, ok, params, details = rule.propose(key, asked)
    ok = ok & jnp.all(jnp.isfinite(X))
    X = asked.lattice.repaired(X)  # a rule may know nothing of constraints
    status = jnp.where(ok, Status.OK, Status.FALLBACK).astype(jnp.int32)
    return jnp.where(ok, X, asked.design[0]), jnp.where(ok, valid, asked.design[1]), status, params, details


def without_failures(observations: data.Observations) -> data.Observations:
    """The observations with failed rows masked, and finite padding.

    Args:
        observations: the observations.

    Returns:
        What the surrogate sees.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data, loop
        >>> told = data.append(data.empty(1, 2), jnp.array([[0.2], [0.7]]), jnp.array([3.0, jnp.nan]))
        >>> loop.without_failures(told).y.tolist()
        [3.0, 0.0]
    """
    X = jnp.where(jnp.all(jnp.isfinite(observations.X), axis=-1)[:, None], observations.X, 0.5)
    return observations._replace(X=X, y=jnp.where(observations.mask, observations.y, 0.0))


def failures_as_worst(observations: data.Observations) -> data.Observations:
    """The observations with the worst value seen in each failed row.

    Args:
        observations: the observations.

    Returns:
        What the surrogate sees.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import data, loop
        >>> told = data.append(data.empty(1, 2), jnp.array([[0.2], [0.7]]), jnp.array([3.0, jnp.nan]))
        >>> loop.failures_as_worst(told).y.tolist()
        [3.0, 3.0]
    """
    finite_X = jnp.all(jnp.isfinite(observations.X), axis=-1)
    failed = observations.told & ~observations.mask & finite_X
    worst = jnp.min(jnp.where(observations.mask, observations.y, jnp.inf))
    X = jnp.where(finite_X[:, None], observations.X, 0.5)
    return observations._replace(X=X, y=jnp.where(failed, worst, observations.y), mask=observations.mask | failed)


def check_counts(**counts: int) -> None:
    """Raises ValueError for the first count that is below 1."""
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
