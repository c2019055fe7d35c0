"""The trials as a pandas data frame."""

import math
from collections.abc import Sequence
from typing import Any

from bojax.space import Categorical, Ordinal, Space
from bojax.study.records._trial import Trial


def to_dataframe(trials: Sequence[Trial], space: Space) -> Any:
    """One row per trial: number, state, value (NaN unless complete), `params_NAME`, `user_attrs_NAME`, and times.

    Numbers have a numeric dtype, with NaN where a trial has none. `datetime_start` and `datetime_complete` are
    timestamps, `duration` is a timedelta.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("pandas is needed: pip install pandas") from error
    attrs = sorted({key for trial in trials for key in trial.user_attrs})
    params = {f"params_{name}": ([t.params.get(name) for t in trials], _may_be_none(space[name])) for name in space}
    columns = params | {f"user_attrs_{key}": ([t.user_attrs.get(key) for t in trials], False) for key in attrs}
    times = {
        "datetime_start": [trial.datetime_start for trial in trials],
        "datetime_complete": [trial.datetime_complete for trial in trials],
    }
    series = {
        "number": pandas.Series([trial.number for trial in trials], dtype="int64"),
        "state": pandas.Series([trial.state for trial in trials], dtype=None if trials else object),
        "value": pandas.Series([math.nan if t.value is None else t.value for t in trials], dtype="float64"),
    }
    series |= {name: pandas.Series(column, dtype=_dtype(column, keep)) for name, (column, keep) in columns.items()}
    series |= {name: pandas.Series(pandas.to_datetime(column)) for name, column in times.items()}
    series["duration"] = series["datetime_complete"] - series["datetime_start"]
    return pandas.DataFrame(series)


def _may_be_none(parameter: Any) -> bool:
    return isinstance(parameter, (Categorical, Ordinal)) and None in map(parameter.value, range(parameter.num_values))


def _dtype(column: Sequence[Any], keep_none: bool) -> Any:
    """float64 or int64 for numbers, None (pandas decides) for one other type, and object for mixed types."""
    types = {type(value) for value in column}
    known = types - {type(None)}
    if known and known <= {int, float} and not (keep_none and types != known):
        whole = types == {int}
        fits = all(abs(value) < (2**63 if whole else 2**53) for value in column if type(value) is int)
        return ("int64" if whole else "float64") if fits else object
    # Mixed types stay Python objects, because pandas would turn None into NaN.
    return None if len(types) == 1 and known else object
