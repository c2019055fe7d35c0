"""Particle swarm optimization (Kennedy and Eberhart 1995)."""

import functools
from typing import Any

from bojax.loop._algorithm import Algorithm
from bojax.loop._evolution import check_between, check_whole, evolutionary, evosax_strategy, population_based
from bojax.space import Space


def pso(
    space: Space,
    *,
    q: int = 1,
    popsize: int = 16,
    inertia: Any = 0.75,
    cognitive: Any = 1.5,
    social: Any = 2.0,
    capacity: int = 64,
) -> Algorithm:
    """A swarm of particles, of evosax: each is drawn to its own best point and to that of the swarm.

        v <- inertia v + cognitive r1 (own best - x) + social r2 (best of all - x),    x <- x + v

    with r1, r2 uniform in [0, 1]. The swarm starts at rest on a Sobol sequence.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1; independent of the swarm.
        popsize: number of particles, >= 2.
        inertia: which part of its velocity a particle keeps, between 0 and 1.
        cognitive: pull of its own best point, between 0 and 4.
        social: pull of the best point of all, between 0 and 4.
        capacity: room for this many observations, >= 1.

    Returns:
        An `Algorithm` whose `ask` returns an `EvolutionInfo`.

    Raises:
        ValueError: a number is out of range.
        ImportError: evosax is not installed.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.pso(bojax.Space(x=bojax.Float(0.0, 1.0)), popsize=4)
        >>> final = bojax.run(jax.random.key(0), algorithm, lambda params: -((params["x"] - 0.3) ** 2), num_steps=60)
        >>> round(float(final.observations.X[final.observations.y.argmax(), 0]), 2)
        0.3

    Source: Kennedy and Eberhart (1995), "Particle swarm optimization", doi:10.1109/ICNN.1995.488968.
    """
    check_whole(2, popsize=popsize)
    check_between(0.0, 1.0, inertia=inertia)
    check_between(0.0, 4.0, cognitive=cognitive, social=social)
    strategy = functools.partial(evosax_strategy, "PSO", popsize, space.num_dims)

    def params(dtype):
        return strategy(dtype).default_params.replace(
            inertia_coeff=inertia, cognitive_coeff=cognitive, social_coeff=social
        )

    return evolutionary(space, population_based(strategy, params, space), q=q, capacity=capacity)
