"""The study: ask and tell on the host, stored by Optuna.

A suggestion is a pure function of the study's seed, the ordinal of its trial (the number of trials before it), the
reported data sorted by trial number, and the pending points. Nothing else of the process enters. So a study that is
closed and opened again, in this or another process, continues exactly as it would have without that.

Several processes may ask at once. A trial is created first, and its parameters are chosen afterwards. A process chooses
only when all earlier trials have their parameters, so no two processes choose from the same data.
"""

import functools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

from optuna.storages import BaseStorage
from optuna.study import Study as OptunaStudy

from bojax._errors import StudyError
from bojax._plain import plain
from bojax.space import Space, to_space
from bojax.storage import open_storage
from bojax.study._checks import check_arguments
from bojax.study._core import Core
from bojax.study._travel import reduced
from bojax.study.asking import _lost
from bojax.study.asking._asking import Request, ask, suggest_one
from bojax.study.asking._held import check_feasible, checked_values
from bojax.study.asking._sampler import StudySampler
from bojax.study.asking._suggest import AlgorithmFactory, bayesopt
from bojax.study.opening._carry import ROOT, SpaceChanged, check_space_changed
from bojax.study.opening._open import open_study
from bojax.study.records import _storage
from bojax.study.records._trial import Trial
from bojax.study.reports._believed import Beliefs
from bojax.study.running._arguments import LoopArguments, check_loop
from bojax.study.running._failures import MAX_FIRST_FAILURES, FirstFailures
from bojax.study.running._optimize import optimize
from bojax.study.running._side_by_side import optimize_side_by_side
from bojax.study.telling._adding import KnownResults
from bojax.study.telling._telling import tell

DEFAULT_NAME = "bojax"


