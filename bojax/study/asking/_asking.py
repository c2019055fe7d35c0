"""Asking: trials are created first, and their parameters are chosen afterwards, jointly for a batch."""

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as OptunaTrial

from bojax._errors import STATUS_TEXT, BojaxWarning, SpaceExhaustedError, Status, StudyError
from bojax.storage import claim, retry, set_params
from bojax.study._core import Core
from bojax.study._travel import check_process
from bojax.study.asking import _lost
from bojax.study.asking._held import (
    groups_of,
    held_row,
    num_feasible_left,
    shown,
    valid_values,
    without_repeats,
)
from bojax.study.asking._job import job_of
from bojax.study.asking._suggest import may_repeat, suggest, takes_held, unread
from bojax.study.records import _storage
from bojax.study.records._trial import Trial

_ASK_TIMEOUT = 120.0
"""Seconds to wait for the parameters of earlier trials, which another process may be compiling for."""

_ATTEMPTS = 3
"""How often a process chooses again after others timed out and gave up its trials."""


class Request(NamedTuple):
    """A request for trials.

    Attributes:
        q: number of trials.
        program_q: number of points the program chooses, at least q; the first q are used.
        fixed: values that all trials hold; queued trials then stay in the queue.
        later: whether `_lost.begin` will record the start of an evaluation; otherwise it starts with the request.
        alone: whether a retry forms its own batch, because all trials of a batch are evaluated at once.
    """

    q: int
    program_q: int
    fixed: Mapping[str, Any] = {}
    later: bool = False
    alone: bool = False


class _Created(NamedTuple):
    """A trial without parameters; `in_line` is Optuna's view of one from the queue."""

    number: int
    trial_id: int
    in_line: OptunaTrial | None


class _TakenAwayError(Exception):
    """Another process gave up a trial of this process."""


def ask(core: Core, request: Request) -> list[Trial]:
    """Asks for trials; returns fewer only if a finite space is nearly exhausted."""
    check_process(core, computes=True)
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(_TakenAwayError):
            return _ask(core, request)
    raise StudyError(
        f"choosing took longer than {_ASK_TIMEOUT:g} s, and another process gave these trials up, {_ATTEMPTS} times."
    )


def _ask(core: Core, request: Request) -> list[Trial]:
    ids: list[int] = []
    with core.lock, _storage.quiet(), _own_sampler(core, request.later):
        _lost.recover(core)
        line = [] if request.fixed else core.ledger.line()
        q = min(request.q, len(line) + _num_left(core, request.fixed))
        if request.alone:
            retries = [i for i, trial in enumerate(line) if _storage.RETRY_OF in trial.user_attrs]
            q = min(q, max(1, retries[0])) if retries else q
        if q == 0:
            raise _exhausted(core, request.fixed)
        if len(line) < q:
            job_of(core.algorithm, core.space, request.program_q)  # an algorithm that cannot be made leaves no trials
        prepared: dict[int, dict[str, Any]] = {}
        try:
            created = _create(core, q, bool(line), request.later, ids)
            trials, num_dropped = _prepare(core, created, request, prepared)
            core.sampler.prepared |= prepared
            # In reverse: once the first trial of a batch has its parameters, all of them have.
            filled = [_fill(core, trial, prepared[trial.number]) for trial in reversed(trials)][::-1]
        except BaseException:
            _lost.give_up(core, ids)
            raise
        finally:
            for number in prepared:
                core.sampler.prepared.pop(number, None)
        return filled + _ask_instead(core, request._replace(q=num_dropped, fixed={}), may_be_fewer=bool(filled))


@contextlib.contextmanager
def _own_sampler(core: Core, later: bool) -> Iterator[None]:
    """Activates bojax's sampler, since the user may have set another one for Optuna's own loop."""
    sampler = core.optuna.sampler
    core.optuna.sampler, core.sampler.asking, core.sampler.later = core.sampler, True, later
    try:
        yield
    finally:
        core.optuna.sampler, core.sampler.asking, core.sampler.later = sampler, False, False


def _create(core: Core, q: int, has_line: bool, later: bool, ids: list[int]) -> list[_Created]:
    """Creates q trials, queued ones first, appends their ids to `ids` one by one, and updates the ledger."""
    in_line: dict[int, OptunaTrial] = {}
    for _ in range(q):
        trial = _next_in_line(core) if has_line else None
        has_line = trial is not None
        if trial is not None:
            ids.append(trial._trial_id)
            in_line[trial._trial_id] = trial
        else:
            ids.append(_new_trial(core, later))
    core.optuna._thread_local.cached_all_trials = None  # as Optuna's `ask` does
    numbers = {trial._trial_id: trial.number for trial in core.ledger.refresh().open_trials()}
    if not set(ids) <= set(numbers):
        raise _TakenAwayError
    return [_Created(numbers[trial_id], trial_id, in_line.get(trial_id)) for trial_id in ids]


