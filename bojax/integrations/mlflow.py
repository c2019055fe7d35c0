"""MLflow: `study.optimize(objective, callbacks=MLflowCallback("sqlite:///mlflow.db"))`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

try:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
except ImportError as error:
    raise ImportError('MLflow is needed: pip install "bojax[mlflow]"') from error

from bojax.integrations._told import milliseconds, numbers_of, texts_of
from bojax.study import Study, Trial

__all__ = ["MLflowCallback"]

_MAX_TEXT = 5000
"""Longest text of a tag or a parameter that all stores of MLflow keep."""

_BATCH = 100
"""Number of entries that MLflow takes at once."""


class MLflowCallback:
    """Records each told trial as a run of MLflow, in an experiment of the study.

    A run is called `trial-7`. Its parameters are those of the trial that exist. The value and the user attributes that
    are numbers are its metrics. Its tags are the name of the study, the number of the trial, the other user attributes,
    the state, and the reason of a failure. A failed trial is a failed run. Characters that MLflow does not allow in a
    name become underscores. No global state of MLflow is changed.

    Args:
        tracking_uri: where MLflow stores runs, for example "sqlite:///mlflow.db" or a server. By default that of MLflow
            (`MLFLOW_TRACKING_URI`).
        experiment: name of the experiment, which is created if there is none; by default that of the study.
        tags: further tags of each run.

    Raises:
        ImportError: MLflow is not installed (when the module is imported).
        ValueError: in a call: names differ only in characters that MLflow does not allow.

    Example:
        >>> import bojax
        >>> study = bojax.Study({"x": bojax.Float(0.0, 1.0)}, seed=0)
        >>> callback = MLflowCallback("sqlite:///mlflow.db")
        >>> study.optimize(lambda params: params["x"], 20, callbacks=callback)  # doctest: +SKIP
        >>> callback.experiment is None
        True
    """

    def __init__(
        self, tracking_uri: str | None = None, experiment: str | None = None, tags: Mapping[str, str] | None = None
    ):
        self.tracking_uri, self.experiment, self.tags = tracking_uri, experiment, dict(tags or {})
        self._client: Any = None
        self._experiment_id: str | None = None

    def __call__(self, study: Study, trial: Trial) -> None:
        """Records a trial."""
        if self._client is None:
            self._client = MlflowClient(tracking_uri=self.tracking_uri)
        if self._experiment_id is None:
            self._experiment_id = _experiment(self._client, self.experiment or study.name)
        names = _names([*trial.params, *numbers_of(trial), *texts_of(trial)])
        start, end = milliseconds(trial.datetime_start), milliseconds(trial.datetime_complete)
        tags = self.tags | {"study": study.name, "trial": str(trial.number)}
        run = self._client.create_run(self._experiment_id, start, tags, run_name=f"trial-{trial.number}")
        time = end or start or 0
        parts = {
            "metrics": [Metric(names[name], number, time, trial.number) for name, number in numbers_of(trial).items()],
            "params": [Param(names[name], str(value)[:_MAX_TEXT]) for name, value in trial.params.items()],
            "tags": [RunTag(names[name], text[:_MAX_TEXT]) for name, text in texts_of(trial).items()],
        }
        for kind, entries in parts.items():
            for first in range(0, len(entries), _BATCH):
                self._client.log_batch(run.info.run_id, **{kind: entries[first : first + _BATCH]})
        status = "FINISHED" if trial.state == "complete" else "FAILED"
        self._client.set_terminated(run.info.run_id, status, end)


def _experiment(client: Any, name: str) -> str:
    """The id of the experiment of that name, which another process may create at the same time."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name)
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def _names(names: Iterable[str]) -> dict[str, str]:
    """Names as MLflow allows them."""
    allowed = {name: re.sub(r"[^\w.\- /]", "_", name) for name in names}
    if len(set(allowed.values())) < len(allowed):
        raise ValueError(f"names must differ in characters that MLflow allows, got {sorted(allowed)}.")
    return allowed
