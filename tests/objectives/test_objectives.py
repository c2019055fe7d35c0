"""Every synthetic function: its optimum is what it states, and it behaves under JAX's transformations."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy.stats import qmc

from bojax import objectives
from bojax.objectives import _objective
from bojax.space import Float

OBJECTIVES = {
    objective.name: objective
    for objective in (
        objectives.branin(),
        objectives.hartmann3(),
        objectives.hartmann6(),
        objectives.six_hump_camel(),
        objectives.ackley(5),
        objectives.griewank(3),
        objectives.levy(1),
        objectives.levy(4),
        objectives.rastrigin(3),
        objectives.rosenbrock(4),
        objectives.sphere(2),
        objectives.styblinski_tang(3),
        objectives.mixed(),
        objectives.learning_rate_bowl(),
    )
}


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return OBJECTIVES[request.param]


def floats(objective):
    return [name for name, parameter in objective.space.items() if isinstance(parameter, Float)]


def test_optimizers_reach_the_stated_optimum(objective):
    assert objective.optimizers
    for params in objective.optimizers:
        assert objective.space.to_params(objective.space.from_params(params)).keys() == params.keys()
        value = objective.evaluate(params)
        assert isinstance(value, float)
        assert value == pytest.approx(objective.optimum, abs=1e-12, rel=1e-12)
        assert abs(objective.regret(value)) < 1e-12 * max(1, abs(objective.optimum)) + 1e-12


@pytest.mark.long
def test_a_local_search_from_the_optimizers_finds_nothing_lower(objective):
    names = floats(objective)
    bounds = [(objective.space[name].low, objective.space[name].high) for name in names]
    slope = jax.jit(jax.value_and_grad(lambda x, fixed: objective(fixed | dict(zip(names, x, strict=True)))))
    for params in objective.optimizers:
        with jax.enable_x64(True):
            fixed = {name: column[0] for name, column in objective.space.to_arrays([params]).items()}
            start = np.array([params[name] for name in names])
            found = optimize.minimize(
                lambda x, fixed=fixed: tuple(map(np.asarray, slope(jnp.asarray(x), fixed))),
                start,
                jac=True,
                bounds=bounds,
                method="L-BFGS-B",
                options={"gtol": 1e-12, "ftol": 1e-16},
            )
        assert np.isfinite(found.jac).all()
        assert objective.optimum - 1e-9 <= found.fun <= objective.optimum + 1e-6
        np.testing.assert_allclose(found.x, start, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_no_point_of_a_quasi_random_sample_lies_below_the_optimum(objective):
    X = qmc.Sobol(objective.space.num_dims, seed=0).random(2**14)
    with jax.enable_x64(True):
        y = np.asarray(jax.jit(lambda X: objective(objective.space.decode(X)))(jnp.asarray(X)))
    assert y.shape == (2**14,)
    assert np.isfinite(y).all()
    assert (objective.regret(y) >= -1e-9).all()
    # and the optimum is one worth looking for: the best of the sample is far from the mean of it
    assert objective.regret(y.min()) < 0.5 * objective.regret(y.mean())


@pytest.mark.long
def test_a_search_from_the_best_of_a_sample_does_not_pass_the_optimum(objective):
    names, space = floats(objective), objective.space
    X = qmc.Sobol(space.num_dims, seed=1).random(2**12)
    bounds = [(0.0, 1.0) if name in names else (None, None) for name in space.names]
    with jax.enable_x64(True):
        values = jax.jit(lambda X: objective(space.decode(X)))
        slope = jax.jit(jax.value_and_grad(lambda x: objective(space.decode(x))))
        y = np.asarray(values(jnp.asarray(X)))
        for x in X[np.argsort(y)[:4]]:
            found = optimize.minimize(
                lambda x: tuple(map(np.asarray, slope(jnp.asarray(x)))), x, jac=True, bounds=bounds, method="L-BFGS-B"
            )
            assert found.fun >= objective.optimum - 1e-9


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_and_the_batch_shape_are_kept(objective, dtype):
    with jax.enable_x64(dtype == "float64"), jax.numpy_rank_promotion("raise"):
        X = jax.jit(objective.space.sample, static_argnums=1)(jax.random.key(0), 12)
        params = jax.jit(objective.space.decode)(X)

        @jax.jit
        def forms(params):
            blocks = {name: column.reshape(2, 3, 2) for name, column in params.items()}
            one = {name: column[5] for name, column in params.items()}
            return objective(params), objective(blocks), jax.vmap(objective)(params), objective(one)

        y, blocks, mapped, one = forms(params)
        assert y.shape == (12,) and y.dtype == X.dtype == dtype
        assert blocks.shape == (2, 3, 2) and mapped.shape == (12,) and one.shape == ()
        rtol = 1e-5 if dtype == "float32" else 1e-12
        for other in (blocks.reshape(12), mapped):
            np.testing.assert_allclose(other, y, rtol=rtol)
        np.testing.assert_allclose(one, y[5], rtol=rtol)
        host = [objective.evaluate(objective.space.to_params(x)) for x in np.asarray(X)[:3]]
        np.testing.assert_allclose(host, y[:3], rtol=1e-3 if dtype == "float32" else 1e-10)
    with jax.enable_x64(True):
        single = {
            name: column.astype(np.float32) if column.dtype == np.float64 else column
            for name, column in objective.space.to_arrays(objective.optimizers).items()
        }
        assert jax.eval_shape(objective, single).dtype == np.float32


@pytest.mark.parametrize(
    "objective, value",
    [
        (objectives.branin(), 0.39788735772973816),
        (objectives.hartmann3(), -3.86278),
        (objectives.hartmann6(), -3.32237),
        (objectives.six_hump_camel(), -1.031628453),
        (objectives.styblinski_tang(4), -39.16616570377142 * 4),
    ],
)
def test_optima_of_the_literature(objective, value):
    assert objective.optimum == pytest.approx(value, abs=5e-6)


@pytest.mark.parametrize(
    "objective, params, value",
    [
        (objectives.branin(), {"x1": 0.0, "x2": 0.0}, 36 + 20 - 10 / (8 * np.pi)),
        (objectives.ackley(2), {"x1": 1.0, "x2": 1.0}, 20 - 20 * np.exp(-0.2)),
        (objectives.rosenbrock(2), {"x1": -1.0, "x2": 2.0}, 104.0),
        (objectives.rastrigin(2), {"x1": 1.0, "x2": 0.5}, 21.25),
        (objectives.griewank(1), {"x1": np.pi}, 2 + np.pi**2 / 4000),
        (objectives.levy(1), {"x1": 3.0}, 1.25),
        (objectives.six_hump_camel(), {"x1": 1.0, "x2": 1.0}, 4 - 2.1 + 1 / 3 + 1),
        (objectives.mixed(), {"x": -0.6, "count": 17, "choice": "red", "level": 1}, 0.3 + 1 + 0.4),
        (objectives.learning_rate_bowl(), {"learning_rate": 0.03, "weight_decay": 1e-4}, 0.5 + 0.03 / 4),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_values_worked_out_by_hand(objective, params, value):
    assert objective.evaluate(params) == pytest.approx(value, rel=1e-12)


def test_the_slope_of_ackley_at_its_optimum_is_a_number():
    slope = jax.grad(objectives.ackley(3))({f"x{i}": jnp.float32(0) for i in (1, 2, 3)})
    assert all(np.isfinite(value) for value in slope.values())


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "d, error, message", [(0, ValueError, "`d`.*0"), (2.0, TypeError, "`d`.*2.0"), (True, TypeError, "`d`")]
)
def test_mistakes(d, error, message):
    with pytest.raises(error, match=message):
        objectives.sphere(d)


def test_rosenbrock_needs_two_dimensions():
    with pytest.raises(ValueError, match="`d` must be at least 2 for rosenbrock, got 1"):
        objectives.rosenbrock(1)


def test_the_docstrings_example_is_true():
    assert doctest.testmod(_objective).failed == 0
