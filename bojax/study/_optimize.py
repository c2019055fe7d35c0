"""The loop over an objective: ask for a batch, evaluate it, tell it; `minimize` and `maximize`."""

import contextlib
import dataclasses
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna

from bojax._errors import BojaxWarning, SpaceExhaustedError
from bojax.space import Space, to_space
from bojax.space._choices import watched_arrays
from bojax.study import _lost, _storage
from bojax.study._asking import ask
from bojax.study._checks import fitting_attrs, to_floats
from bojax.study._failures import MAX_FIRST_FAILURES, TRACEBACK, Failure, FirstFailures, describe_error
from bojax.study._loop_arguments import LoopArguments, check_end, check_loop
from bojax.study._progress import progress_bar
from bojax.study._study import Study
from bojax.study._suggest import AlgorithmFactory
from bojax.study._telling import warn_left_out
from bojax.study._trial import Trial

Callback = Callable[[Study, Trial], Any]

NO_VALUE = "the objective returned None"


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
        for trials in ask_batches(study, loop.num_trials, loop.batch_size, end, together=loop.vectorized):
            with giving_up_rest(study, trials):
                # A vectorized batch is evaluated by now: all of it is told before anything may end the loop.
                told: list[Trial] = []
                for trial, returned in evaluate(study, objective, trials, loop.catch):
                    outcome, attrs = _split(returned)
                    failures.count(outcome)
                    told.append(_tell(study, trial, outcome, attrs))
                    del returned, outcome, attrs  # they may hold much memory, which the next evaluation may need
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


def ask_batches(
    study: Study, num_trials: int | None, batch_size: int, end: float = math.inf, *, together: bool
) -> Iterator[list[Trial]]:
    """Batches until so many trials were asked for, the space is used up, the study stops, or its time has ended.

    Args:
        study: what is asked; `stop` ends the loop.
        num_trials: how many trials altogether, None for no limit.
        batch_size: how many are chosen jointly; the last batch may be smaller.
        end: when to end, by `time.monotonic`.
        together: whether a batch is evaluated at once. Otherwise `_lost.begin` is called before each evaluation.
    """
    study._stopping = False
    left = math.inf if num_trials is None else num_trials
    while left > 0 and not study._stopping and time.monotonic() < end:
        try:
            later = batch_size > 1 and not together
            trials = ask(study, int(min(batch_size, left)), batch_size, later=later, alone=together)
        except SpaceExhaustedError as error:
            warnings.warn(f"the study {study.name!r} stops early: {error}", BojaxWarning, stacklevel=4)
            return
        left -= len(trials)
        yield trials


@contextlib.contextmanager
def giving_up_rest(study: Study, trials: Sequence[Trial]) -> Iterator[None]:
    """On leaving, for whatever reason, ends the trials that were not told: lost where their evaluation had begun, and
    otherwise given up (see `_lost`)."""
    reason = "it was not told"
    try:
        yield
    except BaseException as error:
        reason = describe_error(error)
        raise
    finally:
        _lost.end_rest(study, [trial.number for trial in trials], reason)


def _split(returned: Any) -> tuple[Any, Mapping[str, Any]]:
    """What an objective returned, as a value or a `Failure`, and what else is to be recorded."""
    outcome, attrs = returned if _is_pair(returned) else (returned, {})
    return Failure(TypeError(NO_VALUE)) if outcome is None else outcome, attrs


def _tell(study: Study, trial: Trial, outcome: Any, attrs: Mapping[str, Any]) -> Trial:
    attrs = fitting_attrs(attrs, functools.partial(warn_left_out, study, trial.number))  # a bad one loses no value
    if isinstance(outcome, Failure):
        told = _fail(study, trial, outcome, attrs)
        warnings.warn(f"trial {trial.number} failed: {outcome}", BojaxWarning, stacklevel=4)
        return told
    try:
        return study.tell(trial, outcome, user_attrs=attrs)
    except TypeError as error:
        _fail(study, trial, Failure(error))
        raise TypeError(
            f"the objective returned something that is no value of trial {trial.number}: {error}"
        ) from error


def _fail(study: Study, trial: Trial, failure: Failure, attrs: Mapping[str, Any] | None = None) -> Trial:
    """A failed trial is data, so that the same is not evaluated again."""
    why = {_storage.ERROR: failure.text} | ({TRACEBACK: failure.traceback} if failure.traceback else {})
    return study.tell(trial, state="fail", user_attrs={**(attrs or {}), **why})


def _is_pair(outcome: Any) -> bool:
    """Whether an objective returned a value and a dict of what else is to be recorded."""
    return isinstance(outcome, tuple) and len(outcome) == 2 and isinstance(outcome[1], Mapping)


def _evaluate_singly(
    study: Study, objective: Callable, trials: Sequence[Trial], catch: tuple[type[BaseException], ...]
) -> Iterator[tuple[Trial, Any]]:
    for trial in trials:
        if not _lost.begin(study, trial.number):
            continue  # another process gave it up
        # No name for the outcome: this frame would keep it alive during the next evaluation.
        yield trial, _outcome(objective, dict(trial.params), catch)


def _evaluate_batch(
    study: Study, objective: Callable, trials: Sequence[Trial], catch: tuple[type[BaseException], ...]
) -> Iterator[tuple[Trial, Any]]:
    columns = watched_arrays(study.space, study.space.to_arrays([trial.params for trial in trials]))
    values = _outcome(objective, columns, catch)
    values = Failure(TypeError(NO_VALUE)) if values is None else values
    if isinstance(values, Failure):
        yield from ((trial, values) for trial in trials)
        return
    try:
        outcomes = to_floats(values, len(trials))
    except TypeError as error:
        for trial in trials:
            _fail(study, trial, Failure(error))
        raise
    yield from zip(trials, outcomes, strict=True)


def _outcome(objective: Callable, params: dict[str, Any], catch: tuple[type[BaseException], ...]) -> Any:
    """What the objective returns, or how it failed."""
    try:
        return objective(params)
    except catch as error:
        return Failure(error)
