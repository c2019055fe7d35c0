"""One evaluation of a study, as the user sees it."""

import dataclasses
import datetime
from typing import Any

from bojax.study.records import _storage

STATES = ("waiting", "running", "complete", "fail", "pruned")
"""The states of a trial; `waiting` and `pruned` are only made by Optuna code that shares the study."""

TRACEBACK = "bojax:traceback"
"""Attribute of a failed trial: the formatted traceback of its exception, cut from its front."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One evaluation: its parameters and its result. It is a snapshot, which `tell` does not change.

    Attributes:
        number: position in the study, from 0; unique over all processes that share the storage.
        params: the parameters by name, plain Python values.
        state: one of `STATES`.
        value: the reported value; None unless the trial is complete.
        user_attrs: everything else that was recorded with it, for example metrics.
        datetime_start: when it was asked for, by the clock of the machine that asked; None if unknown.
        datetime_complete: when its result was reported; None before that.

    Example:
        >>> import bojax
        >>> study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), seed=0)
        >>> trial = study.add({"x": 0.5}, state="fail", user_attrs={"bojax:error": "out of memory"})
        >>> trial.state, trial.value, trial.error
        ('fail', None, 'out of memory')
    """

    number: int
    params: dict[str, Any]
    state: str = "running"
    value: float | None = None
    user_attrs: dict[str, Any] = dataclasses.field(default_factory=dict)
    datetime_start: datetime.datetime | None = dataclasses.field(default=None, compare=False, repr=False)
    datetime_complete: datetime.datetime | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def duration(self) -> datetime.timedelta | None:
        """The time from `ask` to `tell`; None if one of the two is unknown."""
        if self.datetime_start is None or self.datetime_complete is None:
            return None
        return self.datetime_complete - self.datetime_start

    @property
    def error(self) -> str | None:
        """Why the evaluation failed, as one text; None if no reason is recorded."""
        reason = self.user_attrs.get(_storage.ERROR)
        if reason is None and _storage.TOLD in self.user_attrs:
            return f"the value {self.user_attrs[_storage.TOLD]}"
        return reason

    @property
    def traceback(self) -> str | None:
        """The traceback of the exception with which the evaluation failed, as text; None if none is recorded."""
        return self.user_attrs.get(TRACEBACK)
