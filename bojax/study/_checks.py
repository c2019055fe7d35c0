"""What the arguments of a study must be; every message names the value and the way out."""

import json
import math
import numbers
from collections.abc import Hashable, Mapping
from typing import Any

DIRECTIONS = ("minimize", "maximize")
MAX_SEED = 2**32


def check_arguments(direction: Any, name: Any, seed: Any, algorithm: Any) -> None:
    if direction is not None and direction not in DIRECTIONS:
        raise ValueError(f'`direction` must be "minimize" or "maximize", got {direction!r}.')
    if not isinstance(name, str) or not name:
        raise ValueError(f"`name` must be a text that is not empty, got {name!r}.")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, numbers.Integral)):
        raise TypeError(f"`seed` must be an integer or None, got {seed!r}.")
    if seed is not None and not 0 <= int(seed) < MAX_SEED:
        raise ValueError(f"`seed` must be at least 0 and below 2**32, got {seed}.")
    if algorithm is not None and (
        not isinstance(algorithm, Hashable) or not callable(algorithm) or hasattr(algorithm, "ask")
    ):
        raise TypeError(
            f"`algorithm` must be a function of (space, q), got {algorithm!r}. "
            "For example: algorithm=lambda space, q: bojax.random_search(space, q=q)."
        )


def check_attrs(attrs: Mapping[str, Any]) -> None:
    for key, attr in attrs.items():
        try:
            json.dumps(attr)
        except (TypeError, ValueError) as error:
            raise TypeError(f"`user_attrs[{key!r}]` must fit into JSON, got {attr!r}: {error}.") from None


def to_float(value: Any) -> float:
    """A number as a float; everything else is an error that names the way out."""
    shape = getattr(value, "shape", ())
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    is_array = kind is not None
    if is_array and shape != ():
        raise TypeError(f"`value` must be one number, got an array of shape {shape}. Reduce it, e.g. with mean().")
    if value is None:
        raise TypeError('`value` must be a number, got None. For a failed evaluation write tell(trial, state="fail").')
    if isinstance(value, bool) or not (isinstance(value, numbers.Real) or is_array) or kind in tuple("bcUSOMm"):
        raise TypeError(f"`value` must be a number, got {value!r}. Convert it with float(...).")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]
    except Exception as error:
        raise TypeError(f"`value` must be a number, got {value!r}. Convert it with float(...).") from error
