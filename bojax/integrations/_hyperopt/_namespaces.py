"""`scope` and `pyll`: the part of Hyperopt's `pyll` that search spaces use."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np

from bojax.integrations._hyperopt._errors import BadSearchSpace
from bojax.integrations._hyperopt._expressions import Call, evaluate, find_labels
from bojax.integrations._hyperopt._forms import draw_vals
from bojax.integrations._hyperopt._pyll import from_pyll


class Scope:
    """Functions of what is drawn, called when a point is made: `scope.int(hp.quniform("n", 1, 9, 2))`."""

    def __init__(self) -> None:
        self._functions: dict[str, Callable[..., Any]] = {"int": int, "float": float, "len": len}

    def __getattr__(self, name: str) -> Callable[..., Call]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._functions:
            self._refuse(name)
        function = self._functions[name]
        return lambda *args, **kwargs: Call(name, function, args, kwargs)

    def _refuse(self, name: str) -> NoReturn:
        raise BadSearchSpace(
            f"`scope` must be used with one of {sorted(self._functions)}, got {name!r}. Add a function with "
            "@scope.define, or call it in the objective."
        )

    def define(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Adds a function under its name; for use as a decorator."""
        self._functions[function.__name__] = function
        return function


def sample(space: Any, rng: np.random.Generator | None = None) -> Any:
    """A random point from the distributions of a space.

    Args:
        space: the space, as `fmin` takes it.
        rng: a NumPy generator; by default a new one.

    Returns:
        The point, as the objective gets it.
    """
    rng = np.random.default_rng() if rng is None else rng
    expression = from_pyll(space)
    return evaluate(expression, draw_vals(expression, find_labels(expression), rng))[0]


scope = Scope()
stochastic = SimpleNamespace(sample=sample)
pyll = SimpleNamespace(scope=scope, stochastic=stochastic)
