"""The trials as a pandas data frame."""

from collections.abc import Sequence
from typing import Any

from bojax.study._trial import Trial


def to_dataframe(trials: Sequence[Trial], names: Sequence[str]) -> Any:
    """One row a trial: number, state, value (NaN unless complete), `params_NAME`, `user_attrs_NAME`.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("pandas is needed: pip install pandas") from error
    attrs = sorted({key for trial in trials for key in trial.user_attrs})
    columns: dict[str, list[Any]] = {
        "number": [trial.number for trial in trials],
        "state": [trial.state for trial in trials],
        "value": [float("nan") if trial.value is None else trial.value for trial in trials],
    }
    columns |= {f"params_{name}": [trial.params.get(name) for trial in trials] for name in names}
    columns |= {f"user_attrs_{key}": [trial.user_attrs.get(key) for trial in trials] for key in attrs}
    # Columns of mixed types stay Python objects: pandas would turn None and 3 into NaN and 3.0.
    mixed = {name: len({type(value) for value in column}) > 1 for name, column in columns.items()}
    return pandas.DataFrame(
        {name: pandas.Series(column, dtype=object if mixed[name] else None) for name, column in columns.items()}
    )
