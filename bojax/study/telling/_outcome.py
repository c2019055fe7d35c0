"""The outcome of an evaluation, checked before anything is recorded."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from bojax.data import COLUMNS
from bojax.study._checks import check_attrs, to_float
from bojax.study._core import Core
from bojax.study.asking._suggest import check_read
from bojax.study.records import _storage
from bojax.study.records._gradients import checked_gradient


class Outcome(NamedTuple):
    """The record of an evaluation.

    Attributes:
        value: the reported number, possibly not finite; None if the evaluation failed.
        attrs: attributes to record with the trial, including those of columns.
    """

    value: float | None
    attrs: dict[str, Any]


def checked_outcome(
    core: Core, value: Any, state: str | None, columns: Mapping[str, Any], user_attrs: Mapping[str, Any] | None
) -> Outcome:
    """A reported result in the form in which it is stored.

    Args:
        core: the parts of the study.
        value: a number; None with the state "fail".
        state: "complete", "fail", or None for the former.
        columns: data reported beside the value, by the names of `bojax.data.COLUMNS`; None is omitted.
        user_attrs: further attributes to record.

    Raises:
        ValueError, TypeError: see `Study.tell`.
    """
    if state not in (None, "complete", "fail"):
        raise ValueError(f'`state` must be "complete" or "fail", got {state!r}.')
    if state == "fail" and value is not None:
        raise ValueError(f'a trial told with state="fail" has no value, got {value!r}. Leave the value out.')
    number = None if state == "fail" else to_float(value)
    attrs = check_attrs(user_attrs)
    given = {name: reported for name, reported in columns.items() if reported is not None}
    for name, reported in given.items():
        attrs[_storage.column_key(name)] = _checked_column(core, name, reported)
    check_read(core.algorithm, core.space, given)
    return Outcome(number, attrs)


def _checked_column(core: Core, name: str, reported: Any) -> Any:
    if COLUMNS[name].per_dim:
        return checked_gradient(core.space, reported)
    number = to_float(reported, name)
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be finite, got {number}. Leave it out where it is not known.")
    COLUMNS[name].check(name, number)
    return number
