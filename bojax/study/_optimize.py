"""The loop over an objective: ask for a batch, evaluate it, tell it; `minimize` and `maximize`."""

import contextlib
import dataclasses
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import optuna

from bojax._errors import BojaxError, BojaxWarning, SpaceExhaustedError
from bojax._plain import plain
from bojax.space import Space
from bojax.study import _lost, _storage
from bojax.study._asking import ask
from bojax.study._checks import fitting_attrs, to_floats
from bojax.study._study import Study
from bojax.study._suggest import AlgorithmFactory
from bojax.study._trial import Trial

Callback = Callable[[Study, Trial], Any]

MAX_FIRST_FAILURES = 5
"""So many failures at the start, with no success between, mean a broken objective."""

NO_VALUE = "the objective returned None"

_ERROR_LENGTH = 500


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
    num_trials: int = 50,
    batch_size: int = 1,
    seed: int | None = None,
    *,
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str | None = None,
    algorithm: AlgorithmFactory | None = None,
    vectorized: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    catch: tuple[type[BaseException], ...] = (Exception,),
    timeout: float | None = None,
) -> Result:
    """Minimises an objective over a space.

    Args:
        objective: from a dict of plain Python values to a number (see `Study.optimize`).
        space: what is tuned (see `Study`, also for `seed`, `storage`, `name` and `algorithm`).
        num_trials: number of evaluations.
        batch_size: how many are chosen jointly (see `Study.optimize`, also for the rest).

    Returns:
        The result: `best_params`, `best_value`, `trials`, `to_dataframe()`, `study`.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(-1.0, 1.0))
        >>> result = bojax.minimize(lambda params: params["x"] ** 2, space, num_trials=4, seed=0)
        >>> 0.0 <= result.best_value <= 1.0
        True
    """
    study = Study(space, "minimize", storage, name, seed, algorithm=algorithm)
    study.optimize(objective, num_trials, batch_size, vectorized, progress, callbacks, catch, timeout)
    return Result(study)


def maximize(
    objective: Callable[..., Any],
    space: Space | Mapping[str, Any],
    num_trials: int = 50,
    batch_size: int = 1,
    seed: int | None = None,
    *,
    storage: str | optuna.storages.BaseStorage | None = None,
    name: str | None = None,
    algorithm: AlgorithmFactory | None = None,
    vectorized: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    catch: tuple[type[BaseException], ...] = (Exception,),
    timeout: float | None = None,
) -> Result:
    """Maximises an objective over a space; the arguments and the result are those of `minimize`."""
    study = Study(space, "maximize", storage, name, seed, algorithm=algorithm)
    study.optimize(objective, num_trials, batch_size, vectorized, progress, callbacks, catch, timeout)
    return Result(study)


def optimize(
    study: Study,
    objective: Callable[..., Any],
    *,
    num_trials: int,
    batch_size: int,
    vectorized: bool,
    progress: bool,
    callbacks: Sequence[Callback],
    catch: tuple[type[BaseException], ...],
    timeout: float | None,
) -> None:
    """The body of `Study.optimize`."""
    check_count("num_trials", num_trials, 0)
    check_count("batch_size", batch_size, 1)
    if not callable(objective):
        raise TypeError(f"`objective` must be callable, got {objective!r}.")
    evaluate = _evaluate_batch if vectorized else _evaluate_singly
    end = math.inf if timeout is None else time.monotonic() + timeout
    failures = _FirstFailures()
    with progress_bar(study, num_trials, progress) as advance:
        for trials in ask_batches(study, num_trials, batch_size, end, together=vectorized):
            with giving_up_rest(study, trials):
                # A vectorized batch is evaluated by now: all of it is told before anything may end the loop.
                told: list[Trial] = []
                for trial, returned in evaluate(study, objective, trials, catch):
                    outcome, attrs = _split(returned)
                    failures.count(outcome)
                    told.append(_tell(study, trial, outcome, attrs))
                    advance(told[-1])
                    if not vectorized:
                        failures.check()
                        _call(callbacks, study, told.pop())
                        if study._stopping or time.monotonic() >= end:
                            break
                failures.check()
                for trial in told:
                    _call(callbacks, study, trial)


def _call(callbacks: Sequence[Callback], study: Study, trial: Trial) -> None:
    for callback in callbacks:
        callback(study, trial)


def ask_batches(
    study: Study, num_trials: int, batch_size: int, end: float = math.inf, *, together: bool
) -> Iterator[list[Trial]]:
    """Batches until so many trials were asked for, the space is used up, the study stops, or its time has ended.

    Args:
        study: what is asked; `stop` ends the loop.
        num_trials: how many trials altogether.
        batch_size: how many are chosen jointly; the last batch may be smaller.
        end: when to end, by `time.monotonic`.
        together: whether a batch is evaluated at once. Otherwise `_lost.begin` is called before each evaluation.
    """
    study._stopping = False
    left = num_trials
    while left > 0 and not study._stopping and time.monotonic() < end:
        try:
            later = batch_size > 1 and not together
            trials = ask(study, min(batch_size, left), batch_size, later=later, alone=together)
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


