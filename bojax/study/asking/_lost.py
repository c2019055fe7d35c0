"""Evaluations without a reported result: recorded as lost and repeated once, or given up.

An evaluation that began and never ended is *lost*: its process was killed, or Ctrl-C or an uncaught exception ended it.
Its trial fails with the attributes `bojax:lost` and `bojax:error`, and its parameters are queued once more, as a trial
with `bojax:retry_of`. The algorithm does not see the first loss, since the retry replaces it. If the retry is lost too,
the algorithm sees it as an ordinary failure.

A trial whose evaluation did not begin is *given up* and ignored (`bojax:stale`). If it came from the queue, it returns
to its old place there.

A trial that must be queued again is marked (`bojax:owed`) before it ends, and its successor names it (`bojax:again`),
so nothing is lost in between. If two processes queue the same trial, the earlier successor counts.
"""

import contextlib
import copy
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from bojax.storage import retry
from bojax.study._core import Core
from bojax.study.records import _storage
from bojax.study.records._trial import Trial

ENDED = "the process that evaluated it ended without a word: it was killed, or ran out of memory"


def recover(core: Core) -> None:
    """Ends the trials of dead workers, and queues the trials that must be queued again.

    The ledger is up to date afterwards.
    """
    dead = core.ledger.refresh().dead()
    for trial in dead:
        _end(core, trial, ENDED)
    if dead:
        core.ledger.refresh()
    put_in_line(core)


def end_rest(core: Core, numbers: Collection[int], reason: str) -> None:
    """Ends the trials of this process that are still running and will not be evaluated further.

    Args:
        core: the parts of the study.
        numbers: numbers of the trials.
        reason: `bojax:error` of those whose evaluation had begun.
    """
    unfinished = core.ledger.refresh().open_trials()
    running = [t for t in unfinished if t.number in numbers and t.state == TrialState.RUNNING]
    for trial in running:
        _end(core, trial, reason)
    if running:
        core.ledger.refresh()
        put_in_line(core)


def give_up(core: Core, trial_ids: Collection[int]) -> None:
    """Ends trials whose evaluation did not begin: they are ignored, and queued ones return to the queue."""
    for trial in core.ledger.refresh().open_trials():
        if trial._trial_id in trial_ids:
            _storage.end_trial(core.optuna, trial, _given_up(trial))
    core.ledger.refresh()
    put_in_line(core)


@contextlib.contextmanager
def mistakes(core: Core, trials: Iterable[Trial]) -> Iterator[None]:
    """Gives up trials on an exception that says nothing about them, such as a mistake in the caller's arguments."""
    try:
        yield
    except Exception:
        numbers = {trial.number for trial in trials}
        give_up(core, {t._trial_id for t in core.ledger.refresh().open_trials() if t.number in numbers})
        raise


def begin(core: Core, number: int) -> bool:
    """Records that an evaluation begins; False if the trial was taken away because this process seemed dead."""
    trial = core.ledger.refresh().trial(number)
    if trial is None or not (trial.user_attrs.get(_storage.WORKER) or {}).get("later"):
        return True  # it began with the request
    try:
        _storage.set_trial_attr(core.optuna, trial, _storage.STARTED, True)
    except _storage.ENDED_ERRORS:
        return False
    return True


def as_seen(core: Core) -> list[FrozenTrial]:
    """The trials that count, those of dead workers as the next `ask` will record them. Writes nothing."""
    with core.ledger.mutex:
        dead = {trial.number for trial in core.ledger.refresh().dead()}
        trials = core.ledger.counted()
    seen = []
    for trial in trials:
        if trial.number in dead:
            attrs = _lost(trial, ENDED) if _has_begun(core, trial) else _given_up(trial)
            trial = copy.copy(trial)
            trial.state, trial.user_attrs = TrialState.FAIL, trial.user_attrs | attrs
        if not _storage.is_given_up(trial):
            seen.append(trial)
    return seen


def put_in_line(core: Core) -> None:
    """Queues a successor for each trial that must be queued again, and removes superfluous successors.

    The ledger is up to date afterwards.
    """
    owed = core.ledger.owed()
    for trial in owed:
        successor = _successor(core, trial)
        retry(lambda: core.optuna.add_trial(successor))  # noqa: B023 (called at once)
    if owed:
        core.ledger.refresh()
    doubles = core.ledger.doubles()
    for trial in doubles:
        _storage.end_trial(core.optuna, trial, {_storage.STALE: True})
    if doubles:
        core.ledger.refresh()


def _end(core: Core, trial: FrozenTrial, reason: str) -> None:
    attrs = _lost(trial, reason) if _has_begun(core, trial) else _given_up(trial)
    _storage.end_trial(core.optuna, trial, attrs)


def _lost(trial: FrozenTrial, reason: str) -> dict[str, Any]:
    owed = {} if _storage.RETRY_OF in trial.user_attrs else {_storage.OWED: True}
    return {_storage.LOST: True, _storage.ERROR: reason} | owed


def _given_up(trial: FrozenTrial) -> dict[str, Any]:
    owed = {_storage.OWED: True} if "fixed_params" in trial.system_attrs else {}
    return {_storage.STALE: True} | owed


def _has_begun(core: Core, trial: FrozenTrial) -> bool:
    """Whether the evaluation of a running trial began: it has all parameters, and is not held back by its worker."""
    worker = trial.user_attrs.get(_storage.WORKER)
    if worker is None or (worker.get("later") and not trial.user_attrs.get(_storage.STARTED)):
        return False
    # An Optuna objective may end the process before it has requested all parameters.
    return core.ledger.to_row(trial.params if worker.get("asking") else _storage.params_of(trial)) is not None


def _successor(core: Core, trial: FrozenTrial) -> FrozenTrial:
    """The queued successor of a trial that ended, with its parameters and the user attributes enqueued with it."""
    attrs = {k: v for k, v in trial.user_attrs.items() if k == _storage.RETRY_OF or not k.startswith("bojax:")}
    if _storage.is_lost(trial):
        params = _storage.params_of(trial)
        fixed = {name: params[name] for name in core.space.active_names(params)}
        attrs |= {_storage.RETRY_OF: trial.number, _storage.AGAIN: {"of": trial.number}}
    else:
        fixed = trial.system_attrs["fixed_params"]
        attrs |= {_storage.AGAIN: {"of": trial.number, "place": _storage.place_of(trial)}}
    return optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": fixed}, user_attrs=attrs)
