"""What is compiled for an algorithm: the programs of `ask` and `predict`, and their arguments.

    seed, ordinal, columns of the space, observations, pending points --program--> points

An algorithm that works on any lattice is compiled once for all spaces of a size class, and the space is an argument of
its programs, padded. Every other algorithm is compiled for its space. Programs are kept on disk where what they compute
has a name that is the same in every process.
"""

import functools
import hashlib
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


class Job(NamedTuple):
    """An algorithm for a space and q, and its programs.

    Attributes:
        algorithm: the algorithm for the exact space.
        lattice: the padded columns, an argument of the programs; None if they are compiled for the exact space.
        ask: the program of `ask`.
        predict: the program of `predict`; None for an algorithm without a surrogate.
        params: hyperparameters as the programs take them, zeros; None if fits have no start but their own.
    """

    algorithm: Any
    lattice: Lattice | None
    ask: Kept
    predict: Kept | None
    params: tuple[np.ndarray, ...] | None = None

    def points(self, X: np.ndarray, dtype: Any) -> np.ndarray:
        """Points [k, d] with as many columns as the programs have."""
        missing = 0 if self.lattice is None else self.lattice.num_dims - X.shape[1]
        padding = np.full((len(X), missing), 0.5)
        return np.concatenate([X, padding], axis=1).astype(dtype)

    def rows(self, told: Told, capacity: int) -> tuple[data.Observations, data.Pending]:
        """The data as buffers. Their sizes determine the program: NumPy arrays, which it takes as they are."""
        dtype = jax.dtypes.canonicalize_dtype(np.float64)
        columns = {name: self._padded(name, told.columns.get(name)) for name in _columns_of(self.algorithm)}
        waiting = len(told.pending) + getattr(self.algorithm, "q", 1)  # the new points become pending as well
        room = data.next_capacity(waiting, MIN_PENDING) if len(told.pending) else 0
        observations = data.host_buffer(self.points(told.X, dtype), told.y, capacity, dtype, **columns)
        return observations, data.host_pending(self.points(told.pending, dtype), room, dtype)

    @property
    def space_digest(self) -> bytes:
        """What the programs are told of the space."""
        digest = hashlib.blake2b(digest_size=16)
        for leaf in jax.tree.leaves(self.lattice):
            digest.update(np.asarray(leaf).tobytes())
        return digest.digest()

    def _padded(self, name, column):
        if column is None or self.lattice is None or not data.COLUMNS[name].per_dim:
            return column
        missing = self.lattice.num_dims - column.shape[1]
        return np.pad(column, ((0, 0), (0, missing)), constant_values=data.COLUMNS[name].fill)

    def held(self, held: np.ndarray | None) -> tuple[Any, ...]:
        """The first argument of the programs that an `ask` with held coordinates needs, or the last one."""
        if self.lattice is None:
            return () if held is None else (held.astype(jax.dtypes.canonicalize_dtype(np.float64)),)
        if held is None:
            return (self.lattice,)
        missing = self.lattice.num_dims - len(held)
        return (self.lattice.hold(np.pad(held, (0, missing), constant_values=np.nan)),)


def _params_like(on: Any, lattice: Lattice) -> tuple[np.ndarray, ...]:
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
        identity = stable_text(algorithm, space.names, tuple(map(repr, space.parameters)), q)
        return Job(made, None, *_programs(Alike(made), False, identity))
    lattice = Lattice.padded(space)
    return Job(made, lattice, *_programs(Alike(on), True, stable_text(on)), _params_like(on, lattice))


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
