"""The storage of a study: an Optuna storage, shared by processes and robust to processes that die.

A study consists of its trials and three user attributes of the Optuna study: `bojax:space` (the specification of the
space), `bojax:seed` and `bojax:version`. Every trial from `ask` has `bojax:worker`, the process that evaluates it. See
`_lost` for trials whose process ended.
"""

import contextlib
import contextvars
import datetime
import functools
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bojax._errors import StudyError
from bojax.storage import NUM_RETRIES, retry

SPACE, SEED, VERSION = "bojax:space", "bojax:seed", "bojax:version"
WORKER, STALE, ERROR, TOLD = "bojax:worker", "bojax:stale", "bojax:error", "bojax:told"
INSTEAD_OF = "bojax:instead_of"
"""Number of the trial that was given up or lost and later reported under this trial's number."""
LOST, RETRY_OF = "bojax:lost", "bojax:retry_of"
"""Visible to users: the evaluation began and never ended; the number of the lost trial that this trial repeats."""
STARTED, OWED, AGAIN = "bojax:started", "bojax:owed", "bojax:again"
CLAIM, LEASE, SUGGESTED = "bojax:claim", "bojax:lease", "bojax:suggested"
HIDDEN = (WORKER, STALE, STARTED, OWED, AGAIN, CLAIM, LEASE, SUGGESTED)
"""Bookkeeping attributes (see `_lost` and `_leases`), hidden from users."""
FINISHED = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)

ENDED_ERRORS = (optuna.exceptions.UpdateFinishedTrialError, RuntimeError)
"""Raised by Optuna on changes of a finished trial; early versions raise the latter."""

FORMAT_VERSION = 1

SETTLE_TIMEOUT = 5.0
"""Seconds after which another process writes the attributes of a study if its creator has not."""

NEW_SECONDS = 2.0
"""Age up to which a trial without a recorded worker is assumed to be in creation."""

_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("bojax_quiet", default=False)


class _QuietFilter(logging.Filter):
    """Drops Optuna's INFO lines while bojax itself calls Optuna; everything else passes."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or not _quiet.get()


_QUIET_FILTER = _QuietFilter()
_CHATTY_LOGGERS = [
    logging.getLogger(name)
    for name in (
        "optuna.study.study",
        "optuna.storages._in_memory",
        "optuna.storages._rdb.storage",
        "optuna.storages.journal._storage",
    )
]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna's INFO lines about bojax's own calls out of the log, in this context only."""
    for logger in _CHATTY_LOGGERS:
        if _QUIET_FILTER not in logger.filters:
            logger.addFilter(_QUIET_FILTER)
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def create_or_open(storage: optuna.storages.BaseStorage, name: str, direction: str) -> tuple[optuna.Study, bool]:
    """The Optuna study of that name and whether this call created it."""
    with quiet():
        for _ in range(NUM_RETRIES):
            with contextlib.suppress(KeyError):
                return retry(lambda: optuna.load_study(study_name=name, storage=storage)), False
            with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
                # Another process may create it between the two calls: then the next round loads it.
                created = retry(
                    lambda: optuna.create_study(
                        study_name=name, storage=storage, direction=StudyDirection[direction.upper()]
                    )
                )
                return created, True
    raise StudyError(f"the study {name!r} can be neither opened nor created in its storage.")


def read_attrs(study: optuna.Study, *, wait: bool) -> dict[str, Any]:
    """bojax's attributes of an Optuna study; empty for a study made by other code.

    With `wait`, a process that is creating the study gets time to write them.
    """
    end = time.monotonic() + (SETTLE_TIMEOUT if wait else 0.0)
    while True:
        attrs = retry(lambda: study.user_attrs)
        # The version is written last. A study that already has trials and no version was made by other code.
        if VERSION in attrs or time.monotonic() >= end or study.get_trials(deepcopy=False):
            return attrs if VERSION in attrs else {}
        time.sleep(0.05)


def write_attrs(study: optuna.Study, space_spec: Any, seed: int) -> None:
    """Makes an Optuna study a bojax study; the version comes last, so that readers never see half of it."""
    retry(lambda: study.set_user_attr(SPACE, space_spec))
    retry(lambda: study.set_user_attr(SEED, seed))
    retry(lambda: study.set_user_attr(VERSION, FORMAT_VERSION))


