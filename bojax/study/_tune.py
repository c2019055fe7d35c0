"""Tuning a training function: every batch of candidates is trained at once, in a few vmapped programs."""

import functools
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optuna

from bojax._errors import BojaxWarning
from bojax._liveness import live_inputs
from bojax.data import unread_column
from bojax.multifidelity import Population
from bojax.multifidelity._reads import warn_of_unread
from bojax.space import Space, check_choices, to_space
from bojax.study import _lost
from bojax.study._arguments import check_count, check_end, check_loop, checked_direction
from bojax.study._loop import ask_batches, giving_up_rest
from bojax.study._minimize import Callback, Result
from bojax.study._progress import progress_bar
from bojax.study._study import Study, core_of
from bojax.study._suggest import AlgorithmFactory, gradient_bayesopt, unread
from bojax.study._trial import Trial


class Training(NamedTuple):
    """A training function, ready to be tuned.

    Attributes:
        train_batch: from keys [n] and hyperparameters, arrays [n], to a dict of metrics [n] and a dict of derivatives
            [n] of the tuned one, by hyperparameter; the latter is empty without gradients.
        metric: which of them is tuned.
        space: what is tuned.
        direction: "maximize" or "minimize".
        fixed_size: whether batches must always have the same size, for a program is compiled for each.
        programs: what was compiled to train, filled as it goes.
        gradients: whether derivatives are given.
    """

    train_batch: Callable[[Any, Any], tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
    metric: str
    space: Any
    direction: str
    fixed_size: bool
    programs: set[Any]
    gradients: bool = False


POOLED_RUNS = 2.0
NUM_CHECKED = 4
"""So many trials of a study with a value decide whether its derivatives say anything: one may have diverged."""


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
            pure function `train(key, hparams)` that gives a number or a dict of numbers, and can be vmapped.
            Hyperparameters are scalars: the value of a float or int, the position of a choice (to compare it with the
            choice itself is an error).
        space: what is tuned; by default the objective's.
        metric: which number of the dict is tuned; by default the objective's.
        direction: "maximize" or "minimize"; by default the objective's, or "minimize".
        gradients: whether trials are told derivatives of the metric by Float hyperparameters, from which
            `bayesopt(gradients=True)` learns. By default where the objective is *differentiable*: it has a pure method
            `value_and_grad(key, hparams) -> (metrics, grads)`, where `metrics` is what `train` gives, and `grads` a
            dict of derivatives of its tuned metric by some or all Floats, in their own units. True without that method
            (or for another metric) differentiates `train` itself, in reverse mode: a training loop must have a fixed
            number of steps. A derivative that is not finite is left out. An `algorithm` that learns nothing from
            gradients is told none by default, and is an error where `gradients` is True.
        num_trials: configurations to be trained; None for as many as `timeout`, a callback or the size of the space
            allow. A hyperparameter on which the metric does not depend is warned about.
        batch_size: how many are chosen jointly and trained at once.
        num_seeds: how often each configuration is trained, with other keys. The value (and gradient) of a trial is the
            mean of its runs, and the surrogate is told the variance of that mean, estimated from these runs and the
            spread of earlier trials. The same keys serve all trials.
        seed: seed of the study and of training.
        storage: see `Study`, also for `name`.
        algorithm: see `Study`; with gradients `bayesopt(gradients=True)` by default.
        progress: see `Study.optimize`, also for `callbacks`.
        timeout: seconds after which no further batch starts, >= 0; None for no limit.

    Raises:
        TypeError: the objective is neither an objective nor a function, no space is known, or `gradients` is asked for
            and there is nothing to differentiate.
        ValueError: a number is out of range, `gradients` is True and the algorithm learns nothing from them, or every
            derivative of a study's first trials is zero.
        KeyError: the objective does not give the metric.

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
    loop = check_loop(
        num_trials=num_trials, batch_size=batch_size, progress=progress, callbacks=callbacks, timeout=timeout
    )
    check_count("num_seeds", num_seeds, 1)
    training = training_of(objective, space, metric, direction, gradients)
    if training.gradients and algorithm is not None and unread(algorithm, to_space(training.space), ["grad"]):
        if gradients:
            raise ValueError(unread_column("grad").replace("`grad`", "`gradients`"))
        training = training_of(objective, space, metric, direction, False)
    tuned = to_space(training.space)
    check_end(loop, tuned.cardinality)
    if algorithm is None and training.gradients:
        algorithm = gradient_bayesopt
    study = Study(tuned, training.direction, storage, name, seed, algorithm=algorithm)
    end = time.monotonic() + loop.timeout
    values = core_of(study).ledger.refresh().values()
    with progress_bar(study.name, study.direction, values, loop.num_trials, loop.progress) as advance:
        after = (lambda _, trial: advance(trial), *loop.callbacks)
        run_batches(study, training, loop.num_trials, loop.batch_size, num_seeds, after, end)
    return Result(study, len(training.programs))


def training_of(
    objective: Any,
    space: Any = None,
    metric: str | None = None,
    direction: str | None = None,
    gradients: bool | None = None,
) -> Training:
    """What `tune` accepts, in one form.

    Raises:
        TypeError: when it is neither an objective nor a function, no space is known, or `gradients` cannot be had.
    """
    if gradients is not None and not isinstance(gradients, bool | np.bool_):
        raise TypeError(f"`gradients` must be True, False or None, got {gradients!r}.")
    if metric is not None and (not isinstance(metric, str) or not metric):
        raise TypeError(f"`metric` must be the name of a number that the objective gives, or None, got {metric!r}.")
    space = getattr(objective, "space", None) if space is None else space
    if space is None:
        raise TypeError("`space` must be given: the objective has none.")
    own_metric = getattr(objective, "metric", None)
    metric = str(metric or own_metric or "value")
    if direction is None:
        direction = getattr(objective, "direction", None) or "minimize"
    direction = checked_direction(direction)
    programs: set[Any] = set()
    differentiable = getattr(objective, "value_and_grad", None) if own_metric in (None, metric) else None
    if gradients or (gradients is None and differentiable is not None):
        if differentiable is not None:
            function = _checked(differentiable)
        else:
            function = _differentiated(getattr(objective, "train", objective), metric, to_space(space))
        train_batch = _at_once(function, programs, to_space(space), metric)
        return Training(train_batch, metric, space, direction, True, programs, True)
    if hasattr(objective, "program") and hasattr(objective, "structure"):
        return Training(_by_structure(objective, programs), metric, space, direction, False, programs)
    function = getattr(objective, "train", objective)
    if not callable(function):
        raise TypeError(f"`objective` must be a function or have a method `train`, got {objective!r}.")
    train_batch = _at_once(lambda key, h: (function(key, h), {}), programs, to_space(space), metric)
    return Training(train_batch, metric, space, direction, True, programs)


def _checked(function):
    """The objective's own `value_and_grad`, which must give what it should."""
    if not callable(function):
        raise TypeError(f"`value_and_grad` of the objective must be a function, got {function!r}.")

    def value_and_grad(key, hparams):
        result = function(key, hparams)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping) and result[1]):
            raise TypeError(
                "`value_and_grad` must return a pair of the metrics and a dict of derivatives that is not empty, got "
                f"{jax.tree.map(lambda leaf: getattr(leaf, 'aval', leaf), result)}."
            )
        return result

    return value_and_grad


