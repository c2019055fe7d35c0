"""The conditions of a space: which parameters exist at a point.

A parameter exists where all its conditions hold and all its parents exist. On the host the conditions of a parameter
are joined with those of its parents, so that compiled code looks at one table per parameter:

    active[i] = all over its conditions j of allowed[i, j, position of parents[i, j]]

In the unit cube the coordinate of an inactive parameter is `INACTIVE`, as that of a padding column: surrogates see an
imputed value. Columns that say what is active, and an arc kernel, were not better (`benchmarks/results/algorithms.md`).

Source: Levesque, Durand, Gagne, Sabourin (2017), "Bayesian optimization for conditional hyperparameter spaces", which
compares such imputation with kernels that know the conditions; Swersky et al. (2014), arXiv:1409.4011, for arc kernels.
"""

import math
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from bojax.space._parameters import Parameter, did_you_mean

INACTIVE = 0.5
"""The coordinate of inactive parameters, the middle of the cube."""
MAX_VALUES = 4096
"""Largest number of values of a parent: each has an entry in the table of conditions."""


class Conditions(NamedTuple):
    """The conditions of every column, those of its parents included.

    Attributes:
        parents: [d, c] the columns that decide; column 0 where there are fewer than c.
        allowed: [d, c, w] under which of the parents' positions; all true where there are fewer conditions or values.
    """

    parents: np.ndarray
    allowed: np.ndarray


Resolved = tuple[dict[int, frozenset[int]], ...]
"""For each column the columns that decide whether it exists, and their positions under which it does."""


def resolve(parameters: Mapping[str, Parameter]) -> Resolved:
    """The conditions of every parameter, joined with those of its parents.

    Args:
        parameters: the parameters by name.

    Returns:
        For each column a mapping from columns to positions; empty for a parameter that always exists.

    Raises:
        ValueError: a parent is unknown, continuous or has too many values; a value is not one of the parent's; the
            conditions of some parameters form a circle; or a parameter can never exist.

    Example:
        >>> import bojax
        >>> resolve({"a": bojax.Int(1, 3), "b": bojax.Float(0.0, 1.0, when={"a": [2, 3]})})[1]
        {0: frozenset({1, 2})}
    """
    names = list(parameters)
    own = [_own(name, parameter, parameters) for name, parameter in parameters.items()]
    done: dict[int, dict[int, frozenset[int]]] = {}

    def closed(column: int, path: tuple[int, ...]) -> dict[int, frozenset[int]]:
        if column in path:
            circle = [names[i] for i in (*path[path.index(column) :], column)]
            raise ValueError(
                f"`when` must not form a circle, got {' -> '.join(map(repr, circle))}: "
                "each would wait for the other. Remove one of these conditions."
            )
        if column not in done:
            joined = dict(own[column])
            for parent in own[column]:
                for other, positions in closed(parent, (*path, column)).items():
                    joined[other] = joined.get(other, positions) & positions
            empty = next((names[other] for other, positions in joined.items() if not positions), None)
            if empty is not None:
                raise ValueError(
                    f"`{names[column]}` can never exist: its conditions and those of its parents allow no value of "
                    f"`{empty}`. Change `when` or leave it out."
                )
            done[column] = dict(sorted(joined.items()))
        return done[column]

    return tuple(closed(i, ()) for i in range(len(names)))


def _own(name: str, parameter: Parameter, parameters: Mapping[str, Parameter]) -> dict[int, frozenset[int]]:
    """The conditions that a parameter states itself."""
    names, conditions = list(parameters), {}
    for parent, values in parameter.when:
        where = f"`when` of `{name}`"
        if parent not in parameters:
            hint = did_you_mean(parent, [known for known in names if known != name])
            raise ValueError(f"{where} must name parameters of the space {names}, got {parent!r}.{hint}")
        kind = parameters[parent]
        if not kind.num_values:
            raise ValueError(f"{where} must name discrete parameters, got `{parent}`, a Float without `step`.")
        if kind.num_values > MAX_VALUES:
            raise ValueError(
                f"{where} must name parameters of at most {MAX_VALUES} values, got `{parent}` with {kind.num_values}."
            )
        try:
            conditions[names.index(parent)] = frozenset(kind.position(value, name=parent) for value in values)
        except (TypeError, ValueError) as error:
            raise type(error)(f"In the {where}: {error}") from None
    return conditions


def as_arrays(
    resolved: Resolved, num_values: Sequence[int], num_conditions: int | None = None, num_entries: int | None = None
) -> Conditions:
    """The conditions as arrays.

    Args:
        resolved: the conditions of each column.
        num_values: number of values of each column.
        num_conditions: c, at least the largest number of conditions of a column, the default.
        num_entries: w, at least the largest number of values of a parent, the default.

    Returns:
        The arrays; of shape [d, 0] and [d, 0, 0] if nothing is conditional and no size is given.

    Example:
        >>> as_arrays(({}, {0: frozenset({1})}), (2, 0)).allowed.tolist()
        [[[True, True]], [[False, True]]]
    """
    c = max(map(len, resolved), default=0) if num_conditions is None else num_conditions
    widest = max((num_values[parent] for column in resolved for parent in column), default=0)
    w = widest if num_entries is None else num_entries
    parents, allowed = np.zeros((len(resolved), c), np.int32), np.ones((len(resolved), c, w), bool)
    for i, column in enumerate(resolved):
        for j, (parent, positions) in enumerate(column.items()):
            parents[i, j] = parent
            allowed[i, j, : num_values[parent]] = False
            allowed[i, j, list(positions)] = True
    return Conditions(parents, allowed)


