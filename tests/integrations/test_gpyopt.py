"""Scripts of GPyOpt run after a change of their import line; what bojax cannot do is refused by name."""

import csv
import functools
import warnings

import numpy as np
import pytest

import bojax
import bojax.integrations.gpyopt as GPyOpt
from bojax.integrations.gpyopt import _plots, space_from_gpyopt
from bojax.integrations.gpyopt.methods import BayesianOptimization

LINE = [{"name": "x", "type": "continuous", "domain": (0, 1)}]
PLANE = [
    {"name": "a", "type": "continuous", "domain": (-5, 10)},
    {"name": "b", "type": "continuous", "domain": (1, 15)},
]
MIXED = [
    {"name": "u", "type": "continuous", "domain": (-5, 5), "dimensionality": 2},
    {"name": "v", "type": "discrete", "domain": (8, 3, 10)},
    {"name": "w", "type": "categorical", "domain": (0, 1, 2)},
]
SEED = {"seed": 0}


def square(x):
    """An objective as GPyOpt's manual writes them: [1, 1] from [1, d]."""
    return np.sum(x**2, axis=1, keepdims=True)


def told(domain=LINE, n=4, **kwargs):
    """A problem without an objective, that knows n values."""
    X = GPyOpt.methods.BayesianOptimization(square, domain, initial_design_numdata=n, seed=1).X
    return BayesianOptimization(None, domain, X=X, Y=square(X), **(SEED | kwargs))


# The programs of GPyOpt's manual, at small sizes.


@pytest.mark.long
def test_a_function_of_one_variable():
    function = GPyOpt.objective_examples.experiments1d.forrester()
    problem = GPyOpt.methods.BayesianOptimization(f=function.f, domain=LINE, acquisition_type="EI", **SEED)
    problem.run_optimization(8, 60, 10e-6)
    assert problem.x_opt.shape == (1,) and problem.X.shape == (13, 1) and problem.Y.shape == (13, 1)
    assert problem.num_acquisitions == 8
    assert problem.fx_opt == problem.Y.min() < -5.9


@pytest.mark.slow
def test_a_function_of_two_variables_with_noise():
    function = GPyOpt.objective_examples.experiments2d.branin(sd=0.1)
    choice = {"acquisition_type": "LCB", "acquisition_weight": 2}
    problem = GPyOpt.methods.BayesianOptimization(function.f, domain=PLANE, **choice, **SEED)
    problem.run_optimization(max_iter=10, verbosity=False)
    X, Y = problem.get_evaluations()
    assert X.shape == (15, 2) and Y.min() == problem.fx_opt < 4.0
    assert (np.diff(problem.Y_best) <= 0).all()


@pytest.mark.long
def test_mixed_variables_in_batches_with_a_context():
    function = GPyOpt.objective_examples.experimentsNd.alpine1(input_dim=4)
    problem = GPyOpt.methods.BayesianOptimization(
        f=function.f, domain=MIXED, evaluator_type="local_penalization", batch_size=3, num_cores=3, **SEED
    )
    problem.run_optimization(1, eps=0)
    problem.run_optimization(1, eps=0, context={"u_1": 0.3, "v": 3})
    problem.run_optimization(1, eps=0, context={"u_1": 0.3, "w": 1})
    assert problem.X.shape == (14, 4)
    assert (problem.X[8:11, [0, 2]] == [0.3, 3]).all() and (problem.X[11:, [0, 3]] == [0.3, 1]).all()
    assert set(problem.X[:, 2]) <= {3, 8, 10} and set(problem.X[:, 3]) <= {0, 1, 2}
    assert len(np.unique(problem.X, axis=0)) == 14


@pytest.mark.long
def test_values_from_elsewhere_one_at_a_time():
    X = np.array([[0.0], [0.5], [1.0]])
    Y = (X - 0.3) ** 2
    for _ in range(3):
        step = BayesianOptimization(f=None, domain=LINE, X=X, Y=Y, **SEED)
        suggested = step.suggest_next_locations()
        assert suggested.shape == (1, 1)
        X, Y = np.vstack([X, suggested]), np.vstack([Y, (suggested - 0.3) ** 2])
    assert Y.min() < 0.01


