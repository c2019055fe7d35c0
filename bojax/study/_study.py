"""The study: asking and telling on the host, kept in an Optuna storage.

A suggestion is a pure function of the study's seed, the ordinal of its trial (how many trials come before
it), the told data sorted by trial number, and the points that are pending. Nothing else of the process
enters, so a study that is closed and opened again, in this or another process, goes on exactly as it would
have.

Several processes may ask at once. A trial is created first and its parameters are chosen afterwards; whoever
chooses waits until all trials created earlier have their parameters, so no two processes choose for the same
data.
"""

import math
import numbers
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.study import Study as OptunaStudy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as OptunaTrial

from bojax._errors import STATUS_TEXT, BojaxWarning, SpaceExhaustedError, Status, StudyError
from bojax.space import Space, to_space
from bojax.study import _storage
from bojax.study._checks import check_arguments, check_attrs, to_float
from bojax.study._gradients import checked_gradient, cube_gradient
from bojax.study._open import open_study
from bojax.study._sampler import StudySampler, to_distributions
from bojax.study._suggest import AlgorithmFactory, bayesopt, suggest
from bojax.study._trial import Trial

DEFAULT_NAME = "bojax"

_ASK_TIMEOUT = 120.0
"""Seconds to wait for the parameters of earlier trials, which another process may be compiling for."""

