"""Workers: each is a thread that evaluates one trial at a time, by itself or in a process of its own.

    give --> worker --result--> ended, in the order in which evaluations end
               |
               +-- too late, dead --> a new worker in its place

The calling thread alone asks and tells. It waits in `wait`, which only looks at a queue, so nothing that an objective
does can block it.
"""

import collections
import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from bojax._errors import BojaxError
from bojax.study.records._trial import Trial
from bojax.study.running._failures import Failure

MAX_ABANDONED = 16
"""Number of threads with evaluations that took too long and still run, beyond which a loop ends."""

MAX_BROKEN = 3
"""Number of workers in a row that end before they can evaluate anything, after which a loop ends."""

MAX_EXIT_WAIT = 5.0
"""Seconds that the end of a loop waits for a worker; all of them are idle by then."""

_MAX_WAIT = 3600.0
"""Longest single wait: locks take no infinity."""


@runtime_checkable
class Evaluator(Protocol):
    """Evaluates an objective."""

    @property
    def can_end(self) -> bool:
        """Whether `end` ends a running evaluation."""
        ...

    @property
    def usable(self) -> bool:
        """Whether it can evaluate another trial."""
        ...

    def start(self) -> None:
        """Prepares evaluations; what it raises ends the loop, or is tried again."""
        ...

    def evaluate(self, params: dict[str, Any]) -> Any:
        """What the objective returns, or a `Failure`."""
        ...

    def end(self, at_once: bool) -> None:
        """Ends it: at once, or when it has no more to do."""
        ...


class Raised(NamedTuple):
    """The result of an evaluation that ends the loop: an exception that is not caught."""

    error: BaseException


class Ended(NamedTuple):
    """An evaluation that has ended: its trial, and what the objective returned, a `Failure` or a `Raised`."""

    trial: Trial
    result: Any


_NOTHING = object()
"""The result of a worker that has none."""


class Worker:
    """A thread that evaluates what it is given.

    Attributes:
        evaluator: evaluates the objective.
        ready: whether it can be given a trial, or evaluates one.
        trial: the trial that it evaluates; None while it is free.
        since: when the evaluation began, by `time.monotonic`.
        result: the result of the evaluation.
        error: why it could not start.
    """

    def __init__(self, evaluator: Evaluator, changed: "queue.SimpleQueue[Worker]"):
        self.evaluator, self.ready = evaluator, False
        self.trial: Trial | None = None
        self.since, self.result = 0.0, _NOTHING
        self.error: BaseException | None = None
        self._changed, self._inbox = changed, queue.SimpleQueue()
        run = contextvars.copy_context().run  # the caller's context variables
        self.thread = threading.Thread(target=run, args=(self._work,), name="bojax-worker", daemon=True)
        self.thread.start()

    def give(self, trial: Trial) -> None:
        """Begins an evaluation."""
        self.trial, self.since = trial, time.monotonic()
        self._inbox.put(trial)

    def free(self) -> None:
        """Forgets the evaluation that has ended."""
        self.result, self.trial = _NOTHING, None

    def end(self, at_once: bool) -> None:
        """Ends the worker: at once where that is possible, or after its evaluation."""
        self._inbox.put(None)
        self.evaluator.end(at_once)

    def _work(self) -> None:
        try:
            self.evaluator.start()
        except BaseException as error:
            self.error = error
        self._changed.put(self)
        while self.error is None and (trial := self._inbox.get()) is not None:
            self.thread.name = f"bojax-trial-{trial.number}"
            try:
                self.result = self.evaluator.evaluate(dict(trial.params))
            except BaseException as error:
                self.result = Raised(error)
            self._changed.put(self)


