"""The argument `when` of every parameter: under which values of other parameters it exists.

    Float(0.0, 0.99, when={"optimizer": "sgd"})                      # one value
    Int(1, 9, when={"quality": [4, 8], "optimizer": ["sgd"]})        # several values; all names must hold

`_conditions.py` resolves the names against a space.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from bojax._plain import plain

When: TypeAlias = tuple[tuple[str, tuple[Any, ...]], ...]
"""Pairs of a parent's name and its values under which a parameter exists; empty if it always does."""


@dataclasses.dataclass(frozen=True, repr=False)
class Conditional:
    """Base class of the parameters: a parameter exists where all its conditions hold."""

    when: Any = dataclasses.field(default=(), kw_only=True)

    def set_when(self) -> None:
        """Replace the argument `when` by pairs of names and tuples of values."""
        object.__setattr__(self, "when", as_when(self.when))

    def __repr__(self) -> str:
        fields = [f.name for f in dataclasses.fields(self) if f.init and f.repr and f.name != "when"]
        given = {name: getattr(self, name) for name in fields}
        shown = [f"{name}={value!r}" for name, value in given.items() if name != "step" or value is not None]
        if self.when:
            conditions = {name: values[0] if len(values) == 1 else list(values) for name, values in self.when}
            shown.append(f"when={conditions!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def as_when(given: Any) -> When:
    """The conditions as pairs, in the order given.

    Args:
        given: None or a mapping from the name of a parameter to a value of it, or a list of values; or such pairs.

    Returns:
        Pairs of a name and a tuple of values; empty for None and for an empty mapping.

    Raises:
        TypeError: it is not a mapping, or a name is not a string.
        ValueError: a name has no values, or a value twice.

    Example:
        >>> as_when({"optimizer": "sgd", "quality": [4, 8]})
        (('optimizer', ('sgd',)), ('quality', (4, 8)))
    """
    if given is None:
        return ()
    if isinstance(given, tuple):
        given = dict(given)
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`when` must map names of parameters to values, got {given!r} ({type(given).__name__}). "
            "For example when={'optimizer': 'sgd'}."
        )
    return tuple((_name(name), _values(name, values)) for name, values in given.items())


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"`when` must have names of parameters as keys, got {name!r} ({type(name).__name__}).")
    return name


def _values(name: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, np.ndarray) and given.ndim == 1:
        given = given.tolist()
    scalar = isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable)
    scalar = scalar or getattr(given, "ndim", 1) == 0
    if isinstance(given, (set, frozenset)):
        raise TypeError(f"`when[{name!r}]` must be a value or a list of values, got the set {given!r}. Use a list.")
    values = (plain(given),) if scalar else tuple(map(plain, given))
    if not values:
        raise ValueError(f"`when[{name!r}]` must hold at least one value, got {given!r}: it would never exist.")
    for value in values:
        if not (value is None or isinstance(value, (bool, int, float, str))):
            raise TypeError(f"`when[{name!r}]` must hold values of `{name}`, got {value!r} ({type(value).__name__}).")
    if len(set(values)) < len(values):
        raise ValueError(f"`when[{name!r}]` must hold each value once, got {given!r}.")
    return values
