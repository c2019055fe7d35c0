"""Parameters that are fixed at given values while the others are chosen."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bojax._errors import BojaxError
from bojax.space import INACTIVE, Float, Lattice, Space


class Group(NamedTuple):
    """Trials of a batch with the same fixed values.

    Attributes:
        held: the fixed values by name; empty if all parameters are free.
        trials: the trials, in order.
    """

    held: dict[str, Any]
    trials: list[Any]


def checked_values(space: Space, params: Any, argument: str, *, together: bool = True) -> dict[str, Any]:
    """Some or all parameters as plain Python values, in the order of the space.

    Raises:
        TypeError: `params` is not a mapping, or a value has the wrong type.
        ValueError: `params` is empty, a name is unknown, a value does not belong to its parameter, or a parameter does
            not exist with the other values although they stand `together` at one point.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"`{argument}` must map names to values, got {params!r} ({type(params).__name__}).")
    unknown = [name for name in params if name not in space.names]
    if unknown:
        raise ValueError(f"`{argument}` must have no names but {list(space.names)}, got {unknown[0]!r}.")
    if not params:
        raise ValueError(f"`{argument}` must name at least one parameter of {list(space.names)}, got none.")
    values = {name: _plain_value(space, name, params[name]) for name in space.names if name in params}
    active = space.active_names(values)
    for name in values:
        if together and name not in active:
            needed = {parent: list(allowed) for parent, allowed in space[name].when}
            raise ValueError(
                f"`{argument}` must give `{name}` only together with values of its parents under which it exists, "
                f"{needed}, got {dict(params)}."
            )
    return values


def check_feasible(space: Space, values: Mapping[str, Any], argument: str) -> None:
    """Checks that a feasible point has these values.

    Raises:
        ValueError: the values are those of a whole point, which breaks a constraint.
        BojaxError: no feasible point with these values is found.
    """
    if not space.constraints or not values:
        return
    if space.is_complete(values):
        broken = space.broken_by({name: values[name] for name in space.active_names(values)})
        if broken is not None:
            raise ValueError(f"`{argument}` must be feasible, got {dict(values)}, which breaks {broken}.")
        return
    try:
        Lattice.of(space).hold(held_row(space, values))
    except BojaxError as error:
        raise BojaxError(f"`{argument}` leaves no feasible point, got {dict(values)}: {error}") from None


def valid_values(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `params` that belong to the space; Optuna code may enqueue others."""
    valid = {}
    for name in space.names:
        if name in params:
            try:
                valid[name] = _plain_value(space, name, params[name])
            except (TypeError, ValueError):
                continue
    active = space.active_names(valid)
    return {name: value for name, value in valid.items() if name in active}


def held_row(space: Space, held: Mapping[str, Any]) -> np.ndarray | None:
    """The fixed coordinates in the cube [d], NaN where a parameter is free; None if all are free."""
    if not held:
        return None
    return space.coordinates_of(held)


def num_feasible_left(space: Space, held: Mapping[str, Any], seen: np.ndarray) -> int | None:
    """Number of feasible points with the fixed values that were not seen, in a small finite constrained space.

    Args:
        space: the search space.
        held: the fixed values.
        seen: [n, d] points evaluated or pending; infeasible ones do not count.

    Returns:
        The number; None if the feasible points of the space are not all known.
    """
    points = space.feasible_points()
    if points is None:
        return None
    lattice, row = Lattice.of(space), held_row(space, held)
    P = lattice.positions(points)
    if row is not None:
        fixed = ~np.isnan(row)
        wanted = lattice.positions(np.where(fixed, row, INACTIVE))
        P = P[(P == wanted)[:, fixed].all(axis=1) & lattice.active(points)[:, fixed].all(axis=1)]
    old = {tuple(position) for position in lattice.positions(seen).tolist()}
    return sum(tuple(position) not in old for position in P.tolist())


def agree(row: np.ndarray, held: np.ndarray | None) -> bool:
    """Whether a point has the fixed coordinates."""
    return held is None or bool(np.all((row == held) | np.isnan(held)))


def without_repeats(
    space: Space, suggested: Sequence[dict[str, Any]], held: Mapping[str, Any], seen: np.ndarray
) -> list[dict[str, Any]]:
    """Suggestions with the fixed values; distinct and unseen where the free parameters are discrete.

    Args:
        space: the search space.
        suggested: points that were chosen without knowledge of the fixed values.
        held: the fixed values, which replace those of the suggestions.
        seen: [n, d] points evaluated or pending.
    """
    points = [{**params, **held} for params in suggested]
    if space.constraints and points:
        there = Lattice.of(space).hold(held_row(space, held))
        active = [{name: point[name] for name in space.active_names(point) if name in point} for point in points]
        rows = np.array([space.coordinates_of(point) for point in active])
        rows = there.repaired(there.snap(np.where(np.isnan(rows), INACTIVE, rows)))
        points = [{**space.to_params(row), **held} for row in rows]
    if space.num_points(held) is None:
        return points
    taken = {row.tobytes() for row in seen}
    free = [name for name in space.names if name not in held and space[name].num_values]
    values_of = (
        [parameter.value(i) for i in range(parameter.num_values)]  # type: ignore[union-attr]
        for parameter in (space[name] for name in free)
    )
    others = itertools.product(*values_of)
    fresh = []
    for point in itertools.chain(points, ({**held, **dict(zip(free, values, strict=True))} for values in others)):
        if len(fresh) == len(points):
            break
        point = {name: point[name] for name in space.active_names(point)}
        key = space.from_params(point).tobytes()
        if key not in taken and (not space.constraints or space.broken_by(point) is None):
            taken.add(key)
            fresh.append(point)
    return fresh


def groups_of(trials: Sequence[Any], held: Sequence[dict[str, Any]]) -> list[Group]:
    """The trials grouped by their fixed values, in the order of the first trial of each group."""
    groups: dict[tuple, Group] = {}
    for trial, values in zip(trials, held, strict=True):
        key = tuple((name, type(value), value) for name, value in values.items())
        groups.setdefault(key, Group(values, [])).trials.append(trial)
    return list(groups.values())


def shown(held: Mapping[str, Any]) -> str:
    """The fixed values for messages: "x=0.9, y=1"."""
    return ", ".join(f"{name}={value!r}" for name, value in held.items())


def _plain_value(space: Space, name: str, value: Any) -> Any:
    parameter = space[name]
    if isinstance(parameter, Float):
        return parameter.check(value, name=name)
    return parameter.value(parameter.position(value, name=name))
