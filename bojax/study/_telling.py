"""Telling: what came of a trial is checked, and then recorded."""

import math
import numbers
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from bojax._errors import BojaxWarning, StudyError
from bojax._plain import plain
from bojax.data import unread_column
from bojax.storage import is_locked
from bojax.study import _lost, _storage
from bojax.study._checks import PREFIX, check_attrs, to_float
from bojax.study._gradients import checked_gradient
from bojax.study._suggest import unread
from bojax.study._travel import check_process
from bojax.study._trial import Trial

if TYPE_CHECKING:
    from bojax.study._study import Study


def tell(
    study: "Study",
    trial: Trial | int | np.integer,
    value: Any,
    *,
    state: str | None,
    noise_var: float | None,
    cost: float | None,
    grad: Mapping[str, Any] | None,
    user_attrs: Mapping[str, Any] | None,
) -> Trial:
    """The body of `Study.tell`."""
    check_process(study, computes=False)
    number, attrs = checked_outcome(
        study, value, state=state, noise_var=noise_var, cost=cost, grad=grad, user_attrs=user_attrs
    )
    frozen = _running(study, trial)
    if frozen.state in _storage.FINISHED:
        frozen = _readmit(study, frozen)
    try:
        _record(study, frozen, number, attrs)
    except (StudyError, *_storage.ENDED_ERRORS):
        now = _frozen(study, frozen.number)
        if not _has_no_value(now):
            raise
        frozen = _readmit(study, now)  # this process seemed dead to another one, just now
        _record(study, frozen, number, attrs)
    if _storage.INSTEAD_OF in frozen.user_attrs:
        _lost.recover(study)  # a retry that waits there is needed no more
    return study._view(_frozen(study, frozen.number))


def _record(study: "Study", frozen: FrozenTrial, number: float | None, user_attrs: Mapping[str, Any]) -> None:
    for key, attr in user_attrs.items():
        _record_attr(study, frozen, key, attr)
    if number is not None and not math.isfinite(number):
        _storage.set_trial_attr(study._optuna, frozen, _storage.TOLD, repr(number))
        warnings.warn(
            f"trial {frozen.number} was told {number}, which is not finite: it counts as failed.",
            BojaxWarning,
            stacklevel=4,
        )
        number = None
    _finish(study, frozen, number)


def _has_no_value(trial: FrozenTrial) -> bool:
    """Whether a trial ended without being told, so that it can still be."""
    return _storage.is_given_up(trial) or _storage.is_lost(trial)


def checked_outcome(
    study: "Study",
    value: Any,
    *,
    state: str | None,
    noise_var: float | None,
    cost: float | None,
    grad: Mapping[str, Any] | None,
    user_attrs: Mapping[str, Any] | None,
) -> tuple[float | None, dict[str, Any]]:
    """What came of an evaluation: the value, None where there is none, and the attributes that go with it."""
    if state not in (None, "complete", "fail"):
        raise ValueError(f'`state` must be "complete" or "fail", got {state!r}.')
    if state == "fail" and value is not None:
        raise ValueError(f'a trial told with state="fail" has no value, got {value!r}. Leave the value out.')
    number = None if state == "fail" else to_float(value)
    attrs = check_attrs(user_attrs)
    if noise_var is not None:
        attrs[_storage.NOISE_VAR] = noise_var = to_float(noise_var, "noise_var")
        if not (math.isfinite(noise_var) and noise_var >= 0):
            raise ValueError(f"`noise_var` must be finite and not negative, got {noise_var}.")
    if cost is not None:
        attrs[_storage.COST] = cost = to_float(cost, "cost")
        if not (math.isfinite(cost) and cost > 0):
            raise ValueError(f"`cost` must be finite and positive, got {cost}.")
    if grad is not None:
        attrs[_storage.GRAD] = checked_gradient(study._space, grad)
    _check_columns(study, {"noise_var": noise_var, "cost": cost, "grad": grad})
    return number, attrs


