"""`BayesianOptimization`, with the arguments, methods and attributes of GPyOpt's class of that name."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bojax._errors import BojaxError, SpaceExhaustedError
from bojax.integrations.gpyopt import _reports
from bojax.integrations.gpyopt._campaign import Campaign, Rows, as_number, costs_of, values_array, values_of
from bojax.integrations.gpyopt._designs import initial_rows
from bojax.integrations.gpyopt._domain import constrained, read_domain
from bojax.integrations.gpyopt._settings import DESIGNS, chosen, is_flag, number, read_settings, seed_of, warn, whole
from bojax.space import Space
from bojax.study import Study

__all__ = ["BayesianOptimization"]

_ABSENT = {
    "model": " Use `predict(X)`, which is in the units of `Y`, or `study.predict`.",
    "acquisition": " Use `plot_acquisition` and `suggest_next_locations`.",
    "objective": " Use `f`.",
    "evaluator": " Use `suggest_next_locations`.",
    "save_models": " Parameters of models are not kept.",
}
"""What GPyOpt's class has beside, and what to use."""


class BayesianOptimization:
    """GPyOpt's class of this name, with suggestions by bojax.

    Scripts keep working after a change of the import line: the arguments, their order and defaults, the attributes `X`,
    `Y`, `x_opt`, `fx_opt`, and the methods are GPyOpt's. What GPyOpt has and bojax has not is an error that names it;
    an argument without effect gives a `BojaxWarning`.

    GPyOpt's choices stand for these parts of bojax:

        model_type        GP                  Gaussian process, Matern-5/2, one lengthscale per column
                          GP_MCMC             the same, averaged over its hyperparameters (`fully_bayesian_gp`)
                          sparseGP            `sparse_gp`
                          input_warped_GP     `gp(warped())`
                          RF                  a random forest (`bojax.forest`)
        acquisition_type  EI, MPI, LCB        `batch_log_ei`, `batch_log_pi`, `batch_ucb`; also with the ending _MCMC
        evaluator_type    sequential          one point at a time, for any `batch_size`
                          local_penalization  a joint batch
                          random              one point by the acquisition, the others random
                          thompson_sampling   a batch of draws of the model (`bojax.thompson`)

    Args:
        f: the objective. It is called with one point as an array [1, d] and returns a number or an array [1, 1]. None
            if values are given by `X` and `Y` only. A value that is not finite counts as a failed evaluation.
        domain: the variables (see `space_from_gpyopt`). Bandits are modeled by their coordinates.
        constraints: dicts with `name` and `constraint`, an expression such as "x[:,0]**2 + x[:,1] - 1" that is at
            most 0 at a feasible point. It may use arithmetic, columns of x, `np.pi`, and functions of NumPy such as
            np.sqrt and np.sum(x[:, 0:3], axis=1). It is parsed, not executed.
        cost_withGradients: "evaluation_time", or a function from [1, d] to the cost, > 0, or to a pair of the cost and
            its gradient, which is not used. The cost is learned from evaluated points, and the improvement is divided
            by it.
        model_type: the model, see above.
        X: [n, d] evaluated points instead of an initial design.
        Y: [n, 1] their values; by default they are evaluated. `maximize` does not change the sign of `Y`.
        initial_design_numdata: size of the initial design, which is evaluated at once, >= 1.
        initial_design_type: "random", "latin", "sobol" or "grid".
        acquisition_type: the acquisition, see above.
        normalize_Y: the model standardizes values in any case. False gives a warning, and `noise_var` is then in
            units of `f`.
        exact_feval: whether values have no noise; otherwise the noise is learned.
        acquisition_optimizer_type: must be "lbfgs".
        model_update_interval: above 1 it has no effect: the model is always up to date.
        evaluator_type: how batches are chosen, see above. None stands for "random".
        batch_size: number of points of one iteration, >= 1.
        num_cores: number of threads that evaluate a batch.
        verbosity: whether the initial design prints a line.
        verbosity_model: has no effect.
        maximize: whether to maximize `f`. As in GPyOpt, `Y` then holds -f, and `fx_opt` is minus the maximum.
        de_duplication: whether no point is evaluated twice. A finite domain can then be used up.
        seed: 0 <= seed < 2**32, all randomness. By default it is drawn from `numpy.random`, so `numpy.random.seed`
            makes a script repeatable, as with GPyOpt.
        **kwargs: `acquisition_jitter` (0, in standard deviations of the values), `acquisition_weight` (2),
            `noise_var`, `num_inducing`, `optimize_restarts`, `max_iters`, `n_samples`, `n_burnin`,
            `subsample_interval`, `objective_name`.

    Raises:
        TypeError: an argument has the wrong type or is unknown, or `f` returns no number.
        ValueError: an argument has an unknown value, or does not fit to others.

    Example:
        >>> import bojax.integrations.gpyopt as GPyOpt
        >>> domain = [{"name": "x", "type": "continuous", "domain": (-1, 1)}]
        >>> problem = GPyOpt.methods.BayesianOptimization(lambda x: (2 * x) ** 2, domain, seed=0)
        >>> problem.run_optimization(max_iter=5)
        >>> problem.X.shape, bool(problem.fx_opt < 0.01)
        ((10, 1), True)
    """

    def __init__(
        self,
        f: Callable[[np.ndarray], Any] | None,
        domain: Sequence[Mapping[str, Any]] | None = None,
        constraints: Sequence[Mapping[str, Any]] | None = None,
        cost_withGradients: Any = None,
        model_type: str = "GP",
        X: Any = None,
        Y: Any = None,
        initial_design_numdata: int = 5,
        initial_design_type: str = "random",
        acquisition_type: str | None = "EI",
        normalize_Y: bool = True,
        exact_feval: bool = False,
        acquisition_optimizer_type: str = "lbfgs",
        model_update_interval: int = 1,
        evaluator_type: str | None = "sequential",
        batch_size: int = 1,
        num_cores: int = 1,
        verbosity: bool = False,
        verbosity_model: bool = False,
        maximize: bool = False,
        de_duplication: bool = False,
        *,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        given = dict(locals())
        if f is not None and not callable(f):
            raise TypeError(f"`f` must be a function of an array [1, d], or None, got {f!r}.")
        if f is None and (X is None or Y is None):
            raise ValueError("`X` and `Y` must be given if `f` is None, got None. Evaluate a few points first.")
        if X is None and Y is not None:
            raise ValueError("`X` must be given with `Y`, got None.")
        self._domain = constrained(read_domain(domain), constraints)
        self._settings = read_settings(given, kwargs)
        self._campaign = Campaign(self._domain, self._settings, seed_of(seed))
        self._cost = cost_withGradients
        self.f, self.maximize = f, is_flag("maximize", maximize)
        self.num_cores = whole("num_cores", num_cores, 1)
        self.verbosity = is_flag("verbosity", verbosity)
        self.initial_design_type = chosen("initial_design_type", initial_design_type, DESIGNS)
        self.initial_design_numdata = whole("initial_design_numdata", initial_design_numdata, 1)
        self.model_type, self.acquisition_type, self.evaluator_type = model_type, acquisition_type, evaluator_type
        self.batch_size, self.normalize_Y, self.exact_feval = batch_size, normalize_Y, exact_feval
        self.objective_name = dict(self._settings.options).get("objective_name", "no name")
        self.num_acquisitions, self.cum_time, self.eps = 0, 0.0, 1e-8
        self._study: Study | None = None
        if f is None and self.maximize:
            warn("`maximize` has no effect without `f`: give `Y` with the opposite sign")
        self._rows = self._initial(X, Y)
        if self.verbosity:
            print(f"{len(self._rows.Y)} points evaluated, best value {self.fx_opt:.6g}")

    @property
    def X(self) -> np.ndarray:
        """[n, d] the evaluated points."""
        return self._rows.X.copy()

    @property
    def Y(self) -> np.ndarray:
        """[n, 1] their values, to be minimized; NaN for a failed evaluation."""
        return self._rows.Y[:, None].copy()

    @property
    def Y_best(self) -> np.ndarray:
        """[n] the best value so far."""
        return np.fmin.accumulate(self._rows.Y)

    @property
    def x_opt(self) -> np.ndarray:
        """[d] the point with the smallest value."""
        if np.isnan(self._rows.Y).all():
            raise BojaxError("every evaluation failed, so there is no best point.")
        return self._rows.X[np.nanargmin(self._rows.Y)].copy()

    @property
    def fx_opt(self) -> float:
        """The smallest value; with `maximize` minus the largest one of `f`."""
        if np.isnan(self._rows.Y).all():
            raise BojaxError("every evaluation failed, so there is no best value.")
        return float(np.nanmin(self._rows.Y))

    @property
    def space(self) -> Space:
        """The search space of the model."""
        return self._domain.space

    @property
    def study(self) -> Study:
        """A `bojax.Study` in memory that holds all results, to go on with."""
        return self._campaign.study(self._rows)

    def get_evaluations(self) -> tuple[np.ndarray, np.ndarray]:
        """The evaluated points `X` [n, d] and their values `Y` [n, 1]."""
        return self.X, self.Y

    def run_optimization(
        self,
        max_iter: int | None = 0,
        max_time: float | None = math.inf,
        eps: float = 1e-8,
        context: Mapping[str, Any] | None = None,
        verbosity: bool = False,
        save_models_parameters: bool = True,
        report_file: Any = None,
        evaluations_file: Any = None,
        models_file: Any = None,
    ) -> None:
        """Evaluates suggested points until a limit is met. Further calls go on from there.

        Args:
            max_iter: number of iterations, of `batch_size` points each, >= 0; None for no limit but `max_time`.
            max_time: seconds after which no further iteration starts; None for no limit but `max_iter`.
            eps: the run ends when the last two points are at most this far apart.
            context: values of some columns, by name, that all points of this run have.
            verbosity: whether to print a line after each iteration.
            save_models_parameters: without meaning, since parameters of models are not kept.
            report_file: a file for a report, see `save_report`.
            evaluations_file: a file for all evaluations, see `save_evaluations`.
            models_file: must be None.

        Raises:
            BojaxError: there is no objective. What `f` raises ends the run; its point counts as failed.
            ValueError, TypeError: an argument is wrong.
        """
        if self.f is None:
            raise BojaxError("`f` must be given to `run_optimization`; without it use `suggest_next_locations`.")
        if models_file is not None:
            raise ValueError(f"`models_file` must be None, got {models_file!r}: parameters of models are not kept.")
        is_flag("verbosity", verbosity)
        is_flag("save_models_parameters", save_models_parameters)
        unlimited = 0 if max_time is None else math.inf
        most = unlimited if max_iter is None else whole("max_iter", max_iter, 0)
        seconds = math.inf if max_time is None or max_time == math.inf else number("max_time", max_time, 0.0)
        self.eps = number("eps", eps, 0.0)
        held = self._campaign.context(context)
        self.num_acquisitions, self.cum_time, start = 0, 0.0, time.monotonic()
        while self.cum_time < seconds and self.num_acquisitions < most and self._last_distance() > self.eps:
            try:
                self._iterate(held)
            except SpaceExhaustedError as error:
                warn(f"the run ends after {self.num_acquisitions} iterations: {error}")
                break
            self.num_acquisitions += 1
            self.cum_time = time.monotonic() - start
            if verbosity:
                best = f"best value {self.fx_opt:.6g}" if np.isfinite(self._rows.Y).any() else "no value yet"
                print(f"iteration {self.num_acquisitions}: {best} after {self.cum_time:.2f} s")
        if report_file is not None:
            self.save_report(report_file)
        if evaluations_file is not None:
            self.save_evaluations(evaluations_file)

    def suggest_next_locations(
        self, context: Mapping[str, Any] | None = None, pending_X: Any = None, ignored_X: Any = None
    ) -> np.ndarray:
        """The next points to evaluate; nothing is evaluated or recorded.

        Args:
            context: values of some columns, by name, that the points have.
            pending_X: [p, d] points that are being evaluated. They are not suggested, nor is what they will tell.
            ignored_X: [k, d] points not to suggest. They are treated as pending ones; infeasible ones are left out.

        Returns:
            [q, d] points, q as evaluated by one iteration; fewer at the end of a finite domain.

        Raises:
            SpaceExhaustedError: no point of a finite domain is left.
            ValueError, TypeError: an argument is wrong.
        """
        held = self._campaign.context(context)
        study = self._campaign.study(self._rows)
        for name, points in (("pending_X", pending_X), ("ignored_X", ignored_X)):
            if points is not None:
                for i, row in enumerate(self._campaign.points(points, name)):
                    params = self._domain.params(row, f"`{name}`")
                    if self._campaign.is_feasible(params):
                        study.enqueue(params)
                        study.ask()
                    elif points is pending_X:
                        raise ValueError(f"`pending_X[{i}]` must be feasible, got {row.tolist()}.")
        return self._campaign.suggest(study, held)[0]

    def predict(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """The model's mean [k, 1] and standard deviation [k, 1] of `f` without noise, in the units of `Y`.

        Args:
            X: [k, d] points of the domain.

        Raises:
            StudyError: fewer than two values are known.
            ValueError: a row does not belong to the domain.
        """
        params = [self._domain.params(row, "`X`") for row in self._campaign.points(X, "X")]
        mean, std = self._campaign.study(self._rows).predict(params)
        return np.asarray(mean)[:, None], np.asarray(std)[:, None]

    def plot_convergence(self, filename: Any = None) -> Any:
        """Draws the distances between consecutive points, and the best value so far.

        Args:
            filename: a file to write. By default the figure is shown, if there is a display.

        Returns:
            The two axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from bojax.integrations.gpyopt import _plots

        return _plots.convergence(self._rows.X, self.Y_best, filename)

    def plot_acquisition(self, filename: Any = None, label_x: str | None = None, label_y: str | None = None) -> Any:
        """Draws the model, the acquisition and the next points, of a domain with one or two continuous columns.

        The acquisition is that of a single point, from the predicted mean and standard deviation.

        Args:
            filename: a file to write. By default the figure is shown, if there is a display.
            label_x: label of the horizontal axis.
            label_y: label of the vertical axis.

        Returns:
            The axes.

        Raises:
            ValueError: the domain has other columns.
            ImportError: matplotlib is not installed.
        """
        from bojax.integrations.gpyopt import _plots

        return _plots.acquisition(self, self._settings, filename, label_x, label_y)

    def save_report(self, report_file: Any = None) -> None:
        """Writes a text with the settings and the best point to a file."""
        _reports.write_report(self, self._settings, self._domain, report_file)

    def save_evaluations(self, evaluations_file: Any = None) -> None:
        """Writes a table, separated by tabs, of all values and points to a file."""
        _reports.write_evaluations(self._rows, evaluations_file)

    # Private.

    def __getattr__(self, name: str) -> Any:
        hint = _ABSENT.get(name, "")
        raise AttributeError(f"BayesianOptimization of bojax has no attribute {name!r}.{hint}")

    def _initial(self, X: Any, Y: Any) -> Rows:
        if X is None:
            design = self.initial_design_type, self._domain, self.initial_design_numdata
            return self._evaluated(initial_rows(*design, self._campaign.rng))
        points = self._campaign.points(X, "X")
        if not len(points):
            raise ValueError("`X` must have at least one row, got none. Leave it out for an initial design.")
        if Y is None:
            return self._evaluated(points)
        values = values_array(Y, len(points))
        return Rows(points, np.where(np.isfinite(values), values, np.nan), costs_of(self._cost, points, None))

    def _iterate(self, held: Mapping[str, Any]) -> None:
        if self._study is None:
            self._study = self._campaign.study(self._rows)
        X, trials = self._campaign.suggest(self._study, held)
        try:
            rows = self._evaluated(X)
        except BaseException:
            for trial in trials:
                self._study.tell(trial, state="fail")
            raise
        for trial, y, cost in zip(trials, rows.Y, rows.costs, strict=False):
            value, state, known = self._campaign.outcome(y, cost)
            self._study.tell(trial, value, state=state, cost=known)
        self._campaign.record(self._study, Rows(*(column[len(trials) :] for column in rows)))
        self._rows = self._rows.joined(rows)

    def _evaluated(self, X: np.ndarray) -> Rows:
        """Points with their values."""
        objective = self.f
        assert objective is not None

        def timed(x: np.ndarray) -> tuple[Any, float]:
            start = time.perf_counter()
            return objective(x), time.perf_counter() - start

        results = values_of(timed, X, self.num_cores)
        Y = np.array([as_number(result, "`f`") for result, _ in results])
        Y = np.where(np.isfinite(Y), -Y if self.maximize else Y, np.nan)
        return Rows(X, Y, costs_of(self._cost, X, [seconds for _, seconds in results]))

    def _last_distance(self) -> float:
        X = self._rows.X
        return math.inf if len(X) < 2 else float(np.linalg.norm(X[-1] - X[-2]))


def __getattr__(name: str) -> Any:
    if name == "ModularBayesianOptimization":
        raise AttributeError(f"bojax has no {name}. Use BayesianOptimization, or bojax.Study with parts of your own.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
