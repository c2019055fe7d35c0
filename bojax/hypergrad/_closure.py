"""Turn closed-over values of a function into an argument.

Functions wrapped by `custom_vjp` and `custom_vmap` must not close over traced arrays, but a caller's loss or matrix
product often does, for example inside `vmap` over the data of the loss.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun


def open_closure(fn: Callable[..., Any], *examples: Any) -> tuple[Callable[..., Any], list[Any]]:
    """The pair (apply, consts) with apply(consts, *args) = fn(*args) for arguments like the examples."""
    program, out = jax.make_jaxpr(fn, return_shape=True)(*examples)
    treedef = jax.tree.structure(out)

    def apply(consts, *args):
        leaves = jaxpr_as_fun(ClosedJaxpr(program.jaxpr, consts))(*jax.tree.leaves(args))
        return jax.tree.unflatten(treedef, leaves)

    return apply, list(program.consts)
