"""Constraints of GPyOpt, which are texts, are parsed and never executed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.unchecked
@pytest.mark.parametrize("given", ["x[:,0]", {"name": "c"}, ["x[:,0]"], [{"name": "c"}], [{"constraint": 3}]])
def test_constraints_of_another_form_are_refused(given):
    with pytest.raises(TypeError, match="constraint"):
        BayesianOptimization(lambda x: x[0, 0], PLANE, given)


def test_a_wrong_constraint_is_named():
    with pytest.raises(ValueError, match="the constraint 'disk' must"):
        BayesianOptimization(lambda x: x[0, 0], PLANE, [{"name": "disk", "constraint": "x[:,2] - 1"}])