def _next_in_line(core: Core) -> OptunaTrial | None:
    """The next queued trial that no other worker takes."""
    for waiting in core.ledger.refresh().line():
        claimed = False
        with contextlib.suppress(*_storage.ENDED_ERRORS):
            # This record identifies the worker if the process ends before the trial's own record is written.
            _storage.set_trial_attr(core.optuna, waiting, _storage.CLAIM, core.lease.worker(asking=True))
            claimed = retry(lambda: claim(core.storage, waiting._trial_id))  # noqa: B023 (called at once)
        if claimed:
            return OptunaTrial(core.optuna, waiting._trial_id)
    return None


def _new_trial(core: Core, later: bool) -> int:
    attrs = {_storage.WORKER: core.lease.worker(asking=True, later=later)}
    template = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attrs)
    trial_id = retry(lambda: core.storage.create_new_trial(core.optuna._study_id, template_trial=template))
    core.lease.hold(trial_id)
    return trial_id


def _ask_instead(core: Core, request: Request, may_be_fewer: bool) -> list[Trial]:
    """Replacements for enqueued trials that were dropped."""
    try:
        return ask(core, request) if request.q else []
    except SpaceExhaustedError:
        if may_be_fewer:
            return []
        raise


def _prepare(
    core: Core, created: list[_Created], request: Request, prepared: dict[int, dict[str, Any]]
) -> tuple[list[_Created], int]:
    """Stores parameters of created trials in `prepared`.

    Returns:
        The trials with parameters, and the number of enqueued ones that were dropped because no point with their values
        is left.
    """
    fixed, own = dict(request.fixed), {trial.number for trial in created}
    _wait_for_earlier(core, min(own))
    held = [fixed or _enqueued(core, trial.number) for trial in created]
    chosen: list[np.ndarray] = []  # rows that are about to become pending
    groups = groups_of(created, held)
    dropped, surplus = 0, []
    for group in [group for group in groups if core.space.is_complete(group.held)]:
        broken = core.space.broken_by(group.held) if core.space.constraints else None
        if broken is not None:  # `enqueue` refuses such a point, but Optuna's own does not
            surplus += group.trials
            dropped += len(group.trials)
            _warn_dropped(group.trials, group.held, f"it breaks {broken}")
            continue
        chosen += [core.space.from_params(group.held)] * len(group.trials)
        prepared |= {trial.number: group.held for trial in group.trials}
    incomplete = [group for group in groups if not core.space.is_complete(group.held)]
    for group in incomplete:
        # Only free points share the program of larger batches: usually only one trial has given fixed values.
        q = len(group.trials) if group.held else max(request.program_q, len(group.trials))
        left = _num_left(core, group.held, chosen) if group.held else q
        first = min(trial.number for trial in group.trials)
        suggested = _suggest(core, first, own, chosen, q, group.held)[:left] if left else []
        for trial, params in zip(group.trials, suggested, strict=False):
            prepared[trial.number] = params
        if group is not incomplete[-1]:  # the next group must account for these
            chosen += [row for row in map(core.ledger.to_row, suggested[: len(group.trials)]) if row is not None]
        left_over = group.trials[len(suggested) :]
        surplus += left_over
        if left_over and group.held and not fixed:
            dropped += len(left_over)
            _warn_dropped(left_over, group.held)
    for trial in surplus:  # none returns to the queue: no point is left for it
        _storage.end_trial(core.optuna, trial.trial_id, {_storage.STALE: True})
    if len(surplus) == len(created) and not dropped:
        raise _exhausted(core, fixed)
    return [trial for trial in created if trial not in surplus], dropped


def _enqueued(core: Core, number: int) -> dict[str, Any]:
    """The values with which a trial was enqueued, if they belong to the space."""
    trial = core.ledger.trial(number)
    return {} if trial is None else valid_values(core.space, trial.system_attrs.get("fixed_params", {}))


def _warn_dropped(
    trials: list[_Created], held: Mapping[str, Any], why: str = "every point with these values is told or pending"
) -> None:
    which = ", ".join(str(trial.number) for trial in trials)
    warnings.warn(
        f"enqueued trial {which} with {shown(held)} is dropped: {why}.",
        BojaxWarning,
        stacklevel=5,
    )


def _exhausted(core: Core, held: Mapping[str, Any]) -> SpaceExhaustedError:
    size = core.space.num_points(held)
    if core.space.constraints:
        size = None if held or size is None else core.space.cardinality
    kind = "feasible point" if core.space.constraints else "point"
    which = f"every {kind}" if size is None else f"all {size} {kind}s"
    return SpaceExhaustedError(f"{which} {f'with {shown(held)}' if held else 'of the space'} are told or pending.")


def _fill(core: Core, trial: _Created, params: dict[str, Any]) -> Trial:
    """Writes the parameters of a trial; enqueued ones take precedence over prepared ones."""
    attrs: dict[str, Any] = {}
    try:
        if trial.in_line is None:
            ordered = {name: params[name] for name in core.space.names if name in params}
            set_params(core.storage, trial.trial_id, ordered, core.distributions)
        else:
            attrs = _storage.shown_attrs(trial.in_line.user_attrs)
            params = _suggested_in_order(core, trial.in_line)
    except _storage.ENDED_ERRORS as error:
        if core.storage.get_trial(trial.trial_id).state not in _storage.FINISHED:
            raise
        raise _TakenAwayError from error
    kinds = {name: kind for name, kind in core.distributions.items() if name in params}
    params = {name: kind.to_external_repr(kind.to_internal_repr(params[name])) for name, kind in kinds.items()}
    return Trial(trial.number, params, user_attrs=attrs)


