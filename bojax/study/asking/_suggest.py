"""A suggestion as a pure function of seed, ordinal, reported data and pending points."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from bojax._alike import Alike
from bojax._errors import Status
from bojax._runtime import PRNG_IMPL, host_scope, seed_key
from bojax.data import Told, unread_column
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
    told: Told,
    held: np.ndarray | None = None,
) -> tuple[list[dict[str, Any]], Status]:
    """Up to q suggestions, fewer only if a finite space is exhausted, and their status.

    The initial design depends only on the seed, so it continues where it stopped. The randomness of a suggestion
    depends on seed and ordinal.

    Args:
        algorithm: a function from (space, q) to the algorithm.
        space: the search space.
        q: number of points chosen jointly.
        seed: seed of the study.
        ordinal: number of earlier trials.
        told: the reported data, in the order of the trials, and the pending points.
        held: [d] fixed coordinates of all points, NaN where a parameter is free. An algorithm whose `ask` has no
            argument `held` chooses as if all were free, and its choices are overwritten.

    Raises:
        ValueError: the algorithm returns points of another shape.
    """
    with host_scope():
        made = _made(algorithm, space, q)
        state = restore(_start(made, seed), told, remember=False)
        # Without `held` the argument is omitted, so that the ordinary program does not depend on it.
        extra = {}
        if held is not None and takes_held(algorithm, space, q):
            extra["held"] = held.astype(state.observations.X.dtype)
        words = np.array([0, seed], np.uint32)
        rows, valid, status = map(np.asarray, _compiled_ask(made)(words, np.uint32(ordinal), state, **extra))
    status = Status(int(status))
    if rows.shape != (q, space.num_dims):
        raise ValueError(
            f"the algorithm gave points of shape {rows.shape}, but ({q}, {space.num_dims}) was asked for. "
            "`algorithm` must be a function of (space, q)."
        )
    if held is not None:
        rows = np.where(np.isnan(held), rows, held)
    return [space.to_params(row) for row in rows[valid]], status


@functools.lru_cache(maxsize=64)
def takes_held(algorithm: AlgorithmFactory, space: Space, q: int) -> bool:
    """Whether the algorithm accounts for held parameters."""
    with host_scope():
        ask = _made(algorithm, space, q).value.ask
    try:
        return "held" in inspect.signature(ask).parameters
    except ValueError:  # not every callable has a signature
        return False


def may_repeat(algorithm: AlgorithmFactory, space: Space) -> bool:
    """Whether the algorithm may suggest a point again, so that a finite space is never exhausted."""
    return bool(getattr(_made(algorithm, space, 1).value, "repeats", False))


def bayesopt(space: Space, q: int) -> Any:
    """The default algorithm."""
    from bojax import loop

    return loop.bayesopt(space, q=q)


def gradient_bayesopt(space: Space, q: int) -> Any:
    """The default algorithm for reported gradients."""
    from bojax import loop

    return loop.gradient_bayesopt(space, q=q)


def unread(algorithm: AlgorithmFactory, space: Space, told: Iterable[str]) -> list[str]:
    """Which of these columns the algorithm does not use; none if it does not declare its columns."""
    told = list(told)
    kept = getattr(_made(algorithm, space, 1).value, "columns", None) if told else None
    return [] if kept is None else [name for name in told if name not in kept]


def check_read(algorithm: AlgorithmFactory, space: Space, told: Iterable[str]) -> None:
    """Raises ValueError for a column that the algorithm does not use."""
    for name in unread(algorithm, space, told):
        raise ValueError(
            f"{unread_column(name)} Give it to the study by `algorithm`, or record it as a user attribute."
        )


NUM_PROGRAMS = 16
"""Number of cached programs; the compiled ones of one algorithm and q take about 50 MB."""


@functools.lru_cache(maxsize=4 * NUM_PROGRAMS)
def _made(algorithm: AlgorithmFactory, space: Space, q: int) -> Alike:
    """The algorithm for q points. Factories that are recreated for each call return equivalent algorithms."""
    return Alike(algorithm(space, q))


def predict_program(algorithm: AlgorithmFactory, space: Space) -> tuple[Callable, Callable]:
    """The compiled `init` and `predict`; those of the default algorithm if this one has no surrogate."""
    made = _made(algorithm, space, 1)
    return _compiled_predict(_made(bayesopt, space, 1) if getattr(made.value, "predict", None) is None else made)


@functools.lru_cache(maxsize=NUM_PROGRAMS)
def _compiled_predict(made: Alike) -> tuple[Callable, Callable]:
    return jax.jit(made.value.init), jax.jit(made.value.predict)


@functools.lru_cache(maxsize=NUM_PROGRAMS)
def _compiled_ask(made: Alike) -> Callable:
    """One program from the words of a seed's key, an ordinal and a state to points, their validity, and the status.

    Other results of `ask` are omitted from the program.
    """

    def chosen(words, ordinal, state, **held):
        key = jax.random.fold_in(jax.random.wrap_key_data(words, impl=PRNG_IMPL), ordinal)
        rows, _, info = made.value.ask(key, state, **held)
        return rows, info.valid, info.status

    return jax.jit(chosen)


@functools.lru_cache(maxsize=NUM_PROGRAMS)
def _start(made: Alike, seed: int) -> Any:
    """The initial state of an algorithm."""
    return jax.jit(made.value.init)(seed_key(seed))
