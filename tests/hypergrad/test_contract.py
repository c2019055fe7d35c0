"""Errors in place of silent zeros, hyperparameters in the unit cube, penalties and schedules, the one-step estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import bojax
from bojax import hypergrad as hg
from tests.hypergrad import problems
from tests.hypergrad.problems import call, relative_error


def inner(w, h, data):
    return jnp.sum((w - 1.0) ** 2) + jnp.exp(h["l2"]) * jnp.sum(w**2)


def outer(w, h, data):
    return jnp.sum((w - 0.5) ** 2)


IMPLICIT = [hg.Implicit(), hg.OneStep()]
TRAINED = [hg.Unrolled(optax.sgd(0.1), 5), hg.Forward(optax.sgd(0.1), 5)]


@pytest.mark.parametrize("method", IMPLICIT + TRAINED, ids=lambda m: type(m).__name__)
def test_a_leaf_that_nothing_reads_is_an_error(method):
    fn = hg.hypergradient(inner, outer, method=method)
    with pytest.raises(hg.InertHyperparameterError, match=r"hparams\['unused'\]\['deep'\]"):
        jax.jit(fn)({"l2": 0.0, "unused": {"deep": 1.0}}, jnp.zeros(3))


@pytest.mark.parametrize("method", IMPLICIT, ids=lambda m: type(m).__name__)
def test_settings_of_the_inner_solver_are_inert(method):
    """A learning rate and a start change nothing at a minimum; a gradient of zero would be right and of no use."""
    h = {"l2": 0.0, "rate": 0.1, "start": jnp.zeros(3)}
    solver = hg.Descent(lambda h: optax.sgd(h["rate"]), 50)
    fn = hg.hypergradient(inner, outer, method=method, inner_solver=solver)
    with pytest.raises(hg.InertHyperparameterError, match=r"\['rate'\]`, `hparams\['start'\]"):
        fn(h, lambda h: h["start"])


def test_a_term_without_parameters_is_inert():
    """exp(h) is added to the inner loss; nothing of it is left in the gradient."""
    fn = hg.hypergradient(lambda w, h, d: jnp.sum(w**2) + jnp.exp(h), outer)
    with pytest.raises(hg.InertHyperparameterError):
        fn(0.0, jnp.zeros(3))


def test_dependence_is_followed_through_loops_and_branches():
    def looped(w, h, data):
        def body(carry, x):
            return (carry[0] + jnp.sum((w - x * h["a"]) ** 2), carry[1] * h["b"]), None

        (loss, _), _ = jax.lax.scan(body, (0.0, 1.0), jnp.arange(3.0))
        return jax.lax.cond(loss > 0, lambda: loss + h["c"] * jnp.sum(w**2), lambda: loss)

    fn = hg.hypergradient(looped, outer)
    with pytest.raises(hg.InertHyperparameterError, match=r"`hparams\['b'\]` must"):
        fn({"a": 1.0, "b": 1.0, "c": 1.0}, jnp.zeros(2))


def test_the_outer_loss_alone_may_read_a_leaf(x64):
    result = hg.hypergradient(inner, lambda w, h, d: outer(w, h, d) * h["weight"])(
        {"l2": 0.0, "weight": 2.0}, jnp.zeros(3)
    )
    np.testing.assert_allclose(result.grad["weight"], result.value / 2.0)


@pytest.mark.parametrize("leaf", [3, True, np.arange(2), 1j])
def test_only_floats_are_differentiated(leaf):
    with pytest.raises(hg.NonDifferentiableHyperparameterError, match=r"hparams\['l2'\]"):
        hg.hypergradient(inner, outer)({"l2": leaf}, jnp.zeros(3))


@pytest.mark.parametrize("method", [*IMPLICIT, TRAINED[0]], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd])
def test_most_results_are_not_differentiated_again(method, mode):
    fn = hg.hypergradient(inner, outer, method=method)
    for part in (lambda h: fn(h, jnp.zeros(3)).value, lambda h: fn(h, jnp.zeros(3)).grad["l2"]):
        with pytest.raises(TypeError, match="`grad` is the derivative of `value`"):
            jax.jit(mode(part))({"l2": 0.0})


AGAIN = [hg.Unrolled(optax.sgd(0.1), 5, backprop="plain"), hg.Forward(optax.sgd(0.1), 5)]


@pytest.mark.long
@pytest.mark.parametrize("method", AGAIN, ids=lambda m: type(m).__name__)
def test_a_result_of_training_may_be_differentiated_again(x64, method):
    fn = hg.hypergradient(inner, outer, method=method)
    slope = lambda h: fn({"l2": h}, jnp.zeros(3)).grad["l2"]  # noqa: E731
    assert jax.grad(lambda h: fn({"l2": h}, jnp.zeros(3)).value)(0.3) == pytest.approx(float(slope(0.3)), rel=1e-12)
    second = problems.richardson(lambda t: float(slope(0.3 + t)), step=0.1, levels=4)
    assert jax.grad(slope)(0.3) == pytest.approx(second, rel=1e-8)


def test_decoupled_weight_decay_is_not_part_of_the_inner_loss(x64):
    loss = lambda w, h, data: jnp.sum((w - h) ** 2)  # noqa: E731
    run = lambda make: hg.hypergradient(loss, outer, inner_solver=hg.Descent(make, 3000))(1.0, jnp.zeros(3))  # noqa: E731
    rates = optax.exponential_decay(0.1, 100, 0.5)
    hg.raise_for_status(run(optax.adam(rates)))
    assert run(optax.adamw(rates, weight_decay=0.1)).info.status == hg.HypergradStatus.INNER_NOT_CONVERGED


def test_mistakes_of_the_caller():
    fn = hg.hypergradient(inner, outer)
    with pytest.raises(ValueError, match="hparams"):
        fn({}, jnp.zeros(3))
    with pytest.raises(TypeError, match="inner_params0"):
        fn({"l2": 0.0}, jnp.zeros(3, int))
    with pytest.raises(ValueError, match="inner_solver"):
        hg.hypergradient(inner, outer, method=hg.Unrolled(optax.sgd(0.1), 3), inner_solver=hg.Newton())
    for wrong in (
        lambda: hg.Unrolled(optax.sgd(0.1), 0),
        lambda: hg.Unrolled(optax.sgd(0.1), 3, checkpoint="log"),
        lambda: hg.Unrolled(optax.sgd(0.1), 3, backprop="magic"),
        lambda: hg.Unrolled(optax.sgd(0.1), 3, truncate=0),
        lambda: hg.Forward(optax.sgd(0.1), 3, chunk=0),
        lambda: hg.Forward(optax.sgd(0.1), 3, sharing=0),
        lambda: hg.Forward(optax.sgd(0.1), 3, sharing={"l2": 2.5}),
        lambda: hg.unroll(lambda s, t: s, 0.0, -1),
        lambda: hg.unroll(lambda s, t: s, 0.0, 3, checkpoint="log"),
        lambda: hg.Implicit(curvature="fisher"),
        lambda: hg.Implicit(damping=-1.0),
        lambda: hg.CG(max_steps=0),
        lambda: hg.Neumann(num_terms=0),
    ):
        with pytest.raises((ValueError, TypeError), match="`|Type-check"):  # the latter with BOJAX_TYPECHECK=1
            wrong()
    with pytest.raises(ValueError, match="`sharing` must be an int or a tree prefix"):
        hg.hypergradient(inner, outer, method=hg.Forward(optax.sgd(0.1), 3, sharing={"l1": 2}))(
            {"l2": 0.0}, jnp.zeros(3)
        )
    for wrong in (lambda: hg.Implicit("cg"), lambda: hg.Unrolled(0.1, 3)):
        with pytest.raises(TypeError, match="`|Type-check"):
            wrong()


SPACE = bojax.Space(l2=bojax.Float(1e-3, 10.0, log=True), shift=bojax.Float(-1.0, 2.0))


@pytest.mark.long
@pytest.mark.parametrize("x", [[0.3, 0.6], [0.0, 1.0]])
def test_gradients_in_the_unit_cube(x64, x):
    """The chain rule by hand, on the faces too."""

    def inner(w, h, data):
        return jnp.sum((w - h["shift"]) ** 2) + h["l2"] * jnp.sum(w**2)

    x = jnp.asarray(x)
    cube = hg.hypergradient(inner, outer, space=SPACE)(x, jnp.zeros(3))
    native = SPACE.decode(x)
    plain = hg.hypergradient(inner, outer)(native, jnp.zeros(3))
    expected = [plain.grad["l2"] * native["l2"] * np.log(1e4), plain.grad["shift"] * 3.0]
    np.testing.assert_allclose(cube.grad, expected, rtol=1e-10)
    np.testing.assert_allclose(cube.value, plain.value)
    with pytest.raises(hg.InertHyperparameterError, match="shift"):
        hg.hypergradient(lambda w, h, d: h["l2"] * jnp.sum((w - 1) ** 2), outer, space=SPACE)(x, jnp.zeros(3))


def test_discrete_parameters_have_no_unit_gradient():
    space = bojax.Space(l2=bojax.Float(0.0, 1.0), width=bojax.Int(1, 4))
    with pytest.raises(hg.NonDifferentiableHyperparameterError, match="width"):
        hg.from_unit(space, jnp.zeros(2))
    with pytest.raises(ValueError, match="shape"):
        hg.from_unit(SPACE, jnp.zeros(3))


def test_l2_takes_a_prefix():
    params = {"a": jnp.ones((2, 3)), "b": [jnp.full(4, 2.0), jnp.ones(())]}
    assert float(hg.l2(params, 0.0)) == pytest.approx(0.5 * (6 + 16 + 1))
    by_layer = {"a": jnp.log(2.0), "b": jnp.log(3.0)}
    assert float(hg.l2(params, by_layer)) == pytest.approx(0.5 * (2 * 6 + 3 * 17))
    by_entry = {"a": jnp.log(jnp.asarray([1.0, 2.0, 3.0])), "b": [jnp.log(jnp.arange(1.0, 5.0)), -jnp.inf]}
    assert float(hg.l2(params, by_entry)) == pytest.approx(0.5 * (2 * 6 + 4 * 10))
    decay = jax.grad(lambda p: hg.l2(p, jnp.log(0.1)))(params)
    np.testing.assert_allclose(decay["b"][0], 0.2 * np.ones(4), rtol=1e-6)


def test_positive_and_simplex():
    x = jnp.asarray([-80.0, -5.0, 0.0, 5.0, 80.0])
    y = hg.positive({"a": x})["a"]
    np.testing.assert_allclose(y, np.logaddexp(0, np.asarray(x, float)), rtol=1e-6)
    assert (y > 0).all()
    slope = jax.vmap(jax.grad(hg.positive))(x)
    np.testing.assert_allclose(slope, 1 / (1 + np.exp(-np.asarray(x, float))), rtol=1e-6)
    shares = hg.simplex(jnp.log(jnp.asarray([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]])) + 90.0)
    np.testing.assert_allclose(shares, [[0.125, 0.25, 0.625], [0.25, 0.25, 0.5]], rtol=1e-5)


def test_schedules():
    linear = hg.Schedule(jnp.asarray([1.0, 0.0, 2.0]), 9)
    np.testing.assert_allclose([linear(t) for t in (0, 2, 4, 6, 8, 20)], [1.0, 0.5, 0.0, 1.0, 2.0, 2.0], atol=1e-6)
    steps = hg.Schedule(jnp.arange(4.0), 8, "piecewise")
    np.testing.assert_allclose([steps(t) for t in range(10)], [0, 0, 1, 1, 2, 2, 3, 3, 3, 3])
    assert float(hg.Schedule(jnp.ones(1), 5)(3)) == 1.0
    slope = jax.grad(lambda v: hg.Schedule(v, 9)(2))(jnp.zeros(3))
    np.testing.assert_allclose(slope, [0.5, 0.5, 0.0])


@pytest.mark.long
def test_one_step_points_downhill(x64):
    known = problems.logistic()
    fn = hg.hypergradient(known.inner_loss, known.outer_loss, method=hg.OneStep())
    result = call(fn, known)
    g = np.asarray(result.grad)
    assert g @ known.grad / np.linalg.norm(g) / np.linalg.norm(known.grad) > 0.6
    neumann = hg.Implicit(hg.Neumann(num_terms=1, scale=1.0), adjoint_tol=10.0)
    same = call(hg.hypergradient(known.inner_loss, known.outer_loss, method=neumann), known)
    assert relative_error(result.grad, same.grad) < 1e-12


@pytest.mark.long
def test_one_step_tells_of_an_inner_loss_that_is_not_finite():
    inner = lambda w, h, d: jnp.sum((w - d) ** 2) + h * jnp.sum(w**2)  # noqa: E731
    fn = hg.hypergradient(inner, lambda w, h, d: jnp.sum(w**2), method=hg.OneStep())
    assert fn(1.0, jnp.zeros(2), jnp.ones(2)).info.status == hg.HypergradStatus.OK
    assert fn(1.0, jnp.zeros(2), jnp.full(2, jnp.nan)).info.status == hg.HypergradStatus.NONFINITE


@pytest.mark.long
@pytest.mark.parametrize("linear", ["dense", "cg"])
def test_newton_reaches_the_minimum(x64, linear):
    known = problems.logistic()
    end = hg.Newton(linear=linear)(known.inner_loss, known.params0, known.hparams, known.inner_data)
    g = jax.grad(known.inner_loss)(end.params, known.hparams, known.inner_data)
    assert max(float(jnp.abs(a).max()) for a in jax.tree.leaves(g)) < 1e-12
    assert end.num_steps < 15


@pytest.mark.long
@pytest.mark.parametrize("linear", ["dense", "cg"])
def test_newton_goes_down_where_the_curvature_is_negative(x64, linear):
    def rosenbrock(w, h, data):
        return jnp.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)

    end = hg.Newton(linear=linear, max_steps=200)(rosenbrock, jnp.asarray([-1.0, 2.0, -0.5, 1.5]), None, None)
    g = jax.grad(rosenbrock)(end.params, None, None)
    assert jnp.abs(g).max() < 1e-9


@pytest.mark.long
def test_descent_takes_line_searches_and_stops(x64):
    known = problems.logistic()
    end = hg.Descent(optax.lbfgs(), 200, tol=1e-9)(known.inner_loss, known.params0, known.hparams, known.inner_data)
    assert end.num_steps < 100
    result = call(
        hg.hypergradient(known.inner_loss, known.outer_loss, inner_solver=hg.Descent(optax.lbfgs(), 200, 1e-9)), known
    )
    hg.raise_for_status(result)
    assert relative_error(result.grad, known.grad) < 1e-6
    assert result.info.inner_steps == end.num_steps


def test_any_function_is_an_inner_solver(x64):
    known = problems.ridge()

    def closed_form(inner_loss, params0, h, data, key):
        X, y = data
        gram = X.T @ X / len(y) + jnp.diag(jnp.exp(h["log_l2"]))
        return jnp.linalg.solve(gram, X.T @ y / len(y))

    result = call(hg.hypergradient(known.inner_loss, known.outer_loss, inner_solver=closed_form), known)
    assert relative_error(result.grad, known.grad) < 1e-9
    assert result.info.inner_steps == -1