@contextlib.contextmanager
def progress_bar(study: Study, total: int, show: bool, initial: int = 0) -> Iterator[Callable[[Trial], None]]:
    """A progress bar on stderr with the best value so far; gives a function to call after each told trial."""
    import tqdm

    choose = max if study.direction == "maximize" else min
    best = [t.value for t in study.trials if t.state == "complete" and t.value is not None]
    # tqdm draws nothing on terminals that claim to have no rows, so the number of rows is not left to it.
    options: dict[str, Any] = {"desc": study.name, "initial": initial, "ncols": _num_columns(), "nrows": 20}
    with tqdm.tqdm(total=total, disable=None if show else True, **options) as bar:

        def note_best() -> None:
            best[:] = [choose(best)] if best else []
            if best:
                bar.set_postfix_str(f"best {best[0]:.6g}", refresh=False)

        def advance(trial: Trial) -> None:
            if trial.state == "complete" and trial.value is not None:
                best.append(trial.value)
            note_best()
            bar.update()

        note_best()
        yield advance


def _num_columns() -> int | None:
    """Width of the terminal; 80 for terminals that claim to have none, on which tqdm would draw nothing."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return None


class _FirstFailures:
    """Notices an objective that fails from the start."""

    def __init__(self):
        self.errors: list[BaseException] = []
        self.active = True

    def count(self, outcome: Any) -> None:
        if not isinstance(outcome, BaseException):
            self.active = False
        elif not self.errors or self.errors[-1] is not outcome:  # one call fails a whole vectorized batch
            self.errors.append(outcome)

    def check(self) -> None:
        if self.active and len(self.errors) >= MAX_FIRST_FAILURES:
            last = self.errors[-1]
            raise BojaxError(
                f"each of the first {len(self.errors)} evaluations of the objective raised, the last one "
                f"{describe_error(last)}"
            ) from last


def describe_error(error: BaseException) -> str:
    """Type and text of an exception, cut to a length that every database stores."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    return text if len(text) <= _ERROR_LENGTH else text[: _ERROR_LENGTH - 3] + "..."


def _split(returned: Any) -> tuple[Any, Mapping[str, Any]]:
    """What an objective returned, as a value or an exception, and what else is to be recorded."""
    outcome, attrs = returned if _is_pair(returned) else (returned, {})
    return TypeError(NO_VALUE) if outcome is None else outcome, attrs


def _tell(study: Study, trial: Trial, outcome: Any, attrs: Mapping[str, Any]) -> Trial:
    if isinstance(outcome, BaseException):
        reason = describe_error(outcome)
        warnings.warn(f"trial {trial.number} failed: {reason}", BojaxWarning, stacklevel=4)
        return _fail(study, trial, reason, attrs)
    attrs = fitting_attrs(attrs, trial.number)  # a bad one never loses the value
    try:
        return study.tell(trial, outcome, user_attrs=attrs)
    except TypeError as error:
        _fail(study, trial, describe_error(error))
        raise TypeError(
            f"the objective returned something that is no value of trial {trial.number}: {error}"
        ) from error


def _fail(study: Study, trial: Trial, reason: str, attrs: Mapping[str, Any] | None = None) -> Trial:
    """A failed trial is data, so that the same is not evaluated again."""
    return study.tell(trial, state="fail", user_attrs={**(attrs or {}), _storage.ERROR: reason})


def _is_pair(outcome: Any) -> bool:
    """Whether an objective returned a value and a dict of what else is to be recorded."""
    return isinstance(outcome, tuple) and len(outcome) == 2 and isinstance(outcome[1], Mapping)


def _evaluate_singly(
    study: Study, objective: Callable, trials: Sequence[Trial], catch: tuple[type[BaseException], ...]
) -> Iterator[tuple[Trial, Any]]:
    for trial in trials:
        if not _lost.begin(study, trial.number):
            continue  # another process gave it up
        try:
            outcome = objective(dict(trial.params))
        except catch as error:
            outcome = error
        yield trial, outcome


def _evaluate_batch(
    study: Study, objective: Callable, trials: Sequence[Trial], catch: tuple[type[BaseException], ...]
) -> Iterator[tuple[Trial, Any]]:
    try:
        values = objective(study.space.to_arrays([trial.params for trial in trials]))
    except catch as error:
        yield from ((trial, error) for trial in trials)
        return
    if values is None:
        error = TypeError(NO_VALUE)
        yield from ((trial, error) for trial in trials)
        return
    try:
        outcomes = to_floats(values, len(trials))
    except TypeError as error:
        for trial in trials:
            _fail(study, trial, describe_error(error))
        raise
    yield from zip(trials, outcomes, strict=True)


def check_count(name: str, value: Any, low: int) -> None:
    """Raises ValueError unless it is an integer of at least `low`."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"`{name}` must be an integer of at least {low}, got {value!r}.")
