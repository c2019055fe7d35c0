"""Opening a storage by its URL, with error messages that name the file and the problem."""

import functools
import os
import random
import re
import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import optuna

from bojax._errors import StudyError
from bojax.storage._claims import ClaimingRDBStorage
from bojax.storage._errors import GONE, explain, identity_of, is_locked, missing_folder, unusable
from bojax.storage._journal import Journal

T = TypeVar("T")

SQLITE_TIMEOUT = 60.0
"""Seconds that SQLite waits for the write of another process: many times what a queue of workers needs."""

NUM_RETRIES = 8

_MADE_BY_ANOTHER = "already exists|UNIQUE constraint|duplicate (key|entry)|concurrently updated|deadlock detected"
"""What SQLite, PostgreSQL and MySQL say where two processes create the tables of a new database."""

_MEMORY = ("", ":memory:")
_URI_OPTIONS = frozenset(["cache", "immutable", "mode", "modeof", "nolock", "psow", "vfs"])
_OPTIONS = _URI_OPTIONS | frozenset(
    ["cached_statements", "check_same_thread", "detect_types", "isolation_level", "timeout", "uri"]
)
"""Options after the `?` of a SQLite URL; any other `?` is part of the file name."""


def open_storage(
    storage: str | optuna.storages.BaseStorage | None, *, create: bool = True
) -> optuna.storages.BaseStorage:
    """Open an Optuna storage.

    Args:
        storage: None (in memory), `sqlite:///file.db`, `journal:///file.log`, `grpc://host:port`, any URL that
            SQLAlchemy accepts (its driver must be installed), or an Optuna storage.
        create: whether to create a file that does not exist, True by default. If False, nothing is written.

    Returns:
        The storage. An Optuna storage is returned unchanged.

    Raises:
        ValueError: the text is not a URL.
        TypeError: `storage` is of another type.
        StudyError: the storage cannot be opened.

    Example:
        >>> storage = open_storage(None)
        >>> storage.get_all_studies()
        []
    """
    if storage is None:
        return optuna.storages.InMemoryStorage()
    if isinstance(storage, optuna.storages.BaseStorage):
        return storage
    if not isinstance(storage, str):
        raise TypeError(
            f"`storage` must be None, a URL or an Optuna storage, got {storage!r}. "
            'For a file write `storage="sqlite:///study.db"`.'
        )
    if "://" not in storage:
        raise ValueError(
            f'`storage` must be a URL, got {storage!r}. For a SQLite file write `storage="sqlite:///{storage}"`.'
        )
    path = file_of(storage)
    if path is not None and not create and not os.path.exists(path):
        raise StudyError(f"there is no file {path!r}.")
    path = None if path is None else os.path.abspath(path)
    try:
        return _open_url(storage, path, create)
    except StudyError:
        raise
    except Exception as error:
        text = f"the storage {hide_password(storage)} cannot be opened: {_first_line(error)}"
        raise StudyError(explain(error, path, opening=True) or text) from error


def file_of(url: str) -> str | None:
    """The file of a SQLite or journal URL.

    Args:
        url: URL of a storage. In a SQLite URL, `%` and two hexadecimal digits stand for a character, as in SQLAlchemy.

    Returns:
        The path of the file; None if the storage has none.

    Example:
        >>> file_of("sqlite:///folder/study.db"), file_of("mysql://host/db")
        ('folder/study.db', None)
    """
    scheme, _, rest = url.partition("://")
    if scheme == "journal":
        return rest.removeprefix("/")
    if scheme.split("+")[0] != "sqlite" or (rest and not rest.startswith("/")):
        return None
    path, query = _split_query(rest.removeprefix("/"))
    if "uri" in query:
        path = path.removeprefix("file:")
    path = urllib.parse.unquote(path)
    return None if path in _MEMORY or query.get("mode") == "memory" else path


def hide_password(url: str) -> str:
    """Remove the password from a URL, for messages.

    Args:
        url: URL of a storage.

    Returns:
        The URL with `***` in place of its password.

    Example:
        >>> hide_password("mysql://me:secret@host/db")
        'mysql://me:***@host/db'
    """
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", url)


def retry(call: Callable[[], T]) -> T:
    """Call a storage operation, and call it again while the database is locked.

    There are at most `NUM_RETRIES` calls within 60 seconds, with random pauses between them.

    Args:
        call: an idempotent function without arguments.

    Returns:
        The result of `call`.

    Raises:
        StudyError: raised by `call`; it is not tried again.
        Exception: any other exception of `call`, if the database is not locked or the limit is reached.

    Example:
        >>> retry(lambda: 3)
        3
    """
    end = time.monotonic() + SQLITE_TIMEOUT
    for attempt in range(NUM_RETRIES):
        try:
            return call()
        except StudyError:
            raise
        except Exception as error:
            if attempt == NUM_RETRIES - 1 or time.monotonic() > end or not is_locked(error):
                raise
        time.sleep(random.uniform(0.05, 0.2) * (attempt + 1))
    raise AssertionError("unreachable")


