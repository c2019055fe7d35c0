"""Evaluations in processes, each of which is started afresh and can be killed; `bojax/_worker.py` is its program.

The objective and the exceptions to catch are pickled once and sent to each process. Results come back the same way;
nothing pickled is stored.
"""

import atexit
import contextlib
import multiprocessing
import os
import pathlib
import pickle
import runpy
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from bojax._errors import BojaxError
from bojax._runtime import user_settings
from bojax._tracebacks import Report, describe_error
from bojax.study.running._failures import Failure
from bojax.study.running._workers import Evaluator

START_TIMEOUT = 600.0
"""Seconds in which a process must have loaded the objective."""

EXIT_SECONDS = 5.0
"""Seconds in which an idle process must end before it is killed."""

_POLL_SECONDS = 1.0
"""Interval at which a silent process is looked at: a child of its own may keep its end of the pipe open."""

_PROGRAM = str(pathlib.Path(__file__).parents[2] / "_worker.py")

_STARTING = threading.Lock()
"""Processes are started one at a time: `multiprocessing` keeps a list of them."""


class InProcess:
    """Calls an objective in a process of its own, which `end` kills together with what it has started.

    Args:
        message: what the process needs: the first of `sys.argv`, settings, pickled exceptions and objective.
        name: what the objective is called in messages.
    """

    can_end = True

    def __init__(self, message: tuple[Any, ...], name: str):
        self._message, self._name = message, name
        self._lock, self._killed = threading.Lock(), False
        self._process: Any = None
        self._connection: Any = None
        self.usable = True

    def start(self) -> None:
        """Starts the process and waits until it has loaded the objective.

        Raises:
            TypeError: it cannot load the objective.
            BojaxError: it ended before.
        """
        context = multiprocessing.get_context("spawn")
        with self._lock:
            if self._killed:
                raise BojaxError("the worker was ended before it began.")
            ours, theirs = context.Pipe()
            # A function of the standard library and a path: to import this file the process would have to import JAX.
            arguments = (_PROGRAM, {"CONNECTION": theirs}, "bojax worker")
            process: Any = context.Process(target=runpy.run_path, args=arguments, name="bojax-worker")
            with _STARTING:
                process.start()
            theirs.close()
            self._process, self._connection = process, ours
        _LIVING.add(self)
        try:
            ours.send(self._message)
            answer = self._receive(START_TIMEOUT)
        except (EOFError, OSError) as error:
            raise BojaxError(
                f"a worker process {self._kill_and_say()} before it had loaded the objective {self._name}; its own "
                'message, if any, is on stderr. A script that starts workers needs `if __name__ == "__main__":` around '
                "what it does."
            ) from error
        if answer[0] == "unfit":
            raise TypeError(
                f"`objective` must be loadable in a new process, but {self._name} is not: {answer[1]}. Define it at "
                'the top level of a module that can be imported, or use worker="thread".'
            )

    def evaluate(self, params: dict[str, Any]) -> Any:
        """What the objective returns, or a `Failure`."""
        try:
            self._connection.send(params)
        except OSError:  # the idle process was killed
            self._kill_and_say()
            self.start()
            self._connection.send(params)
        try:
            kind, *answer = self._receive()
        except (EOFError, OSError):
            self.usable = False
            return Failure(ChildProcessError(f"the worker process {self._kill_and_say()}"))
        if kind == "value":
            return _with_unsent(*answer)
        texts, pickled = answer
        report = Report(*texts)
        error = _loaded(pickled) or BojaxError(f"in a worker process: {report.text}")
        if kind == "failed":
            return Failure(error, report)
        error.add_note(f"It was raised in a worker process:\n{report.traceback}")
        raise error

    def end(self, at_once: bool) -> None:
        """Kills the process, or lets it end by itself."""
        with self._lock:
            self._killed = True
            if self._connection is not None and not at_once:
                self._connection.close()
                self._process.join(EXIT_SECONDS)
            if self._process is not None and self._process.exitcode is None:
                _kill(self._process)

    def _receive(self, seconds: float | None = None) -> tuple[Any, ...]:
        """The next message.

        Raises:
            EOFError, OSError: the process has ended, or says nothing for so many seconds.
        """
        waited = 0.0
        while not self._connection.poll(_POLL_SECONDS):
            waited += _POLL_SECONDS
            if not self._process.is_alive() and not self._connection.poll():
                raise EOFError
            if seconds is not None and waited >= seconds:
                raise TimeoutError
        received = self._connection.recv_bytes()
        try:
            return pickle.loads(received)
        except Exception as error:
            return "value", None, {None: f"something that cannot be loaded: {describe_error(error)}"}

    def _kill_and_say(self) -> str:
        """Kills what is left of the process, and says how it ended."""
        with self._lock:
            process = self._process
            process.join(EXIT_SECONDS)
            code = process.exitcode
            _kill(process)
            process.join(EXIT_SECONDS)
            self._connection.close()
        if code is None:
            return "went silent and was killed"
        if code >= 0:
            return f"ended with exit code {code}"
        with contextlib.suppress(ValueError):
            hint = ", as when memory runs out" if -code == getattr(signal, "SIGKILL", None) else ""
            return f"was killed by {signal.Signals(-code).name}{hint}"
        return f"was killed by signal {-code}"


def processes(objective: Callable[..., Any], catch: tuple[type[BaseException], ...]) -> Callable[[], Evaluator]:
    """A function that makes evaluators in processes.

    Raises:
        TypeError: the objective or an exception cannot be pickled.
    """
    if multiprocessing.current_process().daemon:
        raise BojaxError(
            'this process is a daemon of multiprocessing, which may start no processes. Use worker="thread", or start '
            "it with daemon=False."
        )
    name = getattr(objective, "__qualname__", None) or repr(objective)
    pickled = []
    for argument, what in (("catch", catch), ("objective", objective)):
        try:
            pickled.append(pickle.dumps(what))
        except Exception as error:
            which = name if argument == "objective" else repr(catch)
            raise TypeError(
                f'`{argument}` must be picklable where worker="process", but {which} is not: {describe_error(error)}. '
                'Define it at the top level of a module, or use worker="thread".'
            ) from error
    settings = {name: getattr(value, "value", value) for name, value in user_settings()._asdict().items()}
    message = (sys.argv[:1], settings, *pickled)  # no objects of JAX, for which the process would import it
    return lambda: InProcess(message, name)


class _Unsent:
    """Stands for what a process could not send; it is refused like the original would be."""

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _with_unsent(outcome: Any, unsent: dict[str | None, str]) -> Any:
    """The outcome with a mark in place of what could not be sent; the key None is that of the value."""
    if not unsent:
        return outcome
    if not isinstance(outcome, tuple):
        return _Unsent(unsent[None])
    value, attrs = outcome
    marks = {key: _Unsent(text) for key, text in unsent.items()}
    return marks.pop(None, value), attrs | marks


def _loaded(pickled: bytes | None) -> BaseException | None:
    """An exception of the worker; None if this process cannot make it."""
    try:
        error = None if pickled is None else pickle.loads(pickled)
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


def _kill(process: Any) -> None:
    """Kills a process and the others of its group, which it has started."""
    with contextlib.suppress(OSError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


_LIVING: "weakref.WeakSet[InProcess]" = weakref.WeakSet()


def _end_all() -> None:
    for evaluator in list(_LIVING):
        evaluator.end(at_once=True)


atexit.register(_end_all)  # before `multiprocessing` waits for its children
