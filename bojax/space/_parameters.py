"""The four kinds of parameter: `Float`, `Int`, `Categorical` and `Ordinal`.

They are frozen, hashable host objects, validated on construction; they are not pytrees. Each occupies one column of the
unit cube; `_encoding.py` has the arithmetic.

A discrete parameter numbers its values from 0: `num_values` is their number, `value(position)` gives a value and
`position(value, name=...)` its number. A `Float` without `step` is continuous, and its `num_values` is 0.
`check(value, name=...)` of any `Float` validates a value.
"""

import dataclasses
import difflib
import math
import operator
import sys
import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from bojax._errors import BojaxWarning
from bojax._plain import plain, plain_number
from bojax.space._when import Conditional

Choice: TypeAlias = bool | int | float | str | None
"""A value of a `Categorical` or an `Ordinal`."""

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1

GRID_TOLERANCE = 1e-8
"""Largest distance, in steps, at which a number counts as a value of a stepped Float. Optuna uses the same."""


@dataclasses.dataclass(frozen=True, repr=False)
class Float(Conditional):
    """A real number between `low` and `high`, both included.

    Args:
        low: smallest value; finite, and positive if `log` is set.
        high: largest value; finite and above `low`.
        log: search on the logarithmic scale, for values whose order of magnitude matters; False by default.
        step: distance between neighboring values, > 0. Only `low`, `low + step`, `low + 2 step`, ... are tried, as
            decimal numbers (0.3, not 0.30000000000000004), and the parameter is not differentiated. If `high` is not
            one of them, it becomes the largest one below it, with a `BojaxWarning`. With `log` each value has a cell
            on the logarithmic scale, so small values have wide cells. By default every number is tried.
        when: the values of other parameters under which this one exists, such as `{"optimizer": "sgd"}` or
            `{"quality": [4, 8]}`; all names must hold, and a parent that does not exist makes it absent, too. By
            default it always exists.

    Raises:
        TypeError: a bound or `step` is not a real number, or `log` is not a bool.
        ValueError: a bound is not finite, `low >= high`, `high - low` overflows, `log` with `low <= 0`, or a `step`
            that is not positive, larger than the range, or too small to tell its values apart.

    Example:
        >>> Float(1e-5, 1e-1, log=True)
        Float(low=1e-05, high=0.1, log=True)
        >>> Float(0.0, 0.5, step=0.1).value(3)
        0.3
        >>> Float(0.0, 0.99, when={"optimizer": "sgd"}).when
        (('optimizer', ('sgd',)),)
    """

    low: float
    high: float
    log: bool = dataclasses.field(default=False, kw_only=True)
    step: float | None = dataclasses.field(default=None, kw_only=True)
    _last: int = dataclasses.field(default=-1, init=False, repr=False, compare=False)  # position of `high`

    def __post_init__(self) -> None:
        low, high = _real(self.low, "low"), _real(self.high, "high")
        _set(self, low=low, high=high, log=_flag(self.log, "log"), _last=-1)
        _check_order(low, high)
        if not math.isfinite(high - low):
            raise ValueError(f"`high - low` must be finite, got low={low}, high={high}. Narrow the range.")
        if self.log and low <= 0:
            raise ValueError(f"`low` must be positive with log=True, got {low}. Raise `low` or drop `log`.")
        self.set_when()
        if self.step is not None:
            self._set_grid(_real(self.step, "step"))

    @property
    def num_values(self) -> int:
        """The number of values with `step`; 0 without."""
        return self._last + 1

    @property
    def meets_high(self) -> bool:
        """Whether `high` is exactly `low` plus a multiple of `step` in decimal numbers, not only up to rounding."""
        return self.step is not None and (_decimal(self.high) - _decimal(self.low)) % _decimal(self.step) == 0

    def value(self, position: int) -> float:
        """The value with number `position`, of a `Float` with `step`."""
        exact = _decimal(self.low) + position * _decimal(self._given_step())
        return self.high if position == self._last else float(exact)

    def position(self, value: Any, *, name: str) -> int:
        """The number of `value`, of a `Float` with `step`, or an error that names the parameter `name`."""
        number, step = self._number(value, name), self._given_step()
        position = round((number - self.low) / step) if math.isfinite(number) else -1
        if not 0 <= position <= self._last:
            raise ValueError(f"`{name}` must be in [{self.low}, {self.high}], got {value!r}.")
        rounding = 4 * sys.float_info.epsilon * max(abs(self.low), abs(self.high))
        number = _unrounded(value, float(number), [self.value(position)])
        if abs(number - self.value(position)) > GRID_TOLERANCE * step + rounding:
            below = max(0, min(math.floor((number - self.low) / step), self._last - 1))
            raise ValueError(
                f"`{name}` must be {self.low} plus a multiple of {step}, got {value!r}. "
                f"Its neighbors are {self.value(below)} and {self.value(below + 1)}."
            )
        return position

    def check(self, value: Any, *, name: str) -> float:
        """Returns `value` as a float, or raises an error that names the parameter `name`."""
        if self.step is not None:
            return self.value(self.position(value, name=name))
        number = _unrounded(value, self._number(value, name), (self.low, self.high))
        if not self.low <= number <= self.high:
            raise ValueError(f"`{name}` must be in [{self.low}, {self.high}], got {number!r}.")
        return float(number)

    def _number(self, value: Any, name: str) -> float:
        given, value = value, plain_number(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"`{name}` must be a real number in [{self.low}, {self.high}], got {_shown(value)}.")
        return _unrounded(given, value, (self.low, self.high))

    def _given_step(self) -> float:
        if self.step is None:
            raise ValueError(f"{self!r} is continuous: without `step` its values have no positions.")
        return self.step

    def _set_grid(self, step: float) -> None:
        """Sets `step`, and `high` to the last value."""
        low, high = self.low, self.high
        if step <= 0:
            raise ValueError(f"`step` must be positive, got {step}. Leave it out for every number.")
        num_steps = (_decimal(high) - _decimal(low)) / _decimal(step)
        last = round(num_steps) if abs(num_steps - round(num_steps)) <= GRID_TOLERANCE else math.floor(num_steps)
        if last < 1:
            raise ValueError(f"`step` must be at most high - low = {high - low}, got {step}. Make it smaller.")
        if last >= INT32_MAX or step <= 8 * sys.float_info.epsilon * max(abs(low), abs(high)):
            raise ValueError(f"`step` must leave values that can be told apart, got {step}. Leave it out.")
        if abs(num_steps - last) > GRID_TOLERANCE:
            high = float(_decimal(low) + last * _decimal(step))
            warnings.warn(
                f"Float: a step of {step} from {low} does not meet high={self.high}: the last value is {high}.",
                BojaxWarning,
                stacklevel=4,
            )
        _set(self, step=step, high=high, _last=last)


