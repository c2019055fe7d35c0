"""Leases: detect on any host whether the worker of a trial is alive.

On its own host, a worker is identified by process id and start time. Other hosts use its lease: while a process has
running trials, a thread writes `bojax:lease` = [count, time] to one of them every `BEAT_SECONDS`. An observer considers
the worker dead if it sees no new count for `GRACE_SECONDS` by its own clock, or at once if the last heartbeat is
`CLOCK_SECONDS` old by the wall clock, which allows clocks to differ by some minutes.

A worker without a lease (of an older study, or of Optuna code) on another host counts as alive.
"""

import os
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from bojax.study.records import _storage

BEAT_SECONDS = 15.0
"""Interval between heartbeats: one small write per process."""

GRACE_SECONDS = 120.0
"""Eight heartbeats, since compiled code that holds Python's lock can delay the thread."""

CLOCK_SECONDS = 600.0
"""Age by the wall clock at which a heartbeat is old even if the clocks of two machines differ."""


class Lease:
    """This process's lease on the trials that it asked for.

    Args:
        storage: storage of the study. One in memory needs no heartbeats, since no other process sees it.
        study_id: id of the study in its storage.
    """

    def __init__(self, storage: BaseStorage, study_id: int):
        self._storage, self._study_id = storage, study_id
        self._begin()

    def worker(self, asking: bool = False, later: bool = False) -> dict[str, Any]:
        """The record of this process, for a trial.

        Args:
            asking: whether the parameters of the trial have not been chosen yet.
            later: whether the start of its evaluation will be recorded; otherwise it starts with this record.
        """
        self._check_fork()
        signs = {"id": self._id, "beat": self._beat, "time": time.time()}
        return _storage.worker(asking) | {"later": later} | signs

    def owns(self, recorded: Any) -> bool:
        """Whether a record belongs to this lease."""
        self._check_fork()
        return isinstance(recorded, dict) and recorded.get("id") == self._id

    def hold(self, trial_id: int) -> None:
        """Sends heartbeats until this trial or this process has ended."""
        if isinstance(self._storage, InMemoryStorage):
            return
        self._check_fork()
        with self._lock:
            self._held.append(trial_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat_on, name="bojax-lease", daemon=True)
                self._thread.start()

    def __getstate__(self) -> dict[str, Any]:
        return {"_storage": self._storage, "_study_id": self._study_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._pid, self._id, self._beat = os.getpid(), uuid.uuid4().hex, 0
        self._lock, self._held, self._thread = threading.Lock(), [], None

    def _check_fork(self) -> None:
        """Makes a forked process, which lacks its parent's thread, a new worker."""
        if self._pid != os.getpid():
            self._begin()

    def _beat_on(self) -> None:
        """The body of the thread: it ends when no trial is running, or the storage is unreachable for long."""
        last = time.monotonic()
        while True:
            time.sleep(BEAT_SECONDS)
            try:
                self._beat_once()
                last = time.monotonic()
            except Exception:  # the storage is unreachable; the next `ask` or `tell` will report it
                pass
            with self._lock:
                if not self._held or time.monotonic() - last > GRACE_SECONDS:
                    self._thread = None
                    return

    def _beat_once(self) -> None:
        """Sends one heartbeat, on the earliest running trial."""
        with self._lock:
            known = list(self._held)
        states = (TrialState.RUNNING,)
        running = {t._trial_id for t in self._storage.get_all_trials(self._study_id, deepcopy=False, states=states)}
        with self._lock:
            self._held = [trial_id for trial_id in self._held if trial_id in running or trial_id not in known]
            held = list(self._held)
        self._beat += 1
        for trial_id in held:
            try:
                self._storage.set_trial_user_attr(trial_id, _storage.LEASE, [self._beat, time.time()])
                return
            except (*_storage.ENDED_ERRORS, KeyError):
                continue  # it has ended since


class Watch:
    """Finds running trials whose worker is dead, and stores when it first saw each heartbeat."""

    def __init__(self):
        self._seen: dict[str, tuple[tuple[int, float], float]] = {}
        self._finished: dict[str, tuple[int, float]] = {}  # last heartbeats on finished trials, by worker

    def note(self, trial: FrozenTrial) -> None:
        """Records a finished trial, since a worker writes to one of its trials at a time."""
        _note_sign(self._finished, trial)

    def dead(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the unfinished trials that are running and whose worker is dead."""
        running = [(t, worker_of(t)) for t in trials if t.state == TrialState.RUNNING]
        ids = {worker["id"] for _, worker in running if isinstance(worker.get("id"), str)}
        signs = {id_: self._finished[id_] for id_ in ids & set(self._finished)}
        for trial in trials:
            _note_sign(signs, trial)
        self._seen = {id_: seen for id_, seen in self._seen.items() if id_ in ids}
        verdicts: dict[tuple, bool] = {}
        found = []
        for trial, worker in running:
            key = (worker.get("host"), worker.get("pid"), worker.get("start"), worker.get("id"))
            if key not in verdicts:
                verdicts[key] = self._is_dead(worker, signs)
            if verdicts[key]:
                found.append(trial)
        return found

    def _is_dead(self, worker: dict[str, Any], signs: dict[str, tuple[int, float]]) -> bool:
        alive = _storage.lives(worker)
        if alive is not None:
            return not alive
        if worker.get("id") not in signs:
            return False
        sign, now = signs[worker["id"]], time.monotonic()
        if time.time() - sign[1] > CLOCK_SECONDS:
            return True
        seen, since = self._seen.get(worker["id"], (None, now))
        since = since if seen == sign else now
        self._seen[worker["id"]] = (sign, since)
        return now - since > GRACE_SECONDS


def worker_of(trial: FrozenTrial) -> dict[str, Any]:
    """The recorded worker of a trial."""
    worker = trial.user_attrs.get(_storage.WORKER) or trial.user_attrs.get(_storage.CLAIM)
    return worker if isinstance(worker, dict) else {}


def _note_sign(signs: dict[str, tuple[int, float]], trial: FrozenTrial) -> None:
    """Stores the last heartbeat of a trial's worker, as (count, wall clock)."""
    worker = worker_of(trial)
    if not isinstance(worker.get("id"), str):
        return
    written = [(worker.get("beat", 0), worker.get("time", 0.0))]
    written += [tuple(trial.user_attrs[_storage.LEASE])] if _storage.LEASE in trial.user_attrs else []
    signs[worker["id"]] = max([signs[worker["id"]], *written] if worker["id"] in signs else written)
