"""The best point as the surrogate believes it to be: where values are noisy, the largest one is mostly a lucky one."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from bojax._errors import StudyError
from bojax._runtime import host_scope, seed_key
from bojax.loop import restore
from bojax.study import _lost, _storage
from bojax.study._suggest import predict_program
from bojax.study._travel import check_process
from bojax.study._trial import Trial

if TYPE_CHECKING:
    from bojax.study._study import Study


@dataclasses.dataclass(frozen=True)
class Believed:
    """A trial and what the surrogate believes about its parameters.

    Attributes:
        trial: the trial; `trial.value` is what was observed.
        mean: predicted value of the noise-free objective at its parameters.
        std: standard deviation of that prediction, in units of the value.
    """

    trial: Trial
    mean: float
    std: float

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the trial."""
        return self.trial.params


def best_believed(study: "Study") -> Believed:
    """The body of `Study.best_believed`."""
    check_process(study, computes=True)
    trials = _storage.trials_of(study._optuna)
    told = [t for t in _lost.as_data(trials) if t.state in _storage.FINISHED and study._row(t) is not None]
    data = study._data(told, set())
    y = data.y
    if not np.isfinite(y).any():
        raise StudyError(f"the study {study.name!r} has no complete trial yet, so it has no best one.")
    with host_scope():
        init, predict = predict_program(study._algorithm, study._space)
        key = seed_key(study._seed)
        state = restore(init(key), data._replace(pending=data.X[:0]), remember=False)
        mean, std = (np.asarray(values)[: len(y)] for values in predict(key, state, state.observations.X))
    if not np.isfinite(mean[np.isfinite(y)]).all():
        raise StudyError(f"the surrogate of the study {study.name!r} is not finite, so it believes in no best trial.")
    best = int(np.argmax(np.where(np.isfinite(y), mean, -np.inf)))
    return Believed(study._view(told[best]), float(study._sign * mean[best]), float(std[best]))
