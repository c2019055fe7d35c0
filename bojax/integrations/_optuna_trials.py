"""The trials of an Optuna study as data, kept up to date one by one.

    stored trials --finished--> names, distributions, values --Table--> points of a space --told--> data

A finished trial never changes, so it is read once, and its point is computed once per space. What is told depends on
the stored trials alone, not on the order in which this process saw them finish.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from bojax.data import Told
from bojax.integrations._optuna_space import Translated, merged, translated
from bojax.integrations._optuna_tree import Presence

RELATIVE_PARAMS = "bojax:relative_params"
"""System attribute of a trial: what was chosen for it, as Optuna stores parameters. Other processes see it there before
the objective has requested all of it."""

NUM_RECENT = 10
"""A parameter is searched over its ranges in this number of the latest trials."""
MAX_TABLES = 8
"""Spaces of which the points of the trials are kept."""
FIRST_CAPACITY = 64


class Trials:
    """The trials of a study, as of the last `refresh`. Not thread-safe.

    Args:
        sign: 1 if values are maximized, -1 if they are minimized.

    Attributes:
        finished: the finished trials, in the order in which they were seen to finish.
        num_complete: number of complete trials.
    """

    def __init__(self, sign: float):
        self._sign = sign
        self._forget()

    def _forget(self) -> None:
        self.finished: list[FrozenTrial] = []
        self._stored: list[FrozenTrial] = []
        self._open: list[int] = []
        self._constrained: FrozenTrial | None = None
        self._presence = {TrialState.COMPLETE: Presence(), TrialState.PRUNED: Presence()}
        self._y = np.full(FIRST_CAPACITY, np.nan)
        self._is_pruned = np.zeros(FIRST_CAPACITY, bool)
        self._spaces: dict[Any, tuple[Any, Translated | None]] = {}
        self._tables: dict[Any, _Table] = {}
        self._relative: tuple[Any, dict[str, BaseDistribution]] = (None, {})

    @property
    def num_complete(self) -> int:
        """Number of complete trials."""
        return self._presence[TrialState.COMPLETE].num_trials

    def refresh(self, storage: BaseStorage, study_id: int) -> "Trials":
        """Reads the study's trials.

        Raises:
            ValueError: a trial has constraints.
        """
        stored = storage.get_all_trials(study_id, deepcopy=False)
        if stored and stored[-1].number != len(stored) - 1:
            stored = sorted(stored, key=lambda trial: trial.number)
        if not _continues(self._stored, stored):  # a deleted study whose id is used again
            self._forget()
        known, self._stored = len(self._stored), stored
        while len(self._y) < len(stored):
            self._y = np.concatenate([self._y, np.full_like(self._y, np.nan)])
            self._is_pruned = np.concatenate([self._is_pruned, np.zeros_like(self._is_pruned)])
        still_open = []
        for number in [*self._open, *range(known, len(stored))]:
            if stored[number].state.is_finished():
                self._close(stored[number])
            else:
                still_open.append(number)
        self._open = still_open
        if self._constrained is not None:
            check_unconstrained(self._constrained)
        return self

    def relative_space(self) -> dict[str, BaseDistribution]:
        """The parameters of complete trials that are chosen together, sorted by name.

        These are the ones that every complete trial has, and the ones of which is known under which values of others
        they exist. While no trial is complete, the pruned ones show them. The range of each is that of the latest
        trials that have it, so it follows an objective that changes its ranges.
        """
        shown = self._shown
        state = len(self.finished)
        if self._relative[0] != state:
            recent = {name: numbers[: -NUM_RECENT - 1 : -1] for name, numbers in sorted(shown.numbers.items())}
            latest = {name: [self._stored[n].distributions[name] for n in of] for name, of in recent.items()}
            table = self._translated({name: merged(of) for name, of in latest.items()})
            self._relative = state, {} if table is None else table.distributions
        return dict(self._relative[1])

    def covers(self, space: Translated) -> bool:
        """Whether a space has all parameters that trials show, but for those with a single value."""
        missing = {name: of[-1] for name, of in self._shown.numbers.items() if name not in space.distributions}
        return all(self._stored[number].distributions[name].single() for name, number in missing.items())

    @property
    def _shown(self) -> Presence:
        """The trials that show which parameters there are."""
        return self._presence[TrialState.COMPLETE if self.num_complete else TrialState.PRUNED]

    def _translated(self, distributions: Mapping[str, BaseDistribution]) -> Translated | None:
        shown, key = self._shown, tuple(distributions.items())
        conditions = shown.conditions(distributions)
        known = {n: d for n, d in distributions.items() if n in conditions or shown.is_always_there(n)}
        rules, space = self._spaces.get(key, (None, None))
        if rules != (conditions, list(known)):
            space = translated(known, conditions)
            self._spaces[key] = (conditions, list(known)), space
            _drop_oldest(self._spaces)
        return space

    def table(self, distributions: Mapping[str, BaseDistribution]) -> "_Table | None":
        """The points of the trials in the space of these distributions; None if there is nothing to search.

        Parameters that only some trials have, without a rule that is known, are left out.
        """
        space = self._translated(distributions)
        if space is None:
            return None
        key = space.space, tuple(space.distributions.items())
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = _Table(space)
            _drop_oldest(self._tables)
        table.add(self.finished, len(self._y))
        return table

    def told(self, table: "_Table", own: int) -> Told:
        """The data in a table's space, by trial number; open trials with all parameters, except `own`, are pending."""
        rows = table.known
        pending = [table.space.row(_chosen(self._stored[n], table.space)) for n in self._open if n != own]
        return Told(
            X=table.X[rows],
            y=self._values()[rows],
            pending=np.reshape([row for row in pending if row is not None], (-1, table.X.shape[1])),
        )

    def _values(self) -> np.ndarray:
        """Values to be maximized. A pruned trial is no better than the median of the complete ones."""
        if not self._is_pruned.any():
            return self._y
        complete = self._y[~self._is_pruned & np.isfinite(self._y)]
        if not len(complete):
            return self._y
        return np.where(self._is_pruned, np.minimum(self._y, np.median(complete)), self._y)

    def _close(self, trial: FrozenTrial) -> None:
        if self._constrained is None and constraints_of(trial):
            self._constrained = trial
        self.finished.append(trial)
        self._y[trial.number] = self._sign * _value_of(trial)
        self._is_pruned[trial.number] = trial.state == TrialState.PRUNED
        if trial.state in self._presence:
            self._presence[trial.state].add(trial)


