"""What the arguments of algorithms must be; every message names the argument and the way out."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from bojax import data
from bojax._liveness import live_leaves
from bojax._runtime import under_own_settings
from bojax.acquisition import check_acquisition
from bojax.space import Space
from bojax.surrogates import Surrogate


def check_parts(
    space: Space, surrogate: Any, acquisition: Any, optimizer: Any, *, gradients: bool, sizes: Mapping[str, Any]
) -> None:
    """Checks what is given to `bayesopt` in place of its own parts; `sizes` are settings of its own optimizer.

    Raises:
        TypeError: a part is none.
        ValueError: a part makes another argument useless.
    """
    if surrogate is not None:
        check_surrogate(surrogate)
        if gradients:
            check_reads_gradients(surrogate, space.num_dims)
    if acquisition is not None:
        check_acquisition(acquisition)
    if optimizer is not None:
        check_optimizer(optimizer)
        given = [name for name, value in sizes.items() if value is not None]
        if given:
            raise ValueError(
                f"`{'`, `'.join(given)}` must be left out where `optimizer` is given, which has settings of its own."
            )


def check_surrogate(surrogate: Any, name: str = "surrogate") -> None:
    """Raises TypeError unless it has the functions of a `Surrogate`."""
    if all(callable(getattr(surrogate, function, None)) for function in ("init", "fit", "posterior")):
        return
    raise TypeError(f"`{name}` must be a Surrogate, got {surrogate!r}.{_parentheses(surrogate)}")


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError unless it can be called as a `CandidateOptimizer` is."""
    wanted = "`optimizer` must be a function (key, fn, seen, center) -> (x, info)"
    if not callable(optimizer):
        raise TypeError(f"{wanted}, got {optimizer!r}.")
    try:
        signature = inspect.signature(optimizer)
    except (TypeError, ValueError):  # a function that does not tell
        return
    try:
        signature.bind(None, None, None, None)
    except TypeError:
        name = getattr(optimizer, "__name__", type(optimizer).__name__)
        raise TypeError(f"{wanted}, got {name}{signature}.") from None


@under_own_settings
def check_reads_gradients(surrogate: Surrogate, num_dims: int) -> None:
    """Raises ValueError for a surrogate whose posterior does not depend on gradients, so that they would be lost."""
    X = jax.ShapeDtypeStruct((2, num_dims), jnp.float32)

    def mean(grad, X):
        seen = data.Observations(X, X[:, 0], jnp.ones(2, bool), jnp.int32(2), {"grad": grad})
        params = surrogate.init(num_dims, X.dtype)
        params, _ = surrogate.fit(jax.random.key(0), seen, params)
        return surrogate.posterior(params, seen).mean(X)

    if not live_leaves(lambda grad: mean(grad, jnp.zeros(X.shape, X.dtype)), X)[0]:
        raise ValueError(
            "`surrogate` must learn from gradients where `gradients` is true, and does not. Use gradient_gp(), or "
            "leave `gradients` out."
        )


def _parentheses(value: Any) -> str:
    """A hint for a function given in the place of what it makes."""
    name = getattr(value, "__name__", None)
    return f" Did you forget the parentheses: {name}()?" if callable(value) and name else ""
