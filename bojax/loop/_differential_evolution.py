"""Differential evolution (Storn and Price 1997)."""

import functools
from typing import Any

from bojax.loop._algorithm import Algorithm
from bojax.loop._evolution import check_between, check_whole, evolutionary, evosax_strategy, population_based
from bojax.space import Space


def differential_evolution(
    space: Space,
    *,
    q: int = 1,
    popsize: int = 16,
    crossover_rate: Any = 0.9,
    differential_weight: Any = 0.8,
    elitism: bool = True,
    capacity: int = 64,
) -> Algorithm:
    """A population that moves along differences of its members, of evosax.

    Each member x competes with a trial point that takes each coordinate from a + F (b - c) with probability CR, at
    least one of them, and the others from x. b and c are members at random; a is the best one ("best/1/bin"), or a
    random one ("rand/1/bin"). The better of the two stays. The population starts as a Sobol sequence.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1; independent of the population.
        popsize: number of members, >= 4.
        crossover_rate: CR, between 0 and 1.
        differential_weight: F, between 0 and 2.
        elitism: whether a is the best member rather than a random one: quicker, and sooner in a local optimum.
        capacity: room for this many observations, >= 1.

    Returns:
        An `Algorithm` whose `ask` returns an `EvolutionInfo`.

    Raises:
        ValueError: a number is out of range.
        ImportError: evosax is not installed.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.differential_evolution(bojax.Space(x=bojax.Float(0.0, 1.0)), popsize=6)
        >>> final = bojax.run(jax.random.key(0), algorithm, lambda params: -((params["x"] - 0.3) ** 2), num_steps=60)
        >>> round(float(final.observations.X[final.observations.y.argmax(), 0]), 2)
        0.3

    Source: Storn and Price (1997), "Differential evolution: a simple and efficient heuristic for global optimization
    over continuous spaces", doi:10.1023/A:1008202821328.
    """
    check_whole(4, popsize=popsize)
    check_between(0.0, 1.0, crossover_rate=crossover_rate)
    check_between(0.0, 2.0, differential_weight=differential_weight)
    strategy = functools.partial(evosax_strategy, "DifferentialEvolution", popsize, space.num_dims)

    def params(dtype):
        return strategy(dtype).default_params.replace(
            elitism=elitism,
            crossover_rate=crossover_rate,
            differential_weight=differential_weight,
            differential_weight_min=differential_weight,
            differential_weight_max=differential_weight,
        )

    return evolutionary(space, population_based(strategy, params, space), q=q, capacity=capacity)
