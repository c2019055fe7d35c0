"""The result of a multi-fidelity run: every evaluation of every member."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bojax.multifidelity._store import RunStore
from bojax.multifidelity._trainable import Trainable
from bojax.space import Space


class History(NamedTuple):
    """Evaluations in the order in which they were made.

    Attributes:
        X: [n, d] the members' hyperparameters in the unit cube.
        members: [m] which member was evaluated.
        steps: [m] its steps at that time.
        values: [m] the tuned metric, in the objective's own direction; not finite where the evaluation failed.
        best_member: the member with the best value among those with the most steps.
        best_params: its hyperparameters, plain values.
        best_value: its value.
        best_metrics: all its metrics at that time.
        total_steps: total steps of all members.
        num_compilations: number of compiled programs.
    """

    X: np.ndarray
    members: np.ndarray
    steps: np.ndarray
    values: np.ndarray
    best_member: int
    best_params: dict[str, Any]
    best_value: float
    best_metrics: dict[str, float]
    total_steps: int
    num_compilations: int

    @property
    def num_members(self) -> int:
        """Number of configurations tried."""
        return len(self.X)

    def curve(self, member: int) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one member."""
        rows = self.members == member
        return self.steps[rows], self.values[rows]


class Recorder:
    """Collects the evaluations of a run; values are larger-is-better here."""

    def __init__(self, objective: Trainable, space: Space, store: RunStore | None = None) -> None:
        self.objective, self.space, self.store = objective, space, store
        self._X: dict[int, np.ndarray] = {}
        self.rows: list[tuple[int, int, float]] = []
        self._metrics: list[dict[str, float]] = []

    def record(
        self,
        numbers: Any,
        X: Any,
        steps: Any,
        values: Any,
        metrics: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Record k evaluations.

        Args:
            numbers: [k] the members.
            X: [k, d] their hyperparameters in the unit cube.
            steps: [k] steps done.
            values: [k] the tuned metric, larger is better.
            metrics: further metrics, arrays [k].
        """
        for i, number in enumerate(np.asarray(numbers, int).tolist()):
            self._X[number] = np.asarray(X[i], float)
            self.rows.append((number, int(np.asarray(steps)[i]), float(values[i])))
            self._metrics.append({name: float(column[i]) for name, column in (metrics or {}).items()})
            if self.store is not None:
                self.store.record(number, self._X[number], self.rows[-1][1], self._metrics[-1])

    @property
    def num_members(self) -> int:
        """Number of evaluated members."""
        return len(self._X)

    def values_at(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Hyperparameters [k, d] and values [k] of all evaluations after exactly `steps` steps."""
        rows = [(self._X[number], value) for number, done, value in self.rows if done == steps]
        X = np.array([x for x, _ in rows]).reshape(len(rows), self.space.num_dims)
        return X, np.array([value for _, value in rows])

    def history(self, total_steps: int, num_compilations: int) -> History:
        """The history of all evaluations.

        Raises:
            ValueError: when nothing was recorded.
        """
        if not self.rows:
            raise ValueError("nothing was evaluated.")
        members, steps, values = (np.array(column) for column in zip(*self.rows, strict=True))
        values = np.where(np.isnan(values), -np.inf, values)
        best = int(np.argmax(np.where(steps == steps.max(), values, -np.inf)))
        if not np.isfinite(values[best]):  # no member with these steps has a finite value
            best = int(np.argmax(values))
        sign = 1.0 if self.objective.direction == "maximize" else -1.0
        numbers = sorted(self._X)
        return History(
            X=np.array([self._X[number] for number in numbers]),
            members=np.searchsorted(numbers, members),
            steps=steps,
            values=sign * values,
            best_member=int(np.searchsorted(numbers, members[best])),
            best_params=self.space.to_params(self._X[members[best]]),
            best_value=float(sign * values[best]),
            best_metrics=self._metrics[best],
            total_steps=int(total_steps),
            num_compilations=int(num_compilations),
        )
