"""CMA-ES: a normal distribution that adapts its mean, its step size and its covariance (Hansen 2016)."""

import functools
import math
from typing import Any

import jax.numpy as jnp

from bojax._linalg import one_by_one_on_cpu
from bojax.loop._algorithm import Algorithm
from bojax.loop._evolution import (
    Evolution,
    Generation,
    broadcasting,
    check_between,
    check_whole,
    evolutionary,
    evosax_strategy,
    unused_key,
)
from bojax.space import Space


def cma_es(space: Space, *, q: int = 1, popsize: int | None = None, std: Any = 0.3, capacity: int = 64) -> Algorithm:
    """The covariance matrix adaptation evolution strategy, of evosax.

    Each generation of P points is drawn from N(m, s^2 C), and m, s and C move towards its better half. It starts in the
    center of the unit cube. Only ranks count, so it is invariant to monotone transformations of the objective. It suits
    continuous spaces of up to some hundred dimensions, and hundreds of evaluations and more; categories are rounded
    from a continuous coordinate.

    Points of the data that are not drawn from the present distribution (late results, queued trials) are injected as
    Hansen (2011) does it: one that lies farther out than sqrt(d) + 2 d / (d + 2) standard deviations counts as if it
    were that far.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1; independent of the population.
        popsize: points of a generation P, >= 4; 4 + floor(3 ln d) by default.
        std: initial step size s, as a part of the unit cube; above 0, at most 1. May differ between the studies of
            `run_many`.
        capacity: room for this many observations, >= 1.

    Returns:
        An `Algorithm` whose `ask` returns an `EvolutionInfo`.

    Raises:
        ValueError: a number is out of range.
        ImportError: evosax is not installed.

    Example:
        >>> import jax, bojax
        >>> space = bojax.Space(x=bojax.Float(-1.0, 1.0), y=bojax.Float(-1.0, 1.0))
        >>> algorithm = bojax.cma_es(space, q=6)
        >>> def f(params):
        ...     return -((params["x"] - 0.5) ** 2) - (params["x"] + params["y"]) ** 2
        >>> final = bojax.run(jax.random.key(0), algorithm, f, num_steps=40)
        >>> best = final.observations.X[final.observations.y.argmax()]
        >>> [round(float(v), 2) for v in (2 * best - 1)]
        [0.5, -0.5]

    Source: Hansen (2016), "The CMA evolution strategy: a tutorial", arXiv:1604.00772; Hansen (2011), "Injecting
    external solutions into CMA-ES", arXiv:1110.4181, equation 4.
    """
    num_dims = space.num_dims
    popsize = 4 + math.floor(3 * math.log(num_dims)) if popsize is None else popsize
    check_whole(4, popsize=popsize)
    check_between(1e-6, 1.0, std=std)
    strategy = functools.partial(evosax_strategy, "CMA_ES", popsize, num_dims)
    strategy()  # raises where evosax is missing

    def start(dtype):
        params = strategy(dtype).default_params.replace(std_init=jnp.asarray(std, dtype))
        return strategy(dtype).init(unused_key(), jnp.full(num_dims, 0.5, dtype), params)

    def populate(key, evolved, begun):
        del begun
        return _drawn(strategy)(key, evolved)

    def learn(key, evolved, generation: Generation):
        X = jnp.where(generation.own[:, None], generation.X, _drawn_in(generation.X, evolved))
        learner = strategy(X.dtype)
        return learner.tell(key, X, generation.fitness, evolved, learner.default_params)[0]

    return evolutionary(space, Evolution(popsize, start, populate, learn, False), q=q, capacity=capacity)


def _drawn(strategy):
    """The population of a distribution. On CPU batches are drawn one by one: it takes eigenvalues, see `_linalg`."""

    def one(key, evolved):
        drawer = strategy(evolved.mean.dtype)
        with broadcasting():
            return drawer.ask(key, evolved, drawer.default_params)

    return one_by_one_on_cpu(one)


def _drawn_in(X, evolved):
    """Points X, moved towards the mean where they are too far out to have been drawn."""
    num_dims = X.shape[-1]
    limit = math.sqrt(num_dims) + 2.0 * num_dims / (num_dims + 2.0)
    step = X - evolved.mean
    length = jnp.sqrt(jnp.sum(((step @ evolved.B) / (evolved.std * evolved.D)) ** 2, axis=-1))
    return evolved.mean + step * jnp.minimum(1.0, limit / jnp.maximum(length, limit))[:, None]
