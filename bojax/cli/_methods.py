"""The names of methods: how `bojax tune` chooses candidates."""

import functools
from typing import TYPE_CHECKING

import typer

from bojax.cli._output import near

if TYPE_CHECKING:
    from bojax.study import AlgorithmFactory, Training

METHODS = {
    "bayesopt": "bayesopt",
    "grid": "grid_search",
    "random": "random_search",
    "sobol": "sobol_search",
    "tpe": "tpe",
    "genetic": "genetic",
    "pso": "pso",
    "de": "differential_evolution",
    "cma_es": "cma_es",
    "forest": "forest",
    "thompson": "thompson",
    "turbo": "turbo",
}
"""The methods of `bojax tune`, the default first, and the algorithms of `bojax.loop` that they stand for."""


def algorithm_name(method: str) -> str:
    """The name in `bojax.loop` of a method, which may be given by either name.

    Raises:
        typer.BadParameter: there is no such method.
    """
    if method not in METHODS and method not in METHODS.values():
        known = (*METHODS, *METHODS.values())
        raise typer.BadParameter(
            f"must be one of {', '.join(METHODS)}, got {method!r}.{near(method, known)}", param_hint="--method"
        )
    return METHODS.get(method, method)


def algorithm_of(name: str, training: "Training | None") -> "AlgorithmFactory":
    """The algorithm of that name, which learns from gradients where the training function has them."""
    if training is not None and training.gradients:
        return training.default_algorithm
    return _named(name)


@functools.cache
def _named(name: str) -> "AlgorithmFactory":
    """One function for each name, so that the studies of a process share compiled programs."""
    from bojax import loop

    make = getattr(loop, name)
    return lambda space, q: make(space, q=q)
