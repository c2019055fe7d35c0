"""Implicit hypergradients against closed forms, their accuracy as their budget grows, and what their status says."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest

from bojax import hypergrad as hg
from tests.hypergrad import problems
from tests.hypergrad.problems import call, relative_error

TIGHT = {
    "direct": (hg.Direct(), 1e-10),
    "cg": (hg.CG(), 1e-8),
    "lineax-cg": (lx.CG(rtol=1e-10, atol=0.0), 1e-8),
    "gmres": (lx.GMRES(rtol=1e-10, atol=0.0), 1e-8),
    "bicgstab": (lx.BiCGStab(rtol=1e-10, atol=0.0), 1e-8),
    "normal-cg": (lx.Normal(lx.CG(rtol=1e-10, atol=0.0)), 1e-8),
    "neumann": (hg.Neumann(num_terms=3000), 1e-8),
}


def hypergradient(known, method, **kwargs):
    return hg.hypergradient(known.inner_loss, known.outer_loss, method=method, **kwargs)


@pytest.mark.long
@pytest.mark.parametrize("problem", ["ridge", "logistic"])
@pytest.mark.parametrize("name", sorted(TIGHT))
def test_equals_the_closed_form(x64, problem, name):
    known = problems.at_solution(problem)
    solver, bound = TIGHT[name]
    result = call(hypergradient(known, hg.Implicit(solver, adjoint_tol=1e-8), inner_solver=problems.stay), known)
    hg.raise_for_status(result)
    assert relative_error(result.grad, known.grad) < bound
    assert result.info.adjoint_residual < 1e-8
    assert result.info.error_estimate < 1e-6


@pytest.mark.long
@pytest.mark.parametrize("problem", ["ridge", "logistic"])
@pytest.mark.parametrize("name", ["direct", "cg", "gmres"])
def test_float32(problem, name):
    known = getattr(problems, problem)(dtype=jnp.float32)
    solver = {"direct": hg.Direct(), "cg": hg.CG(), "gmres": lx.GMRES(rtol=1e-5, atol=0.0)}[name]
    result = call(hypergradient(known, hg.Implicit(solver)), known)
    hg.raise_for_status(result)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((result.grad, result.value, result.adjoint)))
    assert relative_error(result.grad, known.grad) < 1e-4


@pytest.mark.long
@pytest.mark.parametrize(
    "make, budgets",
    [
        (lambda k: hg.CG(max_steps=k), (1, 2, 4, 6, 9)),
        pytest.param(lambda k: lx.CG(rtol=1e-14, atol=0.0, max_steps=k), (1, 2, 4, 6, 9), marks=pytest.mark.slow),
        (lambda k: hg.Neumann(num_terms=k), (1, 4, 16, 64, 256)),
    ],
    ids=["cg", "lineax-cg", "neumann"],
)
def test_improves_with_every_step(x64, make, budgets):
    """A wrong update of the direction makes conjugate gradients worse the longer they run."""
    known = problems.at_solution("logistic")
    errors = []
    for k in budgets:
        fn = hypergradient(known, hg.Implicit(make(k)), inner_solver=problems.stay)
        errors.append(relative_error(call(fn, known).grad, known.grad))
    assert all(b < a for a, b in zip(errors, errors[1:], strict=False)), errors
    assert errors[-1] < 1e-2 * errors[0]


@pytest.mark.slow
def test_preconditioning_saves_steps(x64):
    """A spectrum that decays over five decades, and a sketch of its head."""
    scales = jnp.logspace(0, -2.5, 60)
    target = jnp.asarray(np.random.default_rng(0).normal(size=60))

    def inner_loss(w, h, data):
        return 0.5 * jnp.sum((scales * w - target) ** 2) + 0.5 * jnp.exp(h) * jnp.sum(w**2)

    def outer_loss(w, h, data):
        return jnp.sum((w - target) ** 2)

    def run(**kwargs):
        fn = hg.hypergradient(inner_loss, outer_loss, method=hg.Implicit(hg.CG(1e-8, 2000), **kwargs))
        return jax.jit(fn)(jnp.asarray(-12.0), jnp.zeros(60))

    plain, better = run(), run(preconditioner=hg.Nystrom(30))
    assert better.info.adjoint_steps < 0.5 * plain.info.adjoint_steps
    exact = run(preconditioner=hg.Nystrom(60))
    assert exact.info.adjoint_steps <= 20
    through_lineax = hg.Implicit(lx.CG(rtol=1e-8, atol=0.0), preconditioner=hg.Nystrom(30))
    result = jax.jit(hg.hypergradient(inner_loss, outer_loss, method=through_lineax))(jnp.asarray(-12.0), jnp.zeros(60))
    for other in (better, exact, result):
        assert relative_error(other.grad, plain.grad) < 1e-5


@pytest.mark.long
def test_polish_squares_the_error_of_the_inner_solver(x64):
    known = problems.logistic()
    rough = hg.Descent(optax.sgd(0.3), 400)
    errors = []
    for polish in (0, 1, 2):
        method = hg.Implicit(polish=polish, inner_tol=1.0)
        result = call(hypergradient(known, method, inner_solver=rough), known)
        errors.append(relative_error(result.grad, known.grad))
    assert 1e-6 < errors[0] < 0.1
    assert errors[1] < 10 * errors[0] ** 2 and errors[2] < 1e-10


@pytest.mark.long
def test_gauss_newton_equals_the_hessian_of_a_linear_model(x64):
    known = problems.logistic()
    curvature = hg.GaussNewton(
        predict=lambda w, h, data: data[0] @ w["slope"] + w["bias"],
        loss=lambda out, h, data: jnp.mean(jnp.logaddexp(0, -(2 * data[1] - 1) * out)),
        rest=lambda w, h, data: 0.5 * jnp.sum(jnp.exp(h) * w["slope"] ** 2) + 0.5e-3 * w["bias"] ** 2,
    )
    result = call(hypergradient(known, hg.Implicit(curvature=curvature)), known)
    assert relative_error(result.grad, known.grad) < 1e-8


@pytest.mark.long
def test_damping_is_a_known_bias(x64):
    """With damping c the adjoint solves (H + c I) v = b."""
    known = problems.ridge()
    result = call(hypergradient(known, hg.Implicit(hg.Direct(), damping=0.5)), known)
    (X, y), (V, z) = known.inner_data, known.outer_data
    weights = np.exp(known.hparams["log_l2"])
    H = X.T @ X / len(y) + np.diag(weights)
    w = np.linalg.solve(H, X.T @ y / len(y))
    v = np.linalg.solve(H + 0.5 * np.eye(len(w)), V.T @ (V @ w - z) / len(z))
    np.testing.assert_allclose(result.adjoint, v, rtol=1e-9)
    np.testing.assert_allclose(result.grad["log_l2"], -weights * w * v, rtol=1e-9)


def test_the_direct_term_and_aux(x64):
    def outer_loss(w, h, data):
        return jnp.sum(w) * h["a"] + h["a"] ** 2, {"sum": jnp.sum(w)}

    fn = hg.hypergradient(lambda w, h, d: jnp.sum((w - h["a"]) ** 2), outer_loss, has_aux=True)
    result = jax.jit(fn)({"a": 1.5}, jnp.zeros(3))
    np.testing.assert_allclose(result.grad["a"], (2 * 3 + 2) * 1.5, rtol=1e-10)
    np.testing.assert_allclose(result.aux["sum"], 4.5, rtol=1e-10)


@pytest.mark.long
def test_starting_from_the_adjoint_takes_no_steps(x64):
    known = problems.logistic()
    fn = hypergradient(known, hg.Implicit(hg.CG(rtol=1e-8)))
    first = call(fn, known)
    again = call(fn, known, adjoint0=first.adjoint)
    assert first.info.adjoint_steps > 3 and again.info.adjoint_steps == 0
    assert relative_error(again.grad, first.grad) < 1e-12


@pytest.mark.long
@pytest.mark.parametrize("solver", [hg.CG(), hg.Direct(), lx.GMRES(rtol=1e-8, atol=0.0)], ids=["cg", "direct", "gmres"])
def test_vmap_is_a_loop(x64, solver):
    known = problems.logistic()
    fn = hypergradient(known, hg.Implicit(solver))
    H = known.hparams[None] + jnp.linspace(-1, 1, 5)[:, None]
    batched = jax.jit(jax.vmap(fn, in_axes=(0, None, None, None)))(H, known.params0, known.inner_data, known.outer_data)
    for i, h in enumerate(H):
        single = call(fn, known, h)
        assert relative_error(batched.grad[i], single.grad) < 1e-8
    hg.raise_for_status(batched)


@pytest.mark.long
def test_eager_equals_jit(x64):
    known = problems.ridge()
    fn = hypergradient(known, hg.Implicit())
    eager = fn(known.hparams, known.params0, known.inner_data, known.outer_data)
    assert relative_error(eager.grad, call(fn, known).grad) < 1e-12


def status_of(inner_loss, outer_loss=lambda w, h, d: jnp.sum(w * jnp.arange(1.0, 4.0)), w0=None, **kwargs):
    fn = hg.hypergradient(inner_loss, outer_loss, **kwargs)
    w0 = jnp.ones(3) if w0 is None else w0
    return jax.jit(fn)(jnp.asarray(1.0), w0)


@pytest.mark.long
@pytest.mark.parametrize("solver", [hg.CG(), hg.Direct()], ids=["cg", "direct"])
def test_what_the_status_says(x64, solver):
    here = lambda inner_loss, w0, h, data, key: w0  # noqa: E731
    method = hg.Implicit(solver)
    bowl = lambda w, h, d: 0.5 * h * jnp.sum(w**2)  # noqa: E731
    assert status_of(bowl, method=method).info.status == hg.HypergradStatus.OK
    away = status_of(bowl, method=method, inner_solver=here)
    assert away.info.status == hg.HypergradStatus.INNER_NOT_CONVERGED
    saddle = lambda w, h, d: 0.5 * h * (w[0] ** 2 + w[1] ** 2 - 2 * w[2] ** 2)  # noqa: E731
    negative = status_of(saddle, method=method, inner_solver=here, w0=jnp.zeros(3))
    assert negative.info.status == hg.HypergradStatus.NEGATIVE_CURVATURE
    flat = lambda w, h, d: 0.5 * h * (w[0] + w[1]) ** 2  # noqa: E731
    singular = status_of(flat, method=method, inner_solver=here, w0=jnp.zeros(3))
    assert singular.info.status == hg.HypergradStatus.SINGULAR_CURVATURE
    broken = lambda w, h, d: jnp.sum(w**2) * h + jnp.log(h - 2)  # noqa: E731
    nothing = status_of(lambda w, h, d: broken(w, h, d) * jnp.sum(w**2), method=method)
    assert nothing.info.status == hg.HypergradStatus.NONFINITE
    for result in (away, negative, singular):
        assert np.isfinite(result.grad)
        with pytest.raises(hg.HypergradientError, match=hg.HypergradStatus(int(result.info.status)).name.lower()):
            hg.raise_for_status(result)


@pytest.mark.long
def test_too_few_steps_are_told(x64):
    known = problems.logistic()
    result = call(hypergradient(known, hg.Implicit(hg.CG(max_steps=2))), known)
    assert result.info.status == hg.HypergradStatus.ADJOINT_NOT_CONVERGED
    assert result.info.adjoint_steps == 2
    v = result.adjoint
    H = jax.jvp(lambda w: jax.grad(known.inner_loss)(w, known.hparams, known.inner_data), (result.params,), (v,))[1]
    b = jax.grad(known.outer_loss)(result.params, known.hparams, known.outer_data)
    assert result.info.adjoint_residual == pytest.approx(relative_error(H, b), rel=1e-9)


@pytest.mark.long
def test_the_error_estimate_is_of_the_order_of_the_error(x64):
    known = problems.logistic()
    for num_steps in (50, 200, 800):
        solver = hg.Descent(optax.sgd(0.3), num_steps)
        result = call(hypergradient(known, hg.Implicit(), inner_solver=solver), known)
        error = relative_error(result.grad, known.grad)
        assert error / 5 < result.info.error_estimate < 100 * error


@pytest.mark.long
def test_an_outer_loss_without_parameters_has_a_zero_adjoint():
    for solver in (hg.CG(), hg.Direct(), hg.Neumann(), lx.BiCGStab(rtol=1e-5, atol=0.0), lx.GMRES(rtol=1e-5, atol=0.0)):
        fn = hg.hypergradient(lambda w, h, d: jnp.sum((w - h) ** 2), lambda w, h, d: h**2, method=hg.Implicit(solver))
        result = jax.jit(fn)(1.0, jnp.zeros(2))
        hg.raise_for_status(result)
        assert result.grad == 2.0 and not result.adjoint.any()


def test_a_solver_that_breaks_down_is_told():
    """lineax's BiCGStab divides by zero where the first step is exact."""
    method = hg.Implicit(lx.BiCGStab(rtol=1e-5, atol=0.0))
    result = status_of(lambda w, h, d: 0.5 * h * jnp.sum(w**2), method=method)
    assert result.info.status == (hg.HypergradStatus.ADJOINT_NOT_CONVERGED if np.isnan(result.grad) else 0)


