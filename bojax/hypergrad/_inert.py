"""Detect hyperparameters whose hypergradient is zero everywhere.

A derivative that is zero because a hyperparameter is unused, or used only where nothing is differentiated, is a mistake
of the caller, not a result.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bojax._errors import InertHyperparameterError, NonDifferentiableHyperparameterError
from bojax._liveness import Reach


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


NO_SLOPE = (
    "It enters only by operations that have no derivative, as round, floor, comparisons, casts to integers, draws of "
    "integers or booleans and stop_gradient, so that its hypergradient is zero everywhere. Use a smooth relaxation, or "
    "search over it without gradients."
)


def check_reach(reached: Sequence[Reach], hparams: Any, hint: str) -> None:
    """Raise if a leaf has no derivative.

    Raises:
        InertHyperparameterError: naming every such leaf.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(hparams)]
    for reach, reason in ((Reach.NOT, hint), (Reach.VALUE, NO_SLOPE)):
        inert = [f"hparams{jax.tree_util.keystr(path)}" for path, r in zip(paths, reached, strict=True) if r == reach]
        if inert:
            raise InertHyperparameterError(
                f"`{'`, `'.join(inert)}` must reach what is differentiated, and does not. {reason}"
            )
