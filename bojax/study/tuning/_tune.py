"""Tuning a training function: every batch of candidates is trained at once, in a few vmapped programs."""

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optuna

from bojax._errors import BojaxWarning
from bojax._progress import progress_bar
from bojax.data import unread_column
from bojax.space import Space
from bojax.study._study import Study, core_of
from bojax.study.asking import _lost
from bojax.study.asking._suggest import AlgorithmFactory, unread
from bojax.study.records._trial import Trial
from bojax.study.running._arguments import LoopArguments, check_count, check_end, check_loop
from bojax.study.running._minimize import Callback, Result
from bojax.study.running._optimize import ask_batches, giving_up_rest
from bojax.study.tuning._training import Training, check_metric

POOLED_RUNS = 2.0
"""Weight, in runs, of the spread of earlier trials in the noise variance of a trial."""

NUM_CHECKED = 4
"""Number of first trials with a value whose derivatives are checked: one trial alone may have diverged."""


def tune(
    objective: Any,
    space: Space | Any = None,
    *,
    metric: str | None = None,
    direction: str | None = None,
    gradients: bool | None = None,
    num_trials: int | None = 30,
    batch_size: int = 4,
    num_seeds: int = 1,
    seed: int | None = 0,
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str | None = None,
    algorithm: AlgorithmFactory | None = None,
    progress: bool = True,
    callbacks: Callback | Sequence[Callback] = (),
    timeout: float | None = None,
) -> Result:
    """Tunes a training run whose candidates train as a batch.

    Args:
        objective: an objective of `bojax.models`, anything else with `space`, `metric`, `direction` and `train`, or a
            pure function `train(key, hparams)` that returns a number or a dict of numbers and can be vmapped.
            Hyperparameters are scalars: the value of a float or int, the position of a choice. Comparing that position
            with the choice itself is an error.
        space: the search space; by default the objective's.
        metric: the number of the dict to tune; by default the objective's.
        direction: "maximize" or "minimize"; by default the objective's, or "minimize".
        gradients: whether trials report derivatives of the metric by Float hyperparameters, from which
            `gradient_bayesopt` learns. By default where the objective is *differentiable*: it has a pure method
            `value_and_grad(key, hparams) -> (metrics, grads)`, where `metrics` is the result of `train`, and `grads` a
            dict of derivatives of its tuned metric by some or all Floats, in native units. True without that method
            (or for another metric) differentiates `train` itself, in reverse mode: a training loop must have a fixed
            number of steps. Derivatives that are not finite are omitted. An `algorithm` that does not learn from
            gradients gets none by default, and is an error where `gradients` is True.
        num_trials: number of configurations to train; None to continue until `timeout`, a callback or the size of the
            space ends it. There is a warning about a hyperparameter on which the metric does not depend.
        batch_size: number of configurations chosen jointly and trained at once, >= 1.
        num_seeds: number of runs of each configuration, with different keys, >= 1. The value (and gradient) of a trial
            is the mean of its runs. The surrogate observes the variance of that mean, estimated from these runs and the
            spread of earlier trials. All trials use the same keys.
        seed: seed of the study and of training.
        storage: URL of an Optuna storage, or a storage; None for memory.
        name: name of the study in its storage. A study of that name is resumed.
        algorithm: a function from (space, q) to an algorithm; by default `bojax.bayesopt`, with gradients
            `gradient_bayesopt`.
        progress: whether to show progress on stderr.
        callbacks: called as `callback(study, trial)` after each trial; `study.stop()` ends the loop.
        timeout: seconds after which no further batch starts, >= 0; None for no limit.

    Returns:
        The result. The metrics of a trial, means over its runs, are its `user_attrs`. `num_compilations` is the number
        of programs compiled for training: one per function, and one per structure of the configurations.

    Raises:
        TypeError: the objective is neither an objective nor a function, there is no space, or `gradients` is True and
            there is nothing to differentiate.
        ValueError: a number is out of range, `gradients` is True and the algorithm does not learn from them, or every
            derivative of a study's first trials is zero.
        KeyError: the objective does not return the metric.

    Example:
        >>> import bojax
        >>> def train(key, hparams):
        ...     return (hparams["x"] - 0.3) ** 2
        >>> result = bojax.tune(train, bojax.Space(x=bojax.Float(0.0, 1.0)), num_trials=4, batch_size=2)
        >>> len(result.trials)
        4
    """
    loop = check_loop(locals())
    check_count("num_seeds", num_seeds, 1)
    training = Training.of(objective, space, metric=metric, direction=direction, gradients=gradients)
    if training.gradients and algorithm is not None and unread(algorithm, training.space, ["grad"]):
        if gradients:
            raise ValueError(unread_column("grad").replace("`grad`", "`gradients`"))
        training = Training.of(objective, space, metric=metric, direction=direction, gradients=False)
    check_end(loop, training.space.cardinality)
    algorithm = training.default_algorithm if algorithm is None else algorithm
    study = Study(training.space, training.direction, storage, name, seed, algorithm=algorithm)
    _train_batches(study, training, loop, num_seeds)
    return Result(study, len(training.programs))