@pytest.mark.long
def test_pending_and_ignored_points_are_not_suggested():
    domain = [{"name": "n", "type": "discrete", "domain": range(6)}]
    X, Y = np.array([[0.0], [5.0]]), np.array([[25.0], [4.0]])
    problem = BayesianOptimization(None, domain, X=X, Y=Y, de_duplication=True, **SEED)
    assert problem.suggest_next_locations(pending_X=[[1], [2]], ignored_X=[[4]]).tolist() == [[3.0]]
    with pytest.raises(bojax.SpaceExhaustedError):
        problem.suggest_next_locations(pending_X=[[1], [2]], ignored_X=[[3], [4]])
    assert problem.X.tolist() == X.tolist()


@pytest.mark.long
def test_bandits_evaluate_each_arm_once():
    arms = np.random.default_rng(0).normal(size=(9, 2))
    domain = [{"name": "stations", "type": "bandit", "domain": arms}]
    problem = BayesianOptimization(square, domain, de_duplication=True, exact_feval=True, **SEED)
    problem.run_optimization(2)
    assert len(problem.X) == 7
    with pytest.warns(bojax.BojaxWarning, match="ends after 2 iterations"):
        problem.run_optimization(5)
    assert sorted(map(tuple, problem.X)) == sorted(map(tuple, arms))


@pytest.mark.long
def test_tuning_of_a_model_of_scikit_learn():
    from sklearn.datasets import load_iris
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    X, y = load_iris(return_X_y=True)

    def loss(x, model):
        values = np.zeros((x.shape[0], 1))
        for i, (C, gamma) in enumerate(np.exp(np.atleast_2d(x))):
            values[i] = -np.mean(cross_val_score(model.set_params(C=C, gamma=gamma), X, y, cv=3))
        return values

    domain = [
        {"name": "C", "type": "continuous", "domain": (-2.0, 4.0)},
        {"name": "gamma", "type": "continuous", "domain": (-12.0, -2.0)},
    ]
    problem = GPyOpt.methods.BayesianOptimization(
        f=functools.partial(loss, model=SVC()), domain=domain, acquisition_type="LCB", acquisition_weight=2, **SEED
    )
    problem.run_optimization(max_iter=6)
    assert problem.fx_opt < -0.95


# Choices.


CHOICES = {
    "mcmc": {
        "model_type": "GP_MCMC",
        "acquisition_type": "EI_MCMC",
        "n_samples": 3,
        "n_burnin": 16,
        "subsample_interval": 4,
    },
    "sparse": {"model_type": "sparseGP", "num_inducing": 4, "acquisition_type": "MPI"},
    "warped": {"model_type": "input_warped_GP", "noise_var": 0.01},
    "thompson": {"evaluator_type": "thompson_sampling", "batch_size": 3},
    "random": {"evaluator_type": "random", "batch_size": 3},
    "forest": {"model_type": "RF", "batch_size": 2, "evaluator_type": "local_penalization"},
    "jitter": {"acquisition_jitter": 0.1, "cost_withGradients": "evaluation_time"},
}


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param(name, marks=pytest.mark.long if name in ("random", "forest") else pytest.mark.slow)
        for name in CHOICES
    ],
)
def test_models_and_evaluators_suggest_points_of_the_domain(choice):
    problem = told(PLANE, n=5, **CHOICES[choice])
    X = problem.suggest_next_locations()
    assert X.shape == (CHOICES[choice].get("batch_size", 1), 2)
    assert ((X >= [-5, 1]) & (X <= [10, 15])).all() and len(np.unique(X, axis=0)) == len(X)


@pytest.mark.slow
def test_cheap_points_are_preferred():
    def cost(x):
        return np.exp(4.0 * x), 4.0 * np.exp(4.0 * x)

    X = np.array([[0.05], [0.35], [0.65], [0.95]])
    Y = np.array([[1.0], [0.0], [0.0], [1.0]]) + 0.01 * X
    plain = BayesianOptimization(None, LINE, X=X, Y=-Y, exact_feval=True, **SEED)
    cheap = BayesianOptimization(None, LINE, X=X, Y=-Y, exact_feval=True, cost_withGradients=cost, **SEED)
    assert cheap.suggest_next_locations()[0, 0] <= plain.suggest_next_locations()[0, 0] + 1e-6
    assert cheap.suggest_next_locations()[0, 0] < 0.5


def test_a_context_of_all_columns_is_the_suggestion():
    assert told(PLANE).suggest_next_locations(context={"a": 1.5, "b": 2}).tolist() == [[1.5, 2.0]]


