"""Failed evaluations: what is kept of an exception, and when failures mean that the objective is broken.

An exception holds its traceback, the traceback its frames, and the frames every array that was alive where it was
raised. So only the text of an exception is kept, and the last exception with cleared frames, for chaining.
"""

import traceback
from collections.abc import Iterator
from typing import Any

from bojax._errors import BojaxError
from bojax._tracebacks import Report, report_of

MAX_FIRST_FAILURES = 5
"""Default number of exceptions at the start, with no success, that mean a broken objective."""


class Failure:
    """An evaluation that raised. One call that fails a whole batch is one failure.

    Args:
        error: the exception.
        report: its texts, where another process made them; by default they are made here.

    Attributes:
        text: type and text of the exception.
        where: file, line and function that raised; in the user's code if the exception passed through it.
        traceback: the formatted traceback; empty for an exception that was not raised.
        error: the exception, with the variables of its frames cleared.
    """

    def __init__(self, error: BaseException, report: Report | None = None):
        self.text, self.where, self.traceback = report_of(error) if report is None else report
        self.error = error
        for link in _chain(error):
            traceback.clear_frames(link.__traceback__)

    def __str__(self) -> str:
        return f"{self.text} ({self.where})" if self.where else self.text


class FirstFailures:
    """Detects an objective that fails from the start.

    Attributes:
        limit: number of failures without a success that ends the loop; None for no limit.
        num: number of failures before the first success.
        last: the last of them while there is no success.
    """

    def __init__(self, limit: int | None):
        self.limit = limit
        self.num = 0
        self.last: Failure | None = None
        self._active = True

    def count(self, outcome: Any) -> None:
        """Counts the outcome of an evaluation: a `Failure`, or anything else."""
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


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, its causes and contexts, and the members of a group."""
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
