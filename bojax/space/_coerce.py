"""Anything that describes a space, as a `Space`."""

from collections.abc import Mapping
from typing import Any

from bojax.space._space import Space


def to_space(space: Any) -> Space:
    """A `Space` from a `Space`, a mapping of names to parameters, or a plain specification.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(space, Space):
        return space
    if not isinstance(space, Mapping):
        raise TypeError(f"`space` must be a bojax.Space or a mapping of names to parameters, got {space!r}.")
    is_spec = bool(space) and all(isinstance(entry, Mapping) for entry in space.values())
    return Space.from_spec(space) if is_spec else Space(space)
