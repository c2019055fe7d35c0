"""Claims: a waiting trial that several workers want goes to exactly one of them.

Optuna reads the state of a trial and then writes it. On SQLite another process may do the same in between, and both
evaluate the trial. Here a database compares and sets the state in one statement. Journals and the in-memory storage
already do.
"""

import datetime
from collections.abc import Sequence

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

from bojax.storage._database import database_of, tables


class ClaimingRDBStorage(RDBStorage):
    """Optuna's database storage, in which exactly one worker gets a waiting trial, also in Optuna's own loop."""

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set state and values as Optuna does, but in one statement if a trial begins to run."""
        if state != TrialState.RUNNING or values is not None or tables() is None:
            return super().set_trial_state_values(trial_id, state, values)
        if _compare_and_set(self, trial_id):
            return True
        self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
        return False


def claim(storage: BaseStorage, trial_id: int) -> bool:
    """Turn a waiting trial into a running one, if no other worker has done so.

    Args:
        storage: the Optuna storage of the trial.
        trial_id: id of the trial in the storage.

    Returns:
        True if this call started the trial; False if it was no longer waiting.

    Example:
        >>> import optuna
        >>> study = optuna.create_study()
        >>> study.enqueue_trial({"x": 0.5})
        >>> trial = study.get_trials()[0]
        >>> claim(study._storage, trial._trial_id), claim(study._storage, trial._trial_id)
        (True, False)
    """
    database = database_of(storage)
    if database is not None:
        return _compare_and_set(database, trial_id)
    try:
        return storage.set_trial_state_values(trial_id, TrialState.RUNNING)
    except (optuna.exceptions.UpdateFinishedTrialError, RuntimeError):
        return False


def _compare_and_set(storage: RDBStorage, trial_id: int) -> bool:
    from sqlalchemy import update
    from sqlalchemy.orm import Session

    models = tables()
    assert models is not None
    is_waiting = (models.TrialModel.trial_id == trial_id) & (models.TrialModel.state == TrialState.WAITING)
    change = update(models.TrialModel).where(is_waiting).values(state=TrialState.RUNNING)
    with Session(storage.engine) as session, session.begin():
        if session.connection().execute(change).rowcount != 1:
            return False
        trial = session.get(models.TrialModel, trial_id)
        assert trial is not None
        trial.datetime_start = datetime.datetime.now()
    return True
