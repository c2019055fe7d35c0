"""Training runs frozen at rungs, and their observed values: the bookkeeping of freeze-thaw."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bojax._runtime import host_scope
from bojax._types import Key
from bojax.multifidelity._history import History, Recorder
from bojax.multifidelity._population import Population, signed
from bojax.multifidelity._stored_population import Kept, StoredPopulation
from bojax.multifidelity._trainable import Trainable
from bojax.space import Space

MAX_ROWS = 512
"""Maximum number of values for the Gaussian process; beyond it, early values of members that advanced are omitted."""


class Curves(NamedTuple):
    """The observations of m members.

    Attributes:
        X: [m, d] their configurations.
        shares: [r] the rungs, as fractions of a full run.
        done: [m] number of rungs each has reached.
        values: [m, r] values at the rungs reached; NaN where the run failed.
    """

    X: np.ndarray
    shares: np.ndarray
    done: np.ndarray
    values: np.ndarray

    @property
    def failed(self) -> np.ndarray:
        """[m] which members have a last value that is not finite."""
        return ~np.isfinite(self.values[np.arange(len(self.done)), self.done - 1])


class Basket:
    """Members frozen at rungs, and all their observations.

    Args:
        objective: the training run.
        space: its space.
        rungs: ascending numbers of steps.
        key: seeds the training.
        kept: where evaluations are stored.
    """

    def __init__(self, objective: Trainable, space: Space, rungs: Sequence[int], key: Key, kept: Kept) -> None:
        self.objective, self.space, self.rungs, self.key = objective, space, tuple(rungs), key
        self.recorder, self._kept = Recorder(objective, space, kept.store), kept
        self._population: Population | StoredPopulation | None = None
        self._X = np.zeros((0, space.num_dims))
        self._values = np.zeros((0, len(rungs)))
        self._done = np.zeros(0, int)

    @property
    def steps_spent(self) -> int:
        """Total steps of all members."""
        return self._population.total_steps if self._population is not None else 0

    def history(self) -> History:
        """All observations; there must be at least one."""
        num_compilations = self._population.num_compilations if self._population is not None else 0
        return self.recorder.history(self.steps_spent, num_compilations)

    def curves(self) -> Curves:
        """The observations so far."""
        return Curves(self._X, np.asarray(self.rungs) / self.rungs[-1], self._done, self._values)

    def cost(self) -> np.ndarray:
        """[m] steps to each member's next rung; infinite for those that are finished or failed."""
        steps = np.append(np.diff(self.rungs), np.inf)[self._done - 1]
        return np.where(self.curves().failed, np.inf, steps)

    def train(self, thawed: np.ndarray, new_X: np.ndarray) -> None:
        """Train frozen members and new ones ([k, d], rounded to the space) up to their next rung."""
        numbers = np.concatenate([np.asarray(thawed, int), self._start(new_X)])
        for rung in range(len(self.rungs) - 1, -1, -1):  # in reverse, so that no member moves twice
            members = np.sort(numbers[self._done[numbers] == rung])
            if len(members):
                self._advance(members, rung)
        if self._population is not None:
            failed, finished = self.curves().failed, self._done == len(self.rungs)
            self._population.keep(np.flatnonzero(~failed & ~finished))

    def _start(self, new_X):
        """Add members before their first step; returns their numbers."""
        numbers = len(self._X) + np.arange(len(new_X))
        if not len(new_X):
            return numbers
        self._X = np.concatenate([self._X, new_X])
        self._values = np.concatenate([self._values, np.full((len(new_X), len(self.rungs)), np.nan)])
        self._done = np.concatenate([self._done, np.zeros(len(new_X), int)])
        with host_scope():
            hparams = jax.device_get(self.space.decode(jnp.asarray(new_X)))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.key, jnp.asarray(numbers, jnp.uint32))
        if self._population is None:
            self._population = self._kept.population(self.objective, keys, hparams)
            return numbers
        return self._population.add(keys, hparams)

    def _advance(self, members, rung):
        """Train members that have reached `rung` rungs up to the next one, and record their values."""
        assert self._population is not None, "members have a population"
        self._population.advance(self.rungs[rung] - (self.rungs[rung - 1] if rung else 0), members)
        metrics = self._population.evaluate(members)
        values = signed(self.objective, metrics)
        self._values[members, rung] = np.where(np.isfinite(values), values, np.nan)
        self._done[members] = rung + 1
        steps = np.full(len(members), self.rungs[rung])
        self.recorder.record(members, self._X[members], steps, values, metrics)


def observed_rows(curves: Curves, max_rows: int = MAX_ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Rows [x, t] and their values, at most `max_rows`.

    Beyond that, values that members have passed are dropped first, starting at the earliest rungs; then the last values
    of the members that have advanced least, the worst first.

    Returns:
        [n, d + 1] points and [n] values, NaN where a run failed.
    """
    member, rung = np.nonzero(np.arange(len(curves.shares))[None, :] < curves.done[:, None])
    y = curves.values[member, rung]
    last = rung == curves.done[member] - 1
    worth = np.lexsort((np.where(np.isfinite(y), y, -np.inf), rung, last))
    rows = np.sort(worth[max(0, len(worth) - max_rows) :])
    return np.column_stack([curves.X[member[rows]], curves.shares[rung[rows]]]), y[rows]
