"""`minimize` and `maximize`: a whole study in one call."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import optuna

from bojax.space import Space, to_space
from bojax.study._study import Study, run_loop
from bojax.study.asking._suggest import AlgorithmFactory
from bojax.study.records._trial import Trial
from bojax.study.running._arguments import check_end, check_loop
from bojax.study.running._failures import MAX_FIRST_FAILURES
from bojax.study.running._optimize import check_objective

Callback = Callable[[Study, Trial], Any]


@dataclasses.dataclass(frozen=True)
class Result:
    """What `minimize`, `maximize`, `tune` and `tune_nested` return.

    Attributes:
        study: the study, for example to continue it.
        num_compilations: number of programs that `tune` compiled for training.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(0.0, 1.0))
        >>> result = bojax.minimize(lambda params: params["x"], space, num_trials=3, seed=0, progress=False)
        >>> result.best_value == result.best_trial.value == result.best_params["x"]
        True
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
    num_workers: int = 1,
    worker: str | None = None,
    trial_timeout: float | None = None,
) -> Result:
    """Minimizes an objective over a space.

    Args:
        objective: a function from a dict of plain Python values to a number (see `Study.optimize`).
        space: the search space (see `Study`).
        num_trials: number of evaluations; None to continue until `timeout`, a callback or the space ends it.
        batch_size: number of trials chosen jointly, >= 1.
        seed: seed of the study; a new study without one draws it.
        storage: URL of an Optuna storage, or a storage; None for memory.
        name: name of the study in its storage. A study of that name is resumed.
        algorithm: a function from (space, q) to an algorithm; by default `bojax.bayesopt`.
        vectorized: whether one call of the objective evaluates a whole batch, given as arrays.
        progress: whether to show progress on stderr.
        callbacks: called as `callback(study, trial)` after each trial; `study.stop()` ends the loop.
        catch: exceptions of the objective that make a failed trial; others end the loop.
        timeout: seconds after which no further evaluation starts, >= 0; None for no limit.
        max_first_failures: number of exceptions, with no success before them, after which the objective is considered
            broken, >= 1; None for no limit.
        num_workers: number of trials that are evaluated side by side, >= 1 (see `Study.optimize`).
        worker: "thread" or "process": where trials are evaluated; by default in the calling thread, or in threads if
            there are several workers or a `trial_timeout`.
        trial_timeout: seconds after which an evaluation has failed, > 0; None for no limit.

    Returns:
        The result: `best_params`, `best_value`, `trials`, `to_dataframe()`, `study`.

    Raises:
        BojaxError: each of the first `max_first_failures` evaluations raised, or each of fewer and the study has no
            value. Neither with `max_first_failures=None`.
        TypeError: an argument is wrong, or the objective returned something that is not a number.
        ValueError: an argument is wrong.

    Example:
        >>> import bojax
        >>> space = bojax.Space(x=bojax.Float(-1.0, 1.0))
        >>> result = bojax.minimize(lambda params: params["x"] ** 2, space, num_trials=4, seed=0)
        >>> 0.0 <= result.best_value <= 1.0
        True
    """
    return _run("minimize", locals())


Arguments = ParamSpec("Arguments")


def _mirror_of(
    function: Callable[Arguments, Result],
) -> Callable[[Callable[..., Result]], Callable[Arguments, Result]]:
    """Gives a function the signature and the docstring of `minimize`, for `help()` and for type checkers."""

    def decorate(other: Callable[..., Result]) -> Callable[Arguments, Result]:
        other.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        other.__doc__ = (function.__doc__ or "").replace("Minimizes", "Maximizes").replace("minimize(", "maximize(")
        return other

    return decorate


@_mirror_of(minimize)
def maximize(*args: Any, **kwargs: Any) -> Result:
    """Maximizes an objective over a space. Arguments, result and errors are those of `minimize`."""
    given = inspect.signature(minimize).bind(*args, **kwargs)
    given.apply_defaults()
    return _run("maximize", given.arguments)


def _run(direction: str, given: Mapping[str, Any]) -> Result:
    """A study from its beginning to its result, from the arguments of `minimize` by name."""
    loop = check_loop(given)
    check_objective(given["objective"])
    space = to_space(given["space"])
    check_end(loop, space.cardinality)
    opened = (given[name] for name in ("storage", "name", "seed"))
    study = Study(space, direction, *opened, algorithm=given["algorithm"])
    failures = run_loop(study, given["objective"], loop)
    if not any(trial.state == "complete" for trial in study.trials):
        failures.check(at_end=True)
    return Result(study)
