"""Stored trials as arrays, in the form in which algorithms are told them."""

import math
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from bojax.study import _lost, _storage
from bojax.study._gradients import cube_gradient

if TYPE_CHECKING:
    from bojax.study._study import Study


def told_data(study: "Study", trials: list[FrozenTrial], own: set[int]) -> tuple[np.ndarray, ...]:
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
    columns = (np.asarray(column, float) for column in (y, noise_var, cost))
    return np.reshape(X, (-1, num_dims)), *columns, *(np.reshape(rows, (-1, num_dims)) for rows in (grad, pending))