@pytest.mark.parametrize("kind", ["random", "latin", "sobol", "grid"])
def test_initial_designs_fill_the_domain(kind):
    problem = BayesianOptimization(square, PLANE, initial_design_numdata=16, initial_design_type=kind, seed=3)
    X = (problem.X - [-5, 1]) / [15, 14]
    assert X.shape == (16, 2) and ((X >= 0) & (X <= 1)).all() and len(np.unique(X, axis=0)) == 16
    counts = np.histogram(X[:, 0], 4, (0, 1))[0]
    assert counts.tolist() == [4] * 4 or kind == "random"


def test_a_grid_of_other_size_is_reported():
    with pytest.warns(bojax.BojaxWarning, match="9 points instead of 10"):
        problem = BayesianOptimization(square, PLANE, initial_design_numdata=10, initial_design_type="grid", seed=3)
    assert problem.X.shape == (9, 2)


def test_maximizing_keeps_the_sign_of_gpyopt():
    problem = BayesianOptimization(lambda x: -square(x), LINE, maximize=True, **SEED)
    assert problem.fx_opt == pytest.approx(float(square(problem.X).min()))
    assert problem.x_opt == problem.X[np.argmin(square(problem.X))]


@pytest.mark.parametrize(
    "result", [float, lambda v: np.array([v]), lambda v: np.array([[v]]), lambda v: [v], np.float32]
)
def test_objectives_may_return_scalars_and_arrays(result):
    problem = BayesianOptimization(lambda x: result(float(x[0, 0])), LINE, seed=0)
    assert problem.Y == pytest.approx(problem.X, rel=1e-6)


def test_the_objective_sees_one_row_at_a_time():
    shapes = []
    BayesianOptimization(lambda x: shapes.append(x.shape) or 0.0, MIXED, initial_design_numdata=3, seed=0)
    assert shapes == [(1, 4)] * 3


@pytest.mark.long
def test_failed_evaluations_are_passed_over():
    problem = BayesianOptimization(lambda x: np.nan if x[0, 0] < 0.5 else x, LINE, initial_design_numdata=8, **SEED)
    problem.run_optimization(2)
    assert np.isnan(problem.Y).any() and problem.fx_opt == np.nanmin(problem.Y) and problem.X.shape == (10, 1)


@pytest.mark.long
def test_an_exception_of_the_objective_ends_the_run_and_is_raised():
    calls = []

    def broken(x):
        calls.append(x)
        if len(calls) == 7:
            raise RuntimeError("out of order")
        return square(x)

    problem = BayesianOptimization(broken, LINE, **SEED)
    with pytest.raises(RuntimeError, match="out of order"):
        problem.run_optimization(5)
    assert len(problem.Y) == 6
    problem.run_optimization(1)
    assert len(problem.Y) == 7


def test_numpys_seed_makes_scripts_repeatable():
    def script():
        np.random.seed(7)
        return BayesianOptimization(square, PLANE).X

    assert (script() == script()).all()
    assert (BayesianOptimization(square, PLANE, seed=1).X != BayesianOptimization(square, PLANE, seed=2).X).all()


def test_runs_end_by_time_and_by_distance():
    problem = BayesianOptimization(square, LINE, **SEED)
    problem.run_optimization()
    problem.run_optimization(None, None)
    problem.run_optimization(max_iter=5, max_time=0)
    problem.run_optimization(max_iter=5, eps=2.0)
    assert len(problem.X) == 5 and problem.num_acquisitions == 0


def test_a_study_goes_on_with_the_results():
    problem = BayesianOptimization(square, MIXED, initial_design_numdata=3, seed=0)
    assert [trial.value for trial in problem.study.trials] == problem.Y[:, 0].tolist()


# Files and figures.


def test_reports_and_tables(tmp_path):
    problem = BayesianOptimization(square, PLANE, objective_name="bowl", seed=0)
    problem.run_optimization(0, report_file=tmp_path / "report.txt", evaluations_file=tmp_path / "table.txt")
    assert (
        "bowl" in (tmp_path / "report.txt").read_text()
        and repr(problem.fx_opt) in (tmp_path / "report.txt").read_text()
    )
    header, *rows = csv.reader((tmp_path / "table.txt").read_text().splitlines(), delimiter="\t")
    assert header == ["Iteration", "Y", "var_1", "var_2"]
    assert np.allclose(np.array(rows, float)[:, 1:], np.hstack([problem.Y, problem.X]))


def test_a_failed_report_names_the_argument():
    with pytest.raises(TypeError, match="report_file"):
        told().save_report()


