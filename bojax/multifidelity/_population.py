"""A population of training runs that advance together, as a few vmapped programs.

Members of the same structure share a program. Running members are divided into chunks of one size; an incomplete chunk
is padded with copies of its last member. Idle and dropped members are in no chunk and cost nothing.

On an accelerator a structure is one chunk, if the structures are equally large. On CPU XLA uses one core for a small
program, and a network trains no faster in a vmapped batch than alone (within 10 % for the zoo's `digits_mlp`,
`digits_cnn` and `digits_gru`, jax 0.10), so chunks are small and one runs per core. In a small population each member
is a chunk, so all its rungs share one program. Sizes are powers of two on an accelerator and of four on CPU: a
structure compiles O(log n) programs.
"""

import functools
import os
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from bojax._alike import Alike, alike
from bojax._runtime import as_user, user_settings
from bojax._types import Array, Shaped
from bojax.multifidelity._reads import check_reads
from bojax.multifidelity._trainable import Program, Trainable

Members = Sequence[SupportsIndex] | np.ndarray

MAX_STRUCTURES = 40
"""Number of structures whose compiled functions are cached. Linux allows a process 65,530 memory maps, beyond which
LLVM cannot compile; a transformer's functions take about 900, which are released when it leaves the cache."""


class Chunk(NamedTuple):
    """Members that run in one program.

    Attributes:
        structure: their structure.
        members: [k] their numbers.
        hparams: the hyperparameters, arrays [c], c >= k; the rows beyond k are copies.
        state: the stacked states [c].
    """

    structure: Hashable
    members: tuple[int, ...]
    hparams: Mapping[str, Any]
    state: Any


