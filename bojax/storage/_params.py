"""Writing the parameters of a trial."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage

from bojax.storage._database import database_of, tables
from bojax.storage._open import retry


def set_params(
    storage: BaseStorage, trial_id: int, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> None:
    """Write the parameters of a running trial: in one transaction in a database, one by one in other storages.

    Args:
        storage: the Optuna storage of the trial.
        trial_id: id of the trial in the storage.
        params: values by name, in the order in which they are written.
        distributions: their distributions by name. In a database they are not compared with those of other trials.

    Raises:
        UpdateFinishedTrialError, RuntimeError: the trial has finished.

    Example:
        >>> import optuna
        >>> study = optuna.create_study()
        >>> trial = study.ask()
        >>> distributions = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}
        >>> set_params(study._storage, trial._trial_id, {"x": 0.5}, distributions)
        >>> study.trials[0].params
        {'x': 0.5}
    """
    internal = {name: distributions[name].to_internal_repr(value) for name, value in params.items()}
    database = database_of(storage)
    if database is not None:
        retry(lambda: _set_at_once(database, trial_id, internal, distributions))
        return
    for name, value in internal.items():
        retry(lambda: storage.set_trial_param(trial_id, name, value, distributions[name]))  # noqa: B023 (called at once)


def _set_at_once(
    storage: RDBStorage, trial_id: int, internal: Mapping[str, float], distributions: Mapping[str, BaseDistribution]
) -> None:
    from optuna.distributions import distribution_to_json
    from sqlalchemy.orm import Session

    models = tables()
    assert models is not None
    with Session(storage.engine) as session, session.begin():
        trial = session.get(models.TrialModel, trial_id)
        assert trial is not None
        storage.check_trial_is_updatable(trial_id, trial.state)  # type: ignore[arg-type]
        for name, value in internal.items():
            text = distribution_to_json(distributions[name])
            row = {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": text}
            session.add(models.TrialParamModel(**row))
