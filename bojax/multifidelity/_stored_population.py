"""A population whose evaluations are stored and not repeated.

Members train only when an evaluation is requested that is not stored. They start from their checkpoint, or otherwise
from their first step: a member's training depends only on its key and its hyperparameters. On CPU every member trains
in its own program, so results are bitwise the same whichever members train beside it. On an accelerator members share
programs: results are the same from checkpoints, and equal up to rounding without them.
"""

import os
import pathlib
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from bojax._types import Array, Shaped
from bojax.multifidelity import _checkpoint
from bojax.multifidelity._population import Members, Population
from bojax.multifidelity._store import RunStore
from bojax.multifidelity._trainable import Trainable


class RunStorage(NamedTuple):
    """The full form of the argument `storage` of `successive_halving` and similar functions.

    Attributes:
        storage: an Optuna storage or its URL, "sqlite:///run.db" or "journal:///run.log".
        name: name of the run in its storage, "bojax" by default.
        checkpoint: a folder for the training states of members that may continue (npz files, nothing pickled). Without
            it, members that continue after an interruption are trained again from their first step; finished ones never
            are.
    """

    storage: Any
    name: str | None = None
    checkpoint: str | os.PathLike | None = None


class Kept(NamedTuple):
    """Where a run is stored.

    Attributes:
        store: its evaluations; None if nothing is stored.
        max_steps: steps of a full run.
        checkpoint: a folder for training states, or None.
    """

    store: RunStore | None
    max_steps: int
    checkpoint: Any

    def population(
        self,
        objective: Trainable,
        keys: Any,
        hparams: Mapping[str, Any],
        *,
        num_workers: int | None = None,
        offset: int = 0,
    ) -> "Population | StoredPopulation":
        """A `Population`, or with a store a `StoredPopulation`; arguments as for these."""
        if self.store is None:
            return Population(objective, keys, hparams, num_workers=num_workers)
        files = {"max_steps": self.max_steps, "checkpoint": self.checkpoint}
        return StoredPopulation(objective, keys, hparams, self.store, offset, num_workers=num_workers, **files)

    def path(self, member: int | None = None) -> pathlib.Path | None:
        """The file of a member's state, or of the whole population's; None without a checkpoint folder."""
        if self.checkpoint is None or self.store is None:
            return None
        suffix = "" if member is None else f"-{member}"
        return pathlib.Path(self.checkpoint) / f"{urllib.parse.quote(self.store.name, safe='')}{suffix}.npz"

    def close(self) -> None:
        """Ends all trials when the run is over."""
        if self.store is not None:
            self.store.close(self.max_steps)


def kept_in(storage: Any, objective: Trainable, method: str, settings: Mapping[str, Any]) -> Kept:
    """Where a run is stored, from the `storage` of `successive_halving`; `settings` contain `max_steps`.

    Raises:
        ValueError: a `RunStorage` has no storage.
    """
    max_steps = int(settings["max_steps"])
    if storage is None:
        return Kept(None, max_steps, None)
    where = storage if isinstance(storage, RunStorage) else RunStorage(storage)
    if where.storage is None:
        raise ValueError("`storage` of a `RunStorage` must be an Optuna storage or its URL, got None.")
    return Kept(RunStore(where.storage, where.name, objective, method, settings), max_steps, where.checkpoint)


