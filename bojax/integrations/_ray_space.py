"""A search space of Ray Tune as a `Space` and a tree that turns parameters into configurations and back.

A configuration is nested dicts, lists and tuples; a parameter is named by its path, "optimizer/lr". The tree has the
shape of the configuration. Its leaves are `Fixed` (a constant, passed through) and `Tuned` (a parameter).

A choice among values that hold parameters is a `Branch`: a parameter for the position of the choice, and those inside
of the values, which exist only together with it: "optimizer/0/lr" with `when={"optimizer": 0}`.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from ray.tune.search import sample

from bojax.integrations._ray_domains import PLAIN, Fixed, Tuned, leaf, read_value, same, value_of
from bojax.space import Categorical, Float, Int, Ordinal, Parameter, Space


class Group(NamedTuple):
    """A dict, list or tuple, by its kind, with its entries by key or position."""

    kind: str
    nodes: dict[Any, Any]


class Branch(NamedTuple):
    """A choice among values that hold parameters, by its position."""

    name: str
    options: tuple[Any, ...]


class Missing(NamedTuple):
    """A constant or choices that JSON could not hold: the place in a restored tree where an object belongs."""

    name: str


Node: TypeAlias = Fixed | Tuned | Group | Branch | Missing

_KINDS = {"dict": dict, "list": list, "tuple": tuple}


def convert(config: Mapping[str, Any]) -> tuple[Space, Node]:
    """The space and the tree of a configuration that holds domains of Ray Tune or parameters of bojax.

    Raises:
        ValueError, TypeError: nothing is to be tuned, or a domain has no counterpart in bojax; the message names it.
    """
    parameters: dict[str, Parameter] = {}
    tree = _node(config, (), parameters)
    if not parameters:
        raise ValueError(
            f"the search space must have something to tune, got {dict(config)!r}. "
            "Give a range or several choices, for example tune.uniform(0.0, 1.0)."
        )
    return Space(parameters), tree


def tree_of(space: Space) -> Node:
    """The tree of a `Space`, whose names may be paths."""
    return _node(nested(space), (), {})


def has_domains(value: Any) -> bool:
    """Whether a part of a configuration holds something to tune, or something that only Ray Tune resolves."""
    if isinstance(value, Mapping):
        return set(value) in ({"grid_search"}, {"eval"}) or any(map(has_domains, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_domains, value))
    return isinstance(value, sample.Domain | Float | Int | Categorical | Ordinal)


def nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same with keys "a/b" as dicts within dicts.

    Raises:
        ValueError: a key is given twice, or is both a value and a dict.
    """
    result: dict[str, Any] = {}
    for key, value in config.items():
        *path, last = key.split("/") if isinstance(key, str) else [key]
        inside = result
        for part in path:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                raise ValueError(f"the key {key!r} must not lie in a value, got {part!r}: {inside!r}.")
        if last in inside:
            raise ValueError(f"the key {key!r} must be given once, got it twice.")
        inside[last] = dict(value) if type(value) is dict else value
    return result


def fill(node: Node, params: Mapping[str, Any]) -> Any:
    """The configuration with these parameters.

    Raises:
        RuntimeError: the tree was restored without an object that JSON could not hold.
    """
    if isinstance(node, Fixed):
        return node.value
    if isinstance(node, Tuned):
        return value_of(node, params[node.name])
    if isinstance(node, Missing):
        raise RuntimeError(
            f"`{node.name}` holds objects that the saved state could not hold. Give the same space to the restored "
            "searcher: `space` of BojaxSearch, or `param_space` of the Tuner."
        )
    if isinstance(node, Branch):
        return fill(node.options[params[node.name]], params)
    there = {key: inner for key, inner in node.nodes.items() if not isinstance(inner, Tuned) or inner.name in params}
    filled = {key: fill(inner, params) for key, inner in there.items()}
    return filled if node.kind == "dict" else _KINDS[node.kind](filled.values())