def _differentiated(function, metric, space):
    """`value_and_grad` of a training function, through the training."""
    if not callable(function):
        raise TypeError(
            f"`gradients` needs an objective with `value_and_grad` or `train`, or a function, got {function!r}."
        )
    names = [name for name in space if not space[name].num_values]
    if not names:
        raise TypeError(
            f"`gradients` needs a Float without `step` to differentiate by, the space has only {list(space)}."
        )

    def value_and_grad(key, hparams):
        def tuned(floats):
            metrics = _as_dict(function(key, {**hparams, **floats}))
            _check_metric(metrics, metric)
            _check_smooth(metrics[metric], metric)
            return metrics[metric], metrics

        grads, metrics = jax.grad(tuned, has_aux=True)({name: hparams[name] for name in names})
        return metrics, grads

    return value_and_grad


def _by_structure(objective, programs):
    def train_batch(keys, hparams):
        population = Population(objective, keys, hparams)
        population.advance(objective.num_steps)
        metrics = population.evaluate()
        programs.update(population.programs)
        return metrics, {}

    return train_batch


def _at_once(function, programs, space, metric):
    """One program for a function from a key and scalars to metrics and derivatives; the first call is looked at."""

    def train(key, hparams):
        metrics, grads = function(key, hparams)
        return _as_dict(metrics), dict(grads)

    compiled = jax.jit(jax.vmap(train))

    def train_batch(keys, hparams):
        if not programs:
            check_choices(space, functools.partial(train, keys[0]), _scalars(hparams))
            traced = compiled.trace(keys, hparams)  # which the call below does not trace again
            metrics, grads = traced.out_info
            outputs = jax.tree.leaves(({name: name == metric for name in metrics}, dict.fromkeys(grads, False)))
            live = live_inputs(traced.jaxpr.jaxpr, outputs)[-len(hparams) :]
            if metric in metrics:
                warn_of_unread(space, [name for name, used in zip(sorted(hparams), live, strict=True) if not used])
        trained = jax.device_get(compiled(keys, hparams))
        programs.add(("train", keys.shape[0]))
        return trained

    return train_batch


