"""The algorithms that `fmin` takes as `algo`, by Hyperopt's names."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from bojax import loop
from bojax.integrations._hyperopt._anneal import draw_near_good
from bojax.integrations._hyperopt._forms import Forms, draw_vals
from bojax.space import Space

Factory = Callable[[Space, int], loop.Algorithm]


Draws = Callable[[Forms, Sequence[dict[str, Any]], np.random.Generator], dict[str, Any]]


def draw_anywhere(forms: Forms, ranked: Sequence[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """A random point from the distributions of the space."""
    del ranked
    return draw_vals(forms.expression, forms.labels, rng)


class Method(NamedTuple):
    """How trials are chosen: by an algorithm, or by draws.

    Attributes:
        factory: a function from (space, q) to an algorithm; None for draws.
        num_initial: number of points before the algorithm learns, from the number of dimensions.
        takes_beliefs: whether the densities of the space guide the algorithm.
        draw: a function from the space, the values of earlier trials, the best one first, and a generator to the values
            of a trial.
    """

    factory: Factory | None
    num_initial: Callable[[int], int] = lambda num_dims: 0
    takes_beliefs: bool = False
    draw: Draws = draw_anywhere


class Suggest:
    """An algorithm by Hyperopt's name, to be given to `fmin` as `algo`; settings by `functools.partial`.

    Args:
        name: Hyperopt's name of the algorithm.
        make: a function of settings by keywords that returns the method.
    """

    def __init__(self, name: str, make: Callable[..., Method]):
        self.name, self.make = name, make

    def __repr__(self) -> str:
        return f"{self.name}.suggest"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises, since only `fmin` chooses trials."""
        raise TypeError(f"{self!r} must be given to `fmin` as `algo`, and is not called.")


def design_size(num_dims: int) -> int:
    """The number of trials that `bojax.bayesopt` chooses without its model."""
    return min(max(3, num_dims + 1), 16)


def bayesopt() -> Method:
    """The method of `algo=None`."""
    return Method(lambda space, q: loop.bayesopt(space, q=q), design_size, takes_beliefs=True)


def _tpe(*, n_startup_jobs: int = 20, n_EI_candidates: int = 24) -> Method:
    settings = {"num_initial": n_startup_jobs, "num_candidates": n_EI_candidates}
    return Method(lambda space, q: loop.tpe(space, q=q, **settings), lambda num_dims: n_startup_jobs)


def _rand() -> Method:
    return Method(None)


def _anneal(*, avg_best_idx: float = 2.0, shrink_coef: float = 0.1) -> Method:
    if not avg_best_idx >= 1 or not shrink_coef > 0:
        raise ValueError(
            f"`avg_best_idx` must be at least 1 and `shrink_coef` positive, got {avg_best_idx} and {shrink_coef}."
        )
    return Method(None, draw=functools.partial(draw_near_good, mean_rank=avg_best_idx, shrinking=shrink_coef))


tpe = SimpleNamespace(suggest=Suggest("tpe", _tpe))
rand = SimpleNamespace(suggest=Suggest("rand", _rand))
anneal = SimpleNamespace(suggest=Suggest("anneal", _anneal))
SUGGESTS = {"hyperopt.tpe": tpe.suggest, "hyperopt.rand": rand.suggest, "hyperopt.anneal": anneal.suggest}
"""What stands for Hyperopt's own functions, by the module they are from."""


def method_of(algo: Any) -> Method:
    """The method that `algo` names, with its settings.

    Raises:
        TypeError: `algo` is not an algorithm, or a setting is unknown.
    """
    if algo is None:
        return bayesopt()
    settings: Mapping[str, Any] = {}
    if isinstance(algo, functools.partial):
        if algo.args:
            raise TypeError(f"settings of `algo` must be given by name, got {algo.args!r}.")
        algo, settings = algo.func, algo.keywords
    module = getattr(algo, "__module__", None) or ""
    if module.split(".")[0] == "hyperopt":
        if module not in SUGGESTS:
            raise TypeError(f"`algo` must be one of {list(SUGGESTS.values())}, got {module}.suggest.")
        algo = SUGGESTS[module]
    if isinstance(algo, Suggest):
        known = list(inspect.signature(algo.make).parameters)
        unknown = [name for name in settings if name not in known]
        if unknown:
            raise TypeError(f"{algo!r} must have no settings but {known}, got {unknown[0]!r}.")
        return algo.make(**settings)
    if not callable(algo):
        raise TypeError(
            f"`algo` must be one of {list(SUGGESTS.values())}, or a function of (space, q) that makes an algorithm, "
            f"got {algo!r}."
        )
    factory: Any = functools.partial(algo, **settings) if settings else algo
    return Method(factory, design_size)