def tune_study(
    study: Study,
    training: Training,
    *,
    num_trials: int | None = 30,
    batch_size: int = 4,
    num_seeds: int = 1,
    progress: bool = True,
    callbacks: Callback | Sequence[Callback] = (),
    timeout: float | None = None,
) -> None:
    """Tunes a training function within a study that is already open; `tune` opens one itself.

    Args:
        study: the study, over the space of the training function and with its direction.
        training: the training function, from `Training.of`. With gradients the algorithm of the study must learn
            from them.
        num_trials: number of configurations to train; None for no limit (see `tune`).
        batch_size: number of configurations chosen jointly and trained at once, >= 1.
        num_seeds: number of runs of each configuration, >= 1; a trial's value is their mean.
        progress: whether to show progress on stderr.
        callbacks: called as `callback(study, trial)` after each trial; `study.stop()` ends the loop.
        timeout: seconds after which no further batch starts, >= 0; None for no limit.

    Raises:
        ValueError, TypeError: an argument is wrong, or every derivative of the first trials is zero.
        KeyError: the training function does not return the metric.

    Example:
        >>> import bojax
        >>> from bojax.study import Training, tune_study
        >>> def train(key, hparams):
        ...     return (hparams["x"] - 0.3) ** 2
        >>> training = Training.of(train, bojax.Space(x=bojax.Float(0.0, 1.0)))
        >>> study = bojax.Study(training.space, training.direction, seed=0)
        >>> tune_study(study, training, num_trials=4, batch_size=2, progress=False)
        >>> len(study.trials)
        4
    """
    loop = check_loop(locals())
    check_count("num_seeds", num_seeds, 1)
    check_end(loop, study.space.cardinality)
    _train_batches(study, training, loop, num_seeds)


def _train_batches(study: Study, training: Training, loop: LoopArguments, num_seeds: int) -> None:
    """Asks for batches, trains them and tells the results, until `ask_batches` ends."""
    core, end = core_of(study), time.monotonic() + loop.timeout
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(study.seed), i))(np.arange(num_seeds))
    slopes_seen = _FirstSlopes(training, study.trials)
    values = core.ledger.refresh().values()
    with progress_bar(study.name, study.direction, values, loop.num_trials, loop.progress) as advance:
        for batch in ask_batches(core, loop.num_trials, loop.batch_size, end, together=True):
            with giving_up_rest(core, batch):
                metrics, grads = _train(training, study.space, batch, keys, loop.batch_size)
                with _lost.mistakes(core, batch):
                    check_metric(metrics, training.metric)
                    runs = _by_trial("metric", metrics, len(batch), num_seeds)
                    slopes = _by_trial("derivative", grads, len(batch), num_seeds)
                    slopes_seen.check(runs, slopes)
                noise_var = _noise_variances(study, runs[training.metric])
                told = [
                    _tell(study, trial, i, runs, slopes, training.metric, noise_var[i]) for i, trial in enumerate(batch)
                ]
                for trial in told:
                    advance(trial.value)
                    for callback in loop.callbacks:
                        callback(study, trial)