class Workers:
    """The workers of a loop, and the evaluations that have ended and are not told yet.

    As a context manager it ends the workers: at once on an exception.

    Args:
        make: makes an evaluator.
        count: number of workers.
        trial_timeout: seconds that an evaluation may take; infinity for no limit.

    Attributes:
        ended: the evaluations that have ended, in this order. The caller removes what it has told.
    """

    def __init__(self, make: Callable[[], Evaluator], count: int, trial_timeout: float):
        self.ended: collections.deque[Ended] = collections.deque()
        self._make, self._count, self._trial_timeout = make, count, trial_timeout
        self._changed: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._workers: list[Worker] = []
        self._abandoned: list[Worker] = []
        self._any_ready, self._num_broken = False, 0

    def __enter__(self) -> "Workers":
        try:
            for _ in range(self._count):
                self._workers.append(Worker(self._make(), self._changed))
        except BaseException as error:
            self.__exit__(type(error), error)
            raise
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        for worker in self._workers:
            worker.end(at_once=kind is not None or not worker.ready)
        if kind is None:
            for worker in self._workers:
                worker.thread.join(MAX_EXIT_WAIT)

    @property
    def busy(self) -> list[Worker]:
        """The workers with an evaluation."""
        return [worker for worker in self._workers if worker.trial is not None]

    @property
    def free(self) -> Worker | None:
        """A worker that can be given a trial."""
        return next((worker for worker in self._workers if worker.ready and worker.trial is None), None)

    def look(self) -> None:
        """Records in `ended` what has ended, without waiting."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._note(self._changed.get_nowait())
        now = time.monotonic()
        for worker in self.busy:
            if worker.result is _NOTHING and now - worker.since >= self._trial_timeout:
                self._give_up(worker)

    def wait(self, end: float) -> None:
        """Waits until something changes, a trial takes too long, or the time is `end`, by `time.monotonic`."""
        ends = [end, *(worker.since + self._trial_timeout for worker in self.busy)]
        seconds = min(max(0.0, min(ends) - time.monotonic()), _MAX_WAIT)
        with contextlib.suppress(queue.Empty):
            self._note(self._changed.get(timeout=seconds))

    def check(self) -> None:
        """Raises BojaxError where too many threads have been abandoned."""
        count = self._num_abandoned()
        if count > MAX_ABANDONED:
            raise BojaxError(
                f"{count} evaluations that exceeded `trial_timeout` still run in threads, which cannot be ended. Let "
                'the objective end by itself, or evaluate it with worker="process".'
            )

    def rescue(self) -> None:
        """Records in `ended` what has ended, also where an exception came between."""
        self.look()
        known = {ended.trial.number for ended in self.ended}
        for worker in self.busy:
            if worker.result is not _NOTHING and worker.trial is not None and worker.trial.number not in known:
                self.ended.append(Ended(worker.trial, worker.result))
                worker.free()

    def _note(self, worker: Worker) -> None:
        if worker not in self._workers:
            return  # it was replaced: what it says comes too late
        if worker.error is not None:
            self._replace_broken(worker, worker.error)
        elif worker.trial is None:
            worker.ready, self._any_ready, self._num_broken = True, True, 0
        else:
            self.ended.append(Ended(worker.trial, worker.result))
            worker.free()
            if not worker.evaluator.usable:
                self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        worker.end(at_once=True)
        self._workers[self._workers.index(worker)] = Worker(self._make(), self._changed)

    def _replace_broken(self, worker: Worker, error: BaseException) -> None:
        self._num_broken += 1
        if not self._any_ready or self._num_broken >= MAX_BROKEN or isinstance(error, TypeError):
            raise error
        self._replace(worker)

    def _give_up(self, worker: Worker) -> None:
        assert worker.trial is not None
        text = f"no result within {self._trial_timeout:g} s, the `trial_timeout`"
        if not worker.evaluator.can_end:
            self._abandoned.append(worker)
            text += f"; {self._num_abandoned()} such threads still run, and cannot be ended"
        self.ended.append(Ended(worker.trial, Failure(TimeoutError(text))))
        self._replace(worker)

    def _num_abandoned(self) -> int:
        self._abandoned = [worker for worker in self._abandoned if worker.thread.is_alive()]
        return len(self._abandoned)