@dataclasses.dataclass(frozen=True, repr=False)
class Int(Conditional):
    """A whole number `low, low + step, ..., high`, both ends included.

    With `log` each value has a cell on the logarithmic scale, so small values have wide cells. Compiled code uses
    int32. A float32 column distinguishes about a million values (150,000 with `log`); float64 distinguishes all.

    Args:
        low: smallest value; an int32, and at least 1 if `log` is set.
        high: largest value; an int32 above `low` by a multiple of `step`.
        log: search on the logarithmic scale; False by default.
        step: distance between neighboring values, at least 1, the default.
        when: the values of other parameters under which this one exists, such as `{"optimizer": "sgd"}` or
            `{"quality": [4, 8]}`; all names must hold, and a parent that does not exist makes it absent, too. By
            default it always exists.

    Raises:
        TypeError: a bound or `step` is not an int, or `log` is not a bool.
        ValueError: the bounds, `log` and `step` do not fit together.

    Example:
        >>> Int(16, 256, step=16).num_values
        16
    """

    low: int
    high: int
    log: bool = dataclasses.field(default=False, kw_only=True)
    step: int = dataclasses.field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        low, high, step = _whole(self.low, "low"), _whole(self.high, "high"), _whole(self.step, "step")
        _set(self, low=low, high=high, log=_flag(self.log, "log"), step=step)
        self.set_when()
        for argument, bound in (("low", low), ("high", high)):
            if not INT32_MIN <= bound <= INT32_MAX:
                raise ValueError(
                    f"`{argument}` must fit an int32 [{INT32_MIN}, {INT32_MAX}], got {bound}. "
                    "Use a larger unit, or a Float."
                )
        _check_order(low, high)
        if high - low >= INT32_MAX:
            raise ValueError(
                f"`high - low` must be below {INT32_MAX}, got {high - low} (low={low}, high={high}). Narrow the range."
            )
        if step < 1:
            raise ValueError(f"`step` must be at least 1, got {step}. Leave it out for every whole number.")
        if self.log and low < 1:
            raise ValueError(f"`low` must be at least 1 with log=True, got {low}. Raise `low` or drop `log`.")
        if (high - low) % step:
            raise ValueError(
                f"`high` must be `low` plus a multiple of `step`, got high={high}, low={low}, step={step}. "
                f"The nearest valid `high` is {self._nearest_high()}."
            )

    @property
    def num_values(self) -> int:
        """The number of values."""
        return (self.high - self.low) // self.step + 1

    def value(self, position: int) -> int:
        """The value with number `position`."""
        return self.low + self.step * position

    def position(self, value: Any, *, name: str) -> int:
        """The number of `value`, or an error that names the parameter `name`."""
        value = plain(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"`{name}` must be an int in [{self.low}, {self.high}], got {_shown(value)}.")
        if not self.low <= value <= self.high:
            raise ValueError(f"`{name}` must be in [{self.low}, {self.high}], got {value}.")
        position, rest = divmod(value - self.low, self.step)
        if rest:
            below = self.value(position)
            raise ValueError(
                f"`{name}` must be {self.low} plus a multiple of {self.step}, got {value}. "
                f"Its neighbors are {below} and {below + self.step}."
            )
        return position

    def _nearest_high(self) -> int:
        steps, rest = divmod(self.high - self.low, self.step)
        above = self.low + (steps + 1) * self.step
        take_above = steps == 0 or 2 * rest > self.step
        return above if take_above and above <= INT32_MAX else self.low + steps * self.step


