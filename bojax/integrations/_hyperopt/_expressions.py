"""Search spaces as nested expressions: containers, constants, draws, choices, and functions of them.

A space is anything: a dict, a list or a tuple of spaces, a `Node`, or a constant. The value of a list is a tuple, as in
Hyperopt.
"""

import dataclasses
import math
import numbers
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from bojax._plain import plain
from bojax.integrations._hyperopt._errors import BadSearchSpace, DuplicateLabel
from bojax.integrations._hyperopt._priors import Prior, value_of

Condition = tuple[tuple[str, int], ...]
"""Choices, by label and number of the option, all of which must be made for a part of the space to exist."""


class Node:
    """A part of a space that is not a constant. Arithmetic with it gives a node."""

    def __add__(self, other: Any) -> "Node":
        return Call("add", operator.add, (self, other))

    def __radd__(self, other: Any) -> "Node":
        return Call("add", operator.add, (other, self))

    def __sub__(self, other: Any) -> "Node":
        return Call("sub", operator.sub, (self, other))

    def __rsub__(self, other: Any) -> "Node":
        return Call("sub", operator.sub, (other, self))

    def __mul__(self, other: Any) -> "Node":
        return Call("mul", operator.mul, (self, other))

    def __rmul__(self, other: Any) -> "Node":
        return Call("mul", operator.mul, (other, self))

    def __truediv__(self, other: Any) -> "Node":
        return Call("truediv", operator.truediv, (self, other))

    def __rtruediv__(self, other: Any) -> "Node":
        return Call("truediv", operator.truediv, (other, self))

    def __floordiv__(self, other: Any) -> "Node":
        return Call("floordiv", operator.floordiv, (self, other))

    def __pow__(self, other: Any) -> "Node":
        return Call("pow", operator.pow, (self, other))

    def __rpow__(self, other: Any) -> "Node":
        return Call("pow", operator.pow, (other, self))

    def __neg__(self) -> "Node":
        return Call("neg", operator.neg, (self,))

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no value before it is drawn, so it cannot decide an `if`. Use hp.choice.")


@dataclasses.dataclass(frozen=True, eq=False)
class Draw(Node):
    """A number with a distribution."""

    label: str
    prior: Prior


@dataclasses.dataclass(frozen=True, eq=False)
class Choice(Node):
    """One of several spaces, with their probabilities if those differ."""

    label: str
    options: tuple[Any, ...]
    weights: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Call(Node):
    """A function of the values of spaces, called when a point is made."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def checked_number(value: Any, name: str, label: Any) -> float:
    """The argument `name` of a distribution as a float, or an error that names it and the label."""
    if isinstance(value, Node):
        raise BadSearchSpace(
            f"`{name}` of {label!r} must be a number, got {value!r}: a distribution cannot depend on what is drawn. "
            "Draw both from fixed ranges and combine them in the objective."
        )
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(f"`{name}` of {label!r} must be a number, got {value!r}.")
    if not math.isfinite(number):
        raise ValueError(f"`{name}` of {label!r} must be finite, got {value!r}.")
    return float(number)


class Found(NamedTuple):
    """Where a label stands.

    Attributes:
        node: its draw or choice.
        conditions: the ways to it; () among them if it always exists.
    """

    node: Draw | Choice
    conditions: list[Condition]


def find_labels(space: Any) -> dict[str, Found]:
    """All labels of a space, in the order in which they are found.

    Raises:
        DuplicateLabel: two different nodes have one label.
    """
    found: dict[str, Found] = {}
    _find(space, (), found)
    return found


def _find(part: Any, condition: Condition, found: dict[str, Found]) -> None:
    """Adds the labels of a part that exists under a condition."""
    if isinstance(part, Draw | Choice):
        known = found.setdefault(part.label, Found(part, []))
        if known.node is not part:
            raise DuplicateLabel(
                f"`space` must have one hyperparameter for each label, got two for {part.label!r}. Rename one; "
                "to use one value in two places, use the same object twice."
            )
        if condition in known.conditions:
            return
        known.conditions.append(condition)
    if isinstance(part, Choice):
        for i, option in enumerate(part.options):
            _find(option, (*condition, (part.label, i)), found)
    for child in _children(part):
        _find(child, condition, found)


def _children(part: Any) -> Iterator[Any]:
    match part:
        case dict():
            yield from part.values()
        case list() | tuple():
            yield from part
        case Call():
            yield from part.args
            yield from part.kwargs.values()


def option_number(choice: Choice, value: Any) -> int:
    """The number of an option, or an error that names the label."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or number not in range(len(choice.options)):
        raise ValueError(
            f"{choice.label!r} must be the number of an option, 0..{len(choice.options) - 1}, got {value!r}."
        )
    return int(number)


def evaluate(space: Any, values: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """The point that values of the labels make, and which labels it uses.

    Args:
        space: the space.
        values: the values of draws and the numbers of options, by label.

    Returns:
        The point, and the labels on whose values it depends.

    Raises:
        ValueError: a value that is needed is missing, or an option does not exist.
    """
    point = _Point(values, set(), {})
    return _value(space, point), point.used


class _Point(NamedTuple):
    """Values by label, the labels that were used, and the values of nodes: one that is used twice is made once."""

    values: Mapping[str, Any]
    used: set[str]
    made: dict[int, Any]


def _value(part: Any, point: _Point) -> Any:
    match part:
        case dict():
            return {key: _value(value, point) for key, value in part.items()}
        case list() | tuple():
            return tuple(_value(value, point) for value in part)
        case Node():
            if id(part) not in point.made:
                point.made[id(part)] = _computed(part, point)
            return point.made[id(part)]
        case _:
            return part


def _computed(node: Node, point: _Point) -> Any:
    if isinstance(node, Call):
        arguments = [_value(argument, point) for argument in node.args]
        return node.function(*arguments, **{name: _value(value, point) for name, value in node.kwargs.items()})
    if not isinstance(node, Draw | Choice):
        raise TypeError(f"`space` holds {node!r}, which has no value.")
    if node.label not in point.values:
        raise ValueError(f"the point must have a value for {node.label!r}, got values for {sorted(point.values)}.")
    point.used.add(node.label)
    value = point.values[node.label]
    return (
        value_of(node.prior, value)
        if isinstance(node, Draw)
        else _value(node.options[option_number(node, value)], point)
    )