class Population:
    """Training runs of one objective, numbered from 0 in the order in which they are added.

    Args:
        objective: the training run.
        keys: [n] keys, one per member.
        hparams: arrays [n]; positions for categorical and ordinal hyperparameters.
        num_workers: number of chunks that run at once; by default the number of cores, or 1 on an accelerator.
        chunk: number of members of a chunk; by default a number that suits the device.

    Attributes:
        steps: steps of each member, by its number, including dropped ones.
        programs: the compiled programs: function, structure and size of the chunk.

    Example:
        >>> import bojax, jax, numpy as np
        >>> from bojax import multifidelity
        >>> bowl = multifidelity.from_functions(
        ...     bojax.Space(x=bojax.Float(-1.0, 1.0)),
        ...     init=lambda key, hparams: 0.0,
        ...     advance=lambda state, hparams, num_steps: state + num_steps,
        ...     evaluate=lambda state, hparams: {"loss": hparams["x"] ** 2 + 1.0 / state},
        ...     metric="loss", direction="minimize", num_steps=9)
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> population = multifidelity.Population(bowl, keys, {"x": np.array([0.0, 0.5])})
        >>> population.advance(4)
        >>> population.evaluate()["loss"].tolist()
        [0.25, 0.5]
    """

    def __init__(
        self,
        objective: Trainable,
        keys: Shaped[Array, "..."],
        hparams: Mapping[str, Any],
        *,
        num_workers: int | None = None,
        chunk: int | None = None,
    ) -> None:
        self.objective, self._chunk = objective, chunk
        self.steps: list[int] = []
        self.programs: set[tuple[str, Hashable, int]] = set()
        self._num_workers = num_workers or default_workers()
        self._places: dict[int, tuple[Chunk, int]] = {}  # member -> where its state is
        self.add(keys, hparams, look=True)

    @property
    def members(self) -> np.ndarray:
        """Numbers of the members that were not dropped, ascending."""
        return np.array(sorted(self._places), int)

    @property
    def num_compilations(self) -> int:
        """Number of programs this population needed: one per function, structure and size of chunk."""
        return len(self.programs)

    @property
    def total_steps(self) -> int:
        """Total steps of all members."""
        return sum(self.steps)

    def add(self, keys: Shaped[Array, "..."], hparams: Mapping[str, Any], *, look: bool = False) -> np.ndarray:
        """Add members before their first step; returns their numbers. Arguments as for the class."""
        n = keys.shape[0]
        columns = {name: np.asarray(column) for name, column in hparams.items()}
        for name, column in columns.items():
            if column.shape != (n,):
                raise ValueError(f"`hparams[{name!r}]` must have the shape [{n}], got {list(column.shape)}.")
        if look and n:
            check_reads(self.objective, columns)
        numbers = np.arange(n) + len(self.steps)
        rows = [{name: column[i] for name, column in columns.items()} for i in range(n)]
        structures = [self.objective.structure(row) for row in rows]
        take_keys = _rows_of(keys)
        chunks = [
            Chunk(
                structure,
                tuple(numbers[part[:k]].tolist()),
                {name: column[part] for name, column in columns.items()},
                take_keys(part),
            )
            for structure, part, k in self._cut(structures)
        ]
        self.steps += [0] * n
        self._store(self._run("init", chunks))
        return numbers

    def advance(self, num_steps: int, members: Members | None = None) -> None:
        """Train members, all by default, for `num_steps` more steps."""
        chunks = self._gather(members)
        self._store(self._run("advance", chunks, jnp.int32(num_steps)))
        for chunk in chunks:
            for number in chunk.members:
                self.steps[number] += num_steps

    def evaluate(self, members: Members | None = None) -> dict[str, np.ndarray]:
        """The metrics of members, all by default, in the order of `members`."""
        wanted = self.members if members is None else np.asarray(members, int)
        chunks = self._run("evaluate", self._gather(wanted))
        results = jax.device_get([c.state for c in chunks])
        place = {number: (r, row) for c, r in zip(chunks, results, strict=True) for row, number in enumerate(c.members)}
        picked = [place[number] for number in wanted.tolist()]
        return {name: np.array([r[name][row] for r, row in picked]) for name in (results[0] if results else ())}

    def values(self, members: Members | None = None) -> np.ndarray:
        """The tuned metric of members, larger is better; minus infinity if not finite."""
        return signed(self.objective, self.evaluate(members))

    def keep(self, members: Members) -> None:
        """Drop all members but these."""
        self._check(members)
        wanted = set(np.asarray(members, int).tolist())
        self._places = {number: place for number, place in self._places.items() if number in wanted}

    def state_of(self, member: int) -> Any:
        """The training state of one member, without a leading axis."""
        self._check([member])
        chunk, row = self._places[member]
        return jax.tree.map(lambda leaf: leaf[row], chunk.state)

    def restore(self, member: int, state: Any, steps: int) -> None:
        """Set a member to its state after `steps` steps."""
        self._check([member])
        chunk, row = self._places[member]
        hparams = {name: np.asarray(column)[row : row + 1] for name, column in chunk.hparams.items()}
        alone = Chunk(chunk.structure, (member,), hparams, jax.tree.map(lambda leaf: leaf[None], state))
        self._places[member] = alone, 0
        self.steps[member] = steps

    def _check(self, members: Members) -> None:
        missing = [int(number) for number in members if int(number) not in self._places]
        if missing:
            raise ValueError(f"`members` must be members that were not dropped, got {missing}.")

    def _store(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            for row, number in enumerate(chunk.members):
                self._places[number] = chunk, row

    def _gather(self, members: Members | None) -> list[Chunk]:
        """Chunks of these members; nothing is copied if they are the chunks of the last run."""
        wanted = self.members if members is None else np.unique(np.asarray(members, int))
        self._check(wanted)
        same = {id(chunk): chunk for chunk, _ in (self._places[number] for number in wanted.tolist())}
        if sorted(number for chunk in same.values() for number in chunk.members) == sorted(wanted.tolist()):
            return list(same.values())
        structures = [self._places[number][0].structure for number in wanted.tolist()]
        return [self._moved(structure, wanted[part], k) for structure, part, k in self._cut(structures)]

    def _moved(self, structure: Hashable, numbers: np.ndarray, k: int) -> Chunk:
        """A chunk of these members (the first k are real), gathered from their present chunks."""
        places = [self._places[number] for number in numbers.tolist()]
        sources = list({id(chunk): chunk for chunk, _ in places}.values())
        if len(sources) == 1 and len(numbers) == 1 and len(sources[0].members) == 1:
            return sources[0]
        starts = np.cumsum([0] + [_size(chunk) for chunk in sources])
        first = {id(chunk): start for chunk, start in zip(sources, starts, strict=False)}
        rows = np.array([first[id(chunk)] + row for chunk, row in places])
        hparams, state = _pick([(chunk.hparams, chunk.state) for chunk in sources], rows)
        return Chunk(structure, tuple(numbers[:k].tolist()), hparams, state)

    def _cut(self, structures: Sequence[Hashable]) -> list[tuple[Hashable, np.ndarray, int]]:
        """Positions grouped by structure, in parts of one size; the first k are real, the others repeat the last."""
        groups = {s: np.flatnonzero([s == other for other in structures]) for s in dict.fromkeys(structures)}
        size = self._chunk or chunk_size(len(structures), len(groups), self._num_workers)
        return [
            (structure, np.pad(part, (0, size - len(part)), mode="edge"), len(part))
            for structure, group in groups.items()
            for part in (group[start : start + size] for start in range(0, len(group), size))
        ]

    def _run(self, name: str, chunks: Sequence[Chunk], *args: Any) -> list[Chunk]:
        """Run one function on every chunk, `num_workers` at once; the results replace the states."""
        chunks = sorted(chunks, key=_num_bytes, reverse=True)  # large ones first, so that workers finish together
        for chunk in chunks:
            self.programs.add((name, chunk.structure, _size(chunk)))

        def one(chunk):
            function = getattr(_vmapped(self.objective.program(chunk.structure)), name)
            return chunk._replace(state=jax.block_until_ready(function(chunk.state, chunk.hparams, *args)))

        if self._num_workers == 1 or len(chunks) < 2:
            return [one(chunk) for chunk in chunks]
        user = user_settings()  # of this thread

        def in_scope(chunk):
            with as_user(user):
                return one(chunk)

        with ThreadPoolExecutor(self._num_workers) as pool:
            return list(pool.map(in_scope, chunks))


def signed(objective: Trainable, metrics: Mapping[str, np.ndarray]) -> np.ndarray:
    """The tuned metric, larger is better; minus infinity if not finite."""
    if objective.metric not in metrics:
        raise KeyError(f"`evaluate` must give the metric {objective.metric!r}, got {sorted(metrics)}.")
    values = np.asarray(metrics[objective.metric], float)
    values = values if objective.direction == "maximize" else -values
    return np.where(np.isfinite(values), values, -np.inf)


def chunk_size(num_members: int, num_structures: int, num_workers: int) -> int:
    """Number of members of a chunk; on CPU small enough that every worker has at least four chunks."""
    if jax.default_backend() != "cpu":
        return 1 << (-(-num_members // max(1, num_structures)) - 1).bit_length()
    share = max(1, num_members // (4 * num_workers))
    return 4 ** ((share.bit_length() - 1) // 2)


def default_workers() -> int:
    """Number of chunks that run at once: the cores this process may use, or 1 if the device is not a CPU."""
    if jax.default_backend() != "cpu":
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else (os.cpu_count() or 1))


@functools.lru_cache(maxsize=MAX_STRUCTURES)
def _vmapped(program: Any) -> Program:
    """The functions of a program, compiled once for all equivalent programs."""
    return _compiled(alike(program))


@functools.lru_cache(maxsize=MAX_STRUCTURES)
def _compiled(what: Alike) -> Program:
    """The functions of a program, vmapped and jitted once, so that all populations share compiled programs."""
    (program,) = what.value
    return Program(
        jax.jit(jax.vmap(program.init)),
        jax.jit(jax.vmap(program.advance, in_axes=(0, 0, None))),
        jax.jit(jax.vmap(program.evaluate)),
    )


def _num_bytes(chunk: Chunk) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(chunk.state))


def _size(chunk: Chunk) -> int:
    return jax.tree.leaves(chunk.state)[0].shape[0]


@jax.jit
def _pick(trees: Sequence[Any], rows: jax.Array) -> Any:
    """Rows of concatenated trees."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[rows], *trees)


def _rows_of(keys: Shaped[Array, "..."]) -> Any:
    """`take(rows) -> keys`, on the host: another number of keys compiles nothing."""
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        return lambda rows: np.asarray(keys)[rows]
    data, impl = np.asarray(jax.random.key_data(keys)), jax.random.key_impl(keys)
    return lambda rows: jax.random.wrap_key_data(jnp.asarray(data[rows]), impl=impl)
