"""The loop over an objective: ask for a batch, evaluate it, tell it; `minimize` and `maximize`."""

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna

from bojax._errors import BojaxWarning, SpaceExhaustedError
from bojax.space import Space, to_space
from bojax.study import _storage
from bojax.study._asking import ask
from bojax.study._failures import MAX_FIRST_FAILURES, TRACEBACK, Failure, FirstFailures
from bojax.study._loop_arguments import LoopArguments, check_end, check_loop
from bojax.study._progress import progress_bar
from bojax.study._study import Study
from bojax.study._suggest import AlgorithmFactory
from bojax.study._trial import Trial

Callback = Callable[[Study, Trial], Any]


@dataclasses.dataclass(frozen=True)
class Result:
    """What `minimize`, `maximize` and `tune` give.

    Attributes:
        study: the study, to go on with.
        num_compilations: programs that `tune` compiled to train.
    """

    study: Study
    num_compilations: int = 0

    @property
    def best_trial(self) -> Trial:
        """The complete trial with the best value."""
        return self.study.best_trial

    @property
    def best_params(self) -> dict[str, Any]:
        """The parameters of the best trial."""
        return self.study.best_params

    @property
    def best_value(self) -> float:
        """The value of the best trial."""
        return self.study.best_value

    @property
    def trials(self) -> list[Trial]:
        """All trials by number."""
        return self.study.trials

    def to_dataframe(self) -> Any:
        """The trials as a pandas data frame."""
        return self.study.to_dataframe()


def minimize(
    objective: Callable[..., Any],
    space: Space | Mapping[str, Any],
    num_trials: int | None = 50,
    batch_size: int = 1,
    seed: int | None = None,
    *,
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str | None = None,
    algorithm: AlgorithmFactory | None = None,
    vectorized: bool = False,
    progress: bool = True,
    callbacks: Callback | Sequence[Callback] = (),
    catch: type[BaseException] | Sequence[type[BaseException]] = (Exception,),
    timeout: float | None = None,
    max_first_failures: int | None = MAX_FIRST_FAILURES,
) -> Result:
    """Minimises an objective over a space.

    Args:
        objective: from a dict of plain Python values to a number (see `Study.optimize`).
        space: what is tuned (see `Study`, also for `seed`, `storage`, `name` and `algorithm`).
        num_trials: number of evaluations; None for as many as `timeout`, a callback or the size of the space allow.
        batch_size: how many are chosen jointly (see `Study.optimize`, also for the rest).

    Returns:
        The result: `best_params`, `best_value`, `trials`, `to_dataframe()`, `study`.

    Raises:
        BojaxError: each of the first `max_first_failures` evaluations raised, or each of fewer and the study has no
            value. Neither with `max_first_failures=None`.
        TypeError: an argument is wrong, or the objective returned something that is no number.
        ValueError: an argument is wrong.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(-1.0, 1.0))
        >>> result = bojax.minimize(lambda params: params["x"] ** 2, space, num_trials=4, seed=0)
        >>> 0.0 <= result.best_value <= 1.0
        True
    """
    loop = check_loop(
        num_trials=num_trials,
        batch_size=batch_size,
        vectorized=vectorized,
        progress=progress,
        callbacks=callbacks,
        catch=catch,
        timeout=timeout,
        max_first_failures=max_first_failures,
    )
    return run_study(objective, space, "minimize", loop, storage, name, seed, algorithm)


def maximize(
    objective: Callable[..., Any],
    space: Space | Mapping[str, Any],
    num_trials: int | None = 50,
    batch_size: int = 1,
    seed: int | None = None,
    *,
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str | None = None,
    algorithm: AlgorithmFactory | None = None,
    vectorized: bool = False,
    progress: bool = True,
    callbacks: Callback | Sequence[Callback] = (),
    catch: type[BaseException] | Sequence[type[BaseException]] = (Exception,),
    timeout: float | None = None,
    max_first_failures: int | None = MAX_FIRST_FAILURES,
) -> Result:
    """Maximises an objective over a space; the arguments and the result are those of `minimize`."""
    loop = check_loop(
        num_trials=num_trials,
        batch_size=batch_size,
        vectorized=vectorized,
        progress=progress,
        callbacks=callbacks,
        catch=catch,
        timeout=timeout,
        max_first_failures=max_first_failures,
    )
    return run_study(objective, space, "maximize", loop, storage, name, seed, algorithm)


def run_study(
    objective: Callable[..., Any],
    space: Any,
    direction: str,
    loop: LoopArguments,
    storage: str | optuna.storages.BaseStorage | None,
    name: str | None,
    seed: int | None,
    algorithm: AlgorithmFactory | None,
) -> Result:
    """A study from its beginning to its result: the body of `minimize`, `maximize` and `tune_nested`."""
    check_objective(objective)
    space = to_space(space)
    check_end(loop, space.cardinality)
    study = Study(space, direction, storage, name, seed, algorithm=algorithm)
    failures = optimize(study, objective, loop)
    if not any(trial.state == "complete" for trial in study.trials):
        failures.check(at_end=True)
    return Result(study)