@dataclasses.dataclass(frozen=True, repr=False)
class _Listed(Conditional):
    """Base class of `Categorical` and `Ordinal`: a tuple of distinct values, found by equality."""

    # In Python 1 == True == 1.0; the types distinguish descriptions that differ only in them.
    _types: tuple[type, ...] = dataclasses.field(init=False, repr=False)

    def _listed(self) -> tuple[Choice, ...]:
        raise NotImplementedError

    @property
    def num_values(self) -> int:
        """The number of values."""
        return len(self._listed())

    def value(self, position: int) -> Choice:
        """The value with number `position`."""
        return self._listed()[position]

    def position(self, value: Any, *, name: str) -> int:
        """The number of `value`, or an error that names the parameter `name`."""
        listed = self._listed()
        value = _unrounded(value, plain(value), listed)
        if value is None or isinstance(value, (bool, int, float, str)):
            for i, choice in enumerate(listed):
                if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                    return i
        raise ValueError(f"`{name}` must be one of {list(listed)}, got {value!r}.{did_you_mean(value, listed)}")


@dataclasses.dataclass(frozen=True, repr=False)
class Categorical(_Listed):
    """One of several choices without an order.

    Args:
        choices: the choices, in a list or tuple; each None, a bool, an int, a float or a str, no two equal
            (note that `1 == True == 1.0` in Python).
        when: the values of other parameters under which this one exists, such as `{"optimizer": "sgd"}` or
            `{"quality": [4, 8]}`; all names must hold, and a parent that does not exist makes it absent, too. By
            default it always exists.

    Raises:
        TypeError: `choices` is not a sequence, or a choice is of another type.
        ValueError: there are no choices, two are equal, or one is NaN.

    Example:
        >>> Categorical(["relu", "tanh"]).choices
        ('relu', 'tanh')
    """

    choices: Sequence[Choice]

    def __post_init__(self) -> None:
        choices = _distinct(self.choices, "choices")
        _set(self, choices=choices, _types=tuple(map(type, choices)))
        self.set_when()

    def _listed(self) -> tuple[Choice, ...]:
        return tuple(self.choices)


