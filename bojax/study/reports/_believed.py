"""Predictions of a study's surrogate: anywhere, at its trials, and how accurate they are."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bojax._errors import StudyError
from bojax.data import Told
from bojax.study._core import Core
from bojax.study._travel import check_process
from bojax.study.asking._suggest import predicted
from bojax.study.records._trial import Trial
from bojax.study.running._arguments import check_count

COVERAGE_Z = 1.959963984540054
"""Half width of the central 95 % interval of a normal, in standard deviations."""


@dataclasses.dataclass(frozen=True)
class Believed:
    """A trial and the surrogate's prediction at its parameters.

    Attributes:
        trial: the trial; `trial.value` is the observed value.
        mean: predicted value of the noise-free objective.
        std: standard deviation of that prediction, in units of the value.

    Example:
        >>> import bojax
        >>> study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), seed=0)
        >>> for x in (0.2, 0.5, 0.8):
        ...     _ = study.add({"x": x}, 10.0 * x)
        >>> study.best_believed.params
        {'x': 0.2}
    """

    trial: Trial
    mean: float
    std: float

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the trial."""
        return self.trial.params


class SurrogateQuality(NamedTuple):
    """How well the surrogate of a study predicts trials that it has not seen.

    Attributes:
        rmse: root mean square error of the predicted means, in units of the value.
        log_density: mean log density of the values under the predictions; larger is better. It depends on the units.
        coverage: fraction of the values inside their central 95 % interval; about 0.95 for a good surrogate.
        n: number of predicted trials.
    """

    rmse: float
    log_density: float
    coverage: float
    n: int


