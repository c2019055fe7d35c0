"""Failed evaluations: what is kept of an exception, and when failures mean that the objective is broken.

An exception holds its traceback, the traceback its frames, and the frames every array that was alive where it was
raised. So nothing of an exception is kept but text, and the last one with emptied frames, to be chained.
"""

import os
import sysconfig
import traceback
from collections.abc import Iterator
from typing import Any

from bojax._errors import BojaxError

MAX_FIRST_FAILURES = 5
"""Default number of exceptions at the start, with no success between, that mean a broken objective."""

TRACEBACK = "bojax:traceback"
"""Attribute of a failed trial: the formatted traceback of its exception, cut from its front."""

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")

_TEXT_LENGTH = 500
"""Characters of the text of an exception that are kept, a length that every database stores."""

_TRACEBACK_LENGTH = 4000
"""Characters of a traceback that are kept, from its end; as JSON they fit the 64 kB of a field in MySQL."""

_TRACEBACK_DEPTH = 30
"""Innermost calls of a traceback that are kept: a recursion without end has a thousand."""


class Failure:
    """An evaluation that raised; one call that fails a whole batch is one failure.

    Attributes:
        text: type and text of the exception.
        where: file, line and function that raised, of the user's own code where the exception passed it.
        traceback: the formatted traceback; empty for an exception that was not raised.
        error: the exception; its frames hold no variables any more.
    """

    def __init__(self, error: BaseException):
        # The first frame is the loop's own.
        calls = error.__traceback__.tb_next if error.__traceback__ is not None else None
        self.text = describe_error(error)
        self.where = where(error)
        formatted = traceback.TracebackException(type(error), error, calls, limit=-_TRACEBACK_DEPTH)
        text = "".join(formatted.format()).rstrip() if calls is not None else ""
        self.traceback = _cut_front(text, _TRACEBACK_LENGTH)
        self.error = error
        for link in _chain(error):
            traceback.clear_frames(link.__traceback__)

    def __str__(self) -> str:
        return f"{self.text} ({self.where})" if self.where else self.text


class FirstFailures:
    """Notices an objective that fails from the start.

    Attributes:
        limit: number of failures without a success that end the loop; None for no limit.
        num: number of failures before the first success.
        last: the last of them while there is no success.
    """

    def __init__(self, limit: int | None):
        self.limit = limit
        self.num = 0
        self.last: Failure | None = None
        self._active = True

    def count(self, outcome: Any) -> None:
        """Takes note of what an evaluation gave: a `Failure`, or anything else."""
        if not isinstance(outcome, Failure):
            self._active, self.last = False, None
        elif self._active and outcome is not self.last:
            self.num, self.last = self.num + 1, outcome

    def check(self, at_end: bool = False) -> None:
        """Raises a BojaxError when the limit is reached, or, at the end, when every evaluation raised."""
        if self.limit is None or self.last is None or (self.num < self.limit and not at_end):
            return
        which = f"the first {self.num}" if self.num >= self.limit else f"the {self.num}"
        raise BojaxError(
            f"each of {which} evaluations of the objective raised, the last one {self.last}. Where evaluations that "
            "fail are part of the problem, set `max_first_failures` higher, or to None for no limit."
        ) from self.last.error


def describe_error(error: BaseException) -> str:
    """Type and text of an exception, cut to a length that every database stores."""
    try:
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # a broken `__str__`
        text = f"{type(error).__name__}: (its text cannot be shown)"
    return text if len(text) <= _TEXT_LENGTH else text[: _TEXT_LENGTH - 3] + "..."


def where(error: BaseException) -> str:
    """File, line and function that raised: the innermost call outside of installed packages, if there is one.

    Returns:
        For example "train.py:12, in objective"; empty where only bojax had a part in it.
    """
    calls = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [call for call in calls if not _is_installed(call[0].co_filename)]
    if not own and (not calls or calls[-1][0].co_filename.startswith(_PACKAGE)):
        return ""
    code, line = (own or calls)[-1]
    return f"{_shown_path(code.co_filename)}:{line}, in {code.co_name}"


def _is_installed(filename: str) -> bool:
    folders = [path for key, path in sysconfig.get_paths().items() if key in ("stdlib", "purelib", "platlib")]
    in_folder = any(filename.startswith(os.path.join(folder, "")) for folder in [*folders, _PACKAGE])
    return in_folder or filename.startswith("<frozen") or "site-packages" in filename or "dist-packages" in filename


def _shown_path(filename: str) -> str:
    """The path as short as the current folder allows."""
    try:
        return filename.removeprefix(os.path.join(os.getcwd(), ""))
    except OSError:  # the folder was deleted
        return filename


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, those it came from, and those of a group."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        link = left.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        left += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            left += link.exceptions


def _cut_front(text: str, length: int) -> str:
    return text if len(text) <= length else "..." + text[3 - length :]