def read(node: Node, config: Any, space: Space, name: str = "", *, strict: bool) -> dict[str, Any]:
    """The parameters of a configuration: the inverse of `fill`.

    Args:
        node: the tree.
        space: the space of the tree.
        config: a configuration, also with paths as keys; parts of it may be missing.
        name: path of the node, for messages.
        strict: whether keys that the tree has not, and other constants than its own, are errors.

    Raises:
        ValueError, TypeError: the configuration does not have the shape of the tree, or a value is not in the space.
    """
    if isinstance(node, Fixed | Missing):
        if strict and isinstance(node, Fixed) and not same(node.value, config):
            raise ValueError(f"`{name}` must be the constant {node.value!r} of the search space, got {config!r}.")
        return {}
    if isinstance(node, Tuned):
        value, parameter = read_value(node, config), space[node.name]
        if isinstance(parameter, Float):
            return {node.name: parameter.check(value, name=node.name)}
        return {node.name: parameter.value(parameter.position(value, name=node.name))}
    if isinstance(node, Branch):
        return _read_branch(node, config, space)
    entries = _entries(node, config, name)
    extra = [key for key in entries if key not in node.nodes]
    if extra and strict:
        raise ValueError(f"`{_path(name, extra[0])}` must be in the search space, got a key beside {list(node.nodes)}.")
    found: dict[str, Any] = {}
    for key, inner in node.nodes.items():
        if key in entries:
            found |= read(inner, entries[key], space, _path(name, key), strict=strict)
    return found


def to_json(node: Node, name: str = "") -> dict[str, Any]:
    """The tree as data for JSON; what does not fit is `Missing` in the restored tree."""
    if isinstance(node, Group):
        nodes = [[key, to_json(inner, _path(name, key))] for key, inner in node.nodes.items()]
        return {"kind": node.kind, "nodes": nodes}
    if isinstance(node, Branch):
        options = [to_json(option, _path(node.name, i)) for i, option in enumerate(node.options)]
        return {"kind": "branch", "name": node.name, "options": options}
    if isinstance(node, Fixed) and _fits(node.value):
        return {"kind": "fixed", "value": node.value}
    if isinstance(node, Tuned) and (node.choices is None or _fits(list(node.choices))):
        fields = {"choices": node.choices, "normal": node.normal}
        return {"kind": "tuned", "name": node.name} | {key: list(v) for key, v in fields.items() if v is not None}
    return {"kind": "missing", "name": name}


def from_json(data: Mapping[str, Any]) -> Node:
    """The tree that `to_json` gave."""
    kind = data["kind"]
    if kind == "fixed":
        return Fixed(data["value"])
    if kind == "missing":
        return Missing(data["name"])
    if kind == "tuned":
        choices, normal = data.get("choices"), data.get("normal")
        return Tuned(data["name"], choices and tuple(choices), normal and (normal[0], normal[1]))
    if kind == "branch":
        return Branch(data["name"], tuple(map(from_json, data["options"])))
    return Group(kind, {key: from_json(inner) for key, inner in data["nodes"]})


def _node(value: Any, path: tuple[Any, ...], parameters: dict[str, Parameter]) -> Node:
    """The node of a part of a configuration; adds its parameters to `parameters`."""
    name, count = "/".join(map(str, path)), len(parameters)
    _refuse(value, name)
    if _is_branch(value):
        return _branch(value.categories, path, parameters)
    if isinstance(value, sample.Domain | Float | Int | Categorical | Ordinal):
        parameter, node = leaf(value, name) if isinstance(value, sample.Domain) else (value, Tuned(name))
        if parameter is not None:
            _add(parameters, name, parameter)
        return node
    if not isinstance(value, Mapping) and type(value) not in (list, tuple):
        return Fixed(value)
    kind = "dict" if isinstance(value, Mapping) else type(value).__name__
    nodes: dict[Any, Any] = {}
    for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
        before = len(parameters)
        nodes[key] = node = _node(inner, (*path, key), parameters)
        if "/" in str(key) and len(parameters) > before:
            raise ValueError(f"the keys of parameters must not hold '/', got {key!r}. Nest dicts instead.")
        if kind != "dict" and isinstance(node, Tuned) and parameters[node.name].when:
            raise ValueError(f"`{node.name}` has the argument `when`, and a {kind} cannot lack an entry. Use a dict.")
    return Group(kind, nodes) if len(parameters) > count or type(value) is dict else Fixed(value)


