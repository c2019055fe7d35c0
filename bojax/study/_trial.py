"""One evaluation of a study, as the user sees it."""

import dataclasses
import datetime
from typing import Any

STATES = ("waiting", "running", "complete", "fail", "pruned")
"""The states of a trial; `waiting` and `pruned` are only made by Optuna code that shares the study."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One evaluation: what is tried and what came of it. A snapshot: telling does not change it.

    Attributes:
        number: its place in the study, from 0; unique over all processes that share the storage.
        params: the parameters by name, plain Python values.
        state: one of `STATES`.
        value: the value told, None unless the trial is complete.
        user_attrs: what else was recorded with it, for example metrics.
        datetime_start: when it was asked for, by the clock of the machine that asked; None where that is not known.
        datetime_complete: when it was told, None before.
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
        """The time from asking to telling; None where one of both is not known."""
        if self.datetime_start is None or self.datetime_complete is None:
            return None
        return self.datetime_complete - self.datetime_start
