"""Synthetic test functions with known optimum: pure JAX, to be minimized, each with its own `Space`."""

from bojax.objectives._classic import branin, hartmann3, hartmann6, six_hump_camel
from bojax.objectives._mixed import learning_rate_bowl, mixed
from bojax.objectives._objective import SyntheticObjective
from bojax.objectives._scalable import (
    ackley,
    griewank,
    levy,
    rastrigin,
    rosenbrock,
    sphere,
    styblinski_tang,
)

__all__ = [
    "SyntheticObjective",
    "ackley",
    "branin",
    "griewank",
    "hartmann3",
    "hartmann6",
    "learning_rate_bowl",
    "levy",
    "mixed",
    "rastrigin",
    "rosenbrock",
    "six_hump_camel",
    "sphere",
    "styblinski_tang",
]
