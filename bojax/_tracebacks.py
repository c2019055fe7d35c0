"""Exceptions as short texts: what was raised, and which line of the user's code raised it.

Worker processes run this file by its path, so it imports the standard library only.
"""

import os
import sysconfig
import traceback
from typing import NamedTuple

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")

_TEXT_LENGTH = 500
"""Characters of the text of an exception that are kept, a length that every database stores."""

_TRACEBACK_LENGTH = 4000
"""Number of characters kept of a traceback, from its end; as JSON they fit the 64 kB of a field in MySQL."""

_TRACEBACK_DEPTH = 30
"""Number of innermost calls kept of a traceback: an endless recursion has a thousand."""


class Report(NamedTuple):
    """An exception as texts.

    Attributes:
        text: its type and text.
        where: file, line and function that raised; in the user's code if the exception passed through it.
        traceback: the formatted traceback; empty for an exception that was not raised.
    """

    text: str
    where: str
    traceback: str


def report_of(error: BaseException) -> Report:
    """The texts of an exception. The first frame of its traceback, the caller's own, is omitted."""
    calls = error.__traceback__.tb_next if error.__traceback__ is not None else None
    formatted = traceback.TracebackException(type(error), error, calls, limit=-_TRACEBACK_DEPTH)
    text = "".join(formatted.format()).rstrip() if calls is not None else ""
    return Report(describe_error(error), where(error), _cut_front(text, _TRACEBACK_LENGTH))


def describe_error(error: BaseException) -> str:
    """The type and the text of an exception, cut to a length that every database stores."""
    try:
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # a broken `__str__`
        text = f"{type(error).__name__}: (its text cannot be shown)"
    return text if len(text) <= _TEXT_LENGTH else text[: _TEXT_LENGTH - 3] + "..."


def where(error: BaseException) -> str:
    """File, line and function that raised: the innermost call outside of installed packages, if there is one.

    Returns:
        For example "train.py:12, in objective"; empty where only bojax was involved.
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
    """The path, relative to the current folder where it lies below it."""
    try:
        return filename.removeprefix(os.path.join(os.getcwd(), ""))
    except OSError:  # the folder was deleted
        return filename


def _cut_front(text: str, length: int) -> str:
    return text if len(text) <= length else "..." + text[3 - length :]
