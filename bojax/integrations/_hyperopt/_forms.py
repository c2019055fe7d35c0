"""A search space in three forms: an expression that makes points, labels with values, and a bojax space."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bojax.integrations._hyperopt._errors import BadSearchSpace
from bojax.integrations._hyperopt._expressions import Choice, Draw, Found, evaluate, find_labels, option_number
from bojax.integrations._hyperopt._priors import draw, number_of, only_value, parameter, value_of
from bojax.integrations._hyperopt._pyll import from_pyll
from bojax.space import Categorical, Parameter, Space


class Forms(NamedTuple):
    """A search space in three forms.

    Attributes:
        expression: the nested expression.
        labels: its draws and choices, choices before what depends on them.
        space: the bojax space of those with two values and more; None if there are none.
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
    parameters, constants = {}, {}
    for label, found in labels.items():
        known = _parameter(found.node)
        if known is None:
            node = found.node
            constants[label] = possible(node)[0] if isinstance(node, Choice) else only_value(node.prior)
        else:
            parameters[label] = known
    return Forms(expression, labels, Space(parameters) if parameters else None, constants)


def _parameter(node: Draw | Choice) -> Parameter | None:
    if isinstance(node, Draw):
        return parameter(node.prior)
    numbers = possible(node)
    return Categorical(numbers) if len(numbers) > 1 else None


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
    params = {}
    for label, single in ({} if forms.space is None else forms.space).items():
        if label in vals:
            node = forms.labels[label].node
            value = vals[label]
            params[label] = option_number(node, value) if isinstance(node, Choice) else number_of(node.prior, value)
            Space({label: single}).from_params({label: params[label]})
    return params


def complete(forms: Forms, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with a value for each that the bojax space asks for, though the point does not use it."""
    full = dict(params)
    for label, single in ({} if forms.space is None else forms.space).items():
        if label not in full:
            full[label] = Space({label: single}).to_params([0.5])[label]
    return full


def draw_vals(forms: Forms, rng: np.random.Generator) -> dict[str, Any]:
    """A random point from the distributions of the space: the values of the labels that it uses."""
    vals = {label: _drawn(found.node, rng) for label, found in forms.labels.items()}
    _, used = evaluate(forms.expression, vals)
    return {label: vals[label] for label in forms.labels if label in used}


def _val(node: Draw | Choice, value: Any) -> Any:
    return option_number(node, value) if isinstance(node, Choice) else value_of(node.prior, value)


def _drawn(node: Draw | Choice, rng: np.random.Generator) -> Any:
    if isinstance(node, Draw):
        return draw(node.prior, rng)
    return int(rng.choice(len(node.options), p=node.weights))
