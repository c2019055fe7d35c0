"""GPyOpt's description of the inputs, as a `bojax.Space` and as the columns of its arrays X.

    continuous    (low, high)          one column of numbers         Float
    discrete      (3, 8, 10)           one column of its values      Int if they are whole and evenly spaced, or Ordinal
    categorical   (0, 1, 2)            one column of its values      Categorical
    bandit        arms [n, k]          k columns, one arm per row    the position of the arm

`dimensionality` repeats a variable, as `name_1`, `name_2`, .... Bandits stand alone, as in GPyOpt.
"""

import itertools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bojax._plain import plain
from bojax.integrations.gpyopt._expressions import Constraint
from bojax.space import Categorical, Float, Int, Ordinal, Parameter, Space

TYPES = ("continuous", "discrete", "categorical", "bandit")
KEYS = ("name", "type", "domain", "dimensionality")
MAX_ARMS = 100_000
"""Most combinations of the arms of several bandits."""
SAME = 1e-9
"""Distance, relative to a column's range, at which a number counts as a value of it."""


class Domain(NamedTuple):
    """The columns of X.

    Attributes:
        names: [d] their names.
        space: the space of the model. With bandits it has a Float for every coordinate that differs among the arms.
        arms: [n, d] the rows that X may have, with bandits; None otherwise.
        types: the type of each described variable.
    """

    names: tuple[str, ...]
    space: Space
    arms: np.ndarray | None
    types: tuple[str, ...]

    def row(self, params: Mapping[str, Any]) -> np.ndarray:
        """[d] the row of X that belongs to parameters; with bandits the nearest arm."""
        if self.arms is None:
            return np.array([params[name] for name in self.names], float)
        return self.arms[self._nearest(np.array([params[name] for name in self.space.names], float))]

    def params(self, row: np.ndarray, where: str) -> dict[str, Any]:
        """The parameters of a row of X [d].

        Raises:
            ValueError: it does not belong to the domain. The message begins with `where`.
        """
        if self.arms is not None:
            arm = self.arms[self._nearest(row[self._varying()])]
            sizes = np.ptp(self.arms, axis=0)
            if not (np.abs(arm - row) <= SAME * np.where(sizes > 0, sizes, 1.0)).all():
                raise ValueError(f"{where} must be one of the {len(self.arms)} arms, got {row.tolist()}.")
            return {name: float(arm[self.names.index(name)]) for name in self.space.names}
        pairs = zip(self.names, row.tolist(), strict=True)
        return {name: value_of(self.space[name], number, f"{where}, `{name}`,") for name, number in pairs}

    def _varying(self) -> list[int]:
        return [self.names.index(name) for name in self.space.names]

    def _nearest(self, point: np.ndarray) -> int:
        assert self.arms is not None
        arms = self.arms[:, self._varying()]
        return int(np.argmin(np.sum(((arms - point) / np.ptp(arms, axis=0)) ** 2, axis=1)))


def value_of(parameter: Parameter, number: Any, where: str) -> Any:
    """The value of a parameter that a number of X stands for.

    Raises:
        ValueError: there is none. The message begins with `where`.
    """
    number = plain(number)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{where} must be a number, got {number!r} ({type(number).__name__}).")
    if isinstance(parameter, Float):
        low, high = parameter.low, parameter.high
        slack = SAME * (high - low)
        if not low - slack <= number <= high + slack:
            raise ValueError(f"{where} must be in [{low}, {high}], got {number!r}. Widen the domain or leave it out.")
        return min(max(float(number), low), high)
    values = [parameter.value(i) for i in range(parameter.num_values)]
    nearest = min(values, key=lambda value: abs(value - number))  # type: ignore[operator]
    if not abs(nearest - number) <= SAME * max(1.0, abs(nearest)):  # type: ignore[operator,arg-type]
        shown = str(values) if len(values) <= 20 else f"{values[:20]} and {len(values) - 20} more"
        raise ValueError(f"{where} must be one of {shown}, got {number!r}.")
    return nearest


def read_domain(domain: Any, argument: str = "domain") -> Domain:
    """Reads GPyOpt's list of variables.

    Args:
        domain: the list of dicts.
        argument: what it is called in messages.

    Returns:
        The `Domain`.

    Raises:
        TypeError: it is no list of dicts.
        ValueError: a variable is wrong: the message names it.

    Example:
        >>> read_domain([{"name": "a", "type": "continuous", "domain": (0, 1), "dimensionality": 2}]).names
        ('a_1', 'a_2')
    """
    if isinstance(domain, Mapping | str | bytes) or not isinstance(domain, Sequence):
        raise TypeError(f"`{argument}` must be a list of dicts such as {_EXAMPLE}, got {domain!r}.")
    if not domain:
        raise ValueError(f"`{argument}` must describe at least one variable, such as {_EXAMPLE}, got none.")
    variables = [_variable(entry, i, argument) for i, entry in enumerate(domain)]
    types = tuple(kind for _, kind, _, _ in variables)
    if "bandit" in types and set(types) != {"bandit"}:
        raise ValueError(
            f"`{argument}` must not mix bandits with other types, got {list(types)}. Describe the coordinates of the "
            "bandit as discrete variables, or each combination of all variables as an arm."
        )
    return _bandits(variables, argument) if "bandit" in types else _columns(variables, types, argument)