def suggest_one(core: Core, number: int) -> dict[str, Any]:
    """The parameters of a trial requested by Optuna code."""
    check_process(core, computes=True)
    with core.lock:
        _lost.recover(core)
        held = _enqueued(core, number)
        if core.space.is_complete(held):
            return held
        _wait_for_earlier(core, number)
        suggested = _suggest(core, number, {number}, [], 1, held) if _num_left(core, held) else []
        if not suggested:
            raise _exhausted(core, held)
        return suggested[0]


def _suggest(
    core: Core,
    first: int,
    own: set[int],
    more_pending: list[np.ndarray],
    q: int,
    held: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Up to q suggestions: a pure function of seed, ordinal, reported data, pending points and fixed values.

    Args:
        core: the parts of the study.
        first: number of the first trial to choose for.
        own: numbers of the trials whose points are not pending.
        more_pending: points that are about to become pending.
        q: number of points the algorithm chooses.
        held: values that all of them have.
    """
    written_over = bool(held) and not takes_held(core.algorithm, core.space, q)
    if written_over:
        core.warn_once(
            "held", "the `ask` of the algorithm takes no `held`: held values are written over what it suggests"
        )
    with core.ledger.mutex:
        told, ordinal, reported = core.ledger.told(own), core.ledger.num_counted(first), sorted(core.ledger.reported)
    for name in unread(core.algorithm, core.space, reported):
        core.warn_once(name, f"the study holds `{name}` of trials, from which its algorithm does not learn")
    pending = np.concatenate([told.pending, np.reshape(more_pending, (-1, core.space.num_dims))])
    suggested, status = suggest(
        core.algorithm,
        core.space,
        q,
        seed=core.seed,
        ordinal=ordinal,
        told=told._replace(pending=pending),
        held=held_row(core.space, held),
    )
    if status in (Status.FALLBACK, Status.OVERFLOW):
        core.warn_once(status.name, f"trial {first}: {STATUS_TEXT[status]}")
    if written_over:
        return without_repeats(core.space, suggested, held, np.concatenate([told.X, pending]))
    return [{**params, **held} for params in suggested]  # the exact held values, not their round trip through the cube


def _num_left(core: Core, held: Mapping[str, Any], more_pending: Sequence[np.ndarray] = ()) -> int:
    """Number of points with the held values that are neither reported nor pending; a large number if infinite."""
    size = core.space.num_points(held)
    # A fully given point may be repeated, and so may any point of a noisy objective.
    if size is None or core.space.is_complete(held) or may_repeat(core.algorithm, core.space):
        return 2**31
    if core.space.constraints:
        told = core.ledger.told()
        seen = np.concatenate([told.X, told.pending, np.reshape(more_pending, (-1, core.space.num_dims))])
        left = num_feasible_left(core.space, held, seen)
        return 2**31 if left is None else left
    return max(0, size - core.ledger.num_points(held_row(core.space, held), more_pending))


def _wait_for_earlier(core: Core, number: int) -> None:
    """Waits while another process chooses the parameters of earlier trials.

    After a timeout it gives up these trials, so that no other process waits for them again.
    """
    end = time.monotonic() + _ASK_TIMEOUT
    while True:
        choosing, dead = _choosing(core, number), set()
        if choosing:
            dead = {trial.number for trial in core.ledger.dead()}
            choosing = _choosing(core, number)  # without those that died with their parameters chosen
        late = time.monotonic() >= end
        gone = [trial for trial in choosing if late or trial.number in dead]
        if gone:
            _lost.give_up(core, {trial._trial_id for trial in gone})
        if len(gone) == len(choosing):
            return
        time.sleep(0.05)
        core.ledger.refresh()


def _choosing(core: Core, number: int) -> list[FrozenTrial]:
    return [trial for trial in core.ledger.open_trials() if _is_choosing(core, trial, number)]


def _is_choosing(core: Core, trial: FrozenTrial, number: int) -> bool:
    if trial.number >= number or trial.state != TrialState.RUNNING:
        return False
    if core.space.is_complete(trial.params):
        return False
    worker = trial.user_attrs.get(_storage.WORKER)
    # The worker of a trial is recorded one write after its creation.
    return _storage.is_new(trial) if worker is None else bool(worker.get("asking"))


def _suggested_in_order(core: Core, trial: OptunaTrial) -> dict[str, Any]:
    """The parameters of a queued trial, requested as an Optuna objective would: parents first."""
    params: dict[str, Any] = {}
    for name in core.space.in_order():
        if name in core.space.active_names(params):
            params[name] = _suggest_value(trial, name, core.distributions[name])
    return {name: params[name] for name in core.space.names if name in params}


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
