"""bojax as a sampler of Optuna's studies.

    sampler = bojax.integrations.optuna.BojaxSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=50)

A suggestion is a pure function of the sampler's seed, the number of the trial, the finished trials of the study, and
the parameters of its running ones. Nothing else of the process enters, and what the sampler keeps are caches.
"""

import re
import threading
import weakref
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from bojax._errors import STATUS_TEXT, Status
from bojax._plain import plain
from bojax.integrations._optuna_space import Translated
from bojax.integrations._optuna_trials import RELATIVE_PARAMS, Trials, check_unconstrained
from bojax.space import Space
from bojax.study import suggest

__all__ = ["BojaxSampler"]

MIN_VERSION = (4, 5)
"""The oldest Optuna that this module was written for."""
MAX_SEED = 2**32

if tuple(map(int, re.findall(r"\d+", optuna.__version__)[:2])) < MIN_VERSION:
    raise ImportError(
        f"bojax.integrations.optuna must have Optuna {'.'.join(map(str, MIN_VERSION))} or newer, got "
        f"{optuna.__version__}. Install it: pip install -U optuna"
    )

_logger = optuna.logging.get_logger("optuna.bojax")


class BojaxSampler(BaseSampler):
    """An Optuna sampler that suggests by `bojax.bayesopt`, or by any other algorithm of bojax.

    The parameters that all complete trials have are chosen together (the relative search space), and with them the
    parameters of branches: those of which the trials show that they exist exactly under certain values of a categorical
    or an integer parameter. Such a rule is learned from about ten trials, and dropped when a trial contradicts it.
    Other parameters are sampled one by one by `independent_sampler`. A parameter that changes its range is searched
    over its ranges in the latest ten trials that have it; a suggestion outside the range of the moment is replaced by
    an independent one. Fixed parameters of enqueued trials are taken into account when the others are chosen.

    How trials teach:

    - A complete trial by its value; an infinite value counts as a failure.
    - A pruned trial by its last intermediate value, but it never counts as better than the median of the complete
      trials. Without an intermediate value it counts as a failure.
    - A failed trial (an exception, NaN) as a failure: a second model learns where evaluations succeed.
    - A running trial of this or another process as a pending point, near which nothing else is suggested.

    Trials that lack a parameter that exists at their point, or have values outside of the search space, are left out.
    Once every point of a finite space is evaluated or running, points are drawn at random.

    The same seed gives the same suggestions in every process, also where a stored study is continued. With `n_jobs`
    above 1 Optuna draws a new seed, and the order in which trials end varies. Studies of a single objective without
    constraints are supported.

    Args:
        seed: 0 <= seed < 2**32; None draws one.
        n_startup_trials: number of initial trials, >= 0, from a quasi-random design; those before the first complete
            trial, and all of them if an `independent_sampler` is given, from that sampler. An algorithm with a longer
            initial design of its own (`bojax.bayesopt`: one trial more than parameters, between 3 and 16) completes it.
        algorithm: a function from (space, q) to an algorithm of bojax; `bojax.bayesopt` by default.
        independent_sampler: samples parameters outside of the relative search space; at random by default.
        warn_independent_sampling: whether to log a warning when it is used after the initial trials.
        **unsupported: arguments of other samplers, such as `constraints_func`; the error says what to do instead.

    Raises:
        ValueError: `seed` or `n_startup_trials` is out of range. Later also: the study has several objectives, or a
            trial has constraints.
        TypeError: an argument has the wrong type, or is not supported.
        ImportError: Optuna is older than 4.5.

    Example:
        >>> import optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=BojaxSampler(seed=0))
        >>> study.optimize(lambda trial: (trial.suggest_float("x", -1.0, 1.0) - 0.3) ** 2, n_trials=10)
        >>> study.best_value < 0.01
        True
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
        algorithm: Callable[[Space, int], Any] | None = None,
        independent_sampler: BaseSampler | None = None,
        warn_independent_sampling: bool = True,
        **unsupported: Any,
    ):
        _check_supported(unsupported)
        self._seed = _new_seed() if seed is None else _checked_int(seed, "seed", MAX_SEED)
        self._n_startup_trials = _checked_int(n_startup_trials, "n_startup_trials")
        if algorithm is not None and (
            not callable(algorithm) or not isinstance(algorithm, Hashable) or hasattr(algorithm, "ask")
        ):
            raise TypeError(
                f"`algorithm` must be a function of (space, q), got {algorithm!r}. "
                "For example: algorithm=lambda space, q: bojax.thompson(space, q=q)."
            )
        if independent_sampler is not None and not isinstance(independent_sampler, BaseSampler):
            raise TypeError(f"`independent_sampler` must be a sampler of Optuna, got {independent_sampler!r}.")
        if not isinstance(warn_independent_sampling, bool):
            raise TypeError(f"`warn_independent_sampling` must be a bool, got {warn_independent_sampling!r}.")
        self._algorithm = algorithm
        self._independent_sampler = independent_sampler
        self._warn_independent_sampling = warn_independent_sampling
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._studies: weakref.WeakKeyDictionary[Any, dict[int, Trials]] = weakref.WeakKeyDictionary()
        self._warned: set[Any] = set()

    def __getstate__(self) -> dict[str, Any]:
        caches = ("_lock", "_studies", "_warned")
        return {name: value for name, value in self.__dict__.items() if name not in caches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()

    def reseed_rng(self) -> None:
        """Draws a new seed, as Optuna asks of samplers that threads share."""
        self._seed = _new_seed()
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are chosen together: those of all complete trials, and those of known branches.

        Args:
            study: the study.
            trial: the trial that asks.

        Returns:
            Distributions by name, sorted; empty before the first trial is complete.
        """
        with self._lock:
            return self._trials(study).relative_space()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One suggestion for the parameters of a search space.

        Args:
            study: the study.
            trial: the trial that asks.
            search_space: distributions by name.

        Returns:
            Values by name, plain Python, of the parameters that exist at the chosen point; empty if the independent
            sampler should choose.
        """
        with self._lock:
            trials = self._trials(study)
            table = trials.table(search_space)
            if table is None:
                return {}
            space, told = table.space, trials.told(table, trial.number)
            if self._independent_sampler is not None and len(told.y) + len(told.pending) < self._n_startup_trials:
                return {}
            fixed = space.valid(trial.system_attrs.get("fixed_params", {}))
            if fixed and space.space.is_complete(fixed):
                return space.from_space(fixed)
            suggested, status = suggest(
                self._algorithm,
                space.space,
                seed=self._seed,
                ordinal=trial.number,
                told=told,
                held=space.space.coordinates_of(fixed) if fixed else None,
                num_initial=self._n_startup_trials,
            )
            self._note(study, trial, status, is_whole=trials.covers(space))
            params = space.from_space(suggested[0]) if suggested else self._anywhere(space, trial)
            # Seen by threads and processes that choose next, before the objective has requested all of them.
            study._storage.set_trial_system_attr(trial._trial_id, RELATIVE_PARAMS, space.internal(params))
            return params

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value for one parameter that is outside of the relative search space.

        Args:
            study: the study.
            trial: the trial that asks.
            param_name: name of the parameter.
            param_distribution: its distribution.

        Returns:
            The value. Without an `independent_sampler` it is random, determined by the seed, the number of the trial
            and the name.
        """
        _check_single_objective(study)
        with self._lock:
            known = self._of(study)
            if self._warn_independent_sampling and known.num_complete >= max(1, self._n_startup_trials):
                self._warn_once(
                    (id(known), param_name),
                    f"trial {trial.number}: parameter {param_name!r} is sampled independently, not by a model, since "
                    "not every complete trial has it, or its range has changed. BojaxSampler logs this once for each "
                    "parameter; warn_independent_sampling=False switches it off.",
                )
        sampler = self._independent_sampler
        if sampler is None:
            seed = zlib.crc32(f"{self._seed}:{trial.number}:{param_name}".encode())
            sampler = RandomSampler(seed=seed)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Passes the call on to the independent sampler, if one is given.

        Args:
            study: the study.
            trial: the trial.
        """
        if self._independent_sampler is not None:
            self._independent_sampler.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Refuses a trial with constraints, and passes the call on to the independent sampler, if one is given.

        Args:
            study: the study.
            trial: the trial.
            state: its final state.
            values: its values.
        """
        check_unconstrained(trial)
        if self._independent_sampler is not None:
            self._independent_sampler.after_trial(study, trial, state, values)

    def _of(self, study: optuna.Study) -> Trials:
        sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        return self._studies.setdefault(study._storage, {}).setdefault(study._study_id, Trials(sign))

    def _trials(self, study: optuna.Study) -> Trials:
        _check_single_objective(study)
        # From the storage: where a pruner shows a sampler a part of the trials, it learns from all of them.
        return self._of(study).refresh(study._storage, study._study_id)

    def _anywhere(self, space: Translated, trial: FrozenTrial) -> dict[str, Any]:
        return space.params(np.random.default_rng([self._seed, trial.number]).random(space.space.num_dims))

    def _note(self, study: optuna.Study, trial: FrozenTrial, status: Status, *, is_whole: bool) -> None:
        if status in (Status.FALLBACK, Status.OVERFLOW):
            self._warn_once((id(self._of(study)), status), f"trial {trial.number}: {STATUS_TEXT[status]}")
        if status == Status.EXHAUSTED and is_whole:  # else points differ in parameters that are sampled independently
            self._warn_once(
                (id(self._of(study)), status),
                f"trial {trial.number}: every point of the search space is evaluated or running; from now on points "
                "are repeated at random",
            )

    def _warn_once(self, kind: Any, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            _logger.warning(text)


def _new_seed() -> int:
    return int(np.random.default_rng().integers(MAX_SEED))


def _checked_int(value: Any, argument: str, end: int | None = None) -> int:
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"`{argument}` must be an integer, got {value!r} ({type(value).__name__}).")
    if number < 0 or (end is not None and number >= end):
        limit = "at least 0" if end is None else f"at least 0 and below {end}"
        raise ValueError(f"`{argument}` must be {limit}, got {value!r}.")
    return number


def _check_supported(unsupported: Mapping[str, Any]) -> None:
    if "constraints_func" in unsupported:
        raise TypeError(
            "`constraints_func` must be left out: BojaxSampler does not take constraints into account. Raise "
            "optuna.TrialPruned() without a report where a constraint is violated: the sampler learns where that "
            "happens."
        )
    if unsupported:
        raise TypeError(f"BojaxSampler must be given no argument {next(iter(unsupported))!r}: it has none.")


def _check_single_objective(study: optuna.Study) -> None:
    if len(study.directions) > 1:
        raise ValueError(
            f"`study` must have one objective for BojaxSampler, got {len(study.directions)} directions. Use a sampler "
            "for several objectives, or combine them to one value."
        )
