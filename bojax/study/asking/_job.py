"""What is compiled for an algorithm: the programs of `ask` and `predict`, and their arguments.

    seed, ordinal, columns of the space, observations, pending points --program--> points

An algorithm that works on any lattice is compiled once for all spaces of a size class, and the space is an argument of
its programs, padded. Every other algorithm is compiled for its space. Programs are kept on disk where what they compute
has a name that is the same in every process.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax import data
from bojax._alike import Alike, stable_text
from bojax._programs import Kept
from bojax._runtime import PRNG_IMPL, host_scope
from bojax.data import Told
from bojax.space import Lattice, Space

AlgorithmFactory = Callable[[Space, int], Any]
"""From a space and a batch size q to a `bojax.loop.Algorithm` that asks for q points."""

NUM_PROGRAMS = 16
"""Number of cached algorithms; the compiled programs of one take about 50 MB."""
MIN_CAPACITY = 64
"""Smallest capacity of a study's program. A smaller one would save milliseconds, and cost seconds to compile."""
MIN_PENDING = 8
"""Smallest room for pending points, where there are any."""


Params = tuple[np.ndarray, ...]
"""The leaves of a surrogate's hyperparameters."""


class Job(NamedTuple):
    """An algorithm for a space and q, and its programs.

    Attributes:
        algorithm: the algorithm for the exact space.
        space: the space.
        lattice: its padded columns, an argument of the programs; None if they are compiled for the exact space.
        params: zeros in the shapes of hyperparameters, from which programs for padded columns take the start of a fit.
        ask: the program of `ask`.
        predict: the program of `predict`; None for an algorithm without a surrogate.
    """

    algorithm: Any
    space: Space
    lattice: Lattice | None
    params: Params
    ask: Kept
    predict: Kept | None

    def ask_arguments(
        self, seed: int, ordinal: int, told: Told, capacity: int, held: np.ndarray | None, start: Params | None = None
    ) -> tuple[Any, ...]:
        """The arguments of `ask`. `start` are the hyperparameters from which the fit goes on, if columns are padded."""
        words, rows = (seed_words(seed), np.uint32(ordinal)), self._rows(told, capacity)
        if self.lattice is None:
            return (*words, *rows, *(() if held is None else (held.astype(_dtype()),)))
        lattice = self.lattice if held is None else self.lattice.hold(self._with_padding(held, np.nan))
        return (*words, lattice, *rows, self.params if start is None else start, np.bool_(start is not None))

    def predict_arguments(self, seed: int, told: Told, capacity: int, X: np.ndarray) -> tuple[Any, ...]:
        """The arguments of `predict`, for points X [k, d]."""
        lattice = () if self.lattice is None else (self.lattice,)
        return (seed_words(seed), *lattice, *self._rows(told, capacity), self._points(X))

    def _rows(self, told: Told, capacity: int) -> tuple[data.Observations, data.Pending]:
        """The data as buffers. Their sizes determine the program: NumPy arrays, which it takes as they are."""
        columns = {name: self._column(name, told.columns.get(name)) for name in _columns_of(self.algorithm)}
        waiting = len(told.pending) + getattr(self.algorithm, "q", 1)  # the new points become pending as well
        room = data.next_capacity(waiting, MIN_PENDING) if len(told.pending) else 0
        observations = data.host_buffer(self._points(told.X), told.y, capacity, _dtype(), **columns)
        return observations, data.host_pending(self._points(told.pending), room, _dtype())

    def _points(self, X: np.ndarray) -> np.ndarray:
        return self._with_padding(X, 0.5).astype(_dtype())

    def _column(self, name: str, column: np.ndarray | None) -> np.ndarray | None:
        kind = data.COLUMNS[name]
        return self._with_padding(column, kind.fill) if column is not None and kind.per_dim else column

    def _with_padding(self, array: np.ndarray, fill: float) -> np.ndarray:
        """An array [..., d] with as many columns as the programs have."""
        missing = 0 if self.lattice is None else self.lattice.num_dims - array.shape[-1]
        return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)], constant_values=fill) if missing else array


