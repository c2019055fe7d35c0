"""Asking: trials are created first, and their parameters chosen afterwards, for all of a batch at once."""

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as OptunaTrial

from bojax._errors import STATUS_TEXT, SpaceExhaustedError, Status
from bojax.study import _storage
from bojax.study._suggest import suggest
from bojax.study._trial import Trial

if TYPE_CHECKING:
    from bojax.study._study import Study

_ASK_TIMEOUT = 120.0
"""Seconds to wait for the parameters of earlier trials, which another process may be compiling for."""


def ask(study: "Study", q: int, program_q: int) -> list[Trial]:
    """Asks for q trials with the program for `program_q` >= q points, of which the first are taken."""
    created: list[OptunaTrial] = []
    with study._lock, _storage.quiet():
        waiting = sum(t.state == TrialState.WAITING for t in _storage.trials_of(study._optuna))
        q = min(q, waiting + _num_left(study))
        if q == 0:
            raise SpaceExhaustedError(f"all {study._space.cardinality} points of the space are told or pending.")
        sampler = study._optuna.sampler  # the user may have put in another one for Optuna's own loop
        study._optuna.sampler, study._sampler.asking = study._sampler, True
        try:
            for _ in range(q):
                created.append(study._optuna.ask())
            trials = _prepare(study, created, program_q)
            # In reverse: when the first trial of a batch has its parameters, all of the batch have.
            return [_fill(study, trial) for trial in reversed(trials)][::-1]
        except BaseException:
            for trial in created:
                _storage.mark_stale(study._optuna, trial)
            raise
        finally:
            study._optuna.sampler, study._sampler.asking = sampler, False
            for trial in created:
                study._sampler.prepared.pop(trial.number, None)


def _prepare(study: "Study", created: list[OptunaTrial], program_q: int) -> list[OptunaTrial]:
    """Leaves parameters for new trials with the sampler; returns the trials that got some."""
    numbers_ = {trial.number for trial in created}
    _wait_for_earlier(study, min(numbers_))
    by_number = {t.number: t for t in _storage.trials_of(study._optuna)}
    open_: list[OptunaTrial] = []
    fixed_points: list[np.ndarray] = []
    for trial in created:
        fixed = by_number[trial.number].system_attrs.get("fixed_params", {})
        if set(fixed) >= set(study._space.names):
            study._sampler.prepared[trial.number] = {}
            fixed_points += [row for row in [study._to_row(fixed)] if row is not None]
        else:
            open_.append(trial)
    if not open_:
        return created
    first = min(trial.number for trial in open_)
    suggested = _suggest(study, first, numbers_, fixed_points, max(program_q, len(open_)))
    for trial, params in zip(open_, suggested, strict=False):
        study._sampler.prepared[trial.number] = params
    surplus = open_[len(suggested) :]
    for trial in surplus:
        _storage.mark_stale(study._optuna, trial)
    if len(surplus) == len(created):
        raise SpaceExhaustedError("every point of the space is told or pending.")
    return [trial for trial in created if trial not in surplus]


def _fill(study: "Study", trial: OptunaTrial) -> Trial:
    """Writes the parameters of a trial; enqueued ones go before prepared ones."""
    params = {}
    for name, distribution in study._distributions.items():
        value = _suggest_value(trial, name, distribution)
        params[name] = distribution.to_external_repr(distribution.to_internal_repr(value))
    return Trial(trial.number, params)


def suggest_one(study: "Study", number: int) -> dict[str, Any]:
    """The parameters of a trial that Optuna code asked for."""
    with study._lock:
        _wait_for_earlier(study, number)
        if _num_left(study) == 0:
            raise SpaceExhaustedError(f"all {study._space.cardinality} points of the space are told or pending.")
        suggested = _suggest(study, number, {number}, [], 1)
        if not suggested:
            raise SpaceExhaustedError("every point of the space is told or pending.")
        return suggested[0]


def _suggest(study: "Study", first: int, own: set[int], more_pending: list[np.ndarray], q: int) -> list[dict[str, Any]]:
    """Up to q suggestions: the pure function of seed, ordinal, told data and pending points.

    Args:
        first: the number of the first trial to choose for; `own` are those whose points are not pending.
        more_pending: points that are about to become pending.
        q: how many points the algorithm chooses.
    """
    trials = _storage.trials_of(study._optuna)
    X, y, noise_var, cost, grad, pending = study._data(trials, own)
    suggested, status = suggest(
        study._algorithm,
        study._space,
        q,
        seed=study._seed,
        ordinal=sum(t.number < first for t in trials),
        X=X,
        y=y,
        noise_var=noise_var,
        cost=cost,
        grad=grad,
        pending=np.concatenate([pending, np.reshape(more_pending, (-1, study._space.num_dims))]),
    )
    if status in (Status.FALLBACK, Status.OVERFLOW):
        study._warn_once(status.name, f"trial {first}: {STATUS_TEXT[status]}")
    return suggested


def _num_left(study: "Study") -> int:
    """How many points of the space are neither told nor pending (a large number if it is not finite)."""
    if study._space.cardinality is None:
        return 2**31
    trials = _storage.trials_of(study._optuna)
    rows = [study._row(trial) for trial in trials]
    seen = {row.tobytes() for row in rows if row is not None}
    return max(0, study._space.cardinality - len(seen))


def _wait_for_earlier(study: "Study", number: int) -> None:
    """Waits for the parameters of earlier trials, where another process is choosing them."""
    end = time.monotonic() + _ASK_TIMEOUT
    while time.monotonic() < end:
        choosing = [t for t in _storage.trials_of(study._optuna) if _is_choosing(study, t, number)]
        dead = [t for t in choosing if _storage.is_dead(t.user_attrs.get(_storage.WORKER))]
        for trial in dead:
            _storage.mark_stale(study._optuna, trial)
        if len(dead) == len(choosing):
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