class StoredPopulation:
    """Training runs like those of a `Population`, whose evaluations may be stored.

    Args:
        objective: the training run.
        keys: [n] keys, one per member.
        hparams: arrays [n].
        store: where evaluations are looked up; `Recorder` writes them.
        offset: number of the first member in the store.
        num_workers: number of chunks that run at once.
        max_steps: steps of a full run.
        checkpoint: a folder for the states of members that may continue, or None.

    Attributes:
        steps: steps of each member, trained or stored.
    """

    def __init__(
        self,
        objective: Trainable,
        keys: Shaped[Array, "..."],
        hparams: Mapping[str, Any],
        store: RunStore,
        offset: int,
        *,
        num_workers: int | None,
        max_steps: int,
        checkpoint: Any,
    ) -> None:
        self.objective = objective
        self.steps: list[int] = []
        self._store, self._offset, self._max_steps = store, offset, max_steps
        self._folder = None if checkpoint is None else pathlib.Path(checkpoint)
        self._num_workers = num_workers
        self._keys: list[Any] = []
        self._hparams: list[dict[str, Any]] = []
        self._alive: set[int] = set()
        self._runs: Population | None = None  # the members that had to be trained
        self._inner: dict[int, int] = {}  # member -> its number there
        self._structures: set[Any] = set()
        self.add(keys, hparams)

    @property
    def members(self) -> np.ndarray:
        """Numbers of the members that were not dropped, ascending."""
        return np.array(sorted(self._alive), int)

    @property
    def programs(self) -> set[Any]:
        """Programs that the whole run needs, trained now or before."""
        if jax.default_backend() == "cpu":
            return {(name, structure, 1) for structure in self._structures for name in ("init", "advance", "evaluate")}
        return set() if self._runs is None else self._runs.programs

    @property
    def num_compilations(self) -> int:
        """Number of `programs`."""
        return len(self.programs)

    @property
    def total_steps(self) -> int:
        """Total steps of all members, stored ones included."""
        return sum(self.steps)

    def add(self, keys: Shaped[Array, "..."], hparams: Mapping[str, Any]) -> np.ndarray:
        """Add members; returns their numbers."""
        numbers = np.arange(keys.shape[0]) + len(self.steps)
        for i, number in enumerate(numbers.tolist()):
            self._keys.append(keys[i])
            self._hparams.append({name: np.asarray(column)[i] for name, column in hparams.items()})
            self._structures.add(self.objective.structure(self._hparams[number]))
        self.steps += [0] * len(numbers)
        self._alive |= set(numbers.tolist())
        return numbers

    def advance(self, num_steps: int, members: Members | None = None) -> None:
        """Schedule `num_steps` more steps of members, all by default; they are trained when needed."""
        for number in (self.members if members is None else np.unique(np.asarray(members, int))).tolist():
            self.steps[number] += num_steps

    def evaluate(self, members: Members | None = None) -> dict[str, np.ndarray]:
        """The metrics of members, all by default."""
        wanted = (self.members if members is None else np.asarray(members, int)).tolist()
        rows: dict[int, Any] = {
            number: self._store.metrics(self._offset + number, self.steps[number]) for number in wanted
        }
        missing = sorted(number for number, row in rows.items() if row is None)
        if missing:
            runs = self._trained(missing)
            metrics = runs.evaluate([self._inner[number] for number in missing])
            for i, number in enumerate(missing):
                rows[number] = {name: float(column[i]) for name, column in metrics.items()}
                if self._folder is not None and self.steps[number] < self._max_steps:
                    _checkpoint.save(self._path(number), runs.state_of(self._inner[number]), self.steps[number])
        picked = [rows[number] for number in wanted]
        return {name: np.array([row[name] for row in picked]) for name in (picked[0] if picked else ())}

    def keep(self, members: Members) -> None:
        """Drop all members but these, and end the trials of the others."""
        kept = set(np.asarray(members, int).tolist())
        dropped = sorted(self._alive - kept)
        self._alive &= kept
        if self._runs is not None:
            self._runs.keep([self._inner[number] for number in sorted(kept) if number in self._inner])
        self._inner = {number: inner for number, inner in self._inner.items() if number in kept}
        self._store.finish([self._offset + number for number in dropped], self._max_steps)
        if self._folder is not None:
            for number in dropped:
                self._path(number).unlink(missing_ok=True)

    def _trained(self, members: list[int]) -> Population:
        """The population after these members have trained all their steps."""
        self._start([number for number in members if number not in self._inner])
        assert self._runs is not None, "members were started"
        left = {number: self.steps[number] - self._runs.steps[self._inner[number]] for number in members}
        for num_steps in sorted(set(left.values()) - {0}):
            self._runs.advance(num_steps, [self._inner[number] for number in members if left[number] == num_steps])
        return self._runs

    def _start(self, members: list[int]) -> None:
        """Add members to the population, from their checkpoints or before their first step."""
        if not members:
            return
        keys = jax.numpy.stack([self._keys[number] for number in members])
        hparams = {name: np.array([self._hparams[number][name] for number in members]) for name in self._hparams[0]}
        if self._runs is None:
            chunk = 1 if jax.default_backend() == "cpu" else None
            self._runs = Population(self.objective, keys, hparams, num_workers=self._num_workers, chunk=chunk)
            numbers = np.arange(len(members))
        else:
            numbers = self._runs.add(keys, hparams)
        self._inner |= dict(zip(members, numbers.tolist(), strict=True))
        if self._folder is None:
            return
        for number in members:
            loaded = _checkpoint.load(self._path(number), self._runs.state_of(self._inner[number]))
            if loaded is not None and loaded[1] <= self.steps[number]:
                self._runs.restore(self._inner[number], *loaded)

    def _path(self, number: int) -> pathlib.Path:
        path = Kept(self._store, self._max_steps, self._folder).path(self._offset + number)
        assert path is not None, "there is a folder"
        return path
