"""The study: asking and telling on the host, kept in an Optuna storage.

A suggestion is a pure function of the study's seed, the ordinal of its trial (how many trials come before
it), the told data sorted by trial number, and the points that are pending. Nothing else of the process
enters, so a study that is closed and opened again, in this or another process, goes on exactly as it would
have.

Several processes may ask at once. A trial is created first and its parameters are chosen afterwards; whoever
chooses waits until all trials created earlier have their parameters, so no two processes choose for the same
data.
"""

import functools
import math
import numbers
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.storages import BaseStorage
from optuna.study import Study as OptunaStudy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bojax._errors import BojaxWarning, StudyError
from bojax.space import Space, to_space
from bojax.study import _storage
from bojax.study._asking import ask, suggest_one
from bojax.study._checks import check_arguments
from bojax.study._failures import MAX_FIRST_FAILURES
from bojax.study._gradients import cube_gradient
from bojax.study._open import open_study
from bojax.study._sampler import StudySampler, to_distributions
from bojax.study._suggest import AlgorithmFactory, bayesopt
from bojax.study._telling import tell
from bojax.study._trial import Trial

DEFAULT_NAME = "bojax"


class Study:
    """A tuning campaign that is stored, can be resumed, and can be worked on by many processes.

    Args:
        space: what is tuned: a `Space`, a mapping of names to parameters, or a plain specification. May be
            left out when an existing study is opened.
        direction: "minimize" or "maximize". By default that of the stored study; "minimize" for a new one.
        storage: None for memory, or where to keep the study: "sqlite:///study.db", "journal:///study.log",
            any other URL that Optuna opens, or an Optuna storage.
        name: of the study in its storage. Opening a name that exists resumes that study.
        seed: 0 <= seed < 2**32, all randomness of the study. By default that of the stored study; a new study
            draws one.
        algorithm: from (space, q) to an algorithm that asks for q points; by default `bojax.bayesopt`.

    Raises:
        StudyError: space, direction or seed differ from those of the stored study, or the storage cannot be
            opened.
        ValueError, TypeError: an argument is wrong.

    Example:
        >>> import bojax
        >>> study = bojax.Study(bojax.Space(x=bojax.Float(-1.0, 1.0)), seed=0)
        >>> for trial in study.ask(2):
        ...     _ = study.tell(trial, trial.params["x"] ** 2)
        >>> len(study.trials)
        2
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any] | None = None,
        direction: str | None = None,
        storage: str | BaseStorage | None = None,
        name: str | None = None,
        seed: int | None = None,
        *,
        algorithm: AlgorithmFactory | None = None,
    ):
        space = None if space is None else to_space(space)
        name = DEFAULT_NAME if name is None else name
        check_arguments(direction, name, seed, algorithm)
        backend = _storage.open_storage(storage)
        self._optuna, attrs = open_study(backend, name, space, direction, seed)
        self._space = Space.from_spec(attrs[_storage.SPACE])
        self._seed = int(attrs[_storage.SEED])
        self._algorithm = bayesopt if algorithm is None else algorithm
        self._rows: dict[int, np.ndarray | None] = {}
        self._lock = threading.RLock()
        self._warned: set[str] = set()
        self._stopping = False
        self._distributions = to_distributions(self._space)
        self._sampler = StudySampler(self._distributions, functools.partial(suggest_one, self), self._seed)
        self._optuna.sampler = self._sampler
        _storage.mark_dead_trials(self._optuna)

    @property
    def space(self) -> Space:
        """What is tuned."""
        return self._space

    @property
    def direction(self) -> str:
        """ "minimize" or "maximize"."""
        return self._optuna.direction.name.lower()

    @property
    def name(self) -> str:
        """The name of the study in its storage."""
        return self._optuna.study_name

    @property
    def seed(self) -> int:
        """The seed of the study."""
        return self._seed

    @property
    def optuna(self) -> OptunaStudy:
        """The Optuna study that this study is; its sampler gives bojax's suggestions."""
        return self._optuna

    @property
    def trials(self) -> list[Trial]:
        """All trials by number, but for those that a dead process left behind."""
        return [self._view(trial) for trial in _storage.trials_of(self._optuna)]

    @property
    def best_trial(self) -> Trial:
        """The complete trial with the best value; the earliest of equals.

        Raises:
            StudyError: no trial is complete.
        """
        complete = [t for t in self.trials if t.state == "complete" and t.value is not None]
        complete = [t for t in complete if math.isfinite(t.value)]  # type: ignore[arg-type]
        if not complete:
            raise StudyError(f"the study {self.name!r} has no complete trial yet, so it has no best one.")
        return min(complete, key=lambda t: (-self._sign * t.value, t.number))  # type: ignore[operator]

    @property
    def best_params(self) -> dict[str, Any]:
        """The parameters of the best trial."""
        return self.best_trial.params

    @property
    def best_value(self) -> float:
        """The value of the best trial."""
        value = self.best_trial.value
        assert value is not None
        return value

    def __repr__(self) -> str:
        return f"Study(name={self.name!r}, direction={self.direction!r}, seed={self.seed}, {self._space!r})"

    def ask(self, q: int = 1) -> list[Trial]:
        """Asks for q trials, chosen jointly, to be evaluated in any order and told one by one.

        Trials enqueued on the Optuna study come first.

        Args:
            q: how many, at least 1.

        Returns:
            The running trials: q, or what is left of a finite space.

        Raises:
            SpaceExhaustedError: every point of the space is told or pending.
        """
        if isinstance(q, bool) or not isinstance(q, numbers.Integral) or int(q) < 1:
            raise ValueError(f"`q` must be an integer of at least 1, got {q!r}.")
        return ask(self, int(q), int(q))

    def tell(
        self,
        trial: Trial | int | np.integer,
        value: Any = None,
        *,
        state: str | None = None,
        noise_var: float | None = None,
        cost: float | None = None,
        grad: Mapping[str, Any] | None = None,
        user_attrs: Mapping[str, Any] | None = None,
    ) -> Trial:
        """Tells what came of a trial.

        Args:
            trial: what `ask` gave, or its number.
            value: a number, or a NumPy or JAX scalar. A value that is not finite makes the trial a failed
                one.
            state: "complete" (the same as None), or "fail" for an evaluation that gave no value.
            noise_var: variance of the value's noise where it is known, >= 0: the squared standard error of a mean over
                repeats, for example.
            cost: what the evaluation cost, > 0, whether it gave a value or not; for algorithms that learn costs
                (`bojax.loop.cost_aware`).
            grad: derivatives of the value by Float parameters, by name, in their own units; for algorithms that learn
                from gradients (`bayesopt(gradients=True)`). Components that are not known are left out.
            user_attrs: more to record with the trial; values must fit into JSON.

        Returns:
            The trial as it is recorded. A trial whose process had ended before it was told is recorded under a new
            number.

        Raises:
            TypeError: the value is no number. Nothing is recorded.
            ValueError: unknown state, a value together with "fail", a `noise_var` that is negative or a `cost` that is
                not positive, or one of them not finite, a `grad` of what is no Float. Nothing is recorded.
            StudyError: the trial is unknown or was told before.
        """
        return tell(
            self,
            trial,
            value,
            state=state,
            noise_var=noise_var,
            cost=cost,
            grad=grad,
            user_attrs=user_attrs,
        )

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Puts parameters in line to be tried by the next `ask`, for example settings known to work.

        Args:
            params: a value for every parameter.

        Raises:
            ValueError, TypeError: the parameters do not belong to the space.
        """
        self._space.from_params(dict(params))
        self._optuna.enqueue_trial(dict(params))

    def optimize(
        self,
        objective: Callable[..., Any],
        num_trials: int | None = 50,
        batch_size: int = 1,
        vectorized: bool = False,
        progress: bool = True,
        callbacks: Callable[["Study", Trial], Any] | Sequence[Callable[["Study", Trial], Any]] = (),
        catch: type[BaseException] | Sequence[type[BaseException]] = (Exception,),
        timeout: float | None = None,
        max_first_failures: int | None = MAX_FIRST_FAILURES,
    ) -> None:
        """Evaluates an objective `num_trials` times.

        Args:
            objective: from a dict of plain Python values to a number, or to a pair of a number and a dict of
                `user_attrs` to record with the trial (see `tell`); with `vectorized`, from a dict of NumPy arrays [k]
                (floats, integers, positions of choices; k <= batch_size) to k numbers.
            num_trials: number of evaluations of this call; None for as many as `timeout` allows, or until
                `study.stop()` is called or a finite space is used up.
            batch_size: how many are chosen jointly. Unless vectorized they are evaluated one after another.
            vectorized: whether the objective evaluates a whole batch in one call.
            progress: whether to show progress on stderr: a bar on a terminal, elsewhere a line now and then.
            callbacks: called as `callback(study, trial)` after each told trial; `study.stop()` ends the loop. One
                function, or several.
            catch: exceptions of the objective that make a failed trial; others end the loop. One type, or several;
                () for none. A failed trial keeps their text and traceback in its `user_attrs` ("bojax:error" and
                "bojax:traceback"), and nothing else, so that it holds no memory.
            timeout: seconds after which no further evaluation starts, >= 0; None for no limit.
            max_first_failures: so many evaluations that raise, with none before them in this call that did not, end
                the loop, for the objective is taken to be broken; None for no limit.

        Raises:
            BojaxError: each of the first `max_first_failures` evaluations raised.
            TypeError: an argument is wrong, or the objective returned something that is no number.
            ValueError: an argument is wrong.
        """
        from bojax.study._loop_arguments import check_loop
        from bojax.study._optimize import optimize

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
        optimize(self, objective, loop)

    def stop(self) -> None:
        """Ends a running `optimize` after the present trial; for callbacks."""
        self._stopping = True

    def to_dataframe(self) -> Any:
        """The trials as a pandas data frame: number, state, value, `params_NAME`, `user_attrs_NAME`."""
        from bojax.study._dataframe import to_dataframe

        return to_dataframe(self.trials, self._space.names)

    @property
    def _sign(self) -> float:
        return 1.0 if self._optuna.direction == StudyDirection.MAXIMIZE else -1.0

    def _data(self, trials: list[FrozenTrial], own: set[int]) -> tuple[np.ndarray, ...]:
        """Told points [n, d], values [n] (maximised, NaN where failed), noise variances and costs [n] (0 where not
        told), gradients in the cube [n, d] (NaN where not told), and pending points [p, d]."""
        X, y, noise_var, cost, grad, pending = [], [], [], [], [], []
        for trial in trials:
            row = self._row(trial)
            if row is None:
                continue
            if trial.state in _storage.FINISHED:
                value = math.nan if trial.state == TrialState.FAIL or not trial.values else trial.values[0]
                X.append(row)
                y.append(self._sign * value if math.isfinite(value) else math.nan)
                noise_var.append(float(trial.user_attrs.get(_storage.NOISE_VAR, 0.0)))
                cost.append(float(trial.user_attrs.get(_storage.COST, 0.0)))
                told = trial.user_attrs.get(_storage.GRAD, {})
                grad.append(self._sign * cube_gradient(self._space, self._space.to_params(row), told))
            elif trial.state == TrialState.RUNNING and trial.number not in own:
                pending.append(row)
        num_dims = self._space.num_dims
        told = np.reshape(X, (-1, num_dims)), *(np.asarray(column, float) for column in (y, noise_var, cost))
        return *told, np.reshape(grad, (-1, num_dims)), np.reshape(pending, (-1, num_dims))

    def _row(self, trial: FrozenTrial) -> np.ndarray | None:
        """The point of a trial, None while it has no parameters or when they do not belong to the space."""
        if trial.number in self._rows:
            return self._rows[trial.number]
        complete = set(self._space.names) <= set(trial.params)
        if not complete and trial.state != TrialState.COMPLETE:
            return None
        row = self._to_row(trial.params) if complete else None
        if row is None:
            self._warn_once("space", f"trial {trial.number} is left out: its parameters do not belong to the space")
        if trial.state in _storage.FINISHED:
            self._rows[trial.number] = row
        return row

    def _to_row(self, params: Mapping[str, Any]) -> np.ndarray | None:
        try:
            return self._space.from_params({name: params[name] for name in self._space.names})
        except (ValueError, TypeError):
            return None

    def _view(self, trial: FrozenTrial) -> Trial:
        """An Optuna trial as the user sees it, with the parameters in the order of the space."""
        names = [name for name in self._space.names if name in trial.params]
        names += [name for name in trial.params if name not in names]
        hidden = (_storage.WORKER, _storage.STALE)
        return Trial(
            number=trial.number,
            params={name: trial.params[name] for name in names},
            state=trial.state.name.lower(),
            value=trial.values[0] if trial.values and trial.state != TrialState.FAIL else None,
            user_attrs={key: attr for key, attr in trial.user_attrs.items() if key not in hidden},
        )

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(f"{text}. Further warnings of this kind are left out.", BojaxWarning, stacklevel=2)
