"""Hyperopt's own search spaces, which are graphs of its package `pyll`, read as expressions.

Nothing is imported: a graph can only exist if Hyperopt is loaded.
"""

import dataclasses
import operator
import sys
from collections.abc import Callable
from typing import Any

from bojax.integrations._hyperopt import hp
from bojax.integrations._hyperopt._errors import BadSearchSpace
from bojax.integrations._hyperopt._expressions import Call, Choice, Node, checked_number

Made = dict[int, Any]
"""What was made of nodes, by their id: a node that is used twice stays one node."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "pow", "neg", "getitem", "lt", "le", "gt", "ge", "eq")
} | {"int": int, "float": float, "len": len}
"""Functions of a graph's deterministic part."""

DRAWS = {
    "uniform": ("low", "high"),
    "quniform": ("low", "high", "q"),
    "loguniform": ("low", "high"),
    "qloguniform": ("low", "high", "q"),
    "normal": ("mu", "sigma"),
    "qnormal": ("mu", "sigma", "q"),
    "lognormal": ("mu", "sigma"),
    "qlognormal": ("mu", "sigma", "q"),
    "randint": ("low", "high"),
}
"""Distributions and the names of their arguments."""


def from_pyll(space: Any) -> Any:
    """Returns a space with every graph of Hyperopt in it replaced by an expression.

    Raises:
        BadSearchSpace: a graph holds a function that cannot be read; the message names it.
    """
    return _converted(space, {})


def _converted(part: Any, made: Made) -> Any:
    if isinstance(part, dict):
        return {key: _converted(value, made) for key, value in part.items()}
    if type(part) in (list, tuple):
        return type(part)(_converted(value, made) for value in part)
    if not isinstance(part, Choice | Call) and not _is_graph(part):
        return part
    if id(part) not in made:
        made[id(part)] = _inside(part, made) if isinstance(part, Node) else _read(part, made)
    return made[id(part)]


def _inside(node: Node, made: Made) -> Node:
    """The node, with the graphs among its options or arguments read."""
    match node:
        case Choice():
            return dataclasses.replace(node, options=tuple(_converted(option, made) for option in node.options))
        case Call():
            kwargs = {name: _converted(value, made) for name, value in node.kwargs.items()}
            return dataclasses.replace(node, args=tuple(_converted(value, made) for value in node.args), kwargs=kwargs)
    return node


def _is_graph(part: Any) -> bool:
    pyll = sys.modules.get("hyperopt.pyll.base")
    return pyll is not None and isinstance(part, pyll.Apply)


def _read(graph: Any, made: Made) -> Any:
    named = dict(graph.named_args)
    match graph.name:
        case "literal":
            return graph.obj
        case "pos_args":
            return tuple(_converted(value, made) for value in graph.pos_args)
        case "dict":
            pairs = [] if not graph.pos_args else _converted(graph.pos_args[0], made)
            return {**dict(pairs), **{name: _converted(value, made) for name, value in named.items()}}
        case "hyperopt_param":
            return _draw(graph, made)
        case "switch":
            return _choice(graph, made)
        case name if name in FUNCTIONS:
            args = tuple(_converted(value, made) for value in graph.pos_args)
            only = args[0] if len(args) == 1 else None
            if isinstance(only, Node) and name == "float" and not isinstance(only, Call):
                return only  # `hp` puts it around every draw
            return Call(name, FUNCTIONS[name], args, {key: _converted(value, made) for key, value in named.items()})
    raise BadSearchSpace(
        f"`space` must be made of hp.*, dicts, lists, tuples and arithmetic, got the function {graph.name!r}. "
        "Call it in the objective instead."
    )


def _draw(graph: Any, made: Made) -> Node:
    label, drawn = _arguments(graph, ("label", "obj"))
    name = drawn.name
    if name not in DRAWS:
        raise BadSearchSpace(f"{label.obj!r} must have a distribution of {sorted(DRAWS)}, got {name!r}.")
    names = DRAWS[name]
    given = dict(zip(names, drawn.pos_args, strict=False)) | dict(drawn.named_args)
    values = {key: _converted(given[key], made) for key in names if key in given}
    for key, value in values.items():
        checked_number(value, key, label.obj)
    return getattr(hp, name)(label.obj, *values.values())


def _choice(graph: Any, made: Made) -> Node:
    chosen, *options = graph.pos_args
    if chosen.name != "hyperopt_param":
        raise BadSearchSpace(f"`space` must choose with hp.choice, got a switch on {chosen.name!r}.")
    label, drawn = _arguments(chosen, ("label", "obj"))
    options = [_converted(option, made) for option in options]
    if drawn.name == "categorical":
        return hp.pchoice(label.obj, list(zip(_converted(_arguments(drawn, ("p",))[0], made), options, strict=True)))
    return hp.choice(label.obj, options)


def _arguments(graph: Any, names: tuple[str, ...]) -> list[Any]:
    given = dict(zip(names, graph.pos_args, strict=False)) | dict(graph.named_args)
    return [given[name] for name in names]
