"""Conversion of descriptions of a space to a `Space`."""

from collections.abc import Mapping
from typing import Any

from bojax.space._space import CONSTRAINTS, Space


def to_space(space: Any) -> Space:
    """Convert a description of a space to a `Space`.

    Args:
        space: a `Space`, a mapping of names to parameters, or a plain specification as `Space.to_spec` gives it.

    Returns:
        A `Space`. If one is given, it is returned unchanged.

    Raises:
        TypeError: `space` is none of these.

    Example:
        >>> import bojax
        >>> to_space({"x": bojax.Float(0.0, 1.0)}).names
        ('x',)
    """
    if isinstance(space, Space):
        return space
    if not isinstance(space, Mapping):
        raise TypeError(f"`space` must be a bojax.Space or a mapping of names to parameters, got {space!r}.")
    is_spec = bool(space) and all(isinstance(entry, Mapping) for name, entry in space.items() if name != CONSTRAINTS)
    return Space.from_spec(space) if is_spec else Space(space)
