"""Evolutionary algorithms: generations of evosax behind `init`, `ask` and `tell`.

    observations --P rows at a time, in order--> learn --> population --those not yet asked or told--> q points

A state is a function of a study's data: `ask` first takes in whole generations of P rows that are not yet taken in,
then hands out members of the present population. So the size of a population and q are independent, and a study that
is rebuilt from its trials goes on where it was.

* A row belongs to the member at the same point; any other row (results of earlier generations that come late, queued
  trials, held values) to the first member without one. A generation is complete with P rows, whichever they are.
* Further points are drawn like members once all members are asked or told, so no worker waits for another.
* Members that leave the cube are reflected at its faces, which keeps a population spread where a clipped one would
  gather on the face. Discrete columns are rounded for the objective; the algorithm goes on from the member before
  rounding, so that steps shorter than a cell add up.
* evosax minimizes: the fitness is -y, and infinite where an evaluation failed, which is the worst of any generation. A
  generation in which all failed teaches nothing; the next one is drawn anew.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from bojax import data
from bojax._errors import Status
from bojax._qmc import random_shift, shifted, sobol_integers
from bojax._runtime import PRNG_IMPL
from bojax._types import Array, Bool, Float, Int, Key
from bojax.loop._algorithm import MIN_PENDING, Algorithm, compiled_ask, keyed_init, status_of, tell_state
from bojax.loop._design import mark_seen, replace_seen, seen_points
from bojax.optim import SAME, Lattice, Seen
from bojax.space import Space


class EvolutionState(NamedTuple):
    """What the next `ask` of an evolutionary algorithm needs.

    Attributes:
        observations: the observations.
        pending: the pending points.
        evolved: the state of evosax after the rows taken in.
        taken: number of rows taken in, a multiple of the population's size.
        begun: whether a generation with a value was taken in.
        stream: [2] random words, uint32: with the number of a generation they give the key of its population.
    """

    observations: data.Observations
    pending: data.Pending
    evolved: Any
    taken: Int[Array, ""]
    begun: Bool[Array, ""]
    stream: Int[Array, "2"]


class EvolutionInfo(NamedTuple):
    """The diagnostics of an `ask`.

    Attributes:
        status: a `bojax.Status` code; INITIAL for the first population of an algorithm that starts from a design.
        valid: [q] which rows of X are suggestions.
        generation: number of the generation to which the points belong, from 0.
    """

    status: Int[Array, ""]
    valid: Bool[Array, "q"]
    generation: Int[Array, ""]


class Generation(NamedTuple):
    """A complete generation, as an algorithm learns from it.

    Attributes:
        X: [P, d] its points.
        fitness: [P] what is minimized; infinite where the evaluation failed.
        own: [P] which points are the algorithm's own members; the others were chosen otherwise.
        first: whether it is the first one.
    """

    X: Float[Array, "P d"]
    fitness: Float[Array, "P"]
    own: Bool[Array, "P"]
    first: Bool[Array, ""]


class Evolution(NamedTuple):
    """How a population evolves.

    Attributes:
        popsize: number of members P.
        start: `start(dtype) -> evolved`, before any generation.
        populate: `populate(key, evolved, begun) -> (members [P, d], evolved)`; members may leave the cube.
        learn: `learn(key, evolved, generation) -> evolved`, from the state that `populate` returned.
        has_design: whether the first population is a design rather than drawn from `evolved`.
    """

    popsize: int
    start: Callable[[Any], Any]
    populate: Callable[[Key, Any, Any], tuple[Any, Any]]
    learn: Callable[[Key, Any, Generation], Any]
    has_design: bool


@functools.cache
def evosax_strategy(name: str, popsize: int, num_dims: int, dtype: Any = np.float32, **settings: Any) -> Any:
    """An algorithm of evosax, which is imported when it is first needed.

    Args:
        name: its name in evosax.
        popsize: number of members.
        num_dims: number of coordinates of a member.
        dtype: float type of its arrays.
        **settings: attributes to set.

    Returns:
        The algorithm; the same object for the same arguments, so that evosax compiles its parts once.

    Raises:
        ImportError: evosax is not installed.
    """
    try:
        from evosax import algorithms
    except ImportError as error:
        raise ImportError("evosax is needed: pip install 'bojax[evolution]'") from error
    with jax.ensure_compile_time_eval(), jax.enable_x64(np.dtype(dtype).itemsize == 8):
        strategy = getattr(algorithms, name)(popsize, jnp.zeros(num_dims, dtype))
        # A number rather than an array, so that the precision of what follows from it is that of the call.
        settings["max_num_dims_sq"] = float(strategy.max_num_dims_sq)
    for attribute, value in settings.items():
        setattr(strategy, attribute, value)
    return strategy


def evolutionary(space: Space, evolution: Evolution, *, q: int, capacity: int) -> Algorithm:
    """The algorithm that evolves a population.

    Args:
        space: the search space.
        evolution: how the population evolves.
        q: number of points each `ask` returns, >= 1.
        capacity: room for this many observations, >= 1.

    Returns:
        An `Algorithm` whose state is an `EvolutionState` and whose `ask` returns an `EvolutionInfo`.

    Raises:
        ValueError: `q` or `capacity` is below 1.
    """
    lattice = Lattice.of(space)
    check_whole(1, q=q, capacity=capacity)
    popsize = evolution.popsize

    @keyed_init
    def init(key):
        observations = data.empty(space.num_dims, capacity, columns=())
        dtype = observations.X.dtype
        with broadcasting():
            evolved = evolution.start(dtype)
        return EvolutionState(
            observations=observations,
            pending=data.empty_pending(space.num_dims, max(q, MIN_PENDING), dtype),
            evolved=_like(evolved, dtype),
            taken=jnp.zeros((), jnp.int32),
            begun=jnp.zeros((), bool),
            stream=jax.random.bits(key, (2,), jnp.uint32),
        )

    def learned(state, members, asked):
        """The state after the next generation, whose members and state these are."""
        told, rows = state.observations, state.taken + jnp.arange(popsize, dtype=jnp.int32)
        X, y, ok = told.X[rows], told.y[rows], told.mask[rows]
        slots, own = _placed(lattice.round(members), X, jnp.ones(popsize, bool))
        # A member counts as it was drawn; a point that holds no number counts as its member, and as failed.
        points = jnp.where(own[:, None] | ~jnp.isfinite(X), members[slots], X)
        order = jnp.argsort(slots)
        generation = Generation(points[order], jnp.where(ok, -y, jnp.inf)[order], own[order], ~state.begun)
        key, any_ok = _key_of(state.stream, state.taken // popsize), jnp.any(ok)
        with broadcasting():
            after = evolution.learn(jax.random.fold_in(key, 1), asked, generation)
        evolved = jax.tree.map(lambda new, old: jnp.where(any_ok, new, old).astype(old.dtype), after, state.evolved)
        return state._replace(evolved=evolved, taken=state.taken + popsize, begun=state.begun | any_ok)

    def brought_up(key, state, num_further):
        """The state after all whole generations, and its population and further ones, [1 + num_further, P, d].

        It is one loop, so that the program holds the functions of evosax once.
        """
        last = jnp.minimum(state.observations.count, state.observations.capacity)
        keys = jax.random.split(key, num_further + 1)

        def step(carry):
            state, asked, drawn, populations = carry
            learns = (drawn >= 0) & (state.taken + popsize <= last)
            state = jax.lax.cond(learns, learned, lambda state, *_: state, state, populations[0], asked)
            again = (drawn >= 0) & ~learns
            drawn = jnp.where(again, drawn + 1, 0)
            key = jnp.where(again, keys[drawn], _key_of(state.stream, state.taken // popsize))
            with broadcasting():
                members, after = evolution.populate(key, state.evolved, state.begun)
            asked = jax.tree.map(lambda old, new: jnp.where(again, old, new.astype(old.dtype)), asked, after)
            return state, asked, drawn, populations.at[drawn].set(reflected(members))

        nobody = jnp.full((1 + num_further, popsize, space.num_dims), 0.5, state.observations.X.dtype)
        state, _, _, populations = jax.lax.while_loop(
            lambda carry: carry[2] < num_further, step, (state, state.evolved, jnp.int32(-1), nobody)
        )
        return state, populations

    @compiled_ask
    def ask(key, state, held=None):
        here, dtype = lattice.hold(held), state.observations.X.dtype
        key_others, key_further = jax.random.split(key)
        state, populations = brought_up(key_further, state, -(-q // popsize))
        generation = state.taken // popsize
        X = here.round(populations.reshape(-1, space.num_dims))
        is_taken = _taken(X[:popsize], state, popsize)
        X = X[jnp.argsort(jnp.pad(is_taken, (0, X.shape[0] - popsize)), stable=True)[:q]]
        others = here.round(space.sample(key_others, q + 16, dtype))
        sound = jnp.all(jnp.isfinite(X))
        X = jnp.where(sound, X, others[:q])
        X, valid = _without_repeats(here, X, seen_points(state.observations, state.pending, q), others)
        status = jnp.where(state.begun | (not evolution.has_design), Status.OK, Status.INITIAL)
        status = status_of(jnp.where(sound, status, Status.FALLBACK), state, valid)
        pending = data.add_pending(state.pending, X, valid)
        return X, state._replace(pending=pending), EvolutionInfo(status, valid, generation)

    def tell(state, X, y, **columns):
        return tell_state(space, state, X, y, **columns)

    return Algorithm(init=init, ask=ask, tell=tell, space=space, q=q, columns=())


def population_based(strategy: Callable[[Any], Any], params: Callable[[Any], Any], space: Space) -> Evolution:
    """The evolution of an algorithm of evosax that starts from an evaluated population: here a Sobol sequence.

    Args:
        strategy: returns the algorithm of evosax, for a dtype.
        params: returns its parameters, for a dtype.
        space: the search space.

    Returns:
        How its population evolves.
    """
    popsize, num_dims = strategy(np.float32).population_size, space.num_dims

    def start(dtype):
        # Placeholders, until the first generation.
        nowhere = jnp.full((popsize, num_dims), 0.5, dtype), jnp.full(popsize, jnp.inf, dtype)
        return strategy(dtype).init(unused_key(), *nowhere, params(dtype))

    def populate(key, evolved, begun):
        dtype = evolved.population.dtype
        design = shifted(sobol_integers(popsize, num_dims), random_shift(key, num_dims), dtype)
        members, asked = strategy(dtype).ask(key, evolved, params(dtype))
        asked = jax.tree.map(lambda new, old: jnp.where(begun, new, old), asked, evolved)
        return jnp.where(begun, members, design), asked

    def learn(key, evolved, generation):
        X, dtype = generation.X, generation.X.dtype
        first = strategy(dtype).init(key, X, generation.fitness, params(dtype))
        later = strategy(dtype).tell(key, X, generation.fitness, evolved, params(dtype))[0]
        return jax.tree.map(lambda a, b: jnp.where(generation.first, a, b), first, later)

    return Evolution(popsize, start, populate, learn, has_design=True)


def broadcasting() -> contextlib.AbstractContextManager[None]:
    """A scope in which arrays of different ranks may meet, as they do in evosax, whatever the user's setting is."""
    return jax.numpy_rank_promotion("allow")