def _train(
    training: Training, space: Space, batch: Sequence[Trial], keys: Any, batch_size: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metrics and derivatives of the runs of a batch: those of one trial next to each other, one for each key."""
    params = [trial.params for trial in batch for _ in range(len(keys))]
    missing = (batch_size - len(batch)) * len(keys) if training.fixed_size else 0
    hparams = space.to_arrays(params + [params[-1]] * missing)
    order = np.arange(len(params) + missing) % len(keys)
    return training.train_batch(keys[order], hparams)


class _FirstSlopes:
    """Checks the derivatives of a study's first trials with a value.

    Args:
        training: the training function.
        trials: the trials so far; where one of them is complete, nothing is checked.
    """

    def __init__(self, training: Training, trials: Sequence[Trial]):
        self._metric = training.metric
        self._unchecked = training.gradients and not any(trial.state == "complete" for trial in trials)
        self._seen: list[dict[str, np.ndarray]] = []

    def check(self, runs: Mapping[str, np.ndarray], slopes: Mapping[str, np.ndarray]) -> None:
        """Takes in a batch of runs [k, num_seeds]; raises ValueError if all derivatives are zero."""
        if not self._unchecked:
            return
        has_value = np.isfinite(runs[self._metric].mean(axis=1))
        self._seen += [{n: column[i] for n, column in slopes.items()} for i in np.flatnonzero(has_value)]
        self._unchecked = len(self._seen) < NUM_CHECKED
        if not self._unchecked:
            _check_slopes(self._seen, self._metric)


def _by_trial(what: str, columns: Mapping[str, Any], num: int, num_seeds: int) -> dict[str, np.ndarray]:
    """Columns as arrays [num, num_seeds], without the rows that only fill the batch up."""
    for name, column in columns.items():
        if np.ndim(column) != 1:
            got = list(np.shape(column)[1:])
            raise ValueError(f"the {what} {name!r} must be a scalar of each run, got the shape {got}.")
    return {n: np.asarray(v, float)[: num * num_seeds].reshape(-1, num_seeds) for n, v in columns.items()}


def _check_slopes(seen: Sequence[Mapping[str, np.ndarray]], metric: str) -> None:
    """Complains about derivatives of the first trials that say nothing."""
    slopes = {name: np.stack([row[name] for row in seen]) for name in seen[0]}
    if all((column == 0).all() for column in slopes.values()):
        raise ValueError(
            f"every derivative of {metric!r} in the first {len(seen)} trials is exactly zero: it does not depend "
            "smoothly on the hyperparameters, as an accuracy does not. Tune a loss, or leave gradients out by "
            "`gradients=False`."
        )
    broken = [name for name, column in slopes.items() if not np.isfinite(column).any()]
    if broken:
        warnings.warn(
            f"the derivatives of {metric!r} by {broken} are not finite in the first {len(seen)} trials; those that are "
            "not are left out. Square roots and norms have no derivative at zero: Adam needs `eps_root`, say 1e-12.",
            BojaxWarning,
            stacklevel=4,
        )


def _noise_variances(study: Study, values: np.ndarray) -> list[float | None]:
    """Squared standard errors of the means of values [k, num_seeds]; None with one seed.

    The spread of two or three runs says little (by chance it may be zero, which would mean an exact value), so it is
    averaged with the median spread of the trials so far, which counts as `POOLED_RUNS` runs.
    """
    num_seeds = values.shape[1]
    if num_seeds == 1:
        return [None] * len(values)
    spread = np.where(np.isfinite(values.mean(axis=1)), values.var(axis=1, ddof=1), np.nan)
    told = core_of(study).ledger.refresh().told()
    known = num_seeds * told.columns["noise_var"][np.isfinite(told.y)]
    known = np.concatenate([known, spread])
    pooled = np.median(known[np.isfinite(known)]) if np.isfinite(known).any() else 0.0
    shrunk = ((num_seeds - 1) * spread + POOLED_RUNS * pooled) / (num_seeds - 1 + POOLED_RUNS)
    return [float(v) for v in shrunk / num_seeds]


def _tell(
    study: Study, trial: Trial, row: int, runs: dict, slopes: dict, metric: str, noise_var: float | None
) -> Trial:
    means = {name: float(values[row].mean()) for name, values in runs.items()}
    finite = {name: value for name, value in means.items() if np.isfinite(value)}
    if not np.isfinite(means[metric]):
        return study.tell(trial, means[metric], user_attrs=finite)
    with np.errstate(invalid="ignore"):
        grad = {name: float(values[row].mean()) for name, values in slopes.items()} or None
    return study.tell(trial, means[metric], noise_var=noise_var, grad=grad, user_attrs=finite)
