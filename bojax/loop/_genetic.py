"""A genetic algorithm with crossover and mutation (Holland 1975; Such et al. 2017)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from bojax.loop._algorithm import Algorithm
from bojax.loop._evolution import check_between, check_whole, evolutionary, evosax_strategy, population_based
from bojax.space import Lattice, Space


def genetic(
    space: Space,
    *,
    q: int = 1,
    popsize: int = 16,
    crossover_rate: Any = 0.5,
    mutation_std: Any = None,
    category_rate: Any = None,
    elite_ratio: float = 0.25,
    capacity: int = 64,
) -> Algorithm:
    """A genetic algorithm, of evosax: the best members are parents of the next generation.

    A child takes each coordinate from one of two parents (uniform crossover). Then coordinates of ordered parameters
    mutate by a normal step, and categories are drawn anew at times. The population starts as a Sobol sequence.

    Args:
        space: the search space.
        q: number of points each `ask` returns, >= 1; independent of the population.
        popsize: number of members, >= 2.
        crossover_rate: probability that a coordinate comes from the second parent, between 0 and 1.
        mutation_std: standard deviation of the normal step, as a part of the cube, between 0 and 1; 0.1 by default.
        category_rate: probability that a category is drawn anew, between 0 and 1; 0.1 by default.
        elite_ratio: which part of a population are parents, above 0, at most 1; at least one is.
        capacity: room for this many observations, >= 1.

    Returns:
        An `Algorithm` whose `ask` returns an `EvolutionInfo`.

    Raises:
        ValueError: a number is out of range, or given for a kind of parameter that the space does not have.
        ImportError: evosax is not installed.

    Example:
        >>> import jax, bojax
        >>> algorithm = bojax.genetic(bojax.Space(x=bojax.Float(0.0, 1.0)), popsize=6)
        >>> final = bojax.run(jax.random.key(0), algorithm, lambda params: -((params["x"] - 0.3) ** 2), num_steps=60)
        >>> round(float(final.observations.X[final.observations.y.argmax(), 0]), 2)
        0.3

    Source: Holland (1975), "Adaptation in natural and artificial systems"; Such et al. (2017), "Deep neuroevolution",
    arXiv:1712.06567, whose selection and mutation evosax takes.
    """
    check_whole(2, popsize=popsize)
    is_categorical = Lattice.of(space).is_categorical
    if category_rate is not None and not is_categorical.any():
        raise ValueError(f"`category_rate` must be left out: the space has no Categorical, got {category_rate!r}.")
    if mutation_std is not None and is_categorical.all():
        raise ValueError(f"`mutation_std` must be left out: the space has Categoricals only, got {mutation_std!r}.")
    category_rate = 0.1 if category_rate is None else category_rate
    mutation_std = 0.1 if mutation_std is None else mutation_std
    check_between(0.0, 1.0, crossover_rate=crossover_rate, mutation_std=mutation_std, category_rate=category_rate)
    check_between(1e-9, 1.0, elite_ratio=elite_ratio)
    strategy = functools.partial(evosax_strategy, "SimpleGA", popsize, space.num_dims, elite_ratio=elite_ratio)
    basis = population_based(
        strategy, lambda dtype: strategy(dtype).default_params.replace(crossover_rate=crossover_rate), space
    )

    def with_steps(evolved):
        dtype = evolved.population.dtype
        return evolved.replace(std=jnp.where(is_categorical, 0.0, jnp.asarray(mutation_std, dtype)))

    def populate(key, evolved, begun):
        members, evolved = basis.populate(key, evolved, begun)
        if not is_categorical.any():
            return members, evolved
        keys = jax.random.split(jax.random.fold_in(key, 2))
        anew = jax.random.uniform(keys[0], members.shape, members.dtype) < category_rate
        values = jax.random.uniform(keys[1], members.shape, members.dtype)
        return jnp.where(anew & is_categorical & begun, values, members), evolved

    evolution = basis._replace(
        start=lambda dtype: with_steps(basis.start(dtype)),
        populate=populate,
        learn=lambda key, evolved, generation: with_steps(basis.learn(key, evolved, generation)),
    )
    return evolutionary(space, evolution, q=q, capacity=capacity)