class Beliefs:
    """The part of `Study` that queries the surrogate of its algorithm."""

    _core: Core

    def predict(self, params: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
        """Predicts the noise-free objective by the algorithm's surrogate.

        The surrogate is fitted to all finished trials, which takes about as long as an `ask`. For an algorithm without
        a surrogate, that of `bojax.bayesopt` is used. Nothing is stored.

        Args:
            params: a value for every parameter, or a list of such dicts.

        Returns:
            Mean and standard deviation in units of the value: two floats for one dict, two arrays [k] for a list of k.

        Raises:
            StudyError: fewer than two trials are complete, or the surrogate is not finite.
            ValueError, TypeError: parameters do not belong to the space, or some are missing.

        Example:
            >>> import bojax
            >>> study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), seed=0)
            >>> for x in (0.0, 0.25, 0.5, 0.75, 1.0):
            ...     _ = study.add({"x": x}, 10.0 * x)
            >>> mean, std = study.predict({"x": 0.5})
            >>> abs(mean - 5.0) < 0.1, std < 1.0
            (True, True)
        """
        single = isinstance(params, Mapping)
        points = [self._core.space.from_params(row) for row in ([params] if single else params)]
        told = _told(self._core, 2)
        if not points:
            return np.empty(0), np.empty(0)
        mean, std = _predict(self._core, told, np.stack(points))
        _check_finite(self._core, mean)
        mean = self._core.ledger.sign * mean
        return (float(mean[0]), float(std[0])) if single else (mean, std)

    def surrogate_quality(self, max_trials: int = 64) -> SurrogateQuality:
        """How well the algorithm's surrogate predicts each trial from all others.

        For each trial the surrogate is fitted to all others, including its hyperparameters and output transform, so
        that no prediction knows its own value. This takes as long as `max_trials` suggestions. The interval of a value
        is that of `predict`, widened by the `noise_var` reported with it. Unreported noise is not added, so a low
        coverage may also mean noisy values.

        Args:
            max_trials: largest number of trials to predict, >= 1. Of more complete trials, an evenly spaced subset is
                used.

        Returns:
            Error, log density and coverage of the predictions.

        Raises:
            StudyError: fewer than three trials are complete, or the surrogate is not finite.
            ValueError: `max_trials` is not a positive integer.

        Example:
            >>> import bojax
            >>> study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), seed=0)
            >>> for x in (0.0, 0.25, 0.5, 0.75, 1.0):
            ...     _ = study.add({"x": x}, 10.0 * x)
            >>> quality = study.surrogate_quality()
            >>> quality.n, quality.rmse < 3.0
            (5, True)
        """
        check_count("max_trials", max_trials, 1)
        core, told = self._core, _told(self._core, 3)
        complete = np.flatnonzero(np.isfinite(told.y))
        chosen = complete[
            np.unique(np.linspace(0, len(complete) - 1, min(max_trials, len(complete))).round().astype(int))
        ]
        predicted = [_predict(core, _without(told, int(row)), told.X[row : row + 1]) for row in chosen]
        mean, std = np.concatenate([m for m, _ in predicted]), np.concatenate([s for _, s in predicted])
        _check_finite(core, mean)
        error = told.y[chosen] - mean
        var = np.maximum(std**2 + np.nan_to_num(told.columns["noise_var"][chosen]), np.finfo(float).tiny)
        return SurrogateQuality(
            rmse=float(np.sqrt(np.mean(error**2))),
            log_density=float(np.mean(-0.5 * error**2 / var - 0.5 * np.log(2.0 * np.pi * var))),
            coverage=float(np.mean(np.abs(error) <= COVERAGE_Z * np.sqrt(var))),
            n=len(chosen),
        )

    @property
    def best_believed(self) -> Believed:
        """The complete trial with the best predicted value, by the algorithm's surrogate.

        With noisy values the best observed one is usually lucky, whereas a prediction averages over the values around
        it. Without noise the two are nearly the same. The surrogate is fitted first, which takes about as long as an
        `ask`. For an algorithm without a surrogate, that of `bojax.bayesopt` is used.

        Raises:
            StudyError: no trial is complete, or the surrogate is not finite.

        Example:
            >>> import bojax
            >>> study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), seed=0)
            >>> study.optimize(lambda params: params["x"], num_trials=4, progress=False)
            >>> believed = study.best_believed
            >>> abs(believed.mean - believed.trial.value) < 0.1
            True
        """
        return _best(self._core)


def _told(core: Core, minimum: int) -> Told:
    """The data of the algorithm, without pending points."""
    check_process(core, computes=True)
    told = core.ledger.refresh().told()
    if np.isfinite(told.y).sum() < minimum:
        raise StudyError(f"the study {core.name!r} has fewer than {minimum} complete trials, too few to predict from.")
    return told._replace(pending=told.X[:0])


def _without(told: Told, row: int) -> Told:
    columns = {name: np.delete(column, row, axis=0) for name, column in told.columns.items()}
    return Told(np.delete(told.X, row, axis=0), np.delete(told.y, row), told.pending, columns)


def _predict(core: Core, told: Told, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [k] and standard deviation [k] of what is maximized, at points [k, d]."""
    return predicted(core.algorithm, core.space, core.seed, told, X)


def _check_finite(core: Core, mean: np.ndarray) -> None:
    if not np.isfinite(mean).all():
        raise StudyError(f"the surrogate of the study {core.name!r} is not finite, so it predicts nothing.")


def _best(core: Core) -> Believed:
    check_process(core, computes=True)
    with core.ledger.refresh().mutex:
        trials, told = core.ledger.told_trials(), core.ledger.told()
    y = told.y
    if not np.isfinite(y).any():
        raise StudyError(f"the study {core.name!r} has no complete trial yet, so it has no best one.")
    mean, std = _predict(core, told._replace(pending=told.X[:0]), told.X)
    if not np.isfinite(mean[np.isfinite(y)]).all():
        raise StudyError(f"the surrogate of the study {core.name!r} is not finite, so it predicts no best trial.")
    best = int(np.argmax(np.where(np.isfinite(y), mean, -np.inf)))
    return Believed(core.view(trials[best]), float(core.ledger.sign * mean[best]), float(std[best]))
