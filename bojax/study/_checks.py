"""Checks of a study's arguments. Every message names the value and the remedy."""

import math
import numbers
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from bojax._plain import plain, plain_json, plain_number

DIRECTIONS = ("minimize", "maximize")
MAX_SEED = 2**32

PREFIX = "bojax:"
"""Prefix of the attributes that bojax reads."""

_NOTES = ("bojax:error", "bojax:traceback", "bojax:hparams")
"""Exceptions that only people read: objectives and the loop record them like the user's own."""

MAX_KEY_LENGTH = 512
"""Longest name of an attribute, in characters: the width of the columns of Optuna's databases."""


def check_arguments(direction: Any, name: Any, seed: Any, algorithm: Any) -> None:
    """Raises ValueError or TypeError for wrong arguments of a `Study`."""
    if direction is not None and direction not in DIRECTIONS:
        raise ValueError(f'`direction` must be "minimize" or "maximize", got {direction!r}.')
    if not isinstance(name, str) or not name:
        raise ValueError(f"`name` must be a text that is not empty, got {name!r}.")
    seed = plain(seed)
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


def check_attrs(attrs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Attributes as every storage returns them (see `bojax._plain.plain_json`).

    Raises:
        TypeError: a name is not a string, or a value does not fit into JSON.
        ValueError: a name is too long, or reserved.
    """
    if attrs is None:
        return {}
    if not isinstance(attrs, Mapping):
        raise TypeError(f"`user_attrs` must map names to values, got {attrs!r} ({type(attrs).__name__}).")
    return dict(_plain_attr(key, value) for key, value in attrs.items())


def fitting_attrs(attrs: Mapping[str, Any], left_out: Callable[[Any, Exception], None]) -> dict[str, Any]:
    """The attributes that can be recorded; `left_out(name, error)` is called for the others."""
    fitting: dict[str, Any] = {}
    for key, value in attrs.items():
        try:
            fitting |= [_plain_attr(key, value)]
        except (TypeError, ValueError) as error:
            left_out(key, error)
    return fitting


def _plain_attr(key: Any, value: Any) -> tuple[str, Any]:
    key = plain(key)
    if not isinstance(key, str):
        raise TypeError(f"a name in `user_attrs` must be a text, got {key!r} ({type(key).__name__}).")
    if len(key) > MAX_KEY_LENGTH:
        raise ValueError(f"a name in `user_attrs` must have at most {MAX_KEY_LENGTH} characters, got {key[:40]!r}...")
    if key.encode(errors="ignore").decode() != key:
        raise ValueError(f"a name in `user_attrs` must be a text that UTF-8 can encode, got {key!r}.")
    if key.startswith(PREFIX) and key not in _NOTES:
        raise ValueError(f"a name in `user_attrs` must not start with {PREFIX!r}, which bojax keeps, got {key!r}.")
    try:
        return key, plain_json(value)
    except TypeError as error:
        raise TypeError(f"`user_attrs[{key!r}]` {str(error).removeprefix('it ')}.") from None


def to_float(value: Any, name: str = "value") -> float:
    """A number as a float; anything else raises TypeError with a hint."""
    shape = getattr(value, "shape", ())
    if shape != () and hasattr(value, "dtype"):
        raise TypeError(f"`{name}` must be one number, got an array of shape {tuple(shape)}. Reduce it by mean(), say.")
    if value is None:
        hint = ' For a failed evaluation write tell(trial, state="fail").' if name == "value" else ""
        raise TypeError(f"`{name}` must be a number, got None.{hint}")
    try:
        number = plain_number(value)
    except ValueError:  # a Decimal that signals
        number = None
    if isinstance(number, bool) or not isinstance(number, numbers.Real) or number is np.ma.masked:
        raise TypeError(f"`{name}` must be a number, got {value!r}. Convert it with float(...).")
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf  # type: ignore[operator]
    except Exception as error:
        raise TypeError(f"`{name}` must be a number, got {value!r}. Convert it with float(...).") from error


def to_floats(values: Any, count: int) -> list[float | None]:
    """The result of a vectorized objective, an array [count] or a list of numbers, as `count` floats.

    None in a list stays None: that evaluation has no value.
    """
    if isinstance(values, (list, tuple)) and len(values) == count:
        try:
            return [None if value is None else to_float(value) for value in values]
        except TypeError as error:
            raise TypeError(f"{_wanted(count)}, got another entry in a {type(values).__name__}: {error}") from None
    try:
        array = np.asarray(values)
    except Exception as error:  # entries of different shapes, a deleted array
        raise TypeError(f"{_wanted(count)}, got what is no array: {error}") from error
    small = array.dtype.kind == "V" and array.dtype.names is None  # bfloat16 and the like
    if array.shape != (count,) or not (array.dtype.kind in "fiu" or small):
        hint = " Flatten it, e.g. by [:, 0]." if array.shape == (count, 1) else ""
        raise TypeError(f"{_wanted(count)}, got shape {array.shape} of type {array.dtype}.{hint}")
    return [float(value) for value in array]


def _wanted(count: int) -> str:
    return (
        f"with vectorized=True the objective must return an array of {count} numbers, one for each row of its arguments"
    )