THROWN = {
    "eager": (lambda fn: fn, hg.HypergradientError),
    "jit": (jax.jit, jax.errors.JaxRuntimeError),
    "vmap": (lambda fn: jax.jit(jax.vmap(fn)), jax.errors.JaxRuntimeError),
    "value only": (lambda fn: jax.jit(lambda h: fn(h).value), jax.errors.JaxRuntimeError),
    "scan": (
        lambda fn: jax.jit(lambda h: jax.lax.scan(lambda _, h: (None, fn(h).grad), None, h)),
        jax.errors.JaxRuntimeError,
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(THROWN))
def test_throw(x64, name):
    """The curvature h - 1 is singular at one, and negative below."""
    here = lambda inner_loss, w0, h, data, key: w0  # noqa: E731
    inner = lambda w, h, data: 0.5 * (h - 1) * jnp.sum(w**2)  # noqa: E731
    fn = hg.hypergradient(inner, lambda w, h, data: jnp.sum(w), inner_solver=here, throw=True)
    wrap, error = THROWN[name]
    several = name in ("vmap", "scan")
    run = wrap(lambda h: fn(h, jnp.zeros(2)))
    jax.block_until_ready(run(jnp.asarray([2.0, 3.0]) if several else 2.0))
    with pytest.raises(error, match=r"hypergradient status negative_curvature.*: the inner loss has negative"):
        jax.block_until_ready(run(jnp.asarray([2.0, 0.0]) if several else 0.0))


@pytest.mark.long
@pytest.mark.parametrize("jit", [False, True])
def test_throw_in_a_derivative(x64, jit):
    """Training diverges where the rate is not finite, and has derivatives elsewhere."""
    outer = lambda w, h, data: jnp.sum((w - 1) ** 2)  # noqa: E731
    method = hg.Forward(optax.sgd, 3)
    fns = [hg.hypergradient(lambda w, h, d: jnp.sum(w**2), outer, method=method, throw=t) for t in (False, True)]
    plain, throwing = (jax.grad(lambda h, fn=fn: fn(h, jnp.ones(2)).value) for fn in fns)
    run = jax.jit(throwing) if jit else throwing
    assert run(0.1) == plain(0.1) != 0
    with pytest.raises(Exception, match="hypergradient status nonfinite"):
        jax.block_until_ready(run(jnp.inf))


@pytest.mark.long
def test_throw_in_the_outer_loop(x64):
    fn = hg.hypergradient(
        lambda w, h, d: 0.5 * h * jnp.sum((w - 1) ** 2), lambda w, h, d: jnp.sum(w**2) + h**2, throw=True
    )
    run = jax.jit(lambda h: hg.optimize(fn, h, jnp.zeros(2), num_steps=30, optimizer=optax.sgd(0.1)))
    assert 0 < run(1.0).hparams < 0.1
    with pytest.raises(jax.errors.JaxRuntimeError, match="hypergradient status"):
        jax.block_until_ready(run(-1.0))


@pytest.mark.long
def test_raise_for_status_names_the_share_of_a_batch():
    known = problems.ridge(dtype=jnp.float32)
    fn = hypergradient(known, hg.Implicit(hg.CG(max_steps=1)))
    h = {"log_l2": known.hparams["log_l2"][None]}
    batched = jax.vmap(fn, in_axes=(0, None, None, None))(h, known.params0, known.inner_data, known.outer_data)
    with pytest.raises(hg.HypergradientError, match="1 of 1|adjoint_not_converged"):
        hg.raise_for_status(batched)
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda: hg.raise_for_status(fn(known.hparams, known.params0, known.inner_data, known.outer_data)))()
