"""Tuning a training function: every batch of candidates is trained at once, in a few vmapped programs."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optuna

from bojax._errors import BojaxWarning, SpaceExhaustedError
from bojax.multifidelity import Population
from bojax.space import Space
from bojax.study._optimize import Callback, Result, check_count, giving_up_rest, progress_bar
from bojax.study._study import Study
from bojax.study._suggest import AlgorithmFactory
from bojax.study._trial import Trial


class Training(NamedTuple):
    """A training function, ready to be tuned.

    Attributes:
        train_batch: from keys [n] and hyperparameters, arrays [n], to a dict of metrics [n].
        metric: which of them is tuned.
        space: what is tuned.
        direction: "maximize" or "minimize".
        fixed_size: whether batches must always have the same size, for a program is compiled for each.
        programs: what was compiled to train, filled as it goes.
    """

    train_batch: Callable[[Any, Any], dict[str, np.ndarray]]
    metric: str
    space: Any
    direction: str
    fixed_size: bool
    programs: set[Any]


def tune(
    objective: Any,
    space: Space | Any = None,
    *,
    metric: str | None = None,
    direction: str | None = None,
    num_trials: int = 30,
    batch_size: int = 4,
    num_seeds: int = 1,
    seed: int = 0,
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str | None = None,
    algorithm: AlgorithmFactory | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Tunes a training run whose candidates train as a batch.

    Args:
        objective: an objective of `bojax.models`, anything else with `space`, `metric`, `direction` and `train`, or a
            pure function `train(key, hparams)` that gives a number or a dict of numbers, and can be vmapped.
            Hyperparameters are scalars: the value of a float or int, the position of a choice.
        space: what is tuned; by default the objective's.
        metric: which number of the dict is tuned; by default the objective's.
        direction: "maximize" or "minimize"; by default the objective's, or "minimize".
        num_trials: configurations to be trained.
        batch_size: how many are chosen jointly and trained at once.
        num_seeds: how often each configuration is trained, with other keys. The value of a trial is the mean of its
            runs, and the surrogate is told the variance of that mean, so that differences it cannot resolve count for
            nothing. The same keys serve all trials.
        seed: seed of the study and of training.
        storage: see `Study`, also for `name` and `algorithm`.
        progress: whether to show a progress bar (on a terminal).
        callbacks: see `Study.optimize`.

    Returns:
        The result. The metrics of a trial, means over its runs, are its `user_attrs`; `num_compilations` tells how many
        programs were compiled to train: one for each structure a configuration may have, and function.

    Example:
        >>> import bojax
        >>> def train(key, hparams):
        ...     return (hparams["x"] - 0.3) ** 2
        >>> result = bojax.tune(train, bojax.Space(x=bojax.Float(0.0, 1.0)), num_trials=4, batch_size=2)
        >>> len(result.trials)
        4
    """
    training = training_of(objective, space, metric, direction)
    check_count("num_trials", num_trials, 0)
    check_count("batch_size", batch_size, 1)
    check_count("num_seeds", num_seeds, 1)
    study = Study(training.space, training.direction, storage, name, seed, algorithm=algorithm)
    with progress_bar(study, num_trials, progress) as advance:
        run_batches(study, training, num_trials, batch_size, num_seeds, [lambda _, trial: advance(trial), *callbacks])
    return Result(study, len(training.programs))


def training_of(objective: Any, space: Any = None, metric: str | None = None, direction: str | None = None) -> Training:
    """What `tune` accepts, in one form.

    Raises:
        TypeError: when it is neither an objective nor a function, or no space is known.
    """
    space = getattr(objective, "space", None) if space is None else space
    if space is None:
        raise TypeError("`space` must be given: the objective has none.")
    metric = str(metric or getattr(objective, "metric", None) or "value")
    direction = str(direction or getattr(objective, "direction", None) or "minimize")
    programs: set[Any] = set()
    if hasattr(objective, "program") and hasattr(objective, "structure"):
        return Training(_by_structure(objective, programs), metric, space, direction, False, programs)
    function = getattr(objective, "train", objective)
    if not callable(function):
        raise TypeError(f"`objective` must be a function or have a method `train`, got {objective!r}.")
    return Training(_at_once(function, programs), metric, space, direction, True, programs)


def _by_structure(objective, programs):
    def train_batch(keys, hparams):
        population = Population(objective, keys, hparams)
        population.advance(objective.num_steps)
        metrics = population.evaluate()
        programs.update(population.programs)
        return metrics

    return train_batch


def _at_once(function, programs):
    def train(key, hparams):
        metrics = function(key, hparams)
        return metrics if isinstance(metrics, dict) else {"value": metrics}

    compiled = jax.jit(jax.vmap(train))

    def train_batch(keys, hparams):
        programs.add(("train", keys.shape[0]))
        return jax.device_get(compiled(keys, hparams))

    return train_batch


def run_batches(
    study: Study,
    training: Training,
    num_trials: int,
    batch_size: int,
    num_seeds: int = 1,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Ask for batches, train and tell them, until so many trials are told or a callback stops the study."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(study.seed), i))(np.arange(num_seeds))
    study._stopping = False
    left = num_trials
    while left > 0 and not study._stopping:
        try:
            batch = study._ask(min(left, batch_size), batch_size)
        except SpaceExhaustedError as error:
            warnings.warn(f"the study stops early: {error}", BojaxWarning, stacklevel=2)
            return
        left -= len(batch)
        with giving_up_rest(study, batch):
            params = [trial.params for trial in batch for _ in range(num_seeds)]
            missing = (batch_size - len(batch)) * num_seeds if training.fixed_size else 0
            hparams = study.space.to_arrays(params + [params[-1]] * missing)
            order = np.arange(len(params) + missing) % num_seeds
            metrics = training.train_batch(keys[order], hparams)
            if training.metric not in metrics:
                raise KeyError(f"the objective gives no metric {training.metric!r}; it gives {sorted(metrics)}.")
            for each, column in metrics.items():
                if np.shape(column) != order.shape:
                    got = list(np.shape(column)[1:])
                    raise ValueError(f"the metric {each!r} must be a scalar of each run, got the shape {got}.")
            runs = {n: np.asarray(v, float)[: len(params)].reshape(-1, num_seeds) for n, v in metrics.items()}
            told = [_tell(study, trial, i, runs, training.metric) for i, trial in enumerate(batch)]
            for trial in told:
                for callback in callbacks:
                    callback(study, trial)


def _tell(study: Study, trial: Trial, row: int, runs: dict[str, np.ndarray], metric: str) -> Trial:
    means = {name: float(values[row].mean()) for name, values in runs.items()}
    finite = {name: value for name, value in means.items() if np.isfinite(value)}
    num_seeds = runs[metric].shape[1]
    if num_seeds == 1 or not np.isfinite(means[metric]):
        return study.tell(trial, means[metric], user_attrs=finite)
    noise_var = float(runs[metric][row].var(ddof=1) / num_seeds)
    return study.tell(trial, means[metric], noise_var=noise_var, user_attrs=finite)