def _scalars(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes of one configuration of a batch, as a program sees them."""
    return {name: jax.ShapeDtypeStruct((), jax.dtypes.canonicalize_dtype(c.dtype)) for name, c in hparams.items()}


def _as_dict(metrics: Any) -> dict[str, Any]:
    return metrics if isinstance(metrics, dict) else {"value": metrics}


def _check_metric(metrics: Mapping[str, Any], metric: str) -> None:
    if metric not in metrics:
        raise KeyError(f"the objective gives no metric {metric!r}; it gives {sorted(metrics)}.")


def _check_smooth(value: Any, metric: str) -> None:
    """Raises TypeError unless it is one floating-point number, as `jax.grad` needs."""
    array = value if hasattr(value, "dtype") else np.asarray(value)
    if array.shape != () or not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"`gradients` needs a metric that is one floating-point number, {metric!r} is {array.dtype} of shape "
            f"{list(array.shape)}. Tune a loss, or leave gradients out."
        )


def run_batches(
    study: Study,
    training: Training,
    num_trials: int | None,
    batch_size: int,
    num_seeds: int = 1,
    callbacks: Sequence[Callback] = (),
    end: float = math.inf,
) -> None:
    """Asks for batches, trains and tells them, until `ask_batches` ends."""
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(study.seed), i))(np.arange(num_seeds))
    unchecked = training.gradients and not any(trial.state == "complete" for trial in study.trials)
    seen: list[dict[str, np.ndarray]] = []
    for batch in ask_batches(core_of(study), num_trials, batch_size, end, together=True):
        with giving_up_rest(core_of(study), batch):
            params = [trial.params for trial in batch for _ in range(num_seeds)]
            missing = (batch_size - len(batch)) * num_seeds if training.fixed_size else 0
            hparams = study.space.to_arrays(params + [params[-1]] * missing)
            order = np.arange(len(params) + missing) % num_seeds
            metrics, grads = training.train_batch(keys[order], hparams)
            with _lost.mistakes(core_of(study), batch):
                _check_metric(metrics, training.metric)
                runs = _by_trial("metric", metrics, len(batch), num_seeds)
                slopes = _by_trial("derivative", grads, len(batch), num_seeds)
                if unchecked:
                    has_value = np.isfinite(runs[training.metric].mean(axis=1))
                    seen += [{n: column[i] for n, column in slopes.items()} for i in np.flatnonzero(has_value)]
                    unchecked = len(seen) < NUM_CHECKED
                    if not unchecked:
                        _check_slopes(seen, training.metric)
            noise_var = _noise_variances(study, runs[training.metric])
            told = [
                _tell(study, trial, i, runs, slopes, training.metric, noise_var[i]) for i, trial in enumerate(batch)
            ]
            for trial in told:
                for callback in callbacks:
                    callback(study, trial)


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
