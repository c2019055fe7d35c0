"""A search space in three forms: an expression that makes points, labels with values, and a bojax space."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bojax.integrations._hyperopt._errors import BadSearchSpace
from bojax.integrations._hyperopt._expressions import (
    Choice,
    Condition,
    Draw,
    Found,
    evaluate,
    find_labels,
    option_number,
)
from bojax.integrations._hyperopt._priors import draw, number_of, only_value, parameter, value_of
from bojax.integrations._hyperopt._pyll import from_pyll
from bojax.space import Categorical, Parameter, Space


class Forms(NamedTuple):
    """A search space in three forms.

    Attributes:
        expression: the nested expression.
        labels: its draws and choices, in the order in which they are found.
        space: the bojax space of those with two values and more; None if there are none. Those within options of a
            choice are conditional.
        constants: the values of the others.
    """

    expression: Any
    labels: dict[str, Found]
    space: Space | None
    constants: dict[str, Any]


def forms_of(space: Any) -> Forms:
    """Reads a space of this module's `hp` or of Hyperopt's."""
    expression = from_pyll(space)
    labels = find_labels(expression)
    if not labels:
        raise BadSearchSpace(f"`space` must have at least one hyperparameter, got {space!r}.")
    known = {label: _parameter(node) for label, (node, _) in labels.items()}
    parameters = {label: single for label, single in known.items() if single is not None}
    constants = {label: _only_value(labels[label].node) for label, single in known.items() if single is None}
    conditional: dict[str, Parameter] = {}
    for label, single in parameters.items():
        ways = [_way(parameters, constants, condition) for condition in labels[label].conditions]
        possible_ways = [way for way in ways if way is not None]
        if possible_ways:
            conditional[label] = dataclasses.replace(single, when=_when(parameters, possible_ways))
    return Forms(expression, labels, Space(conditional) if conditional else None, constants)


def _way(parameters: Mapping[str, Parameter], constants: Mapping[str, Any], condition: Condition) -> Condition | None:
    """A condition without choices that are always made; None for one that never holds."""
    for label, number in condition:
        parent = parameters.get(label)
        if number not in (parent.choices if isinstance(parent, Categorical) else [constants[label]]):
            return None
    return tuple((label, number) for label, number in condition if label in parameters)


def _when(parameters: Mapping[str, Parameter], ways: list[Condition]) -> dict[str, list[int]]:
    """The argument `when` of a parameter: it may exist where no way is taken, but does where one is."""
    allowed: dict[str, list[int]] = {}
    for label, _ in ways[0]:
        numbers = sorted({number for way in ways for name, number in way if name == label})
        parent = parameters[label]
        if all(label in dict(way) for way in ways) and len(numbers) < parent.num_values:
            allowed[label] = numbers
    return allowed


def _parameter(node: Draw | Choice) -> Parameter | None:
    if isinstance(node, Draw):
        return parameter(node.prior)
    numbers = possible(node)
    return Categorical(numbers) if len(numbers) > 1 else None


def _only_value(node: Draw | Choice) -> Any:
    return possible(node)[0] if isinstance(node, Choice) else only_value(node.prior)


def possible(choice: Choice) -> list[int]:
    """The numbers of the options that have a probability."""
    weights = choice.weights or (1.0,) * len(choice.options)
    return [number for number, weight in enumerate(weights) if weight > 0]


def vals_of(forms: Forms, params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the labels that a point of the bojax space uses, as Hyperopt has them."""
    vals = {label: _val(forms.labels[label].node, value) for label, value in (forms.constants | dict(params)).items()}
    _, used = evaluate(forms.expression, vals)
    return {label: vals[label] for label in forms.labels if label in used}


def params_of(forms: Forms, vals: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the bojax space that stand for values of labels; labels without a value are left out.

    Raises:
        ValueError: a label is unknown, or a value is out of range.
    """
    unknown = [label for label in vals if label not in forms.labels]
    if unknown:
        raise ValueError(f"a point must have values of {list(forms.labels)}, got one for {unknown[0]!r}.")
    params: dict[str, Any] = {}
    if forms.space is None:
        return params
    for label in forms.space:
        if label in vals:
            node, value = forms.labels[label].node, vals[label]
            params[label] = option_number(node, value) if isinstance(node, Choice) else number_of(node.prior, value)
    forms.space.coordinates_of(params)
    active = forms.space.active_names(params)
    for label in [label for label in params if label not in active]:
        parents = [parent for parent, _ in forms.space[label].when]
        if any(parent not in params for parent in parents):
            raise ValueError(f"a point must have a value of {label!r} only together with {parents}, got {dict(vals)}.")
        del params[label]
    return params


def complete(forms: Forms, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with a value for each that the bojax space asks for, though the point does not use it."""
    full, space = dict(params), forms.space
    if space is None:
        return full
    for label in space.in_order():
        if label not in full and label in space.active_names(full):
            full[label] = Space({label: dataclasses.replace(space[label], when=())}).to_params([0.5])[label]
    return full


def draw_vals(
    expression: Any, labels: Mapping[str, Found], rng: np.random.Generator, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A random point from the distributions of a space, with some values given: those of the labels that it uses."""
    vals = {label: drawn(found.node, rng) for label, found in labels.items()} | dict(given or {})
    _, used = evaluate(expression, vals)
    return {label: vals[label] for label in labels if label in used}


def _val(node: Draw | Choice, value: Any) -> Any:
    return option_number(node, value) if isinstance(node, Choice) else value_of(node.prior, value)


def drawn(node: Draw | Choice, rng: np.random.Generator) -> Any:
    """A random value of one label."""
    if isinstance(node, Draw):
        return draw(node.prior, rng)
    return int(rng.choice(len(node.options), p=node.weights))
