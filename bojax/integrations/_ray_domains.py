"""One domain of Ray Tune as a parameter of bojax."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from ray.tune.search import sample
from scipy.special import ndtr, ndtri

from bojax.space import Categorical, Float, Int, Parameter

PLAIN = (type(None), bool, int, float, str)
"""Types of choices that a `Categorical` holds."""

_NUM_SD = 4.0
"""`tune.randn` is searched within this many standard deviations, which hold all but 6e-5 of its draws."""

_TAIL = float(ndtr(-_NUM_SD))


class Fixed(NamedTuple):
    """A constant of the configuration."""

    value: Any


class Tuned(NamedTuple):
    """A parameter. `choices` are looked up by position; `normal` is (mean, sd) of a value given by its quantile."""

    name: str
    choices: tuple[Any, ...] | None = None
    normal: tuple[float, float] | None = None


def leaf(domain: Any, name: str) -> tuple[Parameter | None, Fixed | Tuned]:
    """The parameter of a domain and its place in a tree; None for a domain with one value.

    Raises:
        ValueError, TypeError: the domain has no counterpart in bojax; the message begins with its name.
    """
    if isinstance(domain, sample.Function):
        raise ValueError(
            f"`{name}` is drawn by a function (tune.sample_from), which has no range to search. Tune its arguments and "
            "compute it in the trainable, or list its values with tune.choice."
        )
    try:
        return _leaf(domain, name)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`{name}`, {_shown(domain)}: {error}") from None


def value_of(node: Tuned, value: Any) -> Any:
    """The value in the configuration of a value in the space."""
    if node.choices is not None:
        return node.choices[value]
    return value if node.normal is None else node.normal[0] + node.normal[1] * float(ndtri(value))


def read_value(node: Tuned, value: Any) -> Any:
    """The value in the space of a value in the configuration: the inverse of `value_of`.

    Raises:
        ValueError: there is none.
    """
    if node.choices is not None:
        for position, choice in enumerate(node.choices):
            if same(choice, value):
                return position
        raise ValueError(f"`{node.name}` must be one of {list(node.choices)}, got {value!r}.")
    if node.normal is None:
        return value
    mean, sd = node.normal
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"`{node.name}` must be a number, got {value!r}.")
    if not abs(value - mean) <= _NUM_SD * sd * (1 + 1e-9):
        bounds = [mean - _NUM_SD * sd, mean + _NUM_SD * sd]
        raise ValueError(f"`{node.name}` must be within {_NUM_SD:g} standard deviations, {bounds}, got {value!r}.")
    return min(max(float(ndtr((value - mean) / sd)), _TAIL), 1.0 - _TAIL)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, and both or none a bool."""
    if a is b:
        return True
    try:
        return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)
    except Exception:  # arrays, for example: only identical ones are equal
        return False


def _leaf(domain: Any, name: str) -> tuple[Parameter | None, Fixed | Tuned]:
    sampler, step = domain.get_sampler(), None
    if isinstance(sampler, sample.Quantized):
        sampler, step = sampler.get_sampler(), sampler.q
    if isinstance(domain, sample.Categorical) and isinstance(sampler, sample.Uniform):
        return _choice(domain.categories, name)
    if isinstance(domain, sample.Float) and isinstance(sampler, sample.Normal) and step is None:
        normal = float(sampler.mean), float(sampler.sd)
        return Float(_TAIL, 1.0 - _TAIL), Tuned(name, normal=normal)
    numbers = isinstance(domain, sample.Float | sample.Integer)
    if not numbers or not isinstance(sampler, sample.Uniform | sample.LogUniform):
        raise ValueError("bojax cannot search it. Give a range, for example tune.quniform, or tune.choice.")
    kind: Callable[..., Parameter] = Float if isinstance(domain, sample.Float) else Int
    convert: Callable[..., tuple[Any, Any, Any]] = _float_range if kind is Float else _int_range
    low, high, step = convert(domain, step)
    if low > high:
        raise ValueError("it has no values. Widen the range.")
    if low == high:
        return None, Fixed(low)
    return kind(low, high, log=isinstance(sampler, sample.LogUniform), step=step), Tuned(name)


def _choice(choices: Any, name: str) -> tuple[Parameter | None, Fixed | Tuned]:
    if not choices:
        raise ValueError("there must be at least one choice.")
    if len(choices) == 1:
        return None, Fixed(choices[0])
    plain = all(type(choice) in PLAIN and choice == choice for choice in choices)
    if plain and len(set(choices)) == len(choices):
        return Categorical(list(choices)), Tuned(name)
    return Categorical(list(range(len(choices)))), Tuned(name, tuple(choices))


def _float_range(domain: Any, step: Any) -> tuple[float, float, float | None]:
    """Both bounds, included; with a step the outermost multiples of it."""
    low, high = float(domain.lower), float(domain.upper)
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError("a range must be finite. Give the widest one worth searching.")
    return (low, high, None) if step is None else (*_multiples(low, high, step), float(step))


def _int_range(domain: Any, step: Any) -> tuple[int, int, int]:
    """Both bounds, included. Ray excludes the upper one, unless there is a step of more than one."""
    low, high = _whole(domain.lower), _whole(domain.upper)
    if step is None or step == 1:
        return low, high - 1, 1
    first, last = _multiples(low, high, step)
    return int(first), int(last), _whole(step)


def _whole(value: Any) -> int:
    if value != int(value):
        raise ValueError(f"bounds and step of integers must be whole, got {value!r}.")
    return int(value)


def _multiples(low: float, high: float, step: Any) -> tuple[float, float]:
    """The least and the greatest multiple of `step` within the bounds, as decimal numbers."""
    if not step > 0:
        raise ValueError(f"the step `q` must be positive, got {step!r}.")
    exact = Fraction(repr(float(step)))

    def index(bound: float, inward: Callable[[float], int]) -> int:
        quotient = bound / float(step)
        nearest = round(quotient)
        return nearest if math.isclose(quotient, nearest) else inward(quotient)

    return float(index(low, math.ceil) * exact), float(index(high, math.floor) * exact)


def _shown(domain: Any) -> str:
    sampler = domain.get_sampler()
    step = f", q={sampler.q}" if isinstance(sampler, sample.Quantized) else ""
    inner = sampler.get_sampler() if step else sampler
    return f"a {type(domain).__name__} {domain.domain_str} of {type(inner).__name__.lstrip('_')}{step}"