class Study(KnownResults, Beliefs):
    """A tuning campaign that is stored, can be resumed, and can be shared by many processes.

    An evaluation that began and reported nothing is *lost*: its process was killed, or Ctrl-C or an uncaught exception
    ended it. It is recorded as a failed trial whose `user_attrs` hold `bojax:lost` and the reason, `bojax:error`. The
    same parameters are tried once more, in a trial with `bojax:retry_of`. If that is lost too, it is an ordinary
    failure: the algorithm observes it and does not suggest it again. The evaluation of a trial begins with `ask`. In a
    batch of `optimize`, trials that had not begun are ignored, and the enqueued ones among them return to the queue. A
    value that is reported late is kept.

    The next `ask` of any process records losses. On the same host the process table shows whether a worker is alive.
    On other hosts a heartbeat does, which a thread writes every 15 s while trials run. A worker is considered dead
    120 s after its last heartbeat, or at once if that is 10 minutes old, so clocks should agree within a few minutes.

    A study can be pickled: one in memory takes a copy of its trials along, others are opened again. A process that was
    forked after JAX has computed cannot ask: open the study by its URL in a spawned process.

    Args:
        space: the search space: a `Space`, a mapping of names to parameters, or a plain specification. It may be
            omitted to open an existing study, unless its constraints are functions: these are not stored, so the same
            space must be given again, of which only the names of the functions can be compared. Opening writes nothing
            until the first `ask`, `tell` or `enqueue`, so the storage may be read-only.
        direction: "minimize" or "maximize". By default that of the stored study; "minimize" for a new one.
        storage: None for memory, or where the study is stored: "sqlite:///study.db", "journal:///study.log", any other
            URL that Optuna opens, or an Optuna storage.
        name: name of the study in its storage. A study of that name is resumed.
        seed: 0 <= seed < 2**32, all randomness of the study. By default that of the stored study; a new study draws
            one.
        algorithm: a function from (space, q) to an algorithm that asks for q points; by default `bojax.bayesopt`.
        space_changed: what to do where the stored study has another space. "error" by default. "carry" continues with
            the new space and copies all finished and enqueued trials that belong to it; a warning counts the others.
            Where the new space has parameters that earlier trials lack, give the values with which those trials were
            made, by name: `space_changed={"dropout": 0.0}`. From then on the name opens the study with the new space.
            Running workers continue with the old one; opening the study like this again copies their results.

    Raises:
        StudyError: space, direction or seed differ from those of the stored study, or the storage cannot be
            opened, or earlier trials lack a parameter.
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
        space_changed: SpaceChanged = "error",
    ):
        space = None if space is None else to_space(space)
        name = DEFAULT_NAME if name is None else name
        check_arguments(direction, name, seed, algorithm)
        check_space_changed(space_changed, space)
        backend = open_storage(storage, create=space is not None)
        optuna_study, attrs = open_study(backend, name, space, direction, seed, space_changed)
        self._core = core = Core(
            name=str(attrs.get(ROOT, optuna_study.study_name)),
            optuna=optuna_study,
            space=Space.from_spec(attrs[_storage.SPACE]) if space is None else space,
            seed=int(attrs[_storage.SEED]),
            algorithm=bayesopt if algorithm is None else algorithm,
        )
        suggest = functools.partial(suggest_one, core)
        core.sampler = StudySampler(core.distributions, suggest, core.seed, core.lease)
        optuna_study.sampler = core.sampler

    @property
    def space(self) -> Space:
        """The search space."""
        return self._core.space

    @property
    def direction(self) -> str:
        """The direction: "minimize" or "maximize"."""
        return self._core.direction

    @property
    def name(self) -> str:
        """The name that opens the study. After a change of the space `study.optuna` has another one."""
        return self._core.name

    @property
    def seed(self) -> int:
        """The seed of the study."""
        return self._core.seed

    @property
    def optuna(self) -> OptunaStudy:
        """The underlying Optuna study; its sampler returns bojax's suggestions."""
        return self._core.optuna

    @property
    def trials(self) -> list[Trial]:
        """All trials by number, except those that were abandoned before their evaluation began."""
        return [self._core.view(trial) for trial in _lost.as_seen(self._core)]

    @property
    def best_trial(self) -> Trial:
        """The complete trial with the best value; the earliest one in case of a tie.

        Raises:
            StudyError: no trial is complete.
        """
        complete = [t for t in self.trials if t.state == "complete" and t.value is not None]
        complete = [t for t in complete if math.isfinite(t.value)]  # type: ignore[arg-type]
        if not complete:
            raise StudyError(f"the study {self.name!r} has no complete trial yet, so it has no best one.")
        return min(complete, key=lambda t: (-self._core.ledger.sign * t.value, t.number))  # type: ignore[operator]

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
        return f"Study(name={self.name!r}, direction={self.direction!r}, seed={self.seed}, {self.space!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(type(self), self._core)

    def ask(self, q: int = 1, *, fixed: Mapping[str, Any] | None = None) -> list[Trial]:
        """Asks for q trials, chosen jointly; evaluate them in any order and `tell` each result.

        Queued trials come first unless parameters are fixed: those that were enqueued, and retries of lost ones.

        Args:
            q: number of trials, >= 1.
            fixed: values of parameters that all q trials must have; the others are chosen given these. Enqueued trials
                then stay in the queue.

        Returns:
            The running trials: q, or what is left of a finite space.

        Raises:
            SpaceExhaustedError: every point of the space (with the fixed values) is evaluated or pending.
            ValueError, TypeError: a fixed value does not belong to the space, or all of them break a constraint.
            BojaxError: no feasible point with the fixed values is found.

        Example:
            >>> import bojax
            >>> study = bojax.Study({"x": bojax.Float(0.0, 1.0), "y": bojax.Float(0.0, 1.0)}, seed=0)
            >>> study.ask(fixed={"x": 0.9})[0].params["x"]
            0.9
        """
        q = plain(q)
        if isinstance(q, bool) or not isinstance(q, numbers.Integral) or int(q) < 1:
            raise ValueError(f"`q` must be an integer of at least 1, got {q!r}.")
        held = {} if fixed is None else checked_values(self.space, fixed, "fixed")
        check_feasible(self.space, held, "fixed")
        return ask(self._core, Request(int(q), int(q), held))

    def tell(
        self,
        trial: Trial | SupportsIndex,
        value: Any = None,
        *,
        state: str | None = None,
        noise_var: float | None = None,
        cost: float | None = None,
        grad: Mapping[str, Any] | None = None,
        user_attrs: Mapping[str, Any] | None = None,
    ) -> Trial:
        """Reports the result of a trial.

        Args:
            trial: a trial from `ask`, or its number.
            value: a number, or a NumPy or JAX scalar. A value that is not finite makes the trial a failed one.
            state: "complete" (the same as None), or "fail" for an evaluation without a value.
            noise_var: known variance of the value's noise, >= 0, for example the squared standard error of
                a mean over repeats.
            cost: the cost of the evaluation, > 0, with or without a value; for algorithms that learn costs
                (`bojax.loop.cost_aware`).
            grad: derivatives of the value by Float parameters, by name, in their own units; for algorithms that learn
                from gradients (`gradient_bayesopt`). Unknown components are omitted.
            user_attrs: anything else to record with the trial: numbers, strings, None, lists and dicts of them. NumPy
                and JAX scalars and arrays become numbers and lists. Names that start with "bojax:" are reserved.

        Returns:
            The trial as it is recorded. A trial that was lost or abandoned before is recorded under a new number.

        Raises:
            TypeError: the value is not a number, or a user attribute does not fit into JSON. Nothing is recorded.
            ValueError: the state is unknown, a value is given together with "fail", `noise_var` is negative, `cost` is
                not positive, one of the two is not finite, `grad` names a parameter that is not a Float, or the
                algorithm of the study does not learn from the given `cost` or `grad`. Nothing is recorded.
            StudyError: the trial is unknown or already has a result.

        Example:
            >>> import bojax
            >>> study = bojax.Study(bojax.Space(x=bojax.Float(0.0, 1.0)), seed=0)
            >>> trial = study.ask()[0]
            >>> study.tell(trial, 0.5, noise_var=0.01, user_attrs={"epochs": 3}).state
            'complete'
        """
        columns = {"noise_var": noise_var, "cost": cost, "grad": grad}
        return tell(self._core, trial, value, state, columns, user_attrs)

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
        *,
        num_workers: int = 1,
        worker: str | None = None,
        trial_timeout: float | None = None,
    ) -> None:
        """Evaluates an objective `num_trials` times, one trial after another or side by side.

        With workers, a trial is chosen as soon as a worker is free, from all results reported so far and with the
        running trials as pending ones. Results are told, and callbacks called, in the calling thread, in the order in
        which evaluations end. The results of a study are the same for the same order, whatever the workers. With a
        `batch_size` above 1, trials are chosen in batches and evaluated as workers become free, and the next batch is
        chosen when none of the last one waits.

        Threads suit objectives that wait or compute outside of Python, as JAX does. Processes suit all others, and
        objectives that may hang or crash. They are started afresh ("spawn") and import the module of the objective, so
        it must be importable, and a script must have `if __name__ == "__main__":`. If a process dies, its trial fails,
        and another one takes its place. Processes take JAX's settings over from here, and GPU memory as they need it.

        Args:
            objective: a function from a dict of plain Python values to a number, or to a pair of a number and a dict of
                `user_attrs` to record with the trial (see `tell`). None makes a failed trial, with a warning. With
                `vectorized`, from a dict of NumPy arrays [k] (floats, integers, positions of choices; k <= batch_size)
                to k numbers.
            num_trials: number of evaluations of this call; None to continue until `timeout` has passed,
                `study.stop()` is called, or a finite space is exhausted.
            batch_size: number of trials chosen jointly, >= 1. Unless vectorized they are evaluated one after another.
            vectorized: whether the objective evaluates a whole batch in one call.
            progress: whether to show progress on stderr: a bar on a terminal, elsewhere a line now and then.
            callbacks: called as `callback(study, trial)` after each trial; `study.stop()` ends the loop. One function,
                or several.
            catch: exceptions of the objective that make a failed trial; others end the loop. One type, or several; ()
                for none. A failed trial keeps their text and traceback as `trial.error` and `trial.traceback`, and
                nothing else, so that it holds no memory.
            timeout: seconds after which no further evaluation starts, >= 0; None for no limit.
            max_first_failures: number of exceptions in this call, with no success before them, after which the loop
                ends because the objective is considered broken, >= 1; None for no limit.
            num_workers: number of trials that are evaluated side by side, >= 1. Not together with `vectorized`.
            worker: "thread" or "process": where trials are evaluated. By default in the calling thread, or in threads
                if there are several workers or a `trial_timeout`.
            trial_timeout: seconds after which an evaluation has failed, > 0, and its worker goes on with the next one;
                None for no limit. A process is killed together with what it has started. A thread cannot be ended: what
                it returns later is ignored, and the loop ends when 17 such threads run.

        Raises:
            BojaxError: each of the first `max_first_failures` evaluations raised; or workers end before they evaluate
                anything; or too many threads cannot be ended.
            TypeError: an argument is wrong, or the objective returned something that is not a number; its trial is
                recorded as failed.
            ValueError: an argument is wrong.

        Example:
            >>> import bojax
            >>> study = bojax.Study(bojax.Space(x=bojax.Float(-1.0, 1.0)), seed=0)
            >>> study.optimize(lambda params: params["x"] ** 2, num_trials=4, progress=False)
            >>> len(study.trials)
            4
        """
        run_loop(self, objective, check_loop(locals()))

    def stop(self) -> None:
        """Ends a running `optimize` after the current trial; for callbacks."""
        self._core.stopping = True

    def to_dataframe(self) -> Any:
        """The trials as a pandas data frame: number, state, value, `params_NAME`, `user_attrs_NAME`, times."""
        from bojax.study.reports._dataframe import to_dataframe

        return to_dataframe(self.trials, self.space)


def core_of(study: Study) -> Core:
    """The parts of a study, for functions of this package."""
    return study._core


def run_loop(study: Study, objective: Callable[..., Any], loop: LoopArguments) -> FirstFailures:
    """The body of `Study.optimize`; returns the count of failures."""
    callbacks = tuple(functools.partial(callback, study) for callback in loop.callbacks)
    run = optimize if loop.worker is None else optimize_side_by_side
    return run(study._core, objective, loop._replace(callbacks=callbacks))
