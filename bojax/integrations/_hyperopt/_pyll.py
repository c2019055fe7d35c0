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
from bojax.integrations._hyperopt._expressions import Call, Choice, Node

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
    made: dict[int, Any] = {}  # a node that is used twice stays one node

    def visit(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: visit(value) for key, value in part.items()}
        if type(part) in (list, tuple):
            return type(part)(visit(value) for value in part)
        if not isinstance(part, Choice | Call) and not _is_graph(part):
            return part
        if id(part) not in made:
            made[id(part)] = _inside(part, visit) if isinstance(part, Node) else _read(part, visit)
        return made[id(part)]

    return visit(space)


def _inside(node: Node, visit: Callable[[Any], Any]) -> Node:
    """The node, with the graphs among its options or arguments read."""
    match node:
        case Choice():
            return dataclasses.replace(node, options=tuple(map(visit, node.options)))
        case Call():
            kwargs = {name: visit(value) for name, value in node.kwargs.items()}
            return dataclasses.replace(node, args=tuple(map(visit, node.args)), kwargs=kwargs)
    return node


def _is_graph(part: Any) -> bool:
    pyll = sys.modules.get("hyperopt.pyll.base")
    return pyll is not None and isinstance(part, pyll.Apply)


def _read(graph: Any, visit: Callable[[Any], Any]) -> Any:
    named = dict(graph.named_args)
    match graph.name:
        case "literal":
            return graph.obj
        case "pos_args":
            return tuple(map(visit, graph.pos_args))
        case "dict":
            pairs = [] if not graph.pos_args else visit(graph.pos_args[0])
            return {**dict(pairs), **{name: visit(value) for name, value in named.items()}}
        case "hyperopt_param":
            return _draw(graph, visit)
        case "switch":
            return _choice(graph, visit)
        case name if name in FUNCTIONS:
            args = tuple(map(visit, graph.pos_args))
            only = args[0] if len(args) == 1 else None
            if isinstance(only, Node) and name == "float" and not isinstance(only, Call):
                return only  # `hp` puts it around every draw
            return Call(name, FUNCTIONS[name], args, {key: visit(value) for key, value in named.items()})
    raise BadSearchSpace(
        f"`space` must be made of hp.*, dicts, lists, tuples and arithmetic, got the function {graph.name!r}. "
        "Call it in the objective instead."
    )


def _draw(graph: Any, visit: Callable[[Any], Any]) -> Node:
    label, drawn = _arguments(graph, ("label", "obj"))
    name = drawn.name
    if name not in DRAWS:
        raise BadSearchSpace(f"{label.obj!r} must have a distribution of {sorted(DRAWS)}, got {name!r}.")
    names = DRAWS[name]
    given = dict(zip(names, drawn.pos_args, strict=False)) | dict(drawn.named_args)
    values = {key: visit(value) for key, value in given.items() if key in names}
    make = getattr(hp, name)
    return make(label.obj, *(values[key] for key in names if key in values))


def _choice(graph: Any, visit: Callable[[Any], Any]) -> Node:
    chosen, *options = graph.pos_args
    if chosen.name != "hyperopt_param":
        raise BadSearchSpace(f"`space` must choose with hp.choice, got a switch on {chosen.name!r}.")
    label, drawn = _arguments(chosen, ("label", "obj"))
    options = [visit(option) for option in options]
    if drawn.name == "categorical":
        return hp.pchoice(label.obj, list(zip(visit(_arguments(drawn, ("p",))[0]), options, strict=True)))
    return hp.choice(label.obj, options)


def _arguments(graph: Any, names: tuple[str, ...]) -> list[Any]:
    given = dict(zip(names, graph.pos_args, strict=False)) | dict(graph.named_args)
    return [given[name] for name in names]