@pytest.mark.long
def test_figures(tmp_path):
    pytest.importorskip("matplotlib").use("agg")
    line = told(n=5)
    line.plot_convergence(tmp_path / "convergence.png")
    line.plot_acquisition(tmp_path / "line.png")
    plane = told(PLANE, n=5)
    axes = plane.plot_acquisition(label_x="first")
    assert axes[0].get_xlabel() == "first" and len(axes) == 3
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("convergence.png", "line.png"))


class Believed:
    """A problem whose model believes that f(x) = x, and knows less about large x."""

    X, Y = np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])

    def predict(self, X):
        return np.asarray(X), 0.1 + 2.0 * np.asarray(X)


@pytest.mark.parametrize(
    ("choice", "best"),
    [
        ({"acquisition_type": "LCB", "acquisition_weight": 0}, 0.0),
        ({"acquisition_type": "LCB"}, 1.0),
        ({"acquisition_type": "MPI"}, 0.0),
        ({"acquisition_type": "EI"}, 1.0),
    ],
)
def test_the_drawn_acquisition_is_that_of_the_settings(choice, best):
    grid = np.linspace(0.0, 1.0, 11)
    drawn = _plots._utility(Believed(), told(**choice)._settings, grid, 0.1 + 2.0 * grid)
    assert drawn.min() == 0.0 and drawn.max() == 1.0 and grid[np.argmax(drawn)] == best


def test_figures_of_other_domains_are_refused():
    with pytest.raises(ValueError, match="one or two continuous columns"):
        told(MIXED).plot_acquisition()


# Domains.


def test_variables_become_parameters():
    domain = [
        {"name": "x", "type": "continuous", "domain": (-1, 1), "dimensionality": 2},
        {"name": "n", "type": "discrete", "domain": np.array([8, 3, 10])},
        {"name": "k", "type": "discrete", "domain": range(0, 100, 5)},
        {"name": "h", "type": "discrete", "domain": (0.5, 0.25)},
        {"name": "c", "type": "categorical", "domain": (2, 0, 1)},
        {"domain": (0, 1)},
    ]
    assert space_from_gpyopt(domain) == bojax.Space(
        {
            "x_1": bojax.Float(-1.0, 1.0),
            "x_2": bojax.Float(-1.0, 1.0),
            "n": bojax.Ordinal([3, 8, 10]),
            "k": bojax.Int(0, 95, step=5),
            "h": bojax.Ordinal([0.25, 0.5]),
            "c": bojax.Categorical([2, 0, 1]),
            "var_5": bojax.Float(0.0, 1.0),
        }
    )


def test_bandits_become_positions_of_arms():
    space = space_from_gpyopt([{"name": "b", "type": "bandit", "domain": [(0, 1), (1, 1), (0, 1)]}])
    assert space == bojax.Space(b=bojax.Categorical([0, 1]))


@pytest.mark.parametrize(
    "given", [{"evaluator_type": "thompson_sampling", "batch_size": 2}, {"model_type": "RF"}, {"context": {"b": 0.0}}]
)
def test_what_does_not_fit_to_bandits_is_named(given):
    domain = [{"name": "b", "type": "bandit", "domain": [0.0, 1.0, 2.0]}]
    context = given.pop("context", None)
    with pytest.raises(ValueError, match="with bandits"):
        BayesianOptimization(square, domain, seed=0, **given).run_optimization(1, context=context)


