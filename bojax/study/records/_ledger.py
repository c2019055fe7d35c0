"""The ledger of a study: its stored trials as arrays, updated incrementally.

Finished trials never change, so a refresh processes only trials that are new or were unfinished at the last refresh.
Relations between trials are updated as trials arrive:

- A correction replaces a trial (`bojax:corrects`). Of two copies of a carried trial (`bojax:carried_from`) the first
  one counts.
- A lost trial is not data if another trial replaces it: its retry, or a late result (see `_lost`).

The ledger depends only on the stored trials, not on the process that reported them.
"""

import math
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bojax.data import COLUMNS, Told
from bojax.space import Space
from bojax.storage import retry
from bojax.study.records import _storage
from bojax.study.records._gradients import cube_gradient
from bojax.study.records._leases import Watch
from bojax.study.records._replaced import CARRIED_FROM, CORRECTS
from bojax.study.records._table import Table
from bojax.study.records._view import decided


class Ledger:
    """The trials of a study, as of the last `refresh`.

    It is thread-safe. Use `with ledger.mutex:` to read several values from the same refresh.

    Args:
        study: the Optuna study.
        space: the search space.
        warn: called as `warn(kind, text)` for a trial whose parameters do not belong to the space.

    Attributes:
        mutex: held while the ledger changes.
        sign: 1 if values are maximized, -1 if they are minimized.
        watch: detects dead workers.
        reported: the columns of `bojax.data.COLUMNS` that some trial reports.
        told_after_all: numbers of trials that were given up or lost, and later reported or corrected under another
            number.
        instead: from the number of a trial to the numbers under which it was reported later.
    """

    def __init__(self, study: optuna.Study, space: Space, warn: Callable[[str, str], None]):
        self.mutex = threading.RLock()
        self.sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        self.watch = Watch()
        self.reported: set[str] = set()
        self.told_after_all: set[int] = set()
        self.instead: dict[int, list[int]] = {}
        self._study, self._space, self._warn = study, space, warn
        self._table = Table(space.num_dims)
        self._trials: Sequence[FrozenTrial] = []
        self._open: list[int] = []  # unfinished at the last refresh
        self._origin: dict[int, int] = {}  # from a correction to the original trial
        self._latest: dict[int, int] = {}  # from the original trial to its last correction
        self._copies: dict[tuple, list[int]] = {}
        self._successors: dict[int, int] = {}  # from a trial to its first queued successor
        self._owed: list[int] = []
        self._left_out: list[int] = []
        self._lost: dict[int, list[int]] = {}  # from a number to the lost trials that its report replaces

    def refresh(self) -> "Ledger":
        """Reads new data from the storage."""
        with self.mutex:
            stored = retry(lambda: self._study.get_trials(deepcopy=False))
            if stored and stored[-1].number != len(stored) - 1:
                stored = sorted(stored, key=lambda trial: trial.number)
            known = len(self._trials)
            self._trials = stored
            self._table.grow(len(stored))
            for number in range(known, len(stored)):
                self._enter(stored[number])
            still_open = []
            for number in [*self._open, *range(known, len(stored))]:
                if stored[number].state in _storage.FINISHED:
                    self._close(stored[number])
                else:
                    still_open.append(number)
            self._open = still_open
            left_out, self._left_out = self._left_out, []
        for number in left_out:
            self._warn("space", f"trial {number} is left out: its parameters do not belong to the space")
        return self

    def __len__(self) -> int:
        return len(self._trials)

    def trial(self, number: int) -> FrozenTrial | None:
        """The trial with that number; None if there is none."""
        trials = self._trials
        return trials[number] if 0 <= number < len(trials) else None

    def open_trials(self) -> list[FrozenTrial]:
        """The unfinished trials by number."""
        with self.mutex:
            return [self._trials[number] for number in self._open]

    def counted(self) -> list[FrozenTrial]:
        """The trials that count, by number; those given up, corrected, or copied twice do not."""
        with self.mutex:
            return [self._trials[number] for number in np.flatnonzero(self._table.counts[: len(self._trials)]).tolist()]

    def num_counted(self, before: int) -> int:
        """Number of trials that count and have a number below `before`."""
        return int(np.count_nonzero(self._table.counts[: min(before, len(self._trials))]))

    def correction_of(self, number: int) -> int:
        """The number of the trial that replaces this one; its own if it was not corrected."""
        return self._latest.get(self._origin.get(number, number), number)

    def values(self) -> list[float]:
        """The values of the complete trials that count, in the objective's units."""
        return [trial.values[0] for trial in self.counted() if trial.state == TrialState.COMPLETE]

    def told(self, own: Collection[int] = ()) -> Told:
        """The data for an algorithm, by trial number; the points of unfinished trials except `own` are pending."""
        with self.mutex:
            rows, table = self._told_rows(), self._table
            open_ = [self._trials[number] for number in self._open if table.counts[number] and number not in own]
            pending = [row for row in map(self.row, open_) if row is not None]
            return Told(
                X=table.X[: len(rows)][rows],
                y=table.y[: len(rows)][rows],
                pending=np.reshape(pending, (-1, self._space.num_dims)),
                columns={name: column[: len(rows)][rows] for name, column in table.columns.items()},
            )

    def told_trials(self) -> list[FrozenTrial]:
        """The trials of the rows of `told`."""
        with self.mutex:
            return [self._trials[number] for number in np.flatnonzero(self._told_rows()).tolist()]

    def num_points(self, held: np.ndarray | None, more: Sequence[np.ndarray] = ()) -> int:
        """Number of distinct points that are reported, pending or in `more`.

        Args:
            held: [d] their fixed coordinates, NaN where any value counts; None for all points.
            more: points that are about to become pending.
        """
        with self.mutex:
            for number in self._open:
                self.row(self._trials[number])  # a running trial may have received its point
            counted = self._table.counts[: len(self._trials)] & (self._table.ids[: len(self._trials)] >= 0)
            seen = set(np.unique(self._table.ids[: len(self._trials)][counted & self._agree(held)]).tolist())
            waiting = [self._trials[n] for n in self._open if self._table.counts[n] and not self._table.has_point(n)]
            rows = [row for row in [*map(self.row, waiting), *more] if row is not None]
            return len(seen | {self._table.id_of(row) for row in rows if held is None or _agrees(row, held)})

    def row(self, trial: FrozenTrial) -> np.ndarray | None:
        """The point of a trial; None while it has no parameters, or if they do not belong to the space."""
        if self._table.has_point(trial.number):
            return self._table.X[trial.number]
        params = decided(trial)
        complete = self._space.is_complete(params)
        if not complete and trial.state != TrialState.COMPLETE:
            return None
        row = self.to_row(params) if complete else None
        if row is not None and trial.state != TrialState.WAITING:  # it no longer changes
            self._table.set_point(trial.number, row)
        return row

    def to_row(self, params: Any) -> np.ndarray | None:
        """The point of some parameters; None if they do not belong to the space."""
        try:
            return self._space.from_params({name: params[name] for name in self._space.active_names(params)})
        except (ValueError, TypeError, KeyError):
            return None

    def line(self) -> list[FrozenTrial]:
        """The queued trials, the next one first."""
        with self.mutex:
            waiting = [trial for trial in self.open_trials() if trial.state == TrialState.WAITING]
            return sorted((trial for trial in waiting if not self._is_double(trial)), key=_storage.place_of)

    def owed(self) -> list[FrozenTrial]:
        """The trials that must be queued again and have no successor in the queue."""
        with self.mutex:
            self._owed = [n for n in self._owed if n not in self._successors and n not in self.told_after_all]
            return [self._trials[number] for number in self._owed]

    def doubles(self) -> list[FrozenTrial]:
        """Waiting successors of trials that have an earlier successor or were reported later."""
        with self.mutex:
            return [t for t in self.open_trials() if t.state == TrialState.WAITING and self._is_double(t)]

    def dead(self) -> list[FrozenTrial]:
        """The running trials whose worker is dead, with all that it wrote before."""
        with self.mutex:
            numbers = {trial.number for trial in self.watch.dead(self.open_trials())}
            if numbers:  # a worker may have written after the trials were read, and died before it was looked for
                self.refresh()
            return [trial for trial in self.open_trials() if trial.number in numbers]

    def _is_double(self, trial: FrozenTrial) -> bool:
        of = trial.user_attrs.get(_storage.AGAIN, {}).get("of")
        if of is None:
            return False
        is_later = self._successors[of] != trial.number
        return is_later or bool({of, trial.user_attrs.get(_storage.RETRY_OF)} & self.told_after_all)

    def _enter(self, trial: FrozenTrial) -> None:
        """Processes what a trial holds from its creation on."""
        number, attrs = trial.number, trial.user_attrs
        if _storage.AGAIN in attrs:
            self._successors.setdefault(attrs[_storage.AGAIN]["of"], number)
        if _storage.INSTEAD_OF in attrs:
            self.instead.setdefault(attrs[_storage.INSTEAD_OF], []).append(number)
        if CORRECTS in attrs:
            first = self._origin.get(int(attrs[CORRECTS]), int(attrs[CORRECTS]))
            self._table.counts[self._latest.get(first, first)] = False
            self._origin[number], self._latest[first] = first, number
        if CARRIED_FROM in attrs:
            copies = self._copies.setdefault(tuple(attrs[CARRIED_FROM]), [])
            self._table.counts[number] = not copies
            copies.append(number)

    def _close(self, trial: FrozenTrial) -> None:
        """Processes what a finished trial holds."""
        number, attrs = trial.number, trial.user_attrs
        self.watch.note(trial)
        if trial.state == TrialState.FAIL and attrs.get(_storage.OWED) is True:
            self._owed.append(number)
        if _storage.is_given_up(trial):
            self._table.counts[number] = False
            self._count_next_copy(trial)
            return
        lost = _storage.is_lost(trial)
        stands_for = [int(attrs[key]) for key in (_storage.INSTEAD_OF, CORRECTS) if key in attrs and not lost]
        self.told_after_all.update(stands_for)
        for told in stands_for:
            self._table.is_data[self._lost.get(told, [])] = False
        if self.row(trial) is None:
            self._left_out += [number] if decided(trial) else []
            return
        self._read_values(trial)
        told_as = {number, attrs.get(_storage.RETRY_OF)} - {None}
        if lost:
            for told in told_as:
                self._lost.setdefault(told, []).append(number)
        represented = lost and (bool(attrs.get(_storage.OWED)) or bool(told_as & self.told_after_all))
        self._table.is_data[number] = not represented

    def _count_next_copy(self, trial: FrozenTrial) -> None:
        """Counts the next copy of a carried trial if this copy was given up."""
        later = [n for n in self._copies.get(tuple(trial.user_attrs.get(CARRIED_FROM, ())), []) if n > trial.number]
        alive = [n for n in later if not _storage.is_given_up(self._trials[n])]
        if alive:
            self._table.counts[alive[0]] = True

    def _read_values(self, trial: FrozenTrial) -> None:
        number, table = trial.number, self._table
        value = math.nan if trial.state == TrialState.FAIL or not trial.values else trial.values[0]
        table.y[number] = self.sign * value if math.isfinite(value) else math.nan
        for name, column in COLUMNS.items():
            reported = trial.user_attrs.get(_storage.column_key(name))
            if reported is None:
                continue
            self.reported.add(name)
            if column.per_dim:
                reported = cube_gradient(self._space, self._space.to_params(table.X[number]), reported)
            table.columns[name][number] = self.sign**column.units * np.asarray(reported, float)

    def _told_rows(self) -> np.ndarray:
        num_trials = len(self._trials)
        return self._table.counts[:num_trials] & self._table.is_data[:num_trials]

    def _agree(self, held: np.ndarray | None) -> Any:
        return True if held is None else _agrees(self._table.X[: len(self._trials)], held)


def _agrees(rows: np.ndarray, held: np.ndarray) -> Any:
    return np.all((rows == held) | np.isnan(held), axis=-1)