def unused_key() -> Key:
    """A key for functions of evosax that take one and do not use it."""
    return jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32), impl=PRNG_IMPL)


def reflected(X: Float[Array, "P d"]) -> Float[Array, "P d"]:
    """The points, reflected at the faces of the unit cube until they are inside."""
    return jnp.where((X >= 0.0) & (X <= 1.0), X, 1.0 - jnp.abs(jnp.mod(X, 2.0) - 1.0))


def check_whole(least: int, **counts: Any) -> None:
    """Raises ValueError for the first count that is no whole number of at least `least`."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}.")


def check_between(low: float, high: float, **numbers: Any) -> None:
    """Raises ValueError for the first number outside of [low, high]; tracers pass."""
    for name, value in numbers.items():
        if not isinstance(value, Tracer) and not low <= value <= high:
            raise ValueError(f"`{name}` must be between {low:g} and {high:g}, got {value!r}.")


def _key_of(stream, generation):
    return jax.random.fold_in(jax.random.wrap_key_data(stream, impl=PRNG_IMPL), generation)


def _like(tree, dtype):
    """A tree of arrays that keep their dtype: floats of this one, the others as 32-bit integers or booleans."""

    def leaf(value):
        value = jnp.asarray(value)
        kind = dtype if jnp.issubdtype(value.dtype, jnp.floating) else value.dtype
        return jax.lax.convert_element_type(value, jnp.int32 if jnp.issubdtype(kind, jnp.integer) else kind)

    return jax.tree.map(leaf, tree)


def _placed(members, X, mask):
    """The member of each row of X, and which rows are at their member's point.

    Rows at the point of a member come first; the others take the first members that are left, in order. Rows without
    a member left, and those off the mask, get the number P.
    """
    count = members.shape[0]

    def meet(left, item):
        x, real = item
        distance = jnp.where(left, jnp.max(jnp.abs(members - x[None, :]), axis=-1), jnp.inf)
        slot = jnp.argmin(distance)
        meets = real & (distance[slot] < SAME)
        return left.at[slot].set(left[slot] & ~meets), (jnp.where(meets, slot, count), meets)

    def fill(left, item):
        slot, needs = item
        first = jnp.argmax(left)
        fills = needs & left[first]
        return left.at[first].set(left[first] & ~fills), jnp.where(fills, first, slot)

    left, (slots, own) = jax.lax.scan(meet, jnp.ones(count, bool), (X, mask))
    _, slots = jax.lax.scan(fill, left, (slots, mask & ~own))
    return slots.astype(jnp.int32), own


def _taken(members, state, popsize):
    """[P] which members of the present population are told or pending."""
    told, pending = state.observations, state.pending
    rows = state.taken + jnp.arange(popsize, dtype=jnp.int32)
    X = jnp.concatenate([told.X[rows], pending.X])
    mask = jnp.concatenate([rows < jnp.minimum(told.count, told.capacity), pending.mask])
    slots, _ = _placed(members, X, mask)
    return jnp.zeros(popsize, bool).at[slots].set(True, mode="drop")


def _without_repeats(lattice, X, seen, others):
    """X with other points in place of seen ones, and which are new.

    In a space with continuous columns only equal points count as seen: a population that converges comes closer than
    `SAME`.
    """
    if lattice.is_finite:
        return replace_seen(lattice, X, seen, others)
    X, others = lattice.repaired(X), lattice.spread(others)

    def is_new(seen, X):
        equal = jnp.all(X[:, None, :] == seen.X[None, :, :], axis=-1)
        return ~jnp.any(equal & seen.mask[None, :], axis=1)

    def place(seen: Seen, item):
        row, x = item
        x = jnp.where(is_new(seen, x[None])[0], x, others[jnp.argmax(is_new(seen, others))])
        return mark_seen(seen, row, x), x

    q = X.shape[0]
    rows = jnp.arange(seen.X.shape[0] - q, seen.X.shape[0], dtype=jnp.int32)
    return jax.lax.scan(place, seen, (rows, X))[1], jnp.ones(q, bool)
