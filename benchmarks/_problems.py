"""What is tuned in the benchmarks, seen from bojax and from NumPy."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import bojax
from bojax import objectives


class Problem(NamedTuple):
    """A test function, maximized.

    Attributes:
        objective: the function to be minimized, with its space and optimum.
        f: its negative, for `bojax.run`; always the same object, so that programs are compiled once.
        values: its negative at points X [n, d] of the unit cube, NumPy float64.
    """

    objective: objectives.SyntheticObjective
    f: Callable[[Any], Any]
    values: Callable[[np.ndarray], np.ndarray]

    @property
    def space(self) -> bojax.Space:
        """The search space."""
        return self.objective.space

    def regret(self, y: Any) -> np.ndarray:
        """How far the largest value [..., n] of each study lies below the optimum."""
        return -np.max(np.asarray(y, np.float64), axis=-1) - self.objective.optimum


@functools.cache
def problem(name: str) -> Problem:
    """A test function by its name in `bojax.objectives`."""
    objective = getattr(objectives, name)()

    def f(params):
        return -objective(params)

    compiled = jax.jit(lambda X: f(objective.space.decode(X)))

    def values(X):
        with jax.enable_x64(True):
            return np.asarray(compiled(np.asarray(X, np.float64)))

    return Problem(objective, f, values)


def data_sets(name: str, num_points: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` data sets of uniform points X [n, d] of the unit cube and their values y [n], maximized."""
    chosen = problem(name)
    draws = (np.random.default_rng(seed).random((num_points, chosen.space.num_dims)) for seed in range(count))
    return [(X, chosen.values(X)) for X in draws]
