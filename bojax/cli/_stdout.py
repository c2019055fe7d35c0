"""Reserves standard output for one JSON document: everything else goes to standard error."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator

Write = Callable[[str], None]


@contextlib.contextmanager
def document_only(active: bool) -> Iterator[Write]:
    """Redirects the output of Python, C code and child processes to stderr.

    Args:
        active: whether to redirect.

    Returns:
        A context manager whose value is a function that writes to the original stdout.
    """
    stdout, stderr = sys.stdout, sys.stderr
    if not active or stdout is None or stderr is None:
        yield lambda text: print(text)
        return
    with contextlib.redirect_stdout(stderr), _descriptor_to_stderr() as kept:
        # In a test or a notebook, `sys.stdout` is an object without the descriptor 1.
        is_process_stdout = kept is not None and _descriptor(stdout) == 1

        def write(text: str) -> None:
            if kept is None or not is_process_stdout:
                print(text, file=stdout, flush=True)
                return
            with os.fdopen(os.dup(kept), "w", encoding=stdout.encoding, errors=stdout.errors) as file:
                print(text, file=file)

        yield write


def end_stdout() -> None:
    """Redirects to stderr whatever threads or exit handlers print at the end of the process."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        os.dup2(2, 1)


@contextlib.contextmanager
def _descriptor_to_stderr() -> Iterator[int | None]:
    """Redirects descriptor 1 to 2; yields a descriptor of the original target, or None if it is closed."""
    _flush()
    try:
        kept = os.dup(1)
    except OSError:
        yield None
        return
    try:
        os.dup2(2, 1)
        yield kept
    finally:
        _flush()
        os.dup2(kept, 1)
        os.close(kept)


def _flush() -> None:
    """Flushes the buffers of Python's and C's stdout into the current descriptor."""
    for stream in (sys.stdout, sys.__stdout__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    with contextlib.suppress(OSError, AttributeError, TypeError):  # there is no such library on Windows
        ctypes.CDLL(None).fflush(None)


def _descriptor(stream: object) -> int | None:
    try:
        return stream.fileno()  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return None