@dataclasses.dataclass(frozen=True, repr=False)
class Ordinal(_Listed):
    """One of several ordered values, of which only the order matters.

    Args:
        values: the values in their order, in a list or tuple; each None, a bool, an int, a float or a str, no
            two equal (note that `1 == True == 1.0` in Python).
        when: the values of other parameters under which this one exists, such as `{"optimizer": "sgd"}` or
            `{"quality": [4, 8]}`; all names must hold, and a parent that does not exist makes it absent, too. By
            default it always exists.

    Raises:
        TypeError: `values` is not a sequence, or a value is of another type.
        ValueError: there are no values, two are equal, or one is NaN.

    Example:
        >>> Ordinal([1, 2, 4, 8]).position(4, name="quality")
        2
    """

    values: Sequence[Choice]

    def __post_init__(self) -> None:
        values = _distinct(self.values, "values")
        _set(self, values=values, _types=tuple(map(type, values)))
        self.set_when()

    def _listed(self) -> tuple[Choice, ...]:
        return tuple(self.values)


Parameter: TypeAlias = Float | Int | Categorical | Ordinal
"""Any kind of parameter."""


def _unrounded(given: Any, value: Any, known: Sequence[Any]) -> Any:
    """The known float that equals `value` after rounding to the dtype of `given`; otherwise `value`."""
    dtype = getattr(given, "dtype", None)
    if isinstance(value, float) and isinstance(dtype, np.dtype) and value not in known:
        floats = [number for number in known if isinstance(number, float)]
        return next((number for number in floats if float(np.asarray(number, dtype)) == value), value)
    return value


def did_you_mean(value: Any, known: Sequence[Any]) -> str:
    """Returns a hint such as " Did you mean 'relu'?", or "" if nothing is similar."""
    names = [k for k in known if isinstance(k, str)]
    if not isinstance(value, str):
        return f" Did you mean {str(value)!r}?" if str(value) in names else ""
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(value.lower(), list(lowered), n=1, cutoff=0.6)
    return f" Did you mean {lowered[near[0]]!r}?" if near else ""


def _set(parameter: Any, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(parameter, name, value)


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"


def _flag(value: Any, argument: str) -> bool:
    value = plain(value)
    if not isinstance(value, bool):
        raise TypeError(f"`{argument}` must be True or False, got {_shown(value)}.")
    return value


def _real(value: Any, argument: str) -> float:
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"`{argument}` must be a real number, got {_shown(value)}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"`{argument}` must be finite, got {value!r}. Give the widest range worth searching.")
    return number


def _decimal(value: float) -> Fraction:
    """The exact decimal number that Python prints for a float."""
    return Fraction(repr(value))


def _whole(value: Any, argument: str) -> int:
    value = plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"`{argument}` must be a finite int, got {value!r}. Give the widest range worth searching.")
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"`{argument}` must be an int, got {_shown(value)}. For real numbers use Float.")
    return operator.index(value)  # pyright: ignore[reportArgumentType]


def _check_order(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(
            f"`low` must be below `high`, got low={low}, high={high}. "
            "Swap them, widen the range, or leave a constant out."
        )


def _distinct(values: Any, argument: str) -> tuple[Choice, ...]:
    if hasattr(values, "__array__") and getattr(values, "ndim", 0) == 1:
        values = np.asarray(values).tolist()
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise TypeError(f"`{argument}` must be a list or tuple, got {_shown(values)}. Its order must be fixed.")
    if not values:
        raise ValueError(f"`{argument}` must not be empty, got {values!r}. Give at least one value.")
    seen: dict[Choice, Choice] = {}
    for value in map(plain, values):
        if not (value is None or isinstance(value, (bool, int, float, str))):
            raise TypeError(
                f"`{argument}` must hold None, bool, int, float or str, got {_shown(value)}. "
                "Tune a name or an index and look the object up in the objective."
            )
        if value != value:
            raise ValueError(f"`{argument}` must not hold NaN, got {list(values)!r}. Use None or a string.")
        if value in seen:
            raise ValueError(
                f"`{argument}` must be distinct, got {seen[value]!r} and {value!r}, equal in Python. "
                "Drop one, or use strings."
            )
        seen[value] = value
    return tuple(seen)
