"""Stored trials as users see them."""

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from bojax.study.records import _storage
from bojax.study.records._trial import Trial


def view(trial: FrozenTrial, names: Sequence[str]) -> Trial:
    """An Optuna trial as a `Trial`, its parameters in the order of `names`, followed by others."""
    params = decided(trial)
    order = [*(name for name in names if name in params), *(name for name in params if name not in names)]
    return Trial(
        number=trial.number,
        params={name: params[name] for name in order},
        state=trial.state.name.lower(),
        value=trial.values[0] if trial.values and trial.state != TrialState.FAIL else None,
        user_attrs=_storage.shown_attrs(trial.user_attrs),
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
    )


def decided(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters of a trial, also of one that is queued or whose evaluation was lost."""
    early = trial.state == TrialState.WAITING or _storage.is_lost(trial)
    return _storage.params_of(trial) if early else trial.params
