"""Argument checks of algorithms; every message names the argument and the remedy."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bojax.acquisition import check_acquisition
from bojax.space import Space


def check_parts(surrogate: Any, acquisition: Any, optimizer: Any) -> None:
    """Raises TypeError if a part that replaces a default has the wrong type."""
    if surrogate is not None:
        check_surrogate(surrogate)
    if acquisition is not None:
        check_acquisition(acquisition)
    if optimizer is not None:
        check_optimizer(optimizer)


def check_surrogate(surrogate: Any, name: str = "surrogate") -> None:
    """Raises TypeError unless it has the functions of a `Surrogate`."""
    if all(callable(getattr(surrogate, function, None)) for function in ("init", "fit", "posterior")):
        return
    raise TypeError(f"`{name}` must be a Surrogate, got {surrogate!r}.{_parentheses(surrogate)}")


def check_cost(space: Space, cost: Callable[[dict[str, Any]], Any]) -> None:
    """Raises TypeError unless it maps the decoded parameters of one point to one number."""
    params = jax.eval_shape(space.decode, jax.ShapeDtypeStruct((space.num_dims,), jnp.float32))
    wanted = "`cost` must be a Surrogate, or a traceable function from a dict of parameters to a number"
    name = getattr(cost, "__name__", type(cost).__name__)
    try:
        found = jax.eval_shape(lambda params: jnp.asarray(cost(params)), params)
    except Exception as error:
        raise TypeError(f"{wanted}, and {name} raised {type(error).__name__}: {error}.{_parentheses(cost)}") from error
    if found.shape != ():
        raise TypeError(f"{wanted}, and {name} gave an array of shape {list(found.shape)}.")


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError unless it can be called like a `CandidateOptimizer`."""
    wanted = "`optimizer` must be a function (key, lattice, fn, seen, center) -> (x, info)"
    if not callable(optimizer):
        raise TypeError(f"{wanted}, got {optimizer!r}.")
    try:
        signature = inspect.signature(optimizer)
    except (TypeError, ValueError):  # a function without a signature
        return
    try:
        signature.bind(None, None, None, None, None)
    except TypeError:
        name = getattr(optimizer, "__name__", type(optimizer).__name__)
        raise TypeError(f"{wanted}, got {name}{signature}.") from None


def _parentheses(value: Any) -> str:
    """A hint for a factory passed in place of its result."""
    name = getattr(value, "__name__", None)
    return f" Did you forget the parentheses: {name}()?" if callable(value) and name else ""
