"""Explanations of storage errors: which file, what is wrong, what to do."""

import errno
import os
import sqlite3
from collections.abc import Iterator

_FULL = "its disk is full or a quota is reached. Free some space and continue: results told before are kept"
_READ_ONLY = "it is read-only. Make the file and its folder writable, or copy it to a writable folder"
GONE = "it was deleted, moved or replaced while in use. Put it back and open the study again"
_IO = "the disk cannot be read or written. Check its space, its quota and its health"
_LOCKED = "another process keeps it locked. End that process, or give each its own file"
_NO_DATABASE = "it is not a SQLite database. Choose another file"
_DAMAGED = "it is damaged. Restore a copy, or recover the rest with the command `sqlite3 FILE .recover`"

_BY_SQLITE_NAME = {
    "SQLITE_READONLY_DBMOVED": GONE,
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_FULL": _FULL,
    "SQLITE_IOERR": _IO,
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_NOTADB": _NO_DATABASE,
    "SQLITE_CORRUPT": _DAMAGED,
}
_BY_ERRNO = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EIO: _IO,
    errno.ENOENT: GONE,
}


def explain(error: BaseException, path: str | None, *, opening: bool = False) -> str | None:
    """One sentence about what is wrong with the file of a storage and what helps; None if that is unknown.

    Args:
        error: the exception of the storage; its causes are examined too.
        path: the file, or None if the storage has none.
        opening: whether the storage is being opened.
    """
    if path is None:
        return None
    for cause in _causes(error):
        reason = None
        if isinstance(cause, sqlite3.Error):
            reason = _of_sqlite(cause, path)
        elif isinstance(cause, OSError):
            reason = _misplaced(path) or _BY_ERRNO.get(cause.errno or 0)
        if reason is not None:
            return unusable(path, reason, opening=opening)
    return None


def unusable(path: str, reason: str, *, opening: bool = False) -> str:
    """The sentence about a file: its path and the reason, which is given without a final period."""
    return f"the file {path!r} cannot be {'opened' if opening else 'used'}: {reason}."


def is_locked(error: BaseException) -> bool:
    """Tell whether an error means that another process is writing to the database.

    Args:
        error: an exception of a storage; its causes are examined too.

    Returns:
        True if the database is locked or busy, so that trying again may help.

    Example:
        >>> import sqlite3
        >>> is_locked(sqlite3.OperationalError("database is locked"))
        True
    """
    texts = ("database is locked", "database table is locked", "database is busy")
    return any(text in str(cause) for cause in _causes(error) for text in texts)


def identity_of(path: str) -> tuple[int, int]:
    """Device and inode, which distinguish a file from one that replaces it while the first is open."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def missing_folder(path: str) -> str | None:
    """What is wrong with the folder of a new file; None if nothing is."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return f"it is a folder. Name a file in it, such as {os.path.join(path, 'study.db')!r}"
    if not os.path.isdir(folder):
        return f"there is no folder {folder!r}. Create it first"
    return None


def _of_sqlite(error: sqlite3.Error, path: str) -> str | None:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith("SQLITE_CANTOPEN"):
        return _misplaced(path) or (_READ_ONLY if os.path.exists(path) else GONE)
    if name == "SQLITE_ERROR" and "no such table" in str(error):
        return GONE
    return next((reason for known, reason in _BY_SQLITE_NAME.items() if name.startswith(known)), None)


def _misplaced(path: str) -> str | None:
    if os.path.exists(path) and not os.path.isdir(path) and not os.access(path, os.R_OK):
        return "it is not readable. Change its permissions"
    return missing_folder(path)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
