"""Where a study lives: an Optuna storage, shared by processes, robust to processes that die.

A study is its trials and three user attributes of the Optuna study: `bojax:space` (the specification of the
space), `bojax:seed` and `bojax:version`. Every trial asked for carries `bojax:worker`: the process that
evaluates it. Trials that a dead process left running are failed and marked `bojax:stale` when a study opens;
they count for nothing.
"""

import contextlib
import contextvars
import datetime
import functools
import logging
import os
import platform
import time
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bojax._errors import StudyError
from bojax.study._backends import NUM_RETRIES, retry

SPACE, SEED, VERSION = "bojax:space", "bojax:seed", "bojax:version"
WORKER, STALE, ERROR, TOLD = "bojax:worker", "bojax:stale", "bojax:error", "bojax:told"
NOISE_VAR, COST, GRAD = "bojax:noise_var", "bojax:cost", "bojax:grad"
INSTEAD_OF = "bojax:instead_of"
"""Number of the trial that was given up and told after all, under this trial's number."""
FINISHED = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)

FORMAT_VERSION = 1

SETTLE_TIMEOUT = 5.0
"""Seconds that the creator of a study has to write its attributes before another process does."""

NEW_SECONDS = 2.0
"""Age up to which a trial without a recorded worker is taken for one that is just being created."""

_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("bojax_quiet", default=False)


class _QuietFilter(logging.Filter):
    """Drops Optuna's INFO lines while bojax itself calls Optuna; everything else passes."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or not _quiet.get()


_QUIET_FILTER = _QuietFilter()
_CHATTY_LOGGERS = (
    "optuna.study.study",
    "optuna.storages._in_memory",
    "optuna.storages._rdb.storage",
    "optuna.storages.journal._storage",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna's INFO lines about bojax's own calls out of the log, in this context only."""
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).addFilter(_QUIET_FILTER)  # adding it twice does nothing
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

    `wait` gives a process that is just creating the study the time to write them.
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


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """All trials that count (the stale ones do not), by number; not to be changed."""
    trials = retry(lambda: study.get_trials(deepcopy=False))
    return sorted((t for t in trials if not t.user_attrs.get(STALE)), key=lambda t: t.number)


def set_trial_attr(study: optuna.Study, trial: FrozenTrial | optuna.Trial, key: str, value: Any) -> None:
    """Records an attribute of a trial that is not finished."""
    retry(lambda: study._storage.set_trial_user_attr(trial._trial_id, key, value))


def mark_stale(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> bool:
    """Fails a running trial so that it counts for nothing; False when somebody else has finished it."""
    try:
        set_trial_attr(study, trial, STALE, True)
        return retry(lambda: study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL))
    except (optuna.exceptions.UpdateFinishedTrialError, RuntimeError):
        # Optuna 4 raises a RuntimeError here.
        return False


def mark_dead_trials(study: optuna.Study) -> int:
    """Marks the running trials of dead processes of this host as stale; returns how many."""
    running = retry(lambda: study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
    return sum(mark_stale(study, trial) for trial in running if is_dead(trial.user_attrs.get(WORKER)))


def worker(asking: bool = False) -> dict[str, Any]:
    """Who this process is; `asking` while it chooses the parameters of the trial."""
    pid = os.getpid()
    return {"host": _host(), "pid": pid, "start": _start_time(pid), "asking": asking}


def is_dead(recorded: Any) -> bool:
    """Whether the recorded worker certainly lives no more: False for other hosts and whenever in doubt."""
    if not isinstance(recorded, dict) or recorded.get("host") != _host():
        return False
    pid, start = recorded.get("pid"), recorded.get("start")
    if not isinstance(pid, int) or os.name != "posix":
        return False  # os.kill(pid, 0) would end the process on Windows
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    now = _start_time(pid)
    return start is not None and now is not None and start != now  # the number was given to another process


def is_new(trial: FrozenTrial) -> bool:
    """Whether a trial was created in this very moment (by the clock of the process that did)."""
    start = trial.datetime_start
    return start is not None and abs((datetime.datetime.now() - start).total_seconds()) < NEW_SECONDS


@functools.cache
def _host() -> str:
    """This machine, as far as process ids mean the same: boot and process namespace tell containers apart."""
    parts = [platform.node()]
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        parts.append(file.read().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def _start_time(pid: int) -> int | None:
    """Start of a process in clock ticks after boot, where the system tells (field 22 of /proc/PID/stat)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
