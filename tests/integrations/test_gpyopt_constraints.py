"""Constraints of GPyOpt, which are texts, are parsed and never executed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax.integrations.gpyopt._expressions import Constraint, compile_expression
from bojax.integrations.gpyopt.methods import BayesianOptimization

PLANE = [{"name": "a", "type": "continuous", "domain": (-1, 1)}, {"name": "b", "type": "continuous", "domain": (-1, 1)}]


@pytest.mark.parametrize(
    "text",
    [
        "x[:,0]**2 + x[:,1] - 1",
        "-x[:,1] -.5 + abs(x[:,0]) - np.sqrt(1-x[:,0]**2)",
        "np.sum(x[:, 0:3], axis=1) - np.pi",
        "np.max(x[:, ::2], axis=1)",
        "np.maximum(x[:,0], 0) * x[:,-1]**-2",
        "2**x[:,0] - 1e-3",
        "np.prod(x[:, :2]**2, 1) / numpy.exp(1)",
        "pow(x[:,2], .5) % 0.2 // 0.1",
        "+np.sin(x[:,0]) * np.arctan2(x[:,1], 1)",
        "(x[:,0] + 1)**3 - (x[:,1] - 1)**2",
    ],
)
def test_texts_give_the_numbers_that_python_gives(text):
    x = np.random.default_rng(0).uniform(0.05, 0.95, (5, 3)) * [1, -1, 1]
    function = compile_expression(text, 3, "c")
    expected = eval(text, {"np": np, "numpy": np, "x": x})
    assert np.allclose(function(x), expected, rtol=1e-14)
    assert np.allclose(jax.jit(function)(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-5)
    slope = jax.grad(lambda x: jnp.sum(function(x)))(jnp.asarray(x))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__[0]",
        "x.__class__",
        "x.T",
        "np.load(x[:,0])",
        "np.linalg.norm(x[:, 0:2])",
        "x[:,0] > 1",
        "x[:,0] if 1 else 2",
        "lambda x: x",
        "[i for i in x]",
        "x[:,0]; 1",
        "f'{x}'",
        "x[0,0]",
        "x[1:,0]",
        "x[:,3]",
        "x[:,True]",
        "x[:,0:2]",
        "x[:,5:]",
        "x[:,0:2] + x[:,0]",
        "y[:,0]",
        "x",
        "True * x[:,0]",
        "'a' * 9",
        "9**9**9**9 * x[:,0]",
        "9" * 400 + "*x[:,0]",
        "1/0 * x[:,0]",
        "np.sqrt(-1) * x[:,0]",
        "(-1)**.5 * x[:,0]",
        "np.sqrt(*x[:,0])",
        "np.sqrt(x[:,0], x[:,1])",
        "np.sqrt(x[:,0], out=1)",
        "np.sum(x[:,0:2])",
        "np.sum(x[:,0], axis=1)",
        "np.pi",
        "",
        "x[:,0]\x00",
        "(" * 300 + "x[:,0]" + ")" * 300,
        "-" * 3000 + "x[:,0]",
        "+".join(["x[:,0]"] * 1000),
        "+".join(["x[:,0]"] * 5000),
    ],
)
def test_anything_but_arithmetic_is_refused(text):
    with pytest.raises(ValueError, match="c must"):
        compile_expression(text, 3, "c")


def test_a_constraint_is_at_least_zero_where_its_text_is_at_most_zero():
    constraint = Constraint("c", "x[:,0] + x[:,1] - 9", {"a": None, "n": (3.0, 8.0, 10.0)})
    assert float(constraint({"a": 0.5, "n": jnp.int32(1)})) == pytest.approx(0.5)
    assert float(constraint({"a": 0.5, "n": jnp.int32(2)})) == pytest.approx(-1.5)
    assert constraint == Constraint("d", "x[:,0] + x[:,1] - 9", {"a": None, "n": (3.0, 8.0, 10.0)})


def test_points_without_a_number_are_infeasible():
    assert float(Constraint("c", "np.sqrt(x[:,0]) - 2", {"a": None})({"a": -1.0})) == -np.inf


DISK = [{"name": "disk", "constraint": "x[:,0]**2 + x[:,1]**2 - 0.25"}]


def is_inside(X):
    return bool((np.sum(X**2, axis=1) <= 0.25 + 1e-6).all())


def test_initial_designs_are_feasible():
    problem = BayesianOptimization(lambda x: x[0, 0], PLANE, DISK, initial_design_numdata=40, seed=0)
    assert problem.X.shape == (40, 2) and is_inside(problem.X)
    assert len(np.unique(np.sign(problem.X), axis=0)) == 4


@pytest.mark.parametrize("kind", ["latin", "sobol", "grid"])
def test_other_designs_are_refused(kind):
    with pytest.raises(ValueError, match="`initial_design_type` must be 'random' with constraints"):
        BayesianOptimization(lambda x: x[0, 0], PLANE, DISK, initial_design_type=kind)


@pytest.mark.slow
def test_suggestions_are_feasible_and_reach_the_boundary():
    choice = {"evaluator_type": "random", "batch_size": 2, "seed": 0}
    problem = BayesianOptimization(lambda x: -x[0, 0] - x[0, 1], PLANE, DISK, **choice)
    problem.run_optimization(4)
    assert problem.X.shape == (13, 2) and is_inside(problem.X)
    assert problem.fx_opt == pytest.approx(-np.sqrt(0.5), abs=0.02)
    problem.run_optimization(1, context={"a": 0.3})
    assert is_inside(problem.X) and (problem.X[13:, 0] == 0.3).all()


def test_discrete_columns_are_constrained_by_their_values():
    domain = [
        {"name": "n", "type": "discrete", "domain": (3, 8, 10)},
        {"name": "k", "type": "categorical", "domain": (5, 1)},
    ]
    below = [{"constraint": "x[:,0] + x[:,1] - 9.5"}]
    problem = BayesianOptimization(lambda x: x[0, 0], domain, below, initial_design_numdata=20, seed=0)
    assert {tuple(x) for x in problem.X} == {(3.0, 5.0), (3.0, 1.0), (8.0, 1.0)}


def test_a_pending_point_must_be_feasible():
    problem = BayesianOptimization(None, PLANE, DISK, X=[[0.0, 0.0]], Y=[[1.0]], seed=0)
    with pytest.raises(ValueError, match=r"`pending_X\[1\]` must be feasible"):
        problem.suggest_next_locations(pending_X=[[0.1, 0.1], [0.9, 0.9]])


def test_a_constraint_without_feasible_points_is_refused():
    with pytest.raises(bojax.BojaxError, match="no feasible point"):
        BayesianOptimization(lambda x: x[0, 0], PLANE, [{"name": "never", "constraint": "x[:,0]**2 + 1"}])


@pytest.mark.unchecked
@pytest.mark.parametrize("given", ["x[:,0]", {"name": "c"}, ["x[:,0]"], [{"name": "c"}], [{"constraint": 3}]])
def test_constraints_of_another_form_are_refused(given):
    with pytest.raises(TypeError, match="constraint"):
        BayesianOptimization(lambda x: x[0, 0], PLANE, given)


def test_a_wrong_constraint_is_named():
    with pytest.raises(ValueError, match="the constraint 'disk' must"):
        BayesianOptimization(lambda x: x[0, 0], PLANE, [{"name": "disk", "constraint": "x[:,2] - 1"}])
