"""A journal backend for Optuna that survives a full disk: one record per line, appended under a lock.

If the disk is full, the last record is truncated. Optuna's own backend writes the next record on the same line and can
then read neither this line nor the following ones. Here a truncated record, whose write was reported as failed, is
removed before the next one is written. If one is in the middle of a line, reading continues with the record after it.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileSymlinkLock

from bojax._errors import BojaxWarning, StudyError
from bojax.storage._errors import GONE, explain, missing_folder, unusable

_START = b'{"op_code":'
"""Beginning of a record of Optuna; inside a string of a record the quotation marks would be escaped."""

_HEAD = 4096
"""Number of bytes at the beginning of a journal that identify it."""

_BLOCK = 1 << 16
"""Number of bytes read at once in the search for the end of the last complete record."""


class Journal(BaseJournalBackend):
    """The file of a journal storage.

    Args:
        path: path of the file; it is created if it does not exist.

    Raises:
        StudyError: the file is not a journal, or cannot be used.
    """

    def __init__(self, path: str):
        self._path = os.path.abspath(path)  # the lock is a link to it, which must be valid in every folder
        self._lock = JournalFileSymlinkLock(self._path)
        self._offsets = {0: 0}  # from the number of a record to where it begins
        self._first = b""  # the beginning of the first record, which identifies the journal
        self._warned = False
        wrong = missing_folder(self._path)
        if wrong is not None:
            raise StudyError(unusable(self._path, wrong, opening=True))
        with self._explained():
            if not os.path.exists(self._path):
                open(self._path, "ab").close()
            with open(self._path, "rb") as file:
                first = file.readline(_BLOCK)
        known = not first or _parsed(first) or _behind_cut(first)
        if not known and (first.endswith(b"\n") or not first.startswith(b"{")):
            raise StudyError(unusable(self._path, "it is not an Optuna journal. Choose another file", opening=True))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The records from this number on. Unreadable lines have no number and cause one warning."""
        number = log_number_from if log_number_from in self._offsets else 0
        offset = self._offsets[number]
        broken = damaged = False
        with self._explained(), open(self._path, "rb") as file:
            end = self._check_same(file.fileno(), offset)
            file.seek(offset)
            for line in file:
                offset += len(line)
                if offset > end or not line.endswith(b"\n"):
                    break  # being written, or truncated
                damaged |= broken  # only if a line follows: on network file systems the last line may be incomplete
                record = _parsed(line)
                if record is None:
                    record = _behind_cut(line)
                    damaged |= record is not None
                broken = record is None
                if record is None:
                    continue
                number += 1
                self._offsets[number] = offset
                if number > log_number_from:
                    yield record
        if damaged and not self._warned:
            self._warned = True
            text = f"the journal {self._path!r} has damaged lines, as a full disk leaves them; all others were read."
            warnings.warn(text, BojaxWarning, stacklevel=2)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records after the last complete one: all of them, or none."""
        data = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with self._explained(), self._locked():
            file = os.open(self._path, os.O_RDWR | os.O_APPEND)  # never creates it: a deleted journal is an error
            try:
                end = _end_of_last_record(file, self._check_same(file, 0))
                os.ftruncate(file, end)
                try:
                    _write(file, data)
                except OSError:
                    os.ftruncate(file, end)
                    raise
            finally:
                os.close(file)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StudyError(explain(error, self._path) or unusable(self._path, str(error))) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _check_same(self, file: int, offset: int) -> int:
        """The size of the file, if it is still the one that was opened, or a copy of it."""
        size, first = os.fstat(file).st_size, os.pread(file, _HEAD, 0).partition(b"\n")
        if size < offset or (self._first and first[0] != self._first):
            raise StudyError(unusable(self._path, GONE))
        if first[1]:
            self._first = first[0]
        return size


def _behind_cut(line: bytes) -> dict[str, Any] | None:
    """The record that follows a truncated one on the same line."""
    record, start = None, line.find(_START, 1)
    while record is None and start >= 0:
        record = _parsed(line[start:])
        start = line.find(_START, start + 1)
    return record


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "op_code" in record else None


def _end_of_last_record(file: int, size: int) -> int:
    """The end of the last complete line."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
    os.fsync(file)