def _dtype() -> Any:
    """The type of floating arguments, in a `host_scope`."""
    return jax.dtypes.canonicalize_dtype(np.float64)


def _params_like(on: Any, lattice: Lattice) -> Params:
    """Zeros in the shapes of the hyperparameters."""
    with host_scope():
        params = jax.eval_shape(lambda lattice: on(lattice).init(_key(seed_words(0))).params, lattice)
        return tuple(np.zeros(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(params))


def capacity_for(count: int) -> int:
    """Room for so many observations."""
    return data.next_capacity(count, MIN_CAPACITY)


@functools.lru_cache(maxsize=4 * NUM_PROGRAMS)
def job_of(algorithm: AlgorithmFactory, space: Space, q: int) -> Job:
    """The job of an algorithm. Factories that are recreated for each call share programs if they do the same."""
    with host_scope():
        made = algorithm(space, q)
    on = getattr(made, "on", None)
    if on is None:
        identity = stable_text(algorithm, space.names, tuple(map(repr, space.parameters)), space.constraints, q)
        return Job(made, space, None, (), *_programs(Alike(made), False, identity))
    lattice = Lattice.padded(space)
    return Job(made, space, lattice, _params_like(on, lattice), *_programs(Alike(on), True, stable_text(on)))


@functools.lru_cache(maxsize=NUM_PROGRAMS)
def _programs(what: Alike, any_space: bool, identity: str | None) -> tuple[Kept, Kept | None]:
    """The programs of `ask` and `predict`, from the words of a seed's key, an ordinal, the lattice and the data."""
    ask, predict = _on_any(what.value) if any_space else _on_exact(what.value)

    def kept(function):
        return Kept(function, None if identity is None else f"{function.__name__} {identity}")

    return kept(ask), None if predict is None else kept(predict)


def _on_any(on):
    def begun(words, lattice, observations, pending):
        algorithm = on(lattice)
        return algorithm, _filled(algorithm.init(_key(words)), observations, pending)

    def ask(words, ordinal, lattice, observations, pending, params, trusted):
        algorithm, state = begun(words, lattice, observations, pending)
        own, form = jax.tree.flatten(state.params)
        start = [jnp.where(trusted, new, old) for new, old in zip(params, own, strict=True)]
        state = state._replace(params=form.unflatten(start), trusted=trusted)
        X, state, info = algorithm.ask(jax.random.fold_in(_key(words), ordinal), state)
        return X, info.valid, info.status, *jax.tree.leaves(state.params)

    def predict(words, lattice, observations, pending, X):
        algorithm, state = begun(words, lattice, observations, pending)
        return tuple(algorithm.predict(_key(words), state, X))

    return ask, predict


def _on_exact(algorithm):
    def ask(words, ordinal, observations, pending, *held):
        state = _filled(algorithm.init(_key(words)), observations, pending)
        X, _, info = algorithm.ask(jax.random.fold_in(_key(words), ordinal), state, *held)
        return X, info.valid, info.status  # the rest is omitted from the program

    def predict(words, observations, pending, X):
        state = _filled(algorithm.init(_key(words)), observations, pending)
        return tuple(algorithm.predict(_key(words), state, X))

    return ask, None if getattr(algorithm, "predict", None) is None else predict


def _filled(state, observations, pending):
    return state._replace(observations=observations, pending=pending)


def _key(words):
    return jax.random.wrap_key_data(words, impl=PRNG_IMPL)


def _columns_of(algorithm: Any) -> tuple[str, ...]:
    """The columns that states of an algorithm store; an algorithm written elsewhere may not say so."""
    columns = getattr(algorithm, "columns", None)
    if columns is None:
        columns = tuple(jax.eval_shape(algorithm.init, jax.random.key(0)).observations.columns)
    return columns


def seed_words(seed: int) -> np.ndarray:
    """The data of a seed's key, [2] uint32."""
    return np.array([0, seed], np.uint32)