_EXAMPLE = "[{'name': 'a', 'type': 'continuous', 'domain': (0, 1)}]"

_Variable = tuple[str, str, Any, int]
"""Name, type, domain and dimensionality."""


def _variable(entry: Any, i: int, argument: str) -> _Variable:
    if not isinstance(entry, Mapping):
        raise TypeError(f"`{argument}[{i}]` must be a dict with {list(KEYS)}, got {entry!r} ({type(entry).__name__}).")
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise ValueError(f"`{argument}[{i}]` must have the keys {list(KEYS)}, got {unknown[0]!r}.")
    name, kind = entry.get("name", f"var_{i}"), entry.get("type", "continuous")
    if not isinstance(name, str) or not name:
        raise TypeError(f"The name of `{argument}[{i}]` must be a text, got {name!r}.")
    if kind not in TYPES:
        context = " A context is an argument of `run_optimization`, not a type." if kind == "context" else ""
        raise ValueError(f"The type of {name!r} in `{argument}` must be one of {list(TYPES)}, got {kind!r}.{context}")
    if "domain" not in entry:
        raise ValueError(f"{name!r} in `{argument}` must have the key 'domain', got {dict(entry)!r}.")
    size = plain(entry.get("dimensionality", 1))
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"The dimensionality of {name!r} in `{argument}` must be a whole number >= 1, got {size!r}.")
    return name, kind, entry["domain"], size


def constrained(domain: Domain, constraints: Any) -> Domain:
    """The domain with GPyOpt's constraints.

    Args:
        domain: the domain without them.
        constraints: list of dicts with `name` and `constraint`, an expression that is at most 0 at feasible points.

    Raises:
        TypeError: it is no list of dicts, or an expression is no text.
        ValueError: a constraint is wrong: the message names it; or the domain has bandits.
        BojaxError: no feasible point is found.
    """
    if constraints is None or (isinstance(constraints, Sequence) and not len(constraints)):
        return domain
    if isinstance(constraints, Mapping | str | bytes) or not isinstance(constraints, Sequence):
        raise TypeError(f"`constraints` must be a list of dicts such as {_CONSTRAINT}, got {constraints!r}.")
    if domain.arms is not None:
        raise ValueError("`constraints` must be None with bandits: leave infeasible arms out of the domain.")
    listed = {name: _listed_values(domain.space[name]) for name in domain.names}
    functions = []
    for i, entry in enumerate(constraints):
        text = entry.get("constraint", entry.get("constrain")) if isinstance(entry, Mapping) else None
        unknown = set(entry) - {"name", "constraint", "constrain"} if isinstance(entry, Mapping) else set()
        if text is None or unknown:
            raise TypeError(f"`constraints[{i}]` must be a dict such as {_CONSTRAINT}, got {entry!r}.")
        functions.append(Constraint(str(entry.get("name", f"constraint_{i}")), text, listed))
    return domain._replace(space=Space(dict(domain.space.items()), constraints=functions))


_CONSTRAINT = "{'name': 'c', 'constraint': 'x[:,0] + x[:,1] - 1'}"


def _listed_values(parameter: Parameter) -> tuple[float, ...] | None:
    """The values of a parameter that `decode` gives by position."""
    if isinstance(parameter, Float | Int):
        return None
    return tuple(float(parameter.value(i)) for i in range(parameter.num_values))  # type: ignore[arg-type]


def _columns(variables: list[_Variable], types: tuple[str, ...], argument: str) -> Domain:
    parameters: dict[str, Parameter] = {}
    for name, kind, domain, size in variables:
        parameter = _MAKERS[kind](domain, f"{name!r} in `{argument}`")
        for column in [name] if size == 1 else [f"{name}_{k + 1}" for k in range(size)]:
            if column in parameters:
                raise ValueError(f"`{argument}` must have distinct names, got {column!r} twice.")
            parameters[column] = parameter
    return Domain(tuple(parameters), Space(parameters), None, types)


def _continuous(domain: Any, where: str) -> Float:
    values = _numbers(domain, where)
    if len(values) != 2:
        raise ValueError(f"The domain of {where} must be (low, high), got {domain!r}.")
    low, high = map(float, values)
    if not low < high:
        reason = "out of order: write the smaller number first" if low > high else "empty: leave the variable out"
        raise ValueError(f"The domain of {where} must be (low, high) with low < high, got {domain!r}, {reason}.")
    return Float(low, high)


def _discrete(domain: Any, where: str) -> Parameter:
    values = sorted(_distinct(domain, where))
    steps = set(np.diff(values).tolist())
    if len(values) > 1 and len(steps) == 1 and all(isinstance(value, int) for value in values):
        return Int(values[0], values[-1], step=values[1] - values[0])
    return Ordinal(values)