def _open_url(url: str, path: str | None, create: bool) -> optuna.storages.BaseStorage:
    scheme, rest = url.split("://", 1)
    if scheme == "journal":
        assert path is not None
        return optuna.storages.JournalStorage(Journal(path))
    if scheme == "grpc":
        host, _, port = rest.rstrip("/").partition(":")
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port or 13000))
    if scheme.split("+")[0] != "sqlite":
        return _open_database(url, {})
    query = _split_query(rest)[1]
    timeout = float(query.get("timeout", SQLITE_TIMEOUT))
    if path is None:
        return _open_database(url, {"connect_args": {"timeout": timeout}})
    uri = _check_file(path, {key: value for key, value in query.items() if key in _URI_OPTIONS}, create, timeout)
    options: dict[str, Any] = {"connect_args": {"timeout": timeout}}
    if scheme in ("sqlite", "sqlite+pysqlite") and set(query) <= _URI_OPTIONS | {"timeout", "uri"}:
        # A URI allows any character in the name, and SQLite then does not recreate a file that is deleted later.
        url = f"sqlite:///{urllib.parse.quote(os.fsencode(path))}"
        options = {"creator": functools.partial(_connect, uri, timeout, path, identity_of(path))}
    storage = _open_database(url, options)
    _explain_errors(storage, path, timeout)
    return storage


def _connect(uri: str, timeout: float, path: str, identity: tuple[int, int]) -> sqlite3.Connection:
    if os.path.exists(path) and identity_of(path) != identity:
        raise StudyError(unusable(path, GONE))
    return sqlite3.connect(uri, uri=True, timeout=timeout, check_same_thread=False)


def _split_query(path: str) -> tuple[str, dict[str, str]]:
    """The name of a SQLite file, and the options after it."""
    name, mark, text = path.rpartition("?")
    pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
    if not mark or not pairs or not {key for key, _ in pairs} <= _OPTIONS:
        return path, {}
    return name, dict(pairs)


def _check_file(path: str, query: Mapping[str, str], create: bool, timeout: float) -> str:
    """The URI of a file that is, or can become, a SQLite database of Optuna. A missing file is created empty.

    Raises:
        StudyError, OSError, sqlite3.Error: the file is something else, or cannot be opened.
    """
    wrong = missing_folder(path)
    if wrong is not None:
        raise StudyError(unusable(path, wrong, opening=True))
    uri = f"file:{urllib.parse.quote(os.fsencode(path))}?{urllib.parse.urlencode({'mode': 'rw', **query})}"
    if not os.path.exists(path):
        open(path, "ab").close()
        return uri
    connection = sqlite3.connect(uri, uri=True, timeout=timeout)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()
    if tables and "studies" not in tables and "version_info" not in tables:
        shown = ", ".join(sorted(tables)[:3])
        reason = f"it is a database of another program (tables {shown}). Choose another file"
        raise StudyError(unusable(path, reason, opening=True))
    if not tables and not create:
        raise StudyError(unusable(path, "it holds no study. To make one, give a `space`", opening=True))
    return uri


def _open_database(url: str, options: dict[str, Any]) -> optuna.storages.RDBStorage:
    end = time.monotonic() + SQLITE_TIMEOUT
    for _ in range(NUM_RETRIES - 1):
        # Processes that create the tables of a new database at the same time disturb each other.
        try:
            return ClaimingRDBStorage(url, engine_kwargs=options)
        except Exception as error:
            if not (is_locked(error) or _made_by_another(error)):
                raise
            if time.monotonic() > end:
                raise
        time.sleep(random.uniform(0.05, 0.3))
    return ClaimingRDBStorage(url, engine_kwargs=options)


def _made_by_another(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that another process made the same table or row first."""
    while error is not None:
        if re.search(_MADE_BY_ANOTHER, str(error), flags=re.IGNORECASE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _explain_errors(storage: optuna.storages.RDBStorage, path: str, timeout: float) -> None:
    """Turn errors of the database into StudyErrors that say what is wrong with its file.

    Errors about locks pass unchanged, for `retry`, unless SQLite has waited for its whole timeout.
    """
    from sqlalchemy import event

    def note_time(connection: Any, *args: Any) -> None:
        connection.info["bojax:since"] = time.monotonic()

    def explained(context: Any) -> StudyError | None:
        error = context.original_exception
        since = context.connection.info.get("bojax:since") if context.connection is not None else None
        if is_locked(error) and (since is None or time.monotonic() - since < 0.9 * timeout):
            return None
        text = explain(error, path)
        return None if text is None else StudyError(text)

    event.listen(storage.engine, "before_cursor_execute", note_time)
    event.listen(storage.engine, "commit", note_time)
    event.listen(storage.engine, "handle_error", explained, retval=True)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
