"""What becomes of evaluations that were not told: recorded as lost and repeated once, or given up.

An evaluation that began and never ended is *lost*: its process was killed, or an exception that is not caught or Ctrl-C
ended it. Its trial fails, with the attributes `bojax:lost` and `bojax:error`, and its parameters get in line once more,
as a trial with `bojax:retry_of`. If that one is lost, too, it is a failed trial like any other, and told to the
algorithm. The first loss is not: its retry stands for it.

A trial whose evaluation did not begin is *given up*: it counts for nothing (`bojax:stale`). If it came from the
line, it gets in line again, at its old place.

A trial that is owed a place in line says so (`bojax:owed`) before it ends, and its successor names it (`bojax:again`):
nothing gets lost between the two. Where two processes put the same trial in line, the earlier successor counts.
"""

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from bojax.study import _storage
from bojax.study._replaced import CORRECTS, without_replaced
from bojax.study._trial import Trial

if TYPE_CHECKING:
    from bojax.study._study import Study

ENDED = "the process that evaluated it ended without a word: it was killed, or ran out of memory"


def recover(study: "Study") -> list[FrozenTrial]:
    """Records what became of the trials of dead workers, and puts in line what is owed a place; all trials after it."""
    trials = _storage.all_trials(study._optuna)
    dead = study._watch.dead(trials)
    for trial in dead:
        _end(study, trial, ENDED)
    return put_in_line(study, _storage.all_trials(study._optuna) if dead else trials)


def end_rest(study: "Study", numbers: Iterable[int], reason: str) -> None:
    """Ends those trials of this process that still run, whose evaluations end here.

    Args:
        numbers: of the trials.
        reason: for `bojax:error` of those whose evaluation had begun.
    """
    wanted = set(numbers)
    running = [t for t in _storage.all_trials(study._optuna) if t.number in wanted and t.state == TrialState.RUNNING]
    for trial in running:
        _end(study, trial, reason)
    if running:
        put_in_line(study, _storage.all_trials(study._optuna))


def give_up(study: "Study", trials: Iterable[FrozenTrial | optuna.Trial | Trial]) -> None:
    """Ends trials whose evaluation did not begin: they count for nothing, those from the line get in line again."""
    numbers = {trial.number for trial in trials}
    for trial in _storage.all_trials(study._optuna):
        if trial.number in numbers and trial.state not in _storage.FINISHED:
            _storage.end_trial(study._optuna, trial, _given_up(trial))
    put_in_line(study, _storage.all_trials(study._optuna))


@contextlib.contextmanager
def mistakes(study: "Study", trials: Iterable[Trial]) -> Iterator[None]:
    """Gives trials up where something raises that says nothing about them: a mistake in the caller's arguments."""
    try:
        yield
    except Exception:
        give_up(study, trials)
        raise


def begin(study: "Study", number: int) -> bool:
    """Records that an evaluation begins; False where the trial was taken away, because this process seemed dead."""
    trial = next(t for t in _storage.all_trials(study._optuna) if t.number == number)
    if not (trial.user_attrs.get(_storage.WORKER) or {}).get("later"):
        return True  # it began with the asking
    try:
        _storage.set_trial_attr(study._optuna, trial, _storage.STARTED, True)
    except _storage.ENDED_ERRORS:
        return False
    return True


