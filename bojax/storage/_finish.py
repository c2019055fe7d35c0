"""Ending a trial: its attributes, value and state."""

import copy
import datetime
import json
from collections.abc import Mapping
from typing import Any

from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from bojax.storage._database import database_of, tables
from bojax.storage._open import retry


def finish(
    storage: BaseStorage, trial: FrozenTrial, state: TrialState, value: float | None, attrs: Mapping[str, Any]
) -> FrozenTrial:
    """Ends a running trial: in a database with one commit for all that is told, elsewhere by one write after another.

    Args:
        storage: where the trial is.
        trial: as it was read last.
        state: in which it ends.
        value: what is told; None for a failed evaluation.
        attrs: user attributes that are recorded with it.

    Returns:
        The trial as it is stored.

    Raises:
        UpdateFinishedTrialError, RuntimeError: the trial has finished.

    Example:
        >>> import optuna
        >>> study = optuna.create_study()
        >>> study.ask().number
        0
        >>> told = finish(study._storage, study.trials[0], optuna.trial.TrialState.COMPLETE, 0.5, {"seconds": 3})
        >>> told.value, told.user_attrs
        (0.5, {'seconds': 3})
    """
    database = database_of(storage)
    if database is not None:
        return retry(lambda: _finish_at_once(database, trial, state, value, attrs))
    for key, attr in attrs.items():  # first, for a finished trial cannot be changed
        retry(lambda: storage.set_trial_user_attr(trial._trial_id, key, attr))  # noqa: B023 (called at once)
    values = None if value is None else [value]
    retry(lambda: storage.set_trial_state_values(trial._trial_id, state, values))
    return retry(lambda: storage.get_trial(trial._trial_id))


def _finish_at_once(
    storage: RDBStorage, trial: FrozenTrial, state: TrialState, value: float | None, attrs: Mapping[str, Any]
) -> FrozenTrial:
    from sqlalchemy.orm import Session

    models, now = tables(), datetime.datetime.now()
    assert models is not None
    with Session(storage.engine) as session, session.begin():
        stored = models.TrialModel.find_or_raise_by_id(trial._trial_id, session, for_update=True)
        storage.check_trial_is_updatable(trial._trial_id, stored.state)  # type: ignore[arg-type]
        for key, attr in attrs.items():
            row = models.TrialUserAttributeModel.find_by_trial_and_key(stored, key, session)
            row = models.TrialUserAttributeModel(trial_id=trial._trial_id, key=key) if row is None else row
            row.value_json = json.dumps(attr)
            session.add(row)
        if value is not None:
            number, kind = models.TrialValueModel.value_to_stored_repr(value)
            found = models.TrialValueModel.find_by_trial_and_objective(stored, 0, session)
            found = models.TrialValueModel(trial_id=trial._trial_id, objective=0) if found is None else found
            found.value, found.value_type = number, kind
            session.add(found)
        stored.state, stored.datetime_complete = state, now
    told = copy.copy(trial)
    told.state, told.datetime_complete = state, now
    told.values = None if value is None else [value]  # type: ignore[assignment]
    told.user_attrs = {**trial.user_attrs, **attrs}
    return told