class _Table:
    """The points of finished trials in one space.

    Attributes:
        space: the space.
        X: [m, d] points by trial number; NaN where there is none.
        known: [m] which trials are finished and have a point.
    """

    def __init__(self, space: Translated):
        self.space = space
        self.X = np.full((0, space.space.num_dims), np.nan)
        self.known = np.zeros(0, bool)
        self._num_added = 0

    def add(self, finished: list[FrozenTrial], capacity: int) -> None:
        """Adds the trials that finished since the last call."""
        missing = capacity - len(self.known)
        if missing:
            self.X = np.pad(self.X, ((0, missing), (0, 0)), constant_values=np.nan)
            self.known = np.pad(self.known, (0, missing))
        for trial in finished[self._num_added :]:
            row = self.space.row(_chosen(trial, self.space))
            if row is not None:
                self.X[trial.number], self.known[trial.number] = row, True
        self._num_added = len(finished)


def _drop_oldest(cache: dict[Any, Any]) -> None:
    while len(cache) > MAX_TABLES:
        del cache[next(iter(cache))]


def check_unconstrained(trial: FrozenTrial) -> None:
    """Raises ValueError if a trial has constraints, which would be ignored."""
    constraints = constraints_of(trial)
    if constraints:
        raise ValueError(
            f"trial {trial.number} has constraints ({constraints}), which BojaxSampler does not take into account. "
            "Raise optuna.TrialPruned() without a report where a constraint is violated: the sampler learns where that "
            "happens. Or use a sampler that supports constraints."
        )


def constraints_of(trial: FrozenTrial) -> Any:
    """The values of a trial's constraints; empty or None without any. Before Optuna 5 they were a system attribute."""
    return getattr(trial, "constraints", trial.system_attrs.get("constraints"))


def _continues(before: list[FrozenTrial], now: list[FrozenTrial]) -> bool:
    """Whether the trials are those of before and perhaps more."""
    if len(now) < len(before):
        return False
    return not before or all(
        (now[i]._trial_id, now[i].datetime_start) == (before[i]._trial_id, before[i].datetime_start)
        for i in (0, len(before) - 1)
        if before[i].state != TrialState.WAITING
    )


def _value_of(trial: FrozenTrial) -> float:
    """The value of a finished trial; NaN for a failed one, and for a pruned one that reported nothing."""
    value = math.nan
    if trial.state == TrialState.COMPLETE and trial.values:
        value = trial.values[0]
    elif trial.state == TrialState.PRUNED and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return value if math.isfinite(value) else math.nan


def _chosen(trial: FrozenTrial, space: Translated) -> dict[str, Any]:
    """The parameters of a trial: requested, fixed in advance, or chosen by a sampler like this one.

    What the objective did not request had no influence, so a finished trial may have what was chosen.
    """
    chosen = trial.system_attrs.get(RELATIVE_PARAMS, {})
    return {**space.external(chosen), **trial.system_attrs.get("fixed_params", {}), **trial.params}