def check_objective(objective: Any) -> None:
    """Raises TypeError unless it can be called."""
    if not callable(objective):
        raise TypeError(f"`objective` must be callable, got {objective!r}.")


def optimize(study: Study, objective: Callable[..., Any], loop: LoopArguments) -> FirstFailures:
    """The body of `Study.optimize`; gives what there is to know of failures."""
    check_objective(objective)
    evaluate = _evaluate_batch if loop.vectorized else _evaluate_singly
    end = time.monotonic() + loop.timeout
    failures = FirstFailures(loop.max_first_failures)
    with progress_bar(study, loop.num_trials, loop.progress) as advance:
        for trials in ask_batches(study, loop.num_trials, loop.batch_size, end):
            with giving_up_rest(study, trials):
                # A vectorized batch is evaluated by now: all of it is told before anything may end the loop.
                told: list[Trial] = []
                for trial, outcome in evaluate(study, objective, trials, loop.catch):
                    failures.count(outcome)
                    told.append(_tell(study, trial, outcome))
                    del outcome  # it may hold much memory, which the next evaluation may need
                    advance(told[-1])
                    if not loop.vectorized:
                        failures.check()
                        _call(loop.callbacks, study, told.pop())
                        if study._stopping or time.monotonic() >= end:
                            break
                failures.check()
                for trial in told:
                    _call(loop.callbacks, study, trial)
    return failures


def _call(callbacks: Sequence[Callback], study: Study, trial: Trial) -> None:
    for callback in callbacks:
        callback(study, trial)


def ask_batches(study: Study, num_trials: int | None, batch_size: int, end: float = math.inf) -> Iterator[list[Trial]]:
    """Batches until so many trials were asked for, the space is used up, the study stops, or its time has ended.

    Args:
        study: what is asked; `stop` ends the loop.
        num_trials: how many trials altogether, None for no limit.
        batch_size: how many are chosen jointly; the last batch may be smaller.
        end: when to end, by `time.monotonic`.
    """
    study._stopping = False
    left = math.inf if num_trials is None else num_trials
    while left > 0 and not study._stopping and time.monotonic() < end:
        try:
            trials = ask(study, int(min(batch_size, left)), batch_size)
        except SpaceExhaustedError as error:
            warnings.warn(f"the study {study.name!r} stops early: {error}", BojaxWarning, stacklevel=4)
            return
        left -= len(trials)
        yield trials


@contextlib.contextmanager
def giving_up_rest(study: Study, trials: Sequence[Trial]) -> Iterator[None]:
    """On leaving, for whatever reason, the trials that were not told are given up: they count for nothing."""
    try:
        yield
    finally:
        by_number = {t.number: t for t in _storage.trials_of(study.optuna)}
        for trial in trials:
            frozen = by_number.get(trial.number)
            if frozen is not None and frozen.state == optuna.trial.TrialState.RUNNING:
                _storage.mark_stale(study.optuna, frozen)


def _tell(study: Study, trial: Trial, outcome: Any) -> Trial:
    if not isinstance(outcome, Failure):
        value, attrs = outcome if _is_pair(outcome) else (outcome, None)
        try:
            return study.tell(trial, value, user_attrs=attrs)
        except TypeError as error:
            raise TypeError(
                f"the objective returned something that is no value of trial {trial.number}: {error}"
            ) from error
    attrs = {_storage.ERROR: outcome.text, TRACEBACK: outcome.traceback}
    told = study.tell(trial, state="fail", user_attrs=attrs)
    warnings.warn(f"trial {trial.number} failed: {outcome}", BojaxWarning, stacklevel=4)
    return told


def _is_pair(outcome: Any) -> bool:
    """Whether an objective returned a value and a dict of what else is to be recorded."""
    return isinstance(outcome, tuple) and len(outcome) == 2 and isinstance(outcome[1], Mapping)


def _evaluate_singly(
    study: Study, objective: Callable, trials: Sequence[Trial], catch: tuple[type[BaseException], ...]
) -> Iterator[tuple[Trial, Any]]:
    for trial in trials:
        # No name for the outcome: this frame would keep it alive during the next evaluation.
        yield trial, _outcome(objective, dict(trial.params), catch)


def _evaluate_batch(
    study: Study, objective: Callable, trials: Sequence[Trial], catch: tuple[type[BaseException], ...]
) -> Iterator[tuple[Trial, Any]]:
    values = _outcome(objective, study.space.to_arrays([trial.params for trial in trials]), catch)
    if isinstance(values, Failure):
        yield from ((trial, values) for trial in trials)
        return
    values = np.asarray(values)
    if values.shape != (len(trials),) or values.dtype.kind not in "fiu":
        raise TypeError(
            f"with vectorized=True the objective must return an array of {len(trials)} numbers, one for each "
            f"row of its arguments, got shape {values.shape} of type {values.dtype}."
        )
    yield from zip(trials, values.tolist(), strict=True)


def _outcome(objective: Callable, params: dict[str, Any], catch: tuple[type[BaseException], ...]) -> Any:
    """What the objective returns, or how it failed."""
    try:
        return objective(params)
    except catch as error:
        return Failure(error)
