"""Asking: trials are created first, and their parameters chosen afterwards, for all of a batch at once."""

import contextlib
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as OptunaTrial

from bojax._errors import STATUS_TEXT, BojaxWarning, SpaceExhaustedError, Status, StudyError
from bojax.data import COLUMNS
from bojax.storage import claim
from bojax.study import _lost, _storage
from bojax.study._held import agree, groups_of, held_row, num_points, shown, valid_values, without_repeats
from bojax.study._suggest import may_repeat, suggest, takes_held, unread
from bojax.study._travel import check_process
from bojax.study._trial import Trial

if TYPE_CHECKING:
    from bojax.study._study import Study

_ASK_TIMEOUT = 120.0
"""Seconds to wait for the parameters of earlier trials, which another process may be compiling for."""

_ATTEMPTS = 3
"""How often a process chooses anew when others waited so long for it that they gave its trials up."""


class _TakenAwayError(Exception):
    """Another process gave up a trial of this one."""


def ask(
    study: "Study",
    q: int,
    program_q: int,
    *,
    fixed: Mapping[str, Any] | None = None,
    later: bool = False,
    alone: bool = False,
) -> list[Trial]:
    """Asks for q trials with the program for `program_q` >= q points, of which the first are taken.

    Args:
        study: what is asked.
        q: how many.
        program_q: how many points the program chooses.
        fixed: values that all of them hold; then trials in line stay there.
        later: whether `_lost.begin` will record when an evaluation begins; otherwise it begins with the asking.
        alone: whether what is evaluated a second time is asked for by itself, because all trials are evaluated at once.
    """
    check_process(study, computes=True)
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(_TakenAwayError):
            return _ask(study, q, program_q, fixed or {}, later, alone)
    raise StudyError(
        f"choosing took longer than {_ASK_TIMEOUT:g} s, and another process gave these trials up, {_ATTEMPTS} times."
    )


def _ask(study: "Study", q: int, program_q: int, fixed: Mapping[str, Any], later: bool, alone: bool) -> list[Trial]:
    created: list[OptunaTrial] = []
    with study._lock, _storage.quiet():
        line = _lost.line(_lost.recover(study))
        line = [] if fixed else line
        q = min(q, len(line) + _num_left(study, fixed))
        if alone:
            retries = [i for i, trial in enumerate(line) if _storage.RETRY_OF in trial.user_attrs]
            q = min(q, max(1, retries[0])) if retries else q
        if q == 0:
            raise _exhausted(study, fixed)
        sampler = study._optuna.sampler  # the user may have put in another one for Optuna's own loop
        study._optuna.sampler, study._sampler.asking, study._sampler.later = study._sampler, True, later
        try:
            for _ in range(q):
                created.append((_next_in_line(study) if line else None) or _new_trial(study))
            trials, num_dropped = _prepare(study, created, program_q, fixed)
            # In reverse: when the first trial of a batch has its parameters, all of the batch have.
            filled = [_fill(study, trial) for trial in reversed(trials)][::-1]
        except BaseException:
            _lost.give_up(study, created)
            raise
        finally:
            study._optuna.sampler, study._sampler.asking, study._sampler.later = sampler, False, False
            for trial in created:
                study._sampler.prepared.pop(trial.number, None)
        return filled + _ask_instead(study, num_dropped, program_q, later, alone, bool(filled))


def _next_in_line(study: "Study") -> OptunaTrial | None:
    """The next trial in line that no other worker takes."""
    storage = study._optuna._storage
    for waiting in _lost.line(_storage.all_trials(study._optuna)):
        claimed = False
        with contextlib.suppress(*_storage.ENDED_ERRORS):
            # Should this process end before the trial's own record is written, this one tells.
            _storage.set_trial_attr(study._optuna, waiting, _storage.CLAIM, study._lease.worker(asking=True))
            claimed = _storage.retry(lambda: claim(storage, waiting._trial_id))  # noqa: B023 (called at once)
        if claimed:
            return _optuna_trial(study, waiting._trial_id)
    return None


def _new_trial(study: "Study") -> OptunaTrial:
    attrs = {_storage.WORKER: study._lease.worker(asking=True, later=study._sampler.later)}
    template = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attrs)
    create = study._optuna._storage.create_new_trial
    return _optuna_trial(study, _storage.retry(lambda: create(study._optuna._study_id, template_trial=template)))