def test_several_bandits_are_crossed():
    domain = [
        {"name": "a", "type": "bandit", "domain": [(-1, 1), (1, 0), (0, 1)]},
        {"name": "b", "type": "bandit", "domain": [(5, 7), (5, 8)]},
    ]
    X = BayesianOptimization(square, domain, initial_design_numdata=6, seed=0).X
    assert X.shape == (6, 4) and len(np.unique(X, axis=0)) == 6 and (X[:, 2] == 5).all()


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ([{"name": "rate", "type": "continuous", "domain": (1, 0)}], "'rate'.*low < high.*out of order"),
        ([{"name": "rate", "type": "continuous", "domain": (1, 1)}], "'rate'.*empty"),
        ([{"name": "rate", "type": "continuous", "domain": (0, 1, 2)}], "'rate'.*(low, high)"),
        ([{"name": "rate", "type": "continuous", "domain": (0, float("inf"))}], "'rate'.*finite"),
        ([{"name": "rate", "type": "stochastic", "domain": (0, 1)}], "'rate'.*one of.*bandit.*'stochastic'"),
        ([{"name": "rate", "type": "context", "domain": (0, 1)}], "argument of `run_optimization`"),
        ([{"name": "rate", "type": "continuous"}], "'rate'.*'domain'"),
        ([{"name": "rate", "domain": (0, 1), "dim": 2}], "'dim'"),
        ([{"name": "rate", "domain": (0, 1), "dimensionality": 0}], "'rate'.*>= 1, got 0"),
        ([{"name": "n", "type": "discrete", "domain": (1, 2, 1)}], "'n'.*1 twice"),
        ([{"name": "n", "type": "discrete", "domain": ()}], "'n'.*at least one value"),
        ([*LINE, {"name": "b", "type": "bandit", "domain": [(0, 1), (1, 0)]}], "must not mix bandits"),
        ([{"name": "b", "type": "bandit", "domain": [(0, 1), (1,)]}], "'b'.*equally many"),
        ([{"name": "b", "type": "bandit", "domain": [(0, 1), (0, 1)]}], "'b'.*two different arms"),
        (
            [
                {"name": "b", "type": "bandit", "domain": np.eye(400)},
                {"name": "c", "type": "bandit", "domain": np.eye(400)},
            ],
            "160000",
        ),
        ([*LINE, *LINE], "distinct names, got 'x'"),
        ([], "at least one variable"),
    ],
)
def test_wrong_variables_are_named(domain, message):
    with pytest.raises(ValueError, match=message):
        BayesianOptimization(square, domain)


@pytest.mark.parametrize(
    "domain", [None, "abc", {"name": "x"}, [(0, 1)], [{"name": "k", "type": "categorical", "domain": ("adam", "sgd")}]]
)
@pytest.mark.unchecked
def test_domains_of_another_form_are_refused(domain):
    with pytest.raises(TypeError, match="domain"):
        BayesianOptimization(square, domain)


# Arguments.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model_type": "RF2"}, "`model_type` must be one of .*'GP_MCMC'.*'RF2'"),
        ({"acquisition_type": "ES"}, "`acquisition_type` must be one of .*'LCB'.*'ES'"),
        ({"acquisition_type": "EI_MCMC"}, "`model_type` must be 'GP_MCMC'"),
        ({"evaluator_type": "async"}, "`evaluator_type` must be one of"),
        ({"acquisition_optimizer_type": "DIRECT"}, "`acquisition_optimizer_type`.*'DIRECT'"),
        ({"initial_design_type": "halton"}, "`initial_design_type` must be one of.*'halton'"),
        ({"initial_design_numdata": 0}, "`initial_design_numdata`.*got 0"),
        ({"batch_size": 0}, "`batch_size`.*got 0"),
        ({"num_cores": 1.5}, "`num_cores`.*1.5"),
        ({"seed": 2**32}, "`seed` must be below"),
        ({"acquisition_jitter": -1.0}, "`acquisition_jitter`.*-1.0"),
        ({"cost_withGradients": square, "acquisition_type": "LCB"}, "`cost_withGradients` must be None with"),
        ({"cost_withGradients": lambda x: (-x - 1.0, x)}, "`cost_withGradients` must be positive"),
        ({"evaluator_type": "thompson_sampling", "batch_size": 2, "model_type": "sparseGP"}, "with Thompson sampling"),
        ({"model_type": "RF", "acquisition_type": "LCB"}, "`acquisition_type` must be 'EI' with model_type='RF'"),
        ({"model_type": "RF", "cost_withGradients": "evaluation_time"}, "must be None with model_type='RF'"),
        ({"Y": [[1.0]]}, "`X` must be given"),
        ({"X": [[2.0]]}, "`X[0]`, `x`, must be in [0.0, 1.0], got 2.0"),
        ({"X": [[0.5], [float("nan")]]}, "`X[1]` must be finite"),
        ({"X": [[0.5, 0.5]]}, "[n, 1]"),
        ({"X": [[0.5]], "Y": [[1.0], [2.0]]}, "one value for each of the 1 rows"),
    ],
)
def test_wrong_values_are_named(given, message):
    import re

    pattern = message if ".*" in message else re.escape(message)
    with pytest.raises(ValueError, match=pattern):
        BayesianOptimization(square, LINE, **given)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"f": 3}, "`f` must be a function"),
        ({"f": lambda x: "high"}, "`f` must return one number.*'high'"),
        ({"f": lambda x: np.ones(3)}, "`f` must return one number"),
        ({"f": lambda x: None}, "`f` must return one number.*None"),
        ({"num_core": 2}, "got 'num_core'"),
        ({"kernel": "rbf"}, "`kernel` must be left out"),
        ({"model": "mine"}, "`model` must be left out.*model_type"),
        ({"maximize": 1}, "`maximize` must be True or False"),
        ({"exact_feval": "no"}, "`exact_feval` must be True or False"),
        ({"cost_withGradients": "time"}, "`cost_withGradients`.*'evaluation_time'"),
    ],
)
def test_wrong_types_are_named(given, message):
    with pytest.raises(TypeError, match=message):
        BayesianOptimization(**({"f": square, "domain": LINE} | given))


