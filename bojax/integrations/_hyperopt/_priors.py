"""The distributions of single hyperparameters, and the parameters of a bojax space that stand for them.

A value is made in three steps: a uniform or normal draw, `exp` if `log` is set, and `round(value / q) * q` if there is
a `q`. A bojax parameter has bounds, so a normal draw is cut at `mu +- 4.89 sigma`: all but one in a million are within.
Values with a `q` that begin with 0 and grow exponentially have a continuous parameter, rounded when it is used.
"""

import math
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import numpy as np

from bojax.space import Float, Int, Parameter

CUT = 4.891638475699
"""Standard deviations at which normal draws are cut: the quantile of 1 - 5e-7."""

ZERO_CELL = 2.0
"""0 stands for values between q / 2 and its quotient by this, so that it takes no more room than other small values."""

MAX_EXPONENT = 700.0
"""exp of more overflows, or of less is no normal number."""

MAX_VALUES = 2**31 - 2
"""As many values have numbers in int32."""

Base = Literal["uniform", "normal", "integer"]


class Prior(NamedTuple):
    """The distribution of one hyperparameter.

    Attributes:
        base: "uniform" on [first, second], "normal" with mean first and standard deviation second, or "integer" on
            {first, ..., second - 1}.
        first: lower bound or mean.
        second: upper bound or standard deviation.
        log: whether the draw is the logarithm of the value.
        q: distance between neighboring values; None for all numbers.
        whole: whether values are ints.
    """

    base: Base
    first: float
    second: float
    log: bool = False
    q: float | None = None
    whole: bool = False


def check_prior(prior: Prior, label: str) -> Prior:
    """Returns the prior if it is one, or raises a ValueError that names the label."""
    low, high = limits(prior)
    if prior.base == "normal" and not prior.second > 0:
        raise ValueError(f"`sigma` of {label!r} must be positive, got {prior.second}.")
    if prior.base == "uniform" and not low < high:
        raise ValueError(f"`low` of {label!r} must be less than `high`, got {low} and {high}.")
    if prior.base == "integer" and not low <= high:
        raise ValueError(f"the range of {label!r} must not be empty, got {prior.first} to {prior.second}.")
    if prior.q is not None and not prior.q > 0:
        raise ValueError(f"`q` of {label!r} must be positive, got {prior.q}. Without steps use the name without q.")
    if prior.log and not -MAX_EXPONENT <= low <= high <= MAX_EXPONENT:
        raise ValueError(
            f"the logarithm of {label!r} must stay within {-MAX_EXPONENT:g} and {MAX_EXPONENT:g}, got {low} to {high}. "
            "Bounds of log distributions are logarithms: log(1e-5), not 1e-5."
        )
    if prior.q is not None and steps(prior)[1] - steps(prior)[0] > MAX_VALUES:
        raise ValueError(f"`q` of {label!r} must leave at most {MAX_VALUES} values, got {prior.q}. Leave q out.")
    if prior.whole and not all(-(2**31) <= bound < 2**31 for bound in (low, high)):
        raise ValueError(f"the values of {label!r} must fit an int32, got {low} to {high}.")
    return prior


def limits(prior: Prior) -> tuple[float, float]:
    """Bounds of the draw, before `exp`."""
    match prior.base:
        case "normal":
            return prior.first - CUT * prior.second, prior.first + CUT * prior.second
        case "integer":
            return prior.first, prior.second - 1
        case _:
            return prior.first, prior.second


def bounds(prior: Prior) -> tuple[float, float]:
    """Bounds of the value before rounding."""
    low, high = limits(prior)
    return (math.exp(low), math.exp(high)) if prior.log else (low, high)


def steps(prior: Prior) -> tuple[int, int]:
    """The first and the last multiple of `q`."""
    q = _given(prior)
    low, high = bounds(prior)
    return round(low / q), round(high / q)  # halves to even, as NumPy rounds


def parameter(prior: Prior) -> Parameter | None:
    """The parameter whose values, rounded by `value_of`, are those of the prior; None if there is only one value."""
    low, high = bounds(prior)
    if prior.base == "integer":
        return Int(int(low), int(high)) if low < high else None
    if prior.q is None:
        return Float(low, high, log=prior.log)
    first, last = steps(prior)
    if first == last:
        return None
    if prior.whole:
        return Int(first, last)
    if begins_with_zero(prior):
        return Float(prior.q / 2 / ZERO_CELL, high, log=True)
    return Float(_multiple(prior.q, first), _multiple(prior.q, last), log=prior.log, step=prior.q)


def begins_with_zero(prior: Prior) -> bool:
    """Whether 0, which has no logarithm, is the first of values on a logarithmic scale."""
    return prior.log and prior.q is not None and steps(prior)[0] == 0


def value_of(prior: Prior, number: Any) -> Any:
    """The value that a draw or a parameter's value stands for."""
    if prior.q is not None:
        number = float(np.round(number / prior.q) * prior.q + 0.0)  # no -0.0
    return int(number) if prior.whole else float(number)


def number_of(prior: Prior, value: Any) -> Any:
    """The parameter's value that stands for a value."""
    if prior.whole and float(value) == int(value):
        return int(value)
    if begins_with_zero(prior):
        known = parameter(prior)
        if isinstance(known, Float) and 0 <= value <= value_of(prior, known.high):
            return min(max(float(value), known.low), known.high)
    return value


def only_value(prior: Prior) -> Any:
    """The value of a prior without a parameter."""
    return value_of(prior, bounds(prior)[0])


def draw(prior: Prior, rng: np.random.Generator) -> Any:
    """A random value, within the bounds."""
    if prior.base == "integer":
        return int(rng.integers(int(prior.first), int(prior.second)))
    low, high = limits(prior)
    if prior.base == "normal":
        number = float(np.clip(rng.normal(prior.first, prior.second), low, high))
    else:
        number = float(rng.uniform(low, high))
    return value_of(prior, math.exp(number) if prior.log else number)


def _multiple(q: float, number: int) -> float:
    return float(number * Decimal(repr(q)))


def _given(prior: Prior) -> float:
    if prior.q is None:
        raise ValueError(f"{prior!r} has no steps.")
    return prior.q