def _is_branch(value: Any) -> bool:
    """Whether a domain is a choice among several values of which one holds something to tune."""
    if not isinstance(value, sample.Categorical) or not isinstance(value.get_sampler(), sample.Uniform):
        return False
    return any(map(has_domains, value.categories))


def _branch(choices: Sequence[Any], path: tuple[Any, ...], parameters: dict[str, Parameter]) -> Node:
    name, options = "/".join(map(str, path)), []
    if len(choices) > 1:
        _add(parameters, name, Categorical(list(range(len(choices)))))
    for i, choice in enumerate(choices):
        inside: dict[str, Parameter] = {}
        options.append(_node(choice, (*path, i) if len(choices) > 1 else path, inside))
        for inner, parameter in inside.items():
            # A parameter whose parent is inside this value exists only together with it.
            apart = len(choices) == 1 or inside.keys() & dict(parameter.when).keys()
            _add(parameters, inner, parameter if apart else _only_with(parameter, name, i))
    return options[0] if len(choices) == 1 else Branch(name, tuple(options))


def _only_with(parameter: Parameter, name: str, position: int) -> Parameter:
    return dataclasses.replace(parameter, when={**dict(parameter.when), name: [position]})


def _add(parameters: dict[str, Parameter], name: str, parameter: Parameter) -> None:
    if name in parameters:
        raise ValueError(f"`{name}` must name one parameter, got two. Rename a key.")
    parameters[name] = parameter


def _refuse(value: Any, name: str) -> None:
    """Raises ValueError for what Ray Tune resolves by itself and cannot be suggested."""
    if isinstance(value, Mapping) and set(value) == {"grid_search"}:
        raise ValueError(
            f"`{name}` is a grid search, which tries every value, so that nothing is left to suggest. "
            f"Write tune.choice({list(value['grid_search'])!r}), or leave `search_alg` out."
        )
    if isinstance(value, Mapping) and set(value) == {"eval"}:
        raise ValueError(f"`{name}` is an expression ('eval'), which has no range. Compute it in the trainable.")


def _read_branch(node: Branch, config: Any, space: Space) -> dict[str, Any]:
    """The first choice that the configuration fits, constants included, with the most of its parameters given."""
    found: list[dict[str, Any]] = []
    for i, option in enumerate(node.options):
        with contextlib.suppress(TypeError, ValueError):
            found.append({node.name: i, **read(option, config, space, _path(node.name, i), strict=True)})
    if not found:
        raise ValueError(f"`{node.name}` must fit one of its {len(node.options)} choices, got {config!r}.")
    return max(found, key=len)


def _entries(node: Group, config: Any, name: str) -> dict[Any, Any]:
    """The parts of a configuration by the keys of a node; the key "a/b" is the part "b" of "a"."""
    if node.kind != "dict":
        if isinstance(config, Mapping) and all(str(key).isdecimal() for key in config):
            return {int(key): value for key, value in config.items()}
        if isinstance(config, str) or not isinstance(config, Sequence) or len(config) != len(node.nodes):
            raise ValueError(f"`{name}` must be a {node.kind} of {len(node.nodes)} entries, got {config!r}.")
        return dict(enumerate(config))
    if not isinstance(config, Mapping):
        raise ValueError(f"`{name}` must be a dict with the keys {list(node.nodes)}, got {config!r}.")
    entries: dict[Any, Any] = {}
    for key, value in config.items():
        head, _, rest = key.partition("/") if isinstance(key, str) else (key, "", "")
        if not rest or key in node.nodes or head not in node.nodes:
            entries[key] = value
        elif isinstance(entries.setdefault(head, {}), Mapping):
            entries[head] = {**entries[head], rest: value}
    return entries


def _fits(value: Any) -> bool:
    """Whether JSON gives back the same value, of the same types."""
    if type(value) is list:
        return all(map(_fits, value))
    if type(value) is dict:
        return all(type(key) is str and _fits(inner) for key, inner in value.items())
    return type(value) in PLAIN and (not isinstance(value, float) or math.isfinite(value))


def _path(name: str, key: Any) -> str:
    return f"{name}/{key}" if name else str(key)