def _optuna_trial(study: "Study", trial_id: int) -> OptunaTrial:
    study._optuna._thread_local.cached_all_trials = None  # as Optuna's `ask` does
    return OptunaTrial(study._optuna, trial_id)


def _ask_instead(study: "Study", q: int, program_q: int, later: bool, alone: bool, may_be_fewer: bool) -> list[Trial]:
    """Trials in the place of enqueued ones that were dropped."""
    try:
        return ask(study, q, program_q, later=later, alone=alone) if q else []
    except SpaceExhaustedError:
        if may_be_fewer:
            return []
        raise


def _prepare(
    study: "Study", created: list[OptunaTrial], program_q: int, fixed: Mapping[str, Any]
) -> tuple[list[OptunaTrial], int]:
    """Leaves parameters for new trials with the sampler.

    Returns:
        The trials that got some, and how many enqueued ones were dropped, because no point is left that has their
        values.
    """
    numbers_ = {trial.number for trial in created}
    _wait_for_earlier(study, min(numbers_))
    by_number = {t.number: t for t in _storage.trials_of(study._optuna)}
    held = [dict(fixed) or _enqueued(study, by_number[trial.number]) for trial in created]
    chosen: list[np.ndarray] = []  # rows that are about to become pending
    groups = groups_of(created, held)
    for group in [group for group in groups if len(group.held) == study._space.num_dims]:
        chosen += [held_row(study._space, group.held)] * len(group.trials)  # type: ignore[list-item]
        study._sampler.prepared |= {trial.number: group.held for trial in group.trials}
    dropped, surplus = 0, []
    for group in [group for group in groups if len(group.held) < study._space.num_dims]:
        # Only free points share the program of larger batches: what is held is mostly held by one trial.
        q = len(group.trials) if group.held else max(program_q, len(group.trials))
        left = _num_left(study, group.held, chosen) if group.held else q
        first = min(trial.number for trial in group.trials)
        suggested = _suggest(study, first, numbers_, chosen, q, group.held)[:left] if left else []
        for trial, params in zip(group.trials, suggested, strict=False):
            study._sampler.prepared[trial.number] = params
            chosen += [row for row in [study._to_row(params)] if row is not None]
        left_over = group.trials[len(suggested) :]
        surplus += left_over
        if left_over and group.held and not fixed:
            dropped += len(left_over)
            _warn_dropped(left_over, group.held)
    for trial in surplus:  # none of them goes back in line: there is no point left that it could have
        _storage.end_trial(study._optuna, trial, {_storage.STALE: True})
    if len(surplus) == len(created) and not dropped:
        raise _exhausted(study, fixed)
    return [trial for trial in created if trial not in surplus], dropped


def _enqueued(study: "Study", trial: FrozenTrial) -> dict[str, Any]:
    """The values that a trial was enqueued with, as far as they belong to the space."""
    return valid_values(study._space, trial.system_attrs.get("fixed_params", {}))


def _warn_dropped(trials: list[OptunaTrial], held: Mapping[str, Any]) -> None:
    which = ", ".join(str(trial.number) for trial in trials)
    warnings.warn(
        f"enqueued trial {which} with {shown(held)} is dropped: every point with these values is told or pending.",
        BojaxWarning,
        stacklevel=5,
    )


def _exhausted(study: "Study", held: Mapping[str, Any]) -> SpaceExhaustedError:
    size = num_points(study._space, held)
    which = "every point" if size is None else f"all {size} points"
    return SpaceExhaustedError(f"{which} {f'with {shown(held)}' if held else 'of the space'} are told or pending.")


def _fill(study: "Study", trial: OptunaTrial) -> Trial:
    """Writes the parameters of a trial; enqueued ones go before prepared ones."""
    params = {}
    for name, distribution in study._distributions.items():
        try:
            value = _suggest_value(trial, name, distribution)
        except _storage.ENDED_ERRORS as error:
            if study._optuna._storage.get_trial(trial._trial_id).state not in _storage.FINISHED:
                raise
            raise _TakenAwayError from error
        params[name] = distribution.to_external_repr(distribution.to_internal_repr(value))
    return Trial(trial.number, params, user_attrs=_storage.shown_attrs(trial.user_attrs))


