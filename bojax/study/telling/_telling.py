"""Telling: records the outcome of a trial."""

import math
import numbers
import warnings
from collections.abc import Mapping
from typing import Any, SupportsIndex

import optuna
from optuna.trial import FrozenTrial, TrialState

from bojax._errors import BojaxWarning, StudyError
from bojax._plain import plain
from bojax.storage import finish, is_locked, retry
from bojax.study._checks import PREFIX
from bojax.study._core import Core
from bojax.study._travel import check_process
from bojax.study.asking import _lost
from bojax.study.records import _storage
from bojax.study.records._trial import Trial
from bojax.study.telling._outcome import Outcome, checked_outcome


def tell(
    core: Core,
    trial: Trial | SupportsIndex,
    value: Any = None,
    state: str | None = None,
    columns: Mapping[str, Any] = {},
    user_attrs: Mapping[str, Any] | None = None,
) -> Trial:
    """Records the outcome of a trial, and returns the trial as stored; see `Study.tell` and `checked_outcome`."""
    check_process(core, computes=False)
    outcome = checked_outcome(core, value, state, columns, user_attrs)
    frozen = _running(core, trial)
    if frozen.state in _storage.FINISHED:
        frozen = _readmit(core, frozen)
    try:
        told = _record(core, frozen, outcome)
    except (StudyError, *_storage.ENDED_ERRORS):
        now = frozen_trial(core, frozen.number)
        if not _has_no_value(now):
            raise
        frozen = _readmit(core, now)  # another process just considered this one dead
        told = _record(core, frozen, outcome)
    if _storage.INSTEAD_OF in frozen.user_attrs:
        _lost.recover(core)  # removes a waiting retry, which is superfluous now
    return core.view(told)


def frozen_trial(core: Core, number: int) -> FrozenTrial:
    """The trial with that number as it is stored now.

    Raises:
        StudyError: there is none.
    """
    trial = core.ledger.refresh().trial(number)
    if trial is None:
        raise StudyError(f"the study {core.name!r} has no trial {number}; it has {len(core.ledger)} trials.")
    return trial


def check_params(core: Core, trial: Any, frozen: FrozenTrial) -> None:
    """Raises StudyError for a `Trial` whose parameters are not those of the stored one."""
    if isinstance(trial, Trial) and any(
        frozen.params.get(name, value) != value for name, value in trial.params.items()
    ):
        raise StudyError(f"trial {trial.number} of the study {core.name!r} has other parameters: wrong study?")


def _record(core: Core, frozen: FrozenTrial, outcome: Outcome) -> FrozenTrial:
    """Stores an outcome, and returns the trial as stored."""
    value, attrs = outcome
    if value is not None and not math.isfinite(value):
        attrs = {**attrs, _storage.TOLD: repr(value)}
        warnings.warn(
            f"trial {frozen.number} was told {value}, which is not finite: it counts as failed.",
            BojaxWarning,
            stacklevel=4,
        )
        value = None
    try:
        return _finish(core, frozen, value, attrs)
    except Exception as error:
        # If a storage refuses one user attribute, the others and the value are recorded nevertheless.
        if isinstance(error, StudyError) or is_locked(error) or not outcome.attrs:
            raise
    for key, attr in attrs.items():
        _record_attr(core, frozen, key, attr)
    _finish(core, frozen, value, {})
    return frozen_trial(core, frozen.number)


def _has_no_value(trial: FrozenTrial) -> bool:
    """Whether a trial ended without a result, so that one can still be reported."""
    return _storage.is_given_up(trial) or _storage.is_lost(trial)


def _record_attr(core: Core, frozen: FrozenTrial, key: str, attr: Any) -> None:
    """Records an attribute; a user attribute is skipped with a warning if the storage refuses only this one."""
    try:
        _storage.set_trial_attr(core.optuna, frozen, key, attr)
    except Exception as error:
        if isinstance(error, StudyError) or key.startswith(PREFIX) or is_locked(error):
            raise
        now = frozen_trial(core, frozen.number)
        if now.state in _storage.FINISHED:  # a race: another process was faster
            raise _told_before(now) from error
        # For example, it is too long for its column. A broken storage refuses the value too.
        warn_left_out(core, frozen.number, key, error)


def warn_left_out(core: Core, number: int, key: Any, error: Exception) -> None:
    """Warns about an attribute that is not recorded, once per study."""
    text = f"the attribute {key!r} of trial {number} is left out, its value is recorded: {error}"
    core.warn_once(f"attribute {key!r}", text.rstrip("."))


def _running(core: Core, trial: Trial | SupportsIndex) -> FrozenTrial:
    """The stored trial, if its result can be reported."""
    trial = plain(trial)
    if isinstance(trial, bool) or not isinstance(trial, Trial | numbers.Integral):
        raise TypeError(f"`trial` must be a Trial that `ask` gave, or its number, got {trial!r}.")
    frozen = frozen_trial(core, trial.number if isinstance(trial, Trial) else int(trial))
    check_params(core, trial, frozen)
    if _has_no_value(frozen) and core.space.is_complete(frozen.params):
        return frozen
    if frozen.state in _storage.FINISHED:
        raise _told_before(frozen)
    if frozen.state == TrialState.WAITING:
        raise StudyError(f"trial {frozen.number} waits in line: `ask` for it before telling it.")
    return frozen


def _readmit(core: Core, stale: FrozenTrial) -> FrozenTrial:
    """A new running trial with the parameters of one that was given up or lost, for its late result."""
    told = _told_instead(core, stale.number)
    if told and told[0].state in _storage.FINISHED:
        raise _told_before(told[0])
    if told:  # a `tell` has begun and not ended
        return told[0]
    attrs = {_storage.INSTEAD_OF: stale.number, _storage.WORKER: core.lease.worker()}
    running = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=stale.params,
        distributions=stale.distributions,
        user_attrs=attrs,
    )
    retry(lambda: core.optuna.add_trial(running))
    return _told_instead(core, stale.number)[0]


def _told_instead(core: Core, number: int) -> list[FrozenTrial]:
    numbers_ = core.ledger.refresh().instead.get(number, [])
    trials = [core.ledger.trial(core.ledger.correction_of(n)) for n in numbers_]
    return [t for t in trials if t is not None and not _has_no_value(t)]


def _finish(core: Core, frozen: FrozenTrial, value: float | None, attrs: Mapping[str, Any]) -> FrozenTrial:
    state, values = (TrialState.FAIL, None) if value is None else (TrialState.COMPLETE, [value])
    try:
        core.optuna.sampler.after_trial(core.optuna, frozen, state, values)  # as Optuna's `tell` does
        return finish(core.storage, frozen, state, value, attrs)
    except (ValueError, RuntimeError) as error:  # a race: another process was faster
        now = frozen_trial(core, frozen.number)
        if now.state not in _storage.FINISHED:
            raise
        if attrs or now.state != state or now.value != value:
            raise _told_before(now) from error
        return now


def _told_before(trial: FrozenTrial) -> StudyError:
    if trial.user_attrs.get(_storage.STALE):
        return StudyError(f"trial {trial.number} was given up, because the process that asked for it had ended.")
    what = repr(trial.value) if trial.state == TrialState.COMPLETE else f'state="{trial.state.name.lower()}"'
    return StudyError(f"trial {trial.number} was told before: {what}.")
