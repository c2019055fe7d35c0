"""`minimize` and `maximize`: a study from its beginning to its result."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna

from bojax.space import Space, to_space
from bojax.study._arguments import LoopArguments, check_end, check_loop
from bojax.study._failures import MAX_FIRST_FAILURES
from bojax.study._loop import check_objective
from bojax.study._study import Study, run_loop
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
    failures = run_loop(study, objective, loop)
    if not any(trial.state == "complete" for trial in study.trials):
        failures.check(at_end=True)
    return Result(study)