def as_seen(study: "Study", trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count, those of dead workers as the next `ask` will record them: reading writes nothing."""
    dead = {trial.number for trial in study._watch.dead(trials)}
    seen = []
    for trial in trials:
        if trial.number in dead:
            attrs = _lost(trial, ENDED) if _has_begun(study, trial) else _given_up(trial)
            trial = copy.copy(trial)
            trial.state, trial.user_attrs = TrialState.FAIL, trial.user_attrs | attrs
        if not _storage.is_given_up(trial):
            seen.append(trial)
    return without_replaced(seen)


def as_data(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials without lost ones that another one stands for: a retry, or what was told after all."""
    told = _told_after_all(trials)

    def is_represented(trial: FrozenTrial) -> bool:
        told_as = {trial.number, trial.user_attrs.get(_storage.RETRY_OF)}
        return bool(trial.user_attrs.get(_storage.OWED) or told_as & told)

    return [trial for trial in trials if not (_storage.is_lost(trial) and is_represented(trial))]


def line(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that wait in line, the next one first."""
    doubles = {trial.number for trial in _doubles(trials)}
    waiting = [t for t in trials if t.state == TrialState.WAITING and t.number not in doubles]
    return sorted(waiting, key=_place)


def put_in_line(study: "Study", trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Gives every trial that is owed a place in line its successor, and removes successors that nobody needs.

    Args:
        study: whose trials.
        trials: all of them.

    Returns:
        All of them, after that.
    """
    served = {t.user_attrs[_storage.AGAIN]["of"] for t in trials if _storage.AGAIN in t.user_attrs}
    served |= _told_after_all(trials)
    owed = [t for t in trials if t.state == TrialState.FAIL and t.user_attrs.get(_storage.OWED) is True]
    owed = [t for t in owed if t.number not in served]
    for trial in owed:
        successor = _successor(study, trial)
        _storage.retry(lambda: study._optuna.add_trial(successor))  # noqa: B023 (called at once)
    trials = _storage.all_trials(study._optuna) if owed else trials
    doubles = _doubles(trials)
    for trial in doubles:
        _storage.end_trial(study._optuna, trial, {_storage.STALE: True})
    return _storage.all_trials(study._optuna) if doubles else trials


def _end(study: "Study", trial: FrozenTrial, reason: str) -> None:
    attrs = _lost(trial, reason) if _has_begun(study, trial) else _given_up(trial)
    _storage.end_trial(study._optuna, trial, attrs)


def _lost(trial: FrozenTrial, reason: str) -> dict[str, Any]:
    owed = {} if _storage.RETRY_OF in trial.user_attrs else {_storage.OWED: True}
    return {_storage.LOST: True, _storage.ERROR: reason} | owed


def _given_up(trial: FrozenTrial) -> dict[str, Any]:
    owed = {_storage.OWED: True} if "fixed_params" in trial.system_attrs else {}
    return {_storage.STALE: True} | owed


def _has_begun(study: "Study", trial: FrozenTrial) -> bool:
    """Whether the evaluation of a running trial began: it has all parameters, and nobody still holds it back."""
    worker = trial.user_attrs.get(_storage.WORKER)
    if worker is None or (worker.get("later") and not trial.user_attrs.get(_storage.STARTED)):
        return False
    # An objective of Optuna's may end the process before it has asked for all parameters.
    return study._to_row(trial.params if worker.get("asking") else _storage.params_of(trial)) is not None


def _successor(study: "Study", trial: FrozenTrial) -> FrozenTrial:
    """The trial that gets in line for one that ended, with its parameters and what its user put in line with it."""
    attrs = {k: v for k, v in trial.user_attrs.items() if k == _storage.RETRY_OF or not k.startswith("bojax:")}
    if _storage.is_lost(trial):
        params = _storage.params_of(trial)
        fixed = {name: params[name] for name in study._space.names}
        attrs |= {_storage.RETRY_OF: trial.number, _storage.AGAIN: {"of": trial.number}}
    else:
        fixed = trial.system_attrs["fixed_params"]
        attrs |= {_storage.AGAIN: {"of": trial.number, "place": _place(trial)}}
    return optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": fixed}, user_attrs=attrs)


def _place(trial: FrozenTrial) -> int:
    """Where in line a trial stands: at its number, or at that of the trial which it succeeds without an evaluation."""
    return trial.user_attrs.get(_storage.AGAIN, {}).get("place", trial.number)


def _told_after_all(trials: Sequence[FrozenTrial]) -> set[int]:
    """The numbers of trials that were given up or lost, and told or corrected under another number."""
    told = [t for t in trials if t.state in _storage.FINISHED and not _storage.is_lost(t)]
    return {t.user_attrs[key] for t in told for key in (_storage.INSTEAD_OF, CORRECTS) if key in t.user_attrs}


def _doubles(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Waiting successors of trials that have an earlier one, or that were told after all."""
    served, found = _told_after_all(trials), []
    told = set(served)
    for trial in trials:
        of = trial.user_attrs.get(_storage.AGAIN, {}).get("of")
        if of is None:
            continue
        if trial.state == TrialState.WAITING and (of in served or trial.user_attrs.get(_storage.RETRY_OF) in told):
            found.append(trial)
        served.add(of)
    return found
