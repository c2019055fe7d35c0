"""The loop over an objective with workers: a trial is chosen whenever a worker is free.

    ended evaluations --tell--> study --ask--> trial --give--> a free worker

Results are told before anything is asked for, so a suggestion is made from all that is known.
"""

import collections
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from bojax._progress import progress_bar
from bojax._tracebacks import describe_error
from bojax.study._core import Core
from bojax.study.asking import _lost
from bojax.study.records._trial import Trial
from bojax.study.running._arguments import LoopArguments
from bojax.study.running._failures import FirstFailures
from bojax.study.running._optimize import ask_batches, call_all, check_objective, split, tell_outcome
from bojax.study.running._processes import processes
from bojax.study.running._threads import threads
from bojax.study.running._workers import Raised, Workers


def optimize_side_by_side(core: Core, objective: Callable[..., Any], loop: LoopArguments) -> FirstFailures:
    """The body of `Study.optimize` with workers; returns the count of failures."""
    check_objective(objective)
    make = (processes if loop.worker == "process" else threads)(objective, loop.catch)
    end = time.monotonic() + loop.timeout
    failures = FirstFailures(loop.max_first_failures)
    more = loop.num_trials != 0 and loop.timeout > 0.0
    if not more:
        return failures
    count = min(loop.num_workers, loop.num_trials or loop.num_workers)
    batches = ask_batches(core, loop.num_trials, loop.batch_size, end, together=False)
    waiting: collections.deque[Trial] = collections.deque()
    values = core.ledger.refresh().values()
    core.stopping = False
    with (
        progress_bar(core.name, core.direction, values, loop.num_trials, loop.progress) as advance,
        Workers(make, count, loop.trial_timeout) as workers,
        _nothing_lost(core, workers, waiting),
    ):
        while more or workers.busy or workers.ended:
            workers.look()
            while workers.ended:
                told = _tell_first(core, workers, failures)
                advance(told.value)
                failures.check()
                call_all(loop.callbacks, told)
            workers.check()
            more = more and not core.stopping and time.monotonic() < end
            if not more or workers.free is None:
                if more or workers.busy:
                    workers.wait(end if more else math.inf)
                continue
            waiting.extend(() if waiting else next(batches, ()))
            more = bool(waiting)
            if waiting and _lost.begin(core, waiting[0].number):
                workers.free.give(waiting[0])
            if waiting:
                waiting.popleft()
    return failures


def _tell_first(core: Core, workers: Workers, failures: FirstFailures) -> Trial:
    """Tells the result of the evaluation that ended first, and returns the trial as stored."""
    trial, result = workers.ended[0]
    if isinstance(result, Raised):
        raise result.error
    outcome, attrs = split(result)
    failures.count(outcome)
    told = tell_outcome(core, trial, outcome, attrs)
    workers.ended.popleft()
    return told


@contextlib.contextmanager
def _nothing_lost(core: Core, workers: Workers, waiting: collections.deque[Trial]) -> Iterator[None]:
    """On exit, tells what has ended, and ends the other trials as `giving_up_rest` does."""
    reason, told = "it was not told", []
    try:
        yield
    except BaseException as error:
        reason = describe_error(error)
        workers.rescue()
        while workers.ended:
            trial, result = workers.ended.popleft()
            told.append(trial)
            if not isinstance(result, Raised):
                with contextlib.suppress(Exception):  # what was told already, or an error beside the one that is raised
                    tell_outcome(core, trial, *split(result))
                continue
            _lost.end_rest(core, {trial.number}, describe_error(result.error))
            if result.error is error:
                reason = f"the loop ended, because trial {trial.number} raised {reason}"
        raise
    finally:
        running = [worker.trial for worker in workers.busy]
        _lost.end_rest(core, {trial.number for trial in (*waiting, *running, *told) if trial is not None}, reason)