def _categorical(domain: Any, where: str) -> Categorical:
    return Categorical(_distinct(domain, where))


_MAKERS = {"continuous": _continuous, "discrete": _discrete, "categorical": _categorical}


def _distinct(domain: Any, where: str) -> list[Any]:
    values = _numbers(domain, where)
    repeated = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if repeated is not None:
        raise ValueError(f"The domain of {where} must have distinct values, got {repeated!r} twice.")
    return values


def _numbers(domain: Any, where: str) -> list[Any]:
    """The numbers of a domain as plain Python values; whole ones as ints."""
    if isinstance(domain, str | bytes | Mapping) or not isinstance(domain, Iterable):
        raise TypeError(f"The domain of {where} must be a tuple of numbers, got {domain!r}.")
    values = [plain(value) for value in domain]
    if not values:
        raise ValueError(f"The domain of {where} must have at least one value, got none.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(
                f"The domain of {where} must be numbers, because X is an array of numbers, got {value!r}. "
                "Write the positions 0, 1, 2, ... and look the value up in `f`."
            )
        if not math.isfinite(value):
            raise ValueError(f"The domain of {where} must be finite, got {value!r}.")
    return [int(value) if float(value).is_integer() else float(value) for value in values]


def _bandits(variables: list[_Variable], argument: str) -> Domain:
    tables = [_arms(name, domain, size, argument) for name, _, domain, size in variables]
    count = math.prod(len(table) for table in tables)
    if count > MAX_ARMS:
        raise ValueError(f"`{argument}` must have at most {MAX_ARMS} combinations of arms, got {count}.")
    arms = np.array([np.concatenate(rows) for rows in itertools.product(*tables)])
    pairs = zip(variables, tables, strict=True)
    names = tuple(
        name if table.shape[1] == 1 else f"{name}_{k + 1}" for (name, *_), table in pairs for k in range(table.shape[1])
    )
    if len(set(names)) < len(names):
        raise ValueError(f"`{argument}` must have distinct names, got {list(names)}.")
    low, high = arms.min(axis=0), arms.max(axis=0)
    varying = {name: Float(low[k], high[k]) for k, name in enumerate(names) if low[k] < high[k]}
    return Domain(names, Space(varying), arms, ("bandit",) * len(variables))


def _arms(name: str, domain: Any, size: int, argument: str) -> np.ndarray:
    """[n, k] the distinct arms of a bandit, in their order."""
    where = f"{name!r} in `{argument}`"
    try:
        arms = np.asarray(domain, float)
    except (TypeError, ValueError):
        raise ValueError(f"The domain of {where} must be arms of equally many numbers, got {domain!r}.") from None
    arms = arms[:, None] if arms.ndim == 1 else arms
    if arms.ndim != 2 or not np.isfinite(arms).all():
        raise ValueError(f"The domain of {where} must be finite arms [n, k], got an array of shape {arms.shape}.")
    if size not in (1, arms.shape[1]):
        raise ValueError(f"The dimensionality of {where} must be {arms.shape[1]}, as its arms have, got {size}.")
    _, first = np.unique(arms, axis=0, return_index=True)
    if len(first) < 2:
        raise ValueError(f"The domain of {where} must have at least two different arms, got {len(first)}.")
    return arms[np.sort(first)]


def space_from_gpyopt(domain: Sequence[Mapping[str, Any]]) -> Space:
    """Returns the space that GPyOpt's description of the inputs stands for.

    Args:
        domain: GPyOpt's list of dicts with `name`, `type`, `domain` and `dimensionality`. Types are continuous,
            discrete, categorical and bandit.

    Returns:
        A `bojax.Space` with the names of GPyOpt: `name`, or `name_1`, `name_2`, ... where the dimensionality is above
        one. Continuous variables are Floats. Discrete ones are Ints where their values are whole and evenly spaced,
        and Ordinals elsewhere, in ascending order. Categorical ones are Categoricals of the given numbers. A bandit is
        a Categorical of the positions 0, 1, ... of its distinct arms.

    Raises:
        TypeError: `domain` is no list of dicts, or a value is not a number.
        ValueError: a variable is wrong, such as (high, low); the message names it.

    Example:
        >>> domain = [{"name": "x", "type": "continuous", "domain": (-1, 1)},
        ...           {"name": "n", "type": "discrete", "domain": (3, 8, 10)}]
        >>> space_from_gpyopt(domain)
        Space({'x': Float(low=-1.0, high=1.0, log=False), 'n': Ordinal(values=(3, 8, 10))})
    """
    described = read_domain(domain)
    if described.arms is None:
        return described.space
    variables = [_variable(entry, i, "domain") for i, entry in enumerate(domain)]
    return Space(
        {name: Categorical(list(range(len(_arms(name, arms, size, "domain"))))) for name, _, arms, size in variables}
    )
