"""Which hyperparameters a function depends on, read from its program.

A derivative that is zero because a hyperparameter never enters is a mistake of the caller, not a result. The program
(jaxpr) of a function tells: going back from its outputs, only those inputs are live that some live equation reads.
Loops are followed until their carry settles; an equation of a kind not known here counts as reading all its inputs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

from bojax._errors import InertHyperparameterError, NonDifferentiableHyperparameterError


def live_leaves(fn: Callable[[Any], Any], tree: Any) -> list[bool]:
    """For each leaf of `tree`, whether any output of `fn(tree)` can depend on it."""
    program = jax.make_jaxpr(fn)(tree).jaxpr
    return _live_inputs(program, [True] * len(program.outvars))


def check_differentiable(hparams: Any) -> Any:
    """`hparams` with every leaf a floating array.

    Raises:
        NonDifferentiableHyperparameterError: a leaf is an integer, a boolean or complex; the message names it.
        ValueError: there are no leaves.
    """
    leaves = jax.tree_util.tree_leaves_with_path(hparams)
    if not leaves:
        raise ValueError("`hparams` must have at least one leaf, got none.")
    for path, leaf in leaves:
        kind = jnp.result_type(leaf)
        if not jnp.issubdtype(kind, jnp.floating):
            raise NonDifferentiableHyperparameterError(
                f"`hparams{jax.tree_util.keystr(path)}` must be floating, got {kind}. Close over it or pass it in the "
                "data, and search over it without gradients."
            )
    return jax.tree.map(jnp.asarray, hparams)


def check_live(live: Sequence[bool], hparams: Any, hint: str) -> None:
    """Raise if a leaf is not live.

    Raises:
        InertHyperparameterError: naming every such leaf.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(hparams)]
    inert = [f"hparams{jax.tree_util.keystr(path)}" for path, is_live in zip(paths, live, strict=True) if not is_live]
    if inert:
        raise InertHyperparameterError(
            f"`{'`, `'.join(inert)}` must reach what is differentiated, and does not. {hint}"
        )


def _live_inputs(program: Any, live_outputs: Sequence[bool]) -> list[bool]:
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
    if name == "cond":
        reads = [_live_inputs(branch.jaxpr, outputs) for branch in eqn.params["branches"]]
        return [True, *(any(column) for column in zip(*reads, strict=True))]
    inner = [eqn.params[field] for field in ("jaxpr", "call_jaxpr") if field in eqn.params]
    if len(inner) == 1:
        program = inner[0].jaxpr if isinstance(inner[0], ClosedJaxpr) else inner[0]
        if len(program.invars) == len(eqn.invars) and len(program.outvars) == len(outputs):
            return _live_inputs(program, outputs)
    return [True] * len(eqn.invars)


def _read_by_scan(eqn: Any, outputs: list[bool]) -> list[bool]:
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    carry, rest = outputs[:num_carry], outputs[num_carry:]
    while True:
        read = _live_inputs(eqn.params["jaxpr"].jaxpr, carry + rest)
        wider = [a or b for a, b in zip(carry, read[num_consts : num_consts + num_carry], strict=True)]
        if wider == carry:
            return read[:num_consts] + carry + read[num_consts + num_carry :]
        carry = wider
