"""A CSV file with one row per trial: `study.optimize(objective, callbacks=CSVCallback("trials.csv"))`."""

import csv
import io
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from bojax.integrations._told import is_number
from bojax.study import Study, Trial

__all__ = ["CSVCallback"]

_FIRST = ("study", "number", "state", "value")
_FINISHED = ("complete", "fail", "pruned")
_ABSENT = object()

_FORMULA = re.compile(r"[=+\-@\t]")
"""Beginnings of texts that spreadsheets execute as formulas."""


class CSVCallback:
    r"""Appends each told trial to a CSV file, in UTF-8.

    The columns are `study`, `number`, `state`, `value`, `params_NAME` for each parameter, `user_attrs_NAME` for each
    given name, `error`, `seconds` (from `ask` to `tell`) and `told` (the time, ISO 8601). A cell is empty where a trial
    has nothing: the value of a failed trial, a parameter that does not exist under the others. Numbers are written so
    that they read back exactly.

    The first call adds the rows of all finished trials of the study that the file lacks, so nothing is missing or
    repeated after a resume, and an incomplete last row, of a process that was killed, is replaced. Let only one process
    write to a file.

    Texts that begin with `=`, `+`, `-`, `@` or a tab get an apostrophe before it, since a spreadsheet would execute
    them; line breaks in texts become `\n`.

    Args:
        path: the file; its folder is created.
        user_attrs: names of user attributes that get a column.

    Raises:
        TypeError: `user_attrs` is a single text.
        ValueError: in a call: the file has other columns, or holds trials of another study.

    Example:
        >>> import bojax, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "trials.csv"
        >>> study = bojax.Study({"x": bojax.Float(0.0, 1.0)}, seed=0)
        >>> trial = study.add({"x": 0.5}, 0.25)
        >>> CSVCallback(path)(study, trial)
        >>> [line.split(",")[:5] for line in path.read_text().splitlines()]
        [['study', 'number', 'state', 'value', 'params_x'], ['bojax', '0', 'complete', '0.25', '0.5']]
    """

    def __init__(self, path: str | os.PathLike[str], user_attrs: Sequence[str] = ()):
        if isinstance(user_attrs, str):
            raise TypeError(f"`user_attrs` must be a sequence of names, got {user_attrs!r}. Write [{user_attrs!r}].")
        self.path, self.user_attrs = pathlib.Path(path), tuple(user_attrs)
        self._written: set[int] | None = None

    def __call__(self, study: Study, trial: Trial) -> None:
        """Writes the row of a trial; the first call also those of earlier ones."""
        trials = [trial]
        if self._written is None:
            self._written = self._read(study)
            trials = [other for other in study.trials if other.state in _FINISHED]
        rows = [self._row(study, other) for other in trials if other.number not in self._written]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            # One write: a process that is killed leaves whole rows, and one without a line break at most.
            file.write(_lines(([] if file.tell() else [self._names(study)]) + rows))
        self._written |= {other.number for other in trials}

    def _names(self, study: Study) -> list[str]:
        params = [f"params_{name}" for name in study.space]
        attrs = [f"user_attrs_{name}" for name in self.user_attrs]
        return [_text(name) for name in (*_FIRST, *params, *attrs, "error", "seconds", "told")]

    def _row(self, study: Study, trial: Trial) -> list[str]:
        told, duration = trial.datetime_complete, trial.duration
        return [
            *(_text(study.name), str(trial.number), trial.state, _cell(trial.value, None)),
            *(_cell(trial.params.get(name, _ABSENT)) for name in study.space),
            *(_cell(trial.user_attrs.get(name, _ABSENT)) for name in self.user_attrs),
            _cell(trial.error, None),
            "" if duration is None else _cell(duration.total_seconds()),
            "" if told is None else told.isoformat(),
        ]

    def _read(self, study: Study) -> set[int]:
        """The numbers of the trials in the file, whose incomplete last row is removed."""
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        header, *rows = list(csv.reader(io.StringIO(whole.decode("utf-8"), newline=""))) or [self._names(study)]
        if header != self._names(study):
            raise ValueError(f"`path` must be a new file or one of this study, but {self.path} has columns {header}.")
        known = {str(trial.number): self._row(study, trial) for trial in study.trials}
        end = len(_FIRST) + len(study.space)
        for row in rows:
            own = known.get(row[1], [])
            if row[0] != _text(study.name) or row[len(_FIRST) : end] != own[len(_FIRST) : end]:
                raise ValueError(
                    f"`path` must be a new file or one of this study, but {self.path} holds another trial {row[1]}."
                )
        return {int(row[1]) for row in rows}


def _lines(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _cell(value: Any, nothing: Any = _ABSENT) -> str:
    """A value as text; empty for the one that stands for nothing."""
    if value is nothing:
        return ""
    return repr(value) if is_number(value) else _text(str(value))


def _text(text: str) -> str:
    text = text.replace("\r", "\\r").replace("\n", "\\n")
    return f"'{text}" if _FORMULA.match(text) else text