_FINISHED = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)


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
        self._sampler = StudySampler(self._distributions, self._suggest_one, self._seed)
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
        return self._ask(int(q), int(q))

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
        if state not in (None, "complete", "fail"):
            raise ValueError(f'`state` must be "complete" or "fail", got {state!r}.')
        if state == "fail" and value is not None:
            raise ValueError(f'a trial told with state="fail" has no value, got {value!r}. Leave the value out.')
        number = None if state == "fail" else to_float(value)
        check_attrs(user_attrs or {})
        if noise_var is not None:
            noise_var = to_float(noise_var)
            if not (math.isfinite(noise_var) and noise_var >= 0):
                raise ValueError(f"`noise_var` must be finite and not negative, got {noise_var}.")
            user_attrs = {**(user_attrs or {}), _storage.NOISE_VAR: noise_var}
        if cost is not None:
            cost = to_float(cost)
            if not (math.isfinite(cost) and cost > 0):
                raise ValueError(f"`cost` must be finite and positive, got {cost}.")
            user_attrs = {**(user_attrs or {}), _storage.COST: cost}
        if grad is not None:
            user_attrs = {**(user_attrs or {}), _storage.GRAD: checked_gradient(self._space, grad)}
        frozen = self._running(trial)
        if frozen.user_attrs.get(_storage.STALE):
            frozen = self._readmit(frozen)
        for key, attr in (user_attrs or {}).items():
            _storage.set_trial_attr(self._optuna, frozen, key, attr)
        if number is not None and not math.isfinite(number):
            _storage.set_trial_attr(self._optuna, frozen, _storage.TOLD, repr(number))
            warnings.warn(
                f"trial {frozen.number} was told {number}, which is not finite: it counts as failed.",
                BojaxWarning,
                stacklevel=2,
            )
            number = None
        self._finish(frozen, number)
        return self._view(self._frozen(frozen.number))

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
        num_trials: int = 50,
        batch_size: int = 1,
        vectorized: bool = False,
        progress: bool = True,
        callbacks: Sequence[Callable[["Study", Trial], Any]] = (),
        catch: tuple[type[BaseException], ...] = (Exception,),
        timeout: float | None = None,
    ) -> None:
        """Evaluates an objective `num_trials` times.

        Args:
            objective: from a dict of plain Python values to a number, or to a pair of a number and a dict of
                `user_attrs` to record with the trial (see `tell`); with `vectorized`, from a dict of NumPy arrays [k]
                (floats, integers, positions of choices; k <= batch_size) to k numbers.
            num_trials: number of evaluations of this call.
            batch_size: how many are chosen jointly. Unless vectorized they are evaluated one after another.
            vectorized: whether the objective evaluates a whole batch in one call.
            progress: whether to show a progress bar (on a terminal).
            callbacks: called as `callback(study, trial)` after each told trial; `study.stop()` ends the loop.
            catch: exceptions of the objective that make a failed trial; others end the loop.
            timeout: seconds after which no further evaluation starts.

        Raises:
            BojaxError: each of the first five evaluations raised.
            TypeError: the objective returned something that is no number.
        """
        from bojax.study._optimize import optimize

        optimize(
            self,
            objective,
            num_trials=num_trials,
            batch_size=batch_size,
            vectorized=vectorized,
            progress=progress,
            callbacks=callbacks,
            catch=catch,
            timeout=timeout,
        )

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

    def _ask(self, q: int, program_q: int) -> list[Trial]:
        """Asks for q trials with the program for `program_q` >= q points, of which the first are taken."""
        created: list[OptunaTrial] = []
        with self._lock, _storage.quiet():
            waiting = sum(t.state == TrialState.WAITING for t in _storage.trials_of(self._optuna))
            q = min(q, waiting + self._num_left())
            if q == 0:
                raise SpaceExhaustedError(f"all {self._space.cardinality} points of the space are told or pending.")
            sampler = self._optuna.sampler  # the user may have put in another one for Optuna's own loop
            self._optuna.sampler, self._sampler.asking = self._sampler, True
            try:
                for _ in range(q):
                    created.append(self._optuna.ask())
                trials = self._prepare(created, program_q)
                # In reverse: when the first trial of a batch has its parameters, all of the batch have.
                return [self._fill(trial) for trial in reversed(trials)][::-1]
            except BaseException:
                for trial in created:
                    _storage.mark_stale(self._optuna, trial)
                raise
            finally:
                self._optuna.sampler, self._sampler.asking = sampler, False
                for trial in created:
                    self._sampler.prepared.pop(trial.number, None)

    def _prepare(self, created: list[OptunaTrial], program_q: int) -> list[OptunaTrial]:
        """Leaves parameters for new trials with the sampler; returns the trials that got some."""
        numbers_ = {trial.number for trial in created}
        self._wait_for_earlier(min(numbers_))
        by_number = {t.number: t for t in _storage.trials_of(self._optuna)}
        open_: list[OptunaTrial] = []
        fixed_points: list[np.ndarray] = []
        for trial in created:
            fixed = by_number[trial.number].system_attrs.get("fixed_params", {})
            if set(fixed) >= set(self._space.names):
                self._sampler.prepared[trial.number] = {}
                fixed_points += [row for row in [self._to_row(fixed)] if row is not None]
            else:
                open_.append(trial)
        if not open_:
            return created
        first = min(trial.number for trial in open_)
        suggested = self._suggest(first, numbers_, fixed_points, max(program_q, len(open_)))
        for trial, params in zip(open_, suggested, strict=False):
            self._sampler.prepared[trial.number] = params
        surplus = open_[len(suggested) :]
        for trial in surplus:
            _storage.mark_stale(self._optuna, trial)
        if len(surplus) == len(created):
            raise SpaceExhaustedError("every point of the space is told or pending.")
        return [trial for trial in created if trial not in surplus]

    def _fill(self, trial: OptunaTrial) -> Trial:
        """Writes the parameters of a trial; enqueued ones go before prepared ones."""
        params = {}
        for name, distribution in self._distributions.items():
            value = _suggest_value(trial, name, distribution)
            params[name] = distribution.to_external_repr(distribution.to_internal_repr(value))
        return Trial(trial.number, params)

    def _suggest_one(self, number: int) -> dict[str, Any]:
        """The parameters of a trial that Optuna code asked for."""
        with self._lock:
            self._wait_for_earlier(number)
            if self._num_left() == 0:
                raise SpaceExhaustedError(f"all {self._space.cardinality} points of the space are told or pending.")
            suggested = self._suggest(number, {number}, [], 1)
            if not suggested:
                raise SpaceExhaustedError("every point of the space is told or pending.")
            return suggested[0]

    def _suggest(self, first: int, own: set[int], more_pending: list[np.ndarray], q: int) -> list[dict[str, Any]]:
        """Up to q suggestions: the pure function of seed, ordinal, told data and pending points.

        Args:
            first: the number of the first trial to choose for; `own` are those whose points are not pending.
            more_pending: points that are about to become pending.
            q: how many points the algorithm chooses.
        """
        trials = _storage.trials_of(self._optuna)
        X, y, noise_var, cost, grad, pending = self._data(trials, own)
        suggested, status = suggest(
            self._algorithm,
            self._space,
            q,
            seed=self._seed,
            ordinal=sum(t.number < first for t in trials),
            X=X,
            y=y,
            noise_var=noise_var,
            cost=cost,
            grad=grad,
            pending=np.concatenate([pending, np.reshape(more_pending, (-1, self._space.num_dims))]),
        )
        if status in (Status.FALLBACK, Status.OVERFLOW):
            self._warn_once(status.name, f"trial {first}: {STATUS_TEXT[status]}")
        return suggested

    def _data(self, trials: list[FrozenTrial], own: set[int]) -> tuple[np.ndarray, ...]:
        """Told points [n, d], values [n] (maximised, NaN where failed), noise variances and costs [n] (0 where not
        told), gradients in the cube [n, d] (NaN where not told), and pending points [p, d]."""
        X, y, noise_var, cost, grad, pending = [], [], [], [], [], []
        for trial in trials:
            row = self._row(trial)
            if row is None:
                continue
            if trial.state in _FINISHED:
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
        if trial.state in _FINISHED:
            self._rows[trial.number] = row
        return row

    def _to_row(self, params: Mapping[str, Any]) -> np.ndarray | None:
        try:
            return self._space.from_params({name: params[name] for name in self._space.names})
        except (ValueError, TypeError):
            return None

    def _num_left(self) -> int:
        """How many points of the space are neither told nor pending (a large number if it is not finite)."""
        if self._space.cardinality is None:
            return 2**31
        trials = _storage.trials_of(self._optuna)
        rows = [self._row(trial) for trial in trials]
        seen = {row.tobytes() for row in rows if row is not None}
        return max(0, self._space.cardinality - len(seen))

    def _wait_for_earlier(self, number: int) -> None:
        """Waits for the parameters of earlier trials, where another process is choosing them."""
        end = time.monotonic() + _ASK_TIMEOUT
        while time.monotonic() < end:
            choosing = [t for t in _storage.trials_of(self._optuna) if self._is_choosing(t, number)]
            dead = [t for t in choosing if _storage.is_dead(t.user_attrs.get(_storage.WORKER))]
            for trial in dead:
                _storage.mark_stale(self._optuna, trial)
            if len(dead) == len(choosing):
                return
            time.sleep(0.05)

    def _is_choosing(self, trial: FrozenTrial, number: int) -> bool:
        if trial.number >= number or trial.state != TrialState.RUNNING:
            return False
        if set(self._space.names) <= set(trial.params):
            return False
        worker = trial.user_attrs.get(_storage.WORKER)
        # Between the creation of a trial and the record of its worker lies one write.
        return _storage.is_new(trial) if worker is None else bool(worker.get("asking"))

    def _frozen(self, number: int) -> FrozenTrial:
        trials = _storage.retry(lambda: self._optuna.get_trials(deepcopy=False))
        for trial in trials[number:] + trials[:number]:  # they are sorted: the first is the one
            if trial.number == number:
                return trial
        raise StudyError(f"the study {self.name!r} has no trial {number}; it has {len(trials)} trials.")

    def _running(self, trial: Trial | int | np.integer) -> FrozenTrial:
        """The stored trial, if it can be told."""
        if isinstance(trial, bool) or not isinstance(trial, Trial | numbers.Integral):
            raise TypeError(f"`trial` must be a Trial that `ask` gave, or its number, got {trial!r}.")
        frozen = self._frozen(trial.number if isinstance(trial, Trial) else int(trial))
        if isinstance(trial, Trial) and any(
            frozen.params.get(name, value) != value for name, value in trial.params.items()
        ):
            raise StudyError(f"trial {trial.number} of the study {self.name!r} has other parameters: wrong study?")
        if frozen.user_attrs.get(_storage.STALE) and set(self._space.names) <= set(frozen.params):
            return frozen
        if frozen.state in _FINISHED:
            raise _told_before(frozen)
        if frozen.state == TrialState.WAITING:
            raise StudyError(f"trial {frozen.number} waits in line: `ask` for it before telling it.")
        return frozen

    def _readmit(self, stale: FrozenTrial) -> FrozenTrial:
        """A running trial with the parameters of one that was given up when its process ended, to be told after all."""
        for other in _storage.trials_of(self._optuna):
            if other.user_attrs.get(_storage.INSTEAD_OF) == stale.number:
                raise _told_before(other)
        attrs = {_storage.INSTEAD_OF: stale.number, _storage.WORKER: _storage.worker()}
        running = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=stale.params,
            distributions=stale.distributions,
            user_attrs=attrs,
        )
        _storage.retry(lambda: self._optuna.add_trial(running))
        added = [t for t in _storage.trials_of(self._optuna) if t.user_attrs.get(_storage.INSTEAD_OF) == stale.number]
        return added[0]

    def _finish(self, frozen: FrozenTrial, value: float | None) -> None:
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        try:
            with _storage.quiet():
                _storage.retry(lambda: self._optuna.tell(frozen.number, value, state))
        except (ValueError, RuntimeError) as error:  # a race: another process was faster
            now = self._frozen(frozen.number)
            if now.state not in _FINISHED:
                raise
            if now.state != state or now.value != value:
                raise _told_before(now) from error

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


def _told_before(trial: FrozenTrial) -> StudyError:
    if trial.user_attrs.get(_storage.STALE):
        return StudyError(f"trial {trial.number} was given up, because the process that asked for it had ended.")
    what = repr(trial.value) if trial.state == TrialState.COMPLETE else f'state="{trial.state.name.lower()}"'
    return StudyError(f"trial {trial.number} was told before: {what}.")


def _suggest_value(trial: OptunaTrial, name: str, distribution: Any) -> Any:
    match distribution:
        case optuna.distributions.FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        case optuna.distributions.IntDistribution():
            low, high, step = distribution.low, distribution.high, distribution.step
            return trial.suggest_int(name, low, high, step=step, log=distribution.log)
        case _:
            return trial.suggest_categorical(name, distribution.choices)
