"""Exceptions as short texts: what was raised, and which line of the user's code raised it."""

import os
import sysconfig
import traceback

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")

_TEXT_LENGTH = 500
"""Characters of the text of an exception that are kept, a length that every database stores."""


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
