"""Threads that work ahead: what the next call would else have to wait for.

    put(job) --queue, the newest first--> a daemon thread --> job.run()

At the interpreter's exit a job in Python is ended, and XLA's compilation is waited for: nothing ends it, its thread
asks for Python's lock several times a second, and where it does so after the interpreter is gone, the process ends by
SIGABRT. Ctrl-C ends the waiting.
"""

import atexit
import contextlib
import ctypes
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax

from bojax._runtime import check_not_forked

MAX_THREADS = 2
"""Jobs at the same time."""
MAX_QUEUE = 16
"""Jobs that wait; beyond, the oldest are dropped."""
SWITCH_INTERVAL = 5e-4
"""Seconds after which a thread that traces gives Python's lock to a call that waits for it, in place of Python's 5e-3:
an `ask` takes the lock some dozens of times."""
MAX_EXIT_WAIT = 60.0
"""Seconds that the interpreter's exit waits for a compilation in a thread; most take 1 to 4 on two free cores."""


@runtime_checkable
class Job(Protocol):
    """Something to be done."""

    @property
    def can_stop(self) -> bool:
        """Whether it is in Python, so that an exception ends it."""
        ...

    def run(self) -> Any:
        """Do it; exceptions are dropped."""
        ...

    def forget(self) -> None:
        """Called in place of `run` if it will not be done."""
        ...


def may_work_ahead() -> bool:
    """Whether threads may be used; from now on a process that is forked knows that JAX has some."""
    if os.environ.get("BOJAX_COMPILE_AHEAD", "").lower() == "off":
        return False
    try:
        check_not_forked()
        jax.default_backend()
    except Exception:
        return False
    return True


def in_background(run: Callable[[], None], forget: Callable[[], None]) -> None:
    """Do something in the threads that compile ahead: what the next call would else have to wait for.

    Args:
        run: does it; its exceptions are dropped.
        forget: is called in its place if it will not be done.
    """
    if not may_work_ahead():
        forget()
        return
    task = _Task(run, forget)
    try:
        accepted = workers.put(task)
    except Exception:
        return
    if not accepted:
        forget()


@contextlib.contextmanager
def before_threads() -> Iterator[None]:
    """Take Python's lock soon when it is needed, although threads work ahead."""
    if not workers.threads:
        yield
        return
    with _hurry.lock:
        if not _hurry.calls:
            _hurry.before = sys.getswitchinterval()
            sys.setswitchinterval(min(_hurry.before, SWITCH_INTERVAL))
        _hurry.calls += 1
    try:
        yield
    finally:
        with _hurry.lock:
            _hurry.calls -= 1
            if not _hurry.calls:
                sys.setswitchinterval(_hurry.before)


class _Hurry:
    """How many calls need the lock soon, and Python's interval before the first of them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.calls, self.before = 0, sys.getswitchinterval()


_hurry = _Hurry()


class _Task:
    """Two functions as a job."""

    can_stop = False

    def __init__(self, run: Callable[[], Any], forget: Callable[[], None]) -> None:
        self.run, self.forget = run, forget


class _Stop(BaseException):
    """Ends a thread at the interpreter's exit."""


class Workers:
    """The threads of this process, and what waits for them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a signal's handler may ask as well
        self.queue: list[Job] = []  # the newest is last and is done first
        self.threads: dict[threading.Thread, Job | None] = {}
        self.closing = False

    def put(self, job: Job) -> bool:
        """Put a job into the queue, and start a thread for it if there are few; whether it was taken."""
        with self.lock:
            if self.closing:
                return False
            self.queue.append(job)
            if len(self.queue) > MAX_QUEUE:
                self._withdraw(self.queue[0])
            if len(self.threads) < MAX_THREADS:
                thread = threading.Thread(target=self._work, name="bojax-ahead", daemon=True)
                self.threads[thread] = None
                try:
                    thread.start()
                except BaseException:
                    del self.threads[thread]
                    self._withdraw(job)
                    raise
            return True

    def _withdraw(self, job: Job) -> None:
        self.queue.remove(job)
        job.forget()

    def _work(self) -> None:
        thread = threading.current_thread()
        with contextlib.suppress(_Stop):
            while True:
                with self.lock:
                    if not self.queue:
                        self.threads.pop(thread, None)
                        return
                    job = self.threads[thread] = self.queue.pop()
                with contextlib.suppress(Exception, SystemExit):  # who needs it raises what there is
                    job.run()

    def close(self) -> None:
        """End the threads: those in Python at once, those in XLA when they come back."""
        try:
            self._close()
        except KeyboardInterrupt:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(130)  # an orderly exit would not be one

    def _close(self) -> None:
        with self.lock:
            self.closing = True
            for job in list(self.queue):
                self._withdraw(job)
            threads = list(self.threads)
        if threads:
            sys.unraisablehook = functools.partial(_report, sys.unraisablehook)
        deadline = time.monotonic() + MAX_EXIT_WAIT
        while (alive := [thread for thread in threads if thread.is_alive()]) and time.monotonic() < deadline:
            for thread in alive:
                job = self.threads.get(thread)
                if job is None or job.can_stop:
                    _stop(thread)
            alive[0].join(0.5)


def _report(hook: Callable[[Any], Any], error: Any) -> None:
    """Report an exception in a destructor or callback; `_Stop` may be raised there, and is raised again."""
    if not isinstance(error.exc_value, _Stop):
        hook(error)


def _stop(thread: threading.Thread) -> None:
    """Raise `_Stop` in a thread, once it is in Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stop))


workers = Workers()
atexit.register(workers.close)
if hasattr(os, "register_at_fork"):
    # In a child there are no threads, and the lock may be held by one that is not there.
    os.register_at_fork(after_in_child=workers.__init__)
    os.register_at_fork(after_in_child=_hurry.__init__)
