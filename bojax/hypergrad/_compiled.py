"""A program cache for calls outside of compiled code.

JAX recompiles a loop for every new function object, and a hypergradient creates its functions in each call. So a call
with concrete arrays runs as one program, which is cached by its constituents. Calls inside a transformation are left
unchanged.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from bojax._alike import Alike

NUM_PROGRAMS = 16
"""Number of programs in the cache, with the values that their functions close over."""


def call_compiled(body: Callable[..., Any], *args: Any) -> Any:
    """`body(*args)` as one compiled program, shared by all equivalent bodies.

    Arrays are arguments of the program; other leaves, such as Python numbers, are its constants. The body runs
    uncompiled if it needs values of arrays (a Python `if` on data) or returns something other than arrays.
    """
    leaves, form = jax.tree.flatten(args)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return body(*args)
    is_array = tuple(_is_array(leaf) for leaf in leaves)
    arrays = [leaf for leaf, array in zip(leaves, is_array, strict=True) if array]
    constants = tuple(None if array else leaf for leaf, array in zip(leaves, is_array, strict=True))
    what = Alike((body, form, is_array, constants))
    if what.has_tracers:
        return body(*args)
    program = _program(what)
    if program.needs_values:
        return body(*args)
    try:
        return program(arrays)
    except (TypeError, IndexError):  # the body raises a caller's mistake too
        result = body(*args)
        program.needs_values = True
        return result


class _Program:
    def __init__(self, what: Alike) -> None:
        body, form, is_array, constants = what.value
        self.needs_values = False

        def run(arrays):
            rest = iter(arrays)
            leaves = [next(rest) if array else leaf for array, leaf in zip(is_array, constants, strict=True)]
            return body(*jax.tree.unflatten(form, leaves))

        self._compiled = jax.jit(run)

    def __call__(self, arrays: list[Any]) -> Any:
        return self._compiled(arrays)


_program = functools.lru_cache(maxsize=NUM_PROGRAMS)(_Program)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) or (isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "biufc")