def all_trials(study: optuna.Study) -> list[FrozenTrial]:
    """All trials by number, including those given up; do not modify them."""
    return sorted(retry(lambda: study.get_trials(deepcopy=False)), key=lambda t: t.number)


def add_trial(study: optuna.Study, trial: FrozenTrial) -> FrozenTrial:
    """Stores a trial without `ask`, in one write, and returns it as stored."""
    trial_id = retry(lambda: study._storage.create_new_trial(study._study_id, template_trial=trial))
    return retry(lambda: study._storage.get_trial(trial_id))


def column_key(name: str) -> str:
    """The attribute of a trial that holds a column of `bojax.data.COLUMNS`."""
    return f"bojax:{name}"


def place_of(trial: FrozenTrial) -> int:
    """The place of a trial in the queue: its number, or that of the unevaluated trial that it succeeds."""
    return trial.user_attrs.get(AGAIN, {}).get("place", trial.number)


def shown_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a trial without those that only bojax reads."""
    return {key: attr for key, attr in attrs.items() if key not in HIDDEN}


def is_given_up(trial: FrozenTrial) -> bool:
    """Whether a trial is ignored because it ended before its evaluation began."""
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(STALE))


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial's evaluation began and never ended."""
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(LOST))


def params_of(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters of a trial, including those that are chosen but not yet requested."""
    return trial.system_attrs.get("fixed_params", {}) | trial.user_attrs.get(SUGGESTED, {}) | trial.params


def set_trial_attr(study: optuna.Study, trial: FrozenTrial | optuna.Trial | int, key: str, value: Any) -> None:
    """Records an attribute of an unfinished trial, given by itself or its id."""
    trial_id = trial if isinstance(trial, int) else trial._trial_id
    retry(lambda: study._storage.set_trial_user_attr(trial_id, key, value))


def end_trial(study: optuna.Study, trial: FrozenTrial | int, attrs: Mapping[str, Any]) -> bool:
    """Fails an unfinished trial and records the reason in its attributes; False if another process finished it."""
    trial_id = trial if isinstance(trial, int) else trial._trial_id
    try:
        for key, value in attrs.items():  # first, because a finished trial cannot be changed
            set_trial_attr(study, trial, key, value)
        return retry(lambda: study._storage.set_trial_state_values(trial_id, TrialState.FAIL))
    except ENDED_ERRORS:
        return False


def worker(asking: bool = False) -> dict[str, Any]:
    """The identity of this process; `asking` while it chooses the parameters of the trial."""
    pid = os.getpid()
    return {"host": _host(), "pid": pid, "start": _own_start_time(pid), "asking": asking}


def lives(recorded: Any) -> bool | None:
    """Whether the recorded worker is running, by its process id; None if unknown, as on another host."""
    if not isinstance(recorded, dict) or recorded.get("host") != _host():
        return None
    pid, start = recorded.get("pid"), recorded.get("start")
    if pid == os.getpid():
        return start == _own_start_time(pid)
    if not isinstance(pid, int) or os.name != "posix":
        return None  # os.kill(pid, 0) would end the process on Windows
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    fields = _stat(pid)
    if not fields or start is None:
        return None
    if fields[0] in ("Z", "X"):  # it has ended, and its parent has not asked for its exit status yet
        return False
    return start == _start_time(pid)  # otherwise the id was reused by another process


def is_dead(recorded: Any) -> bool:
    """Whether the recorded worker is certainly dead: False for other hosts and if in doubt."""
    return lives(recorded) is False


def is_new(trial: FrozenTrial) -> bool:
    """Whether a trial was created just now, by the clock of its creator."""
    start = trial.datetime_start
    return start is not None and abs((datetime.datetime.now() - start).total_seconds()) < NEW_SECONDS


@functools.cache
def _host() -> str:
    """The scope in which process ids are unique: boot and process namespace distinguish containers."""
    parts = [platform.node()]
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        parts.append(file.read().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


@functools.cache
def _own_start_time(pid: int) -> int | None:
    """Start of this process, which is constant."""
    return _start_time(pid)


def _start_time(pid: int) -> int | None:
    """Start of a process in clock ticks after boot, if available (field 22 of /proc/PID/stat)."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third one, the state; empty if there are none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
