"""A suggestion as a pure function of seed, ordinal, told data and pending points."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bojax._errors import Status
from bojax._runtime import host_scope
from bojax.loop import restore
from bojax.space import Space

AlgorithmFactory = Callable[[Space, int], Any]
"""From a space and a batch size q to a `bojax.loop.Algorithm` that asks for q points."""


def suggest(
    algorithm: AlgorithmFactory,
    space: Space,
    q: int,
    *,
    seed: int,
    ordinal: int,
    X: np.ndarray,
    y: np.ndarray,
    pending: np.ndarray,
    noise_var: np.ndarray | None = None,
    cost: np.ndarray | None = None,
    grad: np.ndarray | None = None,
    held: np.ndarray | None = None,
) -> tuple[list[dict[str, Any]], Status]:
    """Up to q suggestions, fewer only where a finite space is exhausted, and how they came about.

    The initial design follows from the seed alone, so it goes on where it stands; what is random in a suggestion
    follows from seed and ordinal.

    Args:
        algorithm: makes the algorithm for (space, q).
        space: what is tuned.
        q: how many points are chosen jointly.
        seed: of the study.
        ordinal: how many trials come before.
        X: [n, d] told points, in the order of their trials.
        y: [n] their values, maximised, NaN where failed.
        pending: [p, d] points being evaluated.
        noise_var: [n] variances of the noise of the values, 0 where exact, NaN where not told.
        cost: [n] what the evaluations cost, 0 where not told; for algorithms that keep costs.
        grad: [n, d] derivatives along the sides of the cube, NaN where not told; for algorithms that keep gradients.
        held: [d] coordinates that all points have, NaN where a parameter is free. An algorithm whose `ask` takes no
            `held` chooses as if all were free, and these are written over.

    Raises:
        ValueError: the algorithm gives points of another shape.
    """
    with host_scope():
        init, ask = _program(algorithm, space, q)
        key = jax.random.key(seed, impl="threefry2x32")
        state = restore(init(key), X, y, pending, remember=False, noise_var=noise_var, cost=cost, grad=grad)
        # Without `held` the argument is left out, so that the ordinary program does not depend on it.
        extra = {} if held is None or not _takes_held(ask) else {"held": held.astype(state.observations.X.dtype)}
        rows, _, info = ask(jax.random.fold_in(key, ordinal), state, **extra)
        rows, valid, status = np.asarray(rows), np.asarray(info.valid), Status(int(info.status))
    if rows.shape != (q, space.num_dims):
        raise ValueError(
            f"the algorithm gave points of shape {rows.shape}, but ({q}, {space.num_dims}) was asked for. "
            "`algorithm` must be a function of (space, q)."
        )
    if held is not None:
        rows = np.where(np.isnan(held), rows, held)
    return [space.to_params(row) for row in rows[valid]], status


def takes_held(algorithm: AlgorithmFactory, space: Space, q: int) -> bool:
    """Whether the algorithm chooses in the light of parameters that are held."""
    with host_scope():
        return _takes_held(_program(algorithm, space, q)[1])


@functools.lru_cache(maxsize=32)
def may_repeat(algorithm: AlgorithmFactory, space: Space) -> bool:
    """Whether the algorithm may ask for a point again, so that a finite space is never used up."""
    return bool(getattr(algorithm(space, 1), "repeats", False))


def _takes_held(ask: Callable) -> bool:
    try:
        return "held" in inspect.signature(ask).parameters
    except ValueError:  # not every callable has a signature
        return False


def bayesopt(space: Space, q: int) -> Any:
    """The default algorithm."""
    from bojax import loop

    return loop.bayesopt(space, q=q)


def gradient_bayesopt(space: Space, q: int) -> Any:
    """The default algorithm where gradients are told."""
    from bojax import loop

    return loop.bayesopt(space, q=q, gradients=True)


@functools.lru_cache(maxsize=32)
def _program(algorithm: AlgorithmFactory, space: Space, q: int) -> tuple[Callable, Callable]:
    """The compiled `init` and `ask` for q points, shared by all studies of this process."""
    functions = algorithm(space, q)
    return jax.jit(functions.init), jax.jit(functions.ask)
