"""What the callbacks for logs have in common: the parts of a trial in the types that logs hold."""

import datetime
import math
from typing import Any

from bojax.study import Study, Trial


def numbers_of(trial: Trial) -> dict[str, float]:
    """The value and the user attributes that are numbers, by name; no value for a failed trial."""
    found = {} if trial.value is None else {"value": float(trial.value)}
    return found | {name: float(attr) for name, attr in shown(trial).items() if is_number(attr) and name != "value"}


def texts_of(trial: Trial) -> dict[str, str]:
    """The other user attributes as texts, the state, and the reason of a failure."""
    found = {name: str(attr) for name, attr in shown(trial).items() if not is_number(attr)}
    error = {} if trial.error is None else {"error": trial.error}
    return found | {"state": trial.state} | error


def shown(trial: Trial) -> dict[str, Any]:
    """The user attributes, without those of bojax."""
    return {name: attr for name, attr in trial.user_attrs.items() if not name.startswith("bojax:")}


def is_number(value: Any) -> bool:
    """Whether a value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def best_value(study: Study) -> float | None:
    """The best value so far; None without one."""
    values = [t.value for t in study.trials if t.state == "complete" and t.value is not None and math.isfinite(t.value)]
    return None if not values else (max if study.direction == "maximize" else min)(values)


def milliseconds(time: datetime.datetime | None) -> int | None:
    """A time as milliseconds since 1970; None if it is unknown."""
    return None if time is None else int(time.timestamp() * 1000)
