"""Derivatives of solutions of one's own conditions, against closed forms."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from bojax import hypergrad as hg
from tests.hypergrad import problems
from tests.hypergrad.problems import relative_error

SOLVERS = {
    "direct": (hg.Direct(), 1e-10),
    "lu": (lx.LU(), 1e-10),
    "cg": (hg.CG(rtol=1e-12), 1e-8),
    "normal-cg": (lx.Normal(lx.CG(rtol=1e-12, atol=0.0)), 1e-8),
    "gmres": (lx.GMRES(rtol=1e-11, atol=0.0), 1e-8),
    "bicgstab": (lx.BiCGStab(rtol=1e-11, atol=0.0), 1e-8),
}


def matrices(d=8, seed=0):
    """A matrix that is far from symmetric, and others of that size."""
    rng = np.random.default_rng(seed)
    M = 3 * np.eye(d) + rng.normal(size=(d, d)) / np.sqrt(d)
    return M, rng.normal(size=(d, d)), rng.uniform(0.5, 2.0, size=d), rng.normal(size=d)


def cubes(w, h):
    """M (w^3 - exp(h)) = 0, whose solution is w = exp(h / 3) with derivative w / 3."""
    return jnp.asarray(matrices()[0]) @ (w**3 - jnp.exp(h["log"]))


def newton(w0, h):
    """Thirty Newton steps in a loop that has no derivative in reverse mode."""
    M = jnp.asarray(matrices()[0])
    step = lambda _, w: w - jnp.linalg.solve(M * (3 * w[None] ** 2), cubes(w, h))  # noqa: E731
    return jax.lax.fori_loop(0, jnp.int32(30), step, w0)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_pullback_equals_the_closed_form(x64, name):
    solver, bound = SOLVERS[name]
    _, _, h, c = matrices()
    w = np.exp(h / 3)
    pullback = jax.jit(lambda w, h, c: hg.ift_vjp(cubes, w, h, c, solver=solver))
    found = pullback(jnp.asarray(w), {"log": jnp.asarray(h)}, jnp.asarray(c))
    assert relative_error(found.grad, {"log": c * w / 3}) < bound
    assert found.residual < 1e-9
    adjoint = np.linalg.solve((matrices()[0] * (3 * w**2)).T, c)
    assert relative_error(found.adjoint, adjoint) < bound


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_root_in_both_modes(x64, name):
    solver, bound = SOLVERS[name]
    _, _, h, c = matrices()
    w = np.exp(h / 3)
    solved = hg.root(cubes, newton, solver=solver)
    at = lambda h: solved(jnp.ones(8), {"log": h})  # noqa: E731
    value, pull = jax.vjp(jax.jit(at), jnp.asarray(h))
    assert relative_error(value, w) < 1e-12
    assert relative_error(pull(jnp.asarray(c))[0], c * w / 3) < bound
    _, moved = jax.jvp(jax.jit(at), (jnp.asarray(h),), (jnp.asarray(c),))
    assert relative_error(moved, c * w / 3) < bound


@pytest.mark.long
def test_root_twice(x64):
    _, _, h, _ = matrices()
    solved = hg.root(cubes, newton, solver=hg.Direct())
    total = lambda h: jnp.sum(solved(jnp.ones(8), {"log": h}))  # noqa: E731
    second = jax.hessian(total)(jnp.asarray(h))
    np.testing.assert_allclose(second, np.diag(np.exp(h / 3) / 9), atol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("solver", [hg.CG(), lx.GMRES(rtol=1e-11, atol=0.0), lx.LU()], ids=["cg", "gmres", "lu"])
def test_root_under_vmap(x64, solver):
    _, B, h, c = matrices()
    solved = hg.root(cubes, newton, solver=solver)
    slope = lambda h: jax.grad(lambda h: jnp.asarray(c) @ solved(jnp.ones(8), {"log": h}))(h)  # noqa: E731
    H = jnp.asarray(h + 0.1 * B[:3])
    np.testing.assert_allclose(jax.jit(jax.vmap(slope))(H), c * np.exp(H / 3) / 3, rtol=1e-8)


@pytest.mark.long
def test_what_the_condition_closes_over_has_a_derivative(x64):
    """A w = b with A in the closure: dw/dt along A' is -A^-1 A' w."""
    M, D, _, b = matrices()

    def total(t):
        A = jnp.asarray(M) + t * jnp.asarray(D)
        solve = lambda w0, h: jnp.linalg.solve(A, h["b"])  # noqa: E731
        return jnp.sum(hg.root(lambda w, h: A @ w - h["b"], solve)(jnp.zeros(8), {"b": jnp.asarray(b)}))

    w = np.linalg.solve(M, b)
    expected = -np.ones(8) @ np.linalg.solve(M, D @ w)
    assert jax.grad(total)(0.0) == pytest.approx(expected, rel=1e-8)
    assert jax.jvp(total, (0.0,), (1.0,))[1] == pytest.approx(expected, rel=1e-8)


@pytest.mark.long
def test_the_minimum_of_a_loss(x64):
    """The same number as `Implicit`, by plain `jax.grad` through the solution."""
    known = problems.ridge()
    optimality = lambda w, h: jax.grad(known.inner_loss)(w, h, known.inner_data)  # noqa: E731
    solve = lambda w0, h: hg.Newton()(known.inner_loss, w0, h, known.inner_data).params  # noqa: E731
    solved = hg.root(optimality, solve, symmetric=True)
    loss = lambda h: known.outer_loss(solved(known.params0, h), h, known.outer_data)  # noqa: E731
    assert relative_error(jax.jit(jax.grad(loss))(known.hparams), known.grad) < 1e-8
    w = solve(known.params0, known.hparams)
    b = jax.grad(known.outer_loss)(w, known.hparams, known.outer_data)
    found = hg.ift_vjp(optimality, w, known.hparams, b, solver=hg.Direct(), symmetric=True)
    assert relative_error(found.grad, known.grad) < 1e-10


def test_the_start_and_integers_have_no_derivative(x64):
    """Labels and counts may be leaves of hparams."""
    optimality = lambda w, h: w - h["rate"] * h["count"]  # noqa: E731
    solved = hg.root(optimality, lambda w0, h: h["rate"] * h["count"] + 0 * w0)
    grad = jax.grad(lambda w0, rate: solved(w0, {"rate": rate, "count": jnp.int32(3)}), argnums=(0, 1))
    assert [float(g) for g in grad(0.5, 2.0)] == pytest.approx([0.0, 3.0])


def test_a_derivative_that_was_not_solved_for_is_nan(x64):
    _, _, h, c = matrices()
    rough = hg.root(cubes, newton, solver=hg.CG(max_steps=1))
    slope = jax.grad(lambda h: jnp.asarray(c) @ rough(jnp.ones(8), {"log": h}))(jnp.asarray(h))
    assert np.isnan(slope).all()
    found = hg.ift_vjp(cubes, jnp.exp(h / 3), {"log": jnp.asarray(h)}, jnp.asarray(c), solver=hg.CG(max_steps=1))
    assert 1e-3 < found.residual < 1 and found.num_steps == 1


def test_mistakes():
    with pytest.raises(ValueError, match="`optimality` must be a tree like params"):
        hg.ift_vjp(lambda w, h: jnp.sum(w) - h, jnp.ones(2), 1.0, jnp.ones(2))
    with pytest.raises(ValueError, match="`cotangent` must be a tree like params"):
        hg.ift_vjp(lambda w, h: w - h, jnp.ones(2), 1.0, jnp.ones(3))
    with pytest.raises(ValueError, match="`optimality` must be a tree like params"):
        hg.root(lambda w, h: jnp.sum(w) - h, lambda w0, h: w0)(jnp.ones(2), 1.0)
    with pytest.raises(hg.NonDifferentiableHyperparameterError):
        hg.ift_vjp(lambda w, h: w - h, jnp.ones(2), 1, jnp.ones(2))