def suggest_one(study: "Study", number: int) -> dict[str, Any]:
    """The parameters of a trial that Optuna code asked for."""
    check_process(study, computes=True)
    with study._lock:
        _lost.recover(study)
        trial = next((t for t in _storage.trials_of(study._optuna) if t.number == number), None)
        held = {} if trial is None else _enqueued(study, trial)
        if len(held) == study._space.num_dims:
            return held
        _wait_for_earlier(study, number)
        suggested = _suggest(study, number, {number}, [], 1, held) if _num_left(study, held) else []
        if not suggested:
            raise _exhausted(study, held)
        return suggested[0]


def _suggest(
    study: "Study",
    first: int,
    own: set[int],
    more_pending: list[np.ndarray],
    q: int,
    held: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Up to q suggestions: the pure function of seed, ordinal, told data, pending points and what is held.

    Args:
        first: the number of the first trial to choose for; `own` are those whose points are not pending.
        more_pending: points that are about to become pending.
        q: how many points the algorithm chooses.
        held: values that all of them have.
    """
    held = held or {}
    written_over = bool(held) and not takes_held(study._algorithm, study._space, q)
    if written_over:
        study._warn_once(
            "held", "the `ask` of the algorithm takes no `held`: held values are written over what it suggests"
        )
    trials = _storage.trials_of(study._optuna)
    told = study._data(trials, own)
    fills = {name: COLUMNS[name].fill for name in told.columns}
    stored = [name for name, v in told.columns.items() if not np.array_equal(v, np.full_like(v, fills[name]), True)]
    for name in unread(study._algorithm, study._space, stored):
        study._warn_once(name, f"the study holds `{name}` of trials, from which its algorithm does not learn")
    pending = np.concatenate([told.pending, np.reshape(more_pending, (-1, study._space.num_dims))])
    suggested, status = suggest(
        study._algorithm,
        study._space,
        q,
        seed=study._seed,
        ordinal=sum(t.number < first for t in trials),
        told=told._replace(pending=pending),
        held=held_row(study._space, held),
    )
    if status in (Status.FALLBACK, Status.OVERFLOW):
        study._warn_once(status.name, f"trial {first}: {STATUS_TEXT[status]}")
    if written_over:
        return without_repeats(study._space, suggested, held, np.concatenate([told.X, pending]))
    return [{**params, **held} for params in suggested]  # exactly the held values, not their way through the cube


def _num_left(study: "Study", held: Mapping[str, Any], more_pending: Sequence[np.ndarray] = ()) -> int:
    """How many points with the held values are neither told nor pending (a large number if they are not finite)."""
    size = num_points(study._space, held)
    # A point that is given as a whole may be repeated, and any point of a noisy objective.
    if size is None or len(held) == study._space.num_dims or may_repeat(study._algorithm, study._space):
        return 2**31
    held_coordinates = held_row(study._space, held)
    rows = [study._row(trial) for trial in _storage.trials_of(study._optuna)] + list(more_pending)
    seen = {row.tobytes() for row in rows if row is not None and agree(row, held_coordinates)}
    return max(0, size - len(seen))


def _wait_for_earlier(study: "Study", number: int) -> None:
    """Waits for the parameters of earlier trials, where another process is choosing them; in the end it gives them up,
    so that nobody waits for them again."""
    end = time.monotonic() + _ASK_TIMEOUT
    while True:
        trials = _storage.trials_of(study._optuna)
        choosing = [t for t in trials if _is_choosing(study, t, number)]
        dead = {t.number for t in study._watch.dead(trials)} if choosing else set()
        late = time.monotonic() >= end
        gone = [t for t in choosing if late or t.number in dead]
        if gone:
            _lost.give_up(study, gone)
        if len(gone) == len(choosing):
            return
        time.sleep(0.05)


def _is_choosing(study: "Study", trial: FrozenTrial, number: int) -> bool:
    if trial.number >= number or trial.state != TrialState.RUNNING:
        return False
    if set(study._space.names) <= set(trial.params):
        return False
    worker = trial.user_attrs.get(_storage.WORKER)
    # Between the creation of a trial and the record of its worker lies one write.
    return _storage.is_new(trial) if worker is None else bool(worker.get("asking"))


def _suggest_value(trial: OptunaTrial, name: str, distribution: Any) -> Any:
    match distribution:
        case optuna.distributions.FloatDistribution():
            return trial.suggest_float(
                name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
        case optuna.distributions.IntDistribution():
            low, high, step = distribution.low, distribution.high, distribution.step
            return trial.suggest_int(name, low, high, step=step, log=distribution.log)
        case _:
            return trial.suggest_categorical(name, distribution.choices)
