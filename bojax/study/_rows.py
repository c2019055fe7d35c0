"""Stored trials in other forms: as arrays, which algorithms are told, and as users see them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from bojax.data import Told
from bojax.study import _lost, _storage
from bojax.study._gradients import cube_gradient
from bojax.study._trial import Trial

if TYPE_CHECKING:
    from bojax.study._study import Study


def told_data(study: "Study", trials: list[FrozenTrial], own: set[int]) -> Told:
    """The body of `Study._data`."""
    X, y, noise_var, cost, grad, pending = [], [], [], [], [], []
    for trial in _lost.as_data(trials):
        row = study._row(trial)
        if row is None:
            continue
        if trial.state in _storage.FINISHED:
            value = math.nan if trial.state == TrialState.FAIL or not trial.values else trial.values[0]
            X.append(row)
            y.append(study._sign * value if math.isfinite(value) else math.nan)
            noise_var.append(float(trial.user_attrs.get(_storage.NOISE_VAR, math.nan)))
            cost.append(float(trial.user_attrs.get(_storage.COST, 0.0)))
            told = trial.user_attrs.get(_storage.GRAD, {})
            grad.append(study._sign * cube_gradient(study._space, study._space.to_params(row), told))
        elif trial.number not in own:
            pending.append(row)
    num_dims = study._space.num_dims
    return Told(
        X=np.reshape(X, (-1, num_dims)),
        y=np.asarray(y, float),
        pending=np.reshape(pending, (-1, num_dims)),
        columns={
            "noise_var": np.asarray(noise_var, float),
            "cost": np.asarray(cost, float),
            "grad": np.reshape(grad, (-1, num_dims)),
        },
    )


def row_of(study: "Study", trial: FrozenTrial) -> np.ndarray | None:
    """The body of `Study._row`."""
    if trial.number in study._rows:
        return study._rows[trial.number]
    params = decided(trial)
    complete = set(study._space.names) <= set(params)
    if not complete and trial.state != TrialState.COMPLETE:
        return None
    row = study._to_row(params) if complete else None
    if row is None and trial.state != TrialState.WAITING:
        study._warn_once("space", f"trial {trial.number} is left out: its parameters do not belong to the space")
    if trial.state in _storage.FINISHED:
        study._rows[trial.number] = row
    return row


def view(trial: FrozenTrial, names: Sequence[str]) -> Trial:
    """The body of `Study._view`; the parameters come in the order of `names`, then the others."""
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
    """The parameters of a trial, known before it runs where it waits in line, and where its evaluation was lost."""
    early = trial.state == TrialState.WAITING or _storage.is_lost(trial)
    return _storage.params_of(trial) if early else trial.params