def active(conditions: Conditions, P: Any, xp: ModuleType) -> Any:
    """Which parameters exist at points.

    Args:
        conditions: the conditions, of d columns.
        P: [..., d] the positions of the points in their discrete columns.
        xp: the namespace of the arrays, `jax.numpy` or `numpy`.

    Returns:
        [..., d] bool.

    Example:
        >>> conditions = as_arrays(({}, {0: frozenset({1})}), (2, 0))
        >>> active(conditions, np.array([[0, 0], [1, 0]]), np).tolist()
        [[True, False], [True, True]]
    """
    d, c = conditions.parents.shape
    if c == 0:
        return xp.ones(P.shape, bool)
    w = conditions.allowed.shape[-1]
    parents, allowed = xp.asarray(conditions.parents), xp.asarray(conditions.allowed)
    position = xp.take(P, parents.reshape(-1), axis=-1).reshape(*P.shape[:-1], d * c)
    entry = xp.arange(d * c, dtype=np.int32).reshape((1,) * (P.ndim - 1) + (-1,)) * w + xp.clip(position, 0, w - 1)
    return xp.all(xp.take(allowed.reshape(-1), entry, axis=0).reshape(*P.shape[:-1], d, c), axis=-1)


def count_points(
    parameters: Sequence[Parameter], resolved: Resolved, held: Mapping[int, int | None] | None = None
) -> int | None:
    """The number of points of a space, those that differ only in inactive parameters counted once.

    Args:
        parameters: the parameters.
        resolved: their conditions.
        held: columns that are fixed, with the position of a discrete one.

    Returns:
        The number; None if a free parameter that can exist is continuous.

    Example:
        >>> import bojax
        >>> choice, depth = bojax.Categorical(["a", "b"]), bojax.Int(1, 3, when={"kind": "b"})
        >>> count_points([choice, depth], resolve({"kind": choice, "depth": depth}))
        4
    """
    held = {} if held is None else held
    sizes = [1 if i in held else p.num_values or math.inf for i, p in enumerate(parameters)]
    total = math.prod(_count(group, sizes, resolved, parameters, held) for group in _groups(resolved))
    return None if total == math.inf else int(total)


def all_positions(parameters: Sequence[Parameter], resolved: Resolved) -> np.ndarray:
    """Every point of a finite space, as positions.

    Args:
        parameters: the parameters, all of them discrete.
        resolved: their conditions.

    Returns:
        [n, d] positions, int32; 0 for inactive parameters.

    Example:
        >>> import bojax
        >>> choice, depth = bojax.Categorical(["a", "b"]), bojax.Int(1, 3, when={"kind": "b"})
        >>> all_positions([choice, depth], resolve({"kind": choice, "depth": depth})).tolist()
        [[0, 0], [1, 0], [1, 1], [1, 2]]
    """
    rows: list[dict[int, int]] = [{}]
    for i in sorted(range(len(resolved)), key=lambda i: len(resolved[i])):
        counts = range(parameters[i].num_values)
        rows = [
            row | {i: position}
            for row in rows
            for position in (counts if all(row.get(j, 0) in some for j, some in resolved[i].items()) else (0,))
        ]
    return np.array([[row[i] for i in range(len(resolved))] for row in rows], np.int32)


def _groups(resolved: Resolved) -> list[list[int]]:
    """Columns that are connected by conditions, each group with parents before their children."""
    root = list(range(len(resolved)))

    def find(i):
        while root[i] != i:
            i = root[i]
        return i

    for i, column in enumerate(resolved):
        for parent in column:
            root[find(i)] = find(parent)
    groups: dict[int, list[int]] = {}
    for i in sorted(range(len(resolved)), key=lambda i: len(resolved[i])):  # closed conditions: parents have fewer
        groups.setdefault(find(i), []).append(i)
    return list(groups.values())


def _count(group, sizes, resolved, parameters, held):
    """The number of points of one group, by cases of the columns that decide."""
    deciding = [i for i in group if any(i in column for column in resolved)]
    others = [i for i in group if i not in deciding]

    def exists(column, chosen):
        return all(chosen.get(parent) in positions for parent, positions in resolved[column].items())

    def count(remaining, chosen):
        if not remaining:
            return math.prod(sizes[i] for i in others if exists(i, chosen))
        first, *rest = remaining
        if not exists(first, chosen):
            return count(rest, chosen)
        if first in held:
            return count(rest, chosen | {first: held[first]})
        alike: dict[tuple[bool, ...], list[int]] = {}  # values that decide the same
        for position in range(parameters[first].num_values):
            decides = tuple(position in column[first] for column in resolved if first in column)
            alike.setdefault(decides, []).append(position)
        return sum(len(some) * count(rest, chosen | {first: some[0]}) for some in alike.values())

    return count(deciding, {})
