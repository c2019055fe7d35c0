"""One evaluation of a study, as the user sees it."""

import dataclasses
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
    """

    number: int
    params: dict[str, Any]
    state: str = "running"
    value: float | None = None
    user_attrs: dict[str, Any] = dataclasses.field(default_factory=dict)
