"""Which inputs of a function its outputs depend on, read from its program.

The program (jaxpr) of a function tells: going back from its outputs, only those inputs are live that some live equation
reads. Loops are followed until their carry settles; an equation of a kind not known here counts as reading all its
inputs.

For derivatives more equations are dead. JAX knows of some zeros without computing them: what is rounded, compared,
cast to an integer or passed through `stop_gradient` has no derivative, whatever its value. `sloped_leaves` asks the
program of the derivative, in which tangents that are zero for that reason do not stand.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal


def live_leaves(fn: Callable[[Any], Any], tree: Any) -> list[bool]:
    """For each leaf of `tree` (arrays or their shapes), whether any output of `fn(tree)` can depend on it."""
    program = jax.make_jaxpr(fn)(tree).jaxpr
    return live_inputs(program, [True] * len(program.outvars))


def sloped_leaves(fn: Callable[[Any], Any], tree: Any) -> list[bool]:
    """For each leaf of `tree`, floating arrays, whether any output of `fn(tree)` can have a derivative by it.

    Where this is false the derivative is zero everywhere, as JAX takes it.
    """
    zeros = jax.tree.map(jnp.zeros_like, tree)
    try:
        program = jax.make_jaxpr(lambda tangents: jax.jvp(fn, (tree,), (tangents,))[1])(zeros).jaxpr
    except TypeError:  # a `custom_vjp` inside has no forward derivative
        return _sloped_in_reverse(fn, tree)
    return live_inputs(program, [True] * len(program.outvars))


def _sloped_in_reverse(fn: Callable[[Any], Any], tree: Any) -> list[bool]:
    """The same from the program of the reverse derivative, where a gradient that is zero reads no cotangent."""
    cotangents = jax.tree.map(lambda out: jnp.zeros(out.shape, out.dtype), jax.eval_shape(fn, tree))
    program = jax.make_jaxpr(lambda cotangents: jax.vjp(fn, tree)[1](cotangents)[0])(cotangents).jaxpr
    count = len(program.outvars)
    return [any(live_inputs(program, [i == j for j in range(count)])) for i in range(count)]


class Reach(enum.IntEnum):
    """How a leaf enters a function."""

    NOT = 0
    """Not at all."""
    VALUE = 1
    """By its value only: the derivative is zero everywhere."""
    SLOPE = 2
    """With a derivative."""


def reaches(fn: Callable[[Any], Any], tree: Any) -> list[Reach]:
    """How each leaf of `tree`, floating arrays, enters the outputs of `fn(tree)`."""
    pairs = zip(live_leaves(fn, tree), sloped_leaves(fn, tree), strict=True)
    return [Reach.SLOPE if sloped else Reach.VALUE if live else Reach.NOT for live, sloped in pairs]


def live_inputs(program: Any, live_outputs: Sequence[bool]) -> list[bool]:
    """For each input of a program (a jaxpr), whether any of the live outputs can depend on it."""
    live = {v for v, used in zip(program.outvars, live_outputs, strict=True) if used and not isinstance(v, Literal)}
    for eqn in reversed(program.eqns):
        outputs = [v in live for v in eqn.outvars]
        if any(outputs):
            read = zip(eqn.invars, _read_by(eqn, outputs), strict=True)
            live.update(v for v, used in read if used and not isinstance(v, Literal))
    return [v in live for v in program.invars]


def _read_by(eqn: Any, outputs: list[bool]) -> list[bool]:
    """Which inputs of an equation its live outputs need."""
    name = eqn.primitive.name
    if name == "scan":
        return _read_by_scan(eqn, outputs)
    if name == "while":
        return _read_by_while(eqn, outputs)
    if name == "cond":
        reads = [live_inputs(branch.jaxpr, outputs) for branch in eqn.params["branches"]]
        return [True, *(any(column) for column in zip(*reads, strict=True))]
    inner = [eqn.params[field] for field in ("jaxpr", "call_jaxpr") if field in eqn.params]
    if len(inner) == 1:
        program = inner[0].jaxpr if isinstance(inner[0], ClosedJaxpr) else inner[0]
        if len(program.invars) == len(eqn.invars) and len(program.outvars) == len(outputs):
            return live_inputs(program, outputs)
    return [True] * len(eqn.invars)


def _read_by_scan(eqn: Any, outputs: list[bool]) -> list[bool]:
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    carry, rest = outputs[:num_carry], outputs[num_carry:]
    while True:
        read = live_inputs(eqn.params["jaxpr"].jaxpr, carry + rest)
        wider = [a or b for a, b in zip(carry, read[num_consts : num_consts + num_carry], strict=True)]
        if wider == carry:
            return read[:num_consts] + carry + read[num_consts + num_carry :]
        carry = wider


def _read_by_while(eqn: Any, outputs: list[bool]) -> list[bool]:
    num_cond, num_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    condition = live_inputs(eqn.params["cond_jaxpr"].jaxpr, [True])
    carry = [a or b for a, b in zip(outputs, condition[num_cond:], strict=True)]
    while True:
        read = live_inputs(eqn.params["body_jaxpr"].jaxpr, carry)
        wider = [a or b for a, b in zip(carry, read[num_body:], strict=True)]
        if wider == carry:
            return condition[:num_cond] + read[:num_body] + carry
        carry = wider