@pytest.mark.parametrize(
    "given",
    [
        {"batch_size": 3},
        {"acquisition_weight": 2},
        {"acquisition_type": "LCB", "acquisition_jitter": 0.1},
        {"num_inducing": 10},
        {"n_samples": 5},
        {"ARD": False},
        {"step_size": 0.1},
        {"model_optimizer_type": "scg"},
        {"normalize_Y": False},
        {"model_update_interval": 2},
        {"verbosity_model": True},
        {"exact_feval": True, "noise_var": 0.1},
        {"model_type": "RF", "exact_feval": True},
        {"model_type": "RF", "max_iters": 10},
    ],
)
def test_arguments_without_effect_give_a_warning(given):
    with pytest.warns(bojax.BojaxWarning, match=rf"`({'|'.join(given)})`"):
        BayesianOptimization(square, LINE, seed=0, **given)


def test_arguments_that_say_what_is_done_give_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BayesianOptimization(square, LINE, ARD=True, model_optimizer_type="lbfgs", seed=0, kernel=None)


def test_maximize_without_an_objective_gives_a_warning():
    with pytest.warns(bojax.BojaxWarning, match="`maximize` has no effect"):
        BayesianOptimization(None, LINE, X=[[0.5]], Y=[[1.0]], maximize=True, seed=0)


def test_values_are_needed_where_there_is_no_objective():
    with pytest.raises(ValueError, match="`X` and `Y` must be given"):
        BayesianOptimization(None, LINE, X=[[0.5]])
    with pytest.raises(bojax.BojaxError, match="suggest_next_locations"):
        told().run_optimization(1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_iter": -1}, "`max_iter`"),
        ({"eps": -1.0}, "`eps`"),
        ({"max_time": float("nan")}, "`max_time`"),
        ({"context": {"y": 1.0}}, "`context`.*'y'"),
        ({"context": {"x": 2.0}}, "`context.*must be in"),
        ({"models_file": "m.txt"}, "`models_file` must be None"),
    ],
)
def test_wrong_arguments_of_a_run_are_named(given, message):
    problem = BayesianOptimization(square, LINE, seed=0)
    with pytest.raises(ValueError, match=message):
        problem.run_optimization(**({"max_iter": 1} | given))
    assert len(problem.X) == 5


def test_what_is_missing_is_named_with_a_way_out():
    with pytest.raises(AttributeError, match="no attribute 'model'.*predict"):
        told().model  # noqa: B018
    with pytest.raises(AttributeError, match="no 'Design_space'.*BayesianOptimization"):
        GPyOpt.Design_space  # noqa: B018
    with pytest.raises(AttributeError, match="ModularBayesianOptimization.*BayesianOptimization"):
        GPyOpt.methods.ModularBayesianOptimization  # noqa: B018


# Test functions.


@pytest.mark.parametrize("name", sorted(vars(GPyOpt.objective_examples.experiments2d)))
def test_functions_of_the_examples_have_their_minimum(name):
    function = getattr(GPyOpt.fmodels.experiments2d, name)()
    assert function.f(np.array(function.min))[:, 0] == pytest.approx(function.fmin, abs=2e-4)
    rng, (low, high) = np.random.default_rng(0), np.array(function.bounds, float).T
    assert function.f(low + (high - low) * rng.random((1000, 2))).min() > function.fmin - 1e-9


def test_noise_of_the_examples_has_the_given_size():
    np.random.seed(0)
    function = GPyOpt.objective_examples.experiments1d.forrester(sd=2.0)
    assert np.std(function.f(np.full((2000, 1), 0.5))) == pytest.approx(2.0, rel=0.1)
    with pytest.raises(ValueError, match="`sd`"):
        GPyOpt.objective_examples.experimentsNd.ackley(3, sd=-1.0)
    with pytest.raises(ValueError, match="`X` must have shape"):
        function.f(np.zeros((3, 2)))