def _record_attr(study: "Study", frozen: FrozenTrial, key: str, attr: Any) -> None:
    """Records an attribute; one of the user's is left out with a warning where the storage refuses just this one."""
    try:
        _storage.set_trial_attr(study._optuna, frozen, key, attr)
    except Exception as error:
        if isinstance(error, StudyError) or key.startswith(PREFIX) or is_locked(error):
            raise
        now = _frozen(study, frozen.number)
        if now.state in _storage.FINISHED:  # a race: another process was faster
            raise _told_before(now) from error
        # It is too long for its column, say. A storage that is broken refuses the value, too.
        warn_left_out(study, frozen.number, key, error)


def warn_left_out(study: "Study", number: int, key: Any, error: Exception) -> None:
    """Names an attribute that is not recorded, once a study."""
    text = f"the attribute {key!r} of trial {number} is left out, its value is recorded: {error}"
    study._warn_once(f"attribute {key!r}", text.rstrip("."))


def _check_columns(study: "Study", columns: Mapping[str, Any]) -> None:
    """Raises ValueError for what the study's algorithm would not read."""
    given = [name for name, told in columns.items() if told is not None]
    for name in unread(study._algorithm, study._space, given):
        raise ValueError(
            f"{unread_column(name)} Give it to the study by `algorithm`, or record it as a user attribute."
        )


def _frozen(study: "Study", number: int) -> FrozenTrial:
    trials = _storage.retry(lambda: study._optuna.get_trials(deepcopy=False))
    for trial in trials[number:] + trials[:number]:  # they are sorted: the first is the one
        if trial.number == number:
            return trial
    raise StudyError(f"the study {study.name!r} has no trial {number}; it has {len(trials)} trials.")


def _running(study: "Study", trial: Trial | int | np.integer) -> FrozenTrial:
    """The stored trial, if it can be told."""
    trial = plain(trial)
    if isinstance(trial, bool) or not isinstance(trial, Trial | numbers.Integral):
        raise TypeError(f"`trial` must be a Trial that `ask` gave, or its number, got {trial!r}.")
    frozen = _frozen(study, trial.number if isinstance(trial, Trial) else int(trial))
    if isinstance(trial, Trial) and any(
        frozen.params.get(name, value) != value for name, value in trial.params.items()
    ):
        raise StudyError(f"trial {trial.number} of the study {study.name!r} has other parameters: wrong study?")
    if _has_no_value(frozen) and set(study._space.names) <= set(frozen.params):
        return frozen
    if frozen.state in _storage.FINISHED:
        raise _told_before(frozen)
    if frozen.state == TrialState.WAITING:
        raise StudyError(f"trial {frozen.number} waits in line: `ask` for it before telling it.")
    return frozen


def _readmit(study: "Study", stale: FrozenTrial) -> FrozenTrial:
    """A running trial with the parameters of one that was given up or lost, to be told after all."""
    told = _told_instead(study, stale.number)
    if told and told[0].state in _storage.FINISHED:
        raise _told_before(told[0])
    if told:  # somebody was about to tell it
        return told[0]
    attrs = {_storage.INSTEAD_OF: stale.number, _storage.WORKER: study._lease.worker()}
    running = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=stale.params,
        distributions=stale.distributions,
        user_attrs=attrs,
    )
    _storage.retry(lambda: study._optuna.add_trial(running))
    return _told_instead(study, stale.number)[0]


def _told_instead(study: "Study", number: int) -> list[FrozenTrial]:
    trials = _storage.trials_of(study._optuna)
    return [t for t in trials if t.user_attrs.get(_storage.INSTEAD_OF) == number and not _storage.is_lost(t)]


def _finish(study: "Study", frozen: FrozenTrial, value: float | None) -> None:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    try:
        with _storage.quiet():
            _storage.retry(lambda: study._optuna.tell(frozen.number, value, state))
    except (ValueError, RuntimeError) as error:  # a race: another process was faster
        now = _frozen(study, frozen.number)
        if now.state not in _storage.FINISHED:
            raise
        if now.state != state or now.value != value:
            raise _told_before(now) from error


def _told_before(trial: FrozenTrial) -> StudyError:
    if trial.user_attrs.get(_storage.STALE):
        return StudyError(f"trial {trial.number} was given up, because the process that asked for it had ended.")
    what = repr(trial.value) if trial.state == TrialState.COMPLETE else f'state="{trial.state.name.lower()}"'
    return StudyError(f"trial {trial.number} was told before: {what}.")
