"""Optuna's distributions as a `Space`, and values of one as values of the other.

Choices are known by their position, so that they may be any objects. Numbers that a `Space` cannot count (integers
beyond 32 bits, grids too fine to tell their values apart) are searched as real numbers and rounded to their grid.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bojax.integrations._optuna_tree import Condition
from bojax.space import Categorical, Float, Int, Parameter, Space

Distributions = Mapping[str, BaseDistribution]

NO_CONDITIONS: Mapping[str, Condition] = MappingProxyType({})
GRID_TOLERANCE = 1e-8
"""Largest distance, in steps, at which a number counts as a value of a grid, as in Optuna."""


class Translated(NamedTuple):
    """Distributions and their space.

    Attributes:
        distributions: by name, in the order of the columns.
        space: the space.
    """

    distributions: dict[str, BaseDistribution]
    space: Space

    def row(self, params: Mapping[str, Any]) -> np.ndarray | None:
        """The point [d] of some values; None if one is missing or does not belong to the space."""
        try:
            given = {name: self._native(name, params[name]) for name in self.distributions if name in params}
            return self.space.from_params({name: given[name] for name in self.space.active_names(given)})
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def valid(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Those values that belong to the space, as values of the space."""
        given = {}
        for name in self.distributions:
            with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
                value = self._native(name, params[name])
                self.space.coordinates_of({name: value})
                given[name] = value
        return {name: given[name] for name in self.space.active_names(given) if name in given}

    def params(self, x: np.ndarray) -> dict[str, Any]:
        """The values of a point [d] of the cube, as Optuna's own code would give them."""
        return self.from_space(self.space.to_params(x))

    def from_space(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the space as values of the distributions."""
        return {name: _external(d, params[name]) for name, d in self.distributions.items() if name in params}

    def internal(self, params: Mapping[str, Any]) -> dict[str, float]:
        """Values as Optuna stores them: numbers, of choices their positions."""
        return {n: float(d.to_internal_repr(params[n])) for n, d in self.distributions.items() if n in params}

    def external(self, internal: Mapping[str, float]) -> dict[str, Any]:
        """The inverse of `internal`, without values that do not belong to the distributions."""
        known = [(name, d, internal[name]) for name, d in self.distributions.items() if name in internal]
        return {name: d.to_external_repr(number) for name, d, number in known if d._contains(number)}

    def _native(self, name: str, value: Any) -> Any:
        number = self.distributions[name].to_internal_repr(value)
        parameter = self.space[name]
        if isinstance(parameter, Float):
            return float(number)
        return int(number) if number == int(number) else number  # off the grid, which the space rejects


def translated(distributions: Distributions, conditions: Mapping[str, Condition] = NO_CONDITIONS) -> Translated | None:
    """The space of these distributions.

    Args:
        distributions: by name.
        conditions: under which values of others some of the parameters exist.

    Returns:
        The space of those that can be searched: none with a single value, none whose range overflows, and none that
        depends on such a one; None if no distribution is left.
    """
    known = {name: p for name, d in distributions.items() if (p := _parameter(d)) is not None}
    lost = set(distributions) - set(known)
    while more := {name for name in known if name in conditions and conditions[name].parent in lost}:
        known = {name: parameter for name, parameter in known.items() if name not in more}
        lost |= more
    for name in set(known) & set(conditions):
        parent, values = conditions[name]
        known[name] = dataclasses.replace(known[name], when={parent: list(values)})
    return Translated({name: distributions[name] for name in known}, Space(known)) if known else None


def merged(distributions: Sequence[BaseDistribution]) -> BaseDistribution:
    """One distribution in place of several of one parameter: over all their ranges, if they share a scale and a grid.

    Args:
        distributions: the distributions, the newest first; at least one.

    Returns:
        The merged distribution; the newest one if they differ in more than their range.
    """
    newest = distributions[0]
    others = [d for d in distributions[1:] if d != newest]
    if not others or not isinstance(newest, FloatDistribution | IntDistribution):
        return newest
    if not all(type(d) is type(newest) and _same_grid(newest, d) for d in others):
        return newest
    low, high = (limit(getattr(d, end) for d in [newest, *others]) for limit, end in ((min, "low"), (max, "high")))
    make: Any = type(newest)
    return make(low, high, log=newest.log, step=newest.step)


def _same_grid(one: Any, other: Any) -> bool:
    if (one.log, one.step) != (other.log, other.step):
        return False
    shift = 0.0 if one.step is None else (one.low - other.low) / one.step
    return abs(shift - round(shift)) <= GRID_TOLERANCE


def _parameter(distribution: BaseDistribution) -> Parameter | None:
    if distribution.single():
        return None
    match distribution:
        case CategoricalDistribution():
            return Categorical(range(len(distribution.choices)))
        case IntDistribution(low=low, high=high, log=log, step=step):
            return _first_valid(lambda: Int(low, high, log=log, step=step), lambda: Float(low, high, log=log))
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return _first_valid(lambda: Float(low, high, log=log, step=step), lambda: Float(low, high, log=log))
    return None


def _first_valid(*makers: Any) -> Parameter | None:
    for make in makers:
        try:
            return make()
        except ValueError:  # too many values, or a range that overflows
            continue
    return None


def _external(distribution: Any, value: Any) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[value]
    if isinstance(value, float) and distribution.step is not None:
        low, high, step = distribution.low, distribution.high, distribution.step
        value = min(max(low + step * round((value - low) / step), low), high)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)
