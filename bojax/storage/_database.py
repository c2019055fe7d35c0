"""Optuna's tables in a database, for what its public interface cannot do in one transaction.

The tables are no part of that interface. Where a version of Optuna has others, everything goes through public calls:
slower, and on SQLite without the guarantee that only one worker gets a waiting trial.
"""

import functools
from types import ModuleType

from optuna.storages import BaseStorage, RDBStorage

NEEDED = {
    "TrialModel": ("trial_id", "state", "datetime_start", "datetime_complete", "find_or_raise_by_id"),
    "TrialParamModel": ("trial_id", "param_name", "param_value", "distribution_json"),
    "TrialUserAttributeModel": ("trial_id", "key", "value_json", "find_by_trial_and_key"),
    "TrialValueModel": ("trial_id", "objective", "value", "value_type", "find_by_trial_and_objective"),
}
"""The tables that are used, with their columns and functions."""


def database_of(storage: BaseStorage) -> RDBStorage | None:
    """The database of a storage, if bojax knows its tables.

    Args:
        storage: an Optuna storage.

    Returns:
        The storage itself, or the one behind Optuna's cache; None for storages of other kinds and unknown tables.
    """
    backend = getattr(storage, "_backend", storage)
    return backend if isinstance(backend, RDBStorage) and tables() is not None else None


@functools.cache
def tables() -> ModuleType | None:
    """Optuna's module of tables; None where it is not as `NEEDED` says."""
    try:
        from optuna.storages._rdb import models
    except ImportError:
        return None
    known = all(hasattr(getattr(models, name, None), part) for name, parts in NEEDED.items() for part in parts)
    return models if known else None
