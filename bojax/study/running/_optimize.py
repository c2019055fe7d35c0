"""The loop over an objective: ask for a batch, evaluate it, tell the results."""

import contextlib
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bojax._errors import BojaxWarning, SpaceExhaustedError
from bojax._progress import progress_bar
from bojax._tracebacks import describe_error
from bojax.space import watched_arrays
from bojax.study._checks import fitting_attrs, to_floats
from bojax.study._core import Core
from bojax.study.asking import _lost
from bojax.study.asking._asking import Request, ask
from bojax.study.records import _storage
from bojax.study.records._trial import TRACEBACK, Trial
from bojax.study.running._arguments import LoopArguments
from bojax.study.running._failures import Failure, FirstFailures
from bojax.study.telling._telling import tell, warn_left_out

NO_VALUE = "the objective returned None"


def check_objective(objective: Any) -> None:
    """Raises TypeError unless it can be called."""
    if not callable(objective):
        raise TypeError(f"`objective` must be callable, got {objective!r}.")


def optimize(core: Core, objective: Callable[..., Any], loop: LoopArguments) -> FirstFailures:
    """The body of `Study.optimize`; returns the count of failures."""
    check_objective(objective)
    evaluate = _evaluate_batch if loop.vectorized else _evaluate_singly
    end = time.monotonic() + loop.timeout
    failures = FirstFailures(loop.max_first_failures)
    values = core.ledger.refresh().values()
    with progress_bar(core.name, core.direction, values, loop.num_trials, loop.progress) as advance:
        for trials in ask_batches(core, loop.num_trials, loop.batch_size, end, together=loop.vectorized):
            with giving_up_rest(core, trials):
                # A vectorized batch is evaluated by now: all of it is recorded before anything may end the loop.
                told: list[Trial] = []
                for trial, returned in evaluate(core, objective, trials, loop.catch):
                    outcome, attrs = split(returned)
                    failures.count(outcome)
                    told.append(tell_outcome(core, trial, outcome, attrs))
                    del returned, outcome, attrs  # they may hold much memory, which the next evaluation may need
                    advance(told[-1].value)
                    if not loop.vectorized:
                        failures.check()
                        call_all(loop.callbacks, told.pop())
                        if core.stopping or time.monotonic() >= end:
                            break
                failures.check()
                for trial in told:
                    call_all(loop.callbacks, trial)
    return failures


def call_all(callbacks: Sequence[Callable[[Trial], Any]], trial: Trial) -> None:
    for callback in callbacks:
        callback(trial)


def ask_batches(
    core: Core, num_trials: int | None, batch_size: int, end: float = math.inf, *, together: bool
) -> Iterator[list[Trial]]:
    """Batches of trials, until `num_trials` were asked for, the space is exhausted, the study stops, or time is up.

    Args:
        core: the parts of the study; `Study.stop` ends the loop.
        num_trials: total number of trials; None for no limit.
        batch_size: number of trials chosen jointly; the last batch may be smaller.
        end: when to end, by `time.monotonic`.
        together: whether a batch is evaluated at once. Otherwise `_lost.begin` is called before each evaluation.
    """
    core.stopping = False
    left = math.inf if num_trials is None else num_trials
    while left > 0 and not core.stopping and time.monotonic() < end:
        try:
            later = batch_size > 1 and not together
            request = Request(int(min(batch_size, left)), batch_size, later=later, alone=together)
            trials = ask(core, request)
        except SpaceExhaustedError as error:
            warnings.warn(f"the study {core.name!r} stops early: {error}", BojaxWarning, stacklevel=4)
            return
        left -= len(trials)
        yield trials


@contextlib.contextmanager
def giving_up_rest(core: Core, trials: Sequence[Trial]) -> Iterator[None]:
    """On exit, ends trials without a result: as lost where their evaluation had begun, else as given up (`_lost`)."""
    reason = "it was not told"
    try:
        yield
    except BaseException as error:
        reason = describe_error(error)
        raise
    finally:
        _lost.end_rest(core, {trial.number for trial in trials}, reason)


def split(returned: Any) -> tuple[Any, Mapping[str, Any]]:
    """The value or `Failure` in what an objective returned, and the attributes to record."""
    outcome, attrs = returned if _is_pair(returned) else (returned, {})
    return Failure(TypeError(NO_VALUE)) if outcome is None else outcome, attrs


def tell_outcome(core: Core, trial: Trial, outcome: Any, attrs: Mapping[str, Any]) -> Trial:
    attrs = fitting_attrs(attrs, functools.partial(warn_left_out, core, trial.number))  # a bad one loses no value
    if isinstance(outcome, Failure):
        told = _fail(core, trial, outcome, attrs)
        warnings.warn(f"trial {trial.number} failed: {outcome}", BojaxWarning, stacklevel=4)
        return told
    try:
        return tell(core, trial, outcome, user_attrs=attrs)
    except TypeError as error:
        _fail(core, trial, Failure(error))
        raise TypeError(
            f"the objective returned something that is no value of trial {trial.number}: {error}"
        ) from error


def _fail(core: Core, trial: Trial, failure: Failure, attrs: Mapping[str, Any] | None = None) -> Trial:
    """Records a failed trial: it is data, so that the same point is not evaluated again."""
    why = {_storage.ERROR: failure.text} | ({TRACEBACK: failure.traceback} if failure.traceback else {})
    return tell(core, trial, state="fail", user_attrs={**(attrs or {}), **why})


def _is_pair(outcome: Any) -> bool:
    """Whether an objective returned a value and a dict of attributes to record."""
    return isinstance(outcome, tuple) and len(outcome) == 2 and isinstance(outcome[1], Mapping)


def _evaluate_singly(
    core: Core, objective: Callable, trials: Sequence[Trial], catch: tuple[type[BaseException], ...]
) -> Iterator[tuple[Trial, Any]]:
    for trial in trials:
        if not _lost.begin(core, trial.number):
            continue  # another process gave it up
        # No name for the outcome: this frame would keep it alive during the next evaluation.
        yield trial, outcome_of(objective, dict(trial.params), catch)


def _evaluate_batch(
    core: Core, objective: Callable, trials: Sequence[Trial], catch: tuple[type[BaseException], ...]
) -> Iterator[tuple[Trial, Any]]:
    columns = watched_arrays(core.space, core.space.to_arrays([trial.params for trial in trials]))
    values = outcome_of(objective, columns, catch)
    values = Failure(TypeError(NO_VALUE)) if values is None else values
    if isinstance(values, Failure):
        yield from ((trial, values) for trial in trials)
        return
    try:
        outcomes = to_floats(values, len(trials))
    except TypeError as error:
        for trial in trials:
            _fail(core, trial, Failure(error))
        raise
    yield from zip(trials, outcomes, strict=True)


def outcome_of(objective: Callable, params: dict[str, Any], catch: tuple[type[BaseException], ...]) -> Any:
    """The result of the objective, or its failure."""
    try:
        return objective(params)
    except catch as error:
        return Failure(error)
