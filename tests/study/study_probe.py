"""A cheap algorithm whose points depend on everything a suggestion may depend on: key, data in order, pending."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._errors import Status
from bojax.data import Observations, Pending
from bojax.loop import Algorithm
from bojax.space import Categorical, Float, Int, Ordinal, Space

SPACE = Space(
    {
        "learning_rate": Float(1e-5, 1e-1, log=True),
        "width": Int(16, 512, log=True),
        "activation": Categorical(["relu", None, 3]),
        "quality": Ordinal([1, 2, 4, 8]),
    }
)


class State(NamedTuple):
    observations: Observations
    pending: Pending


class Info(NamedTuple):
    status: Any
    valid: Any


def probe(space: Space, q: int) -> Algorithm:
    """Points that are a fixed function of the key, the told data in their order, and the pending points."""

    def init(key):
        X, y = jnp.full((16, space.num_dims), 0.5), jnp.zeros(16)
        observations = Observations(X, y, jnp.zeros(16, bool), jnp.int32(0))
        return State(observations, Pending(X[:8], jnp.zeros(8, bool)))

    def ask(key, state):
        told = jnp.where(state.observations.mask, state.observations.y, -1.0) * state.observations.told
        rank = jnp.arange(1.0, told.shape[0] + 1)
        mark = jnp.sum(told * rank) + jnp.sum(state.observations.X * rank[:, None])
        mark += 7.0 * jnp.sum(state.pending.X * state.pending.mask[:, None])
        X = jnp.abs(jnp.sin(mark + 100.0 * jax.random.uniform(key, (q, space.num_dims), told.dtype)))
        return space.round(X), state, Info(jnp.int32(Status.OK), jnp.ones(q, bool))

    def tell(state, X, y):
        return state

    return Algorithm(init, ask, tell, space)


def value_of(params) -> float:
    """A deterministic objective."""
    return params["learning_rate"] + params["width"] / 100.0 + params["quality"]
