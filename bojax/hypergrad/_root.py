"""Derivatives of the solution of a user-defined optimality condition.

If G(w, h) = 0 defines w as a function of h, and dG/dw is invertible,

    dw/dh = -(dG/dw)^-1 dG/dh

(implicit function theorem; Blondel et al. 2022, arXiv:2105.15183). `Implicit` is the case G = dL/dw, with diagnostics.
Here G is arbitrary: a fixed point w - T(w, h), equilibrium equations, Karush-Kuhn-Tucker conditions. dG/dw need not be
symmetric.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._types import Array
from bojax.hypergrad import _tree
from bojax.hypergrad._closure import open_closure
from bojax.hypergrad._compiled import call_compiled
from bojax.hypergrad._inert import check_differentiable
from bojax.hypergrad._problem import MatVec, Solution
from bojax.hypergrad.solvers import CG, linear_solver

Optimality = Callable[[Any, Any], Any]
"""`optimality(params, hparams)`, a tree like params that is zero at the solution."""


class Pullback(NamedTuple):
    """The result of `ift_vjp`.

    Attributes:
        grad: a tree like hparams.
        adjoint: v with (dG/dw)^T v = cotangent.
        residual: ||(dG/dw)^T v - cotangent|| / ||cotangent||, recomputed.
        num_steps: int32, steps of the linear solver; -1 if unknown.
    """

    grad: Any
    adjoint: Any
    residual: Array
    num_steps: Array


def ift_vjp(
    optimality: Optimality, params: Any, hparams: Any, cotangent: Any, *, solver: Any = None, symmetric: bool = False
) -> Pullback:
    """(dw/dh)^T cotangent at a solution of `optimality(params, hparams) = 0`, by one linear system.

    Args:
        optimality: G; returns a tree like params.
        params: where G is zero; this is not checked.
        hparams: floating arrays.
        cotangent: a tree like params, for example the derivative of an outer loss by them.
        solver: `CG()` (the default), `Neumann()` or `Direct()`, which need a symmetric matrix and otherwise solve the
            normal equations, whose condition number is the square; or a lineax solver, which receives the matrix
            itself: `lineax.GMRES`, `lineax.BiCGStab`, `lineax.LU()`, `lineax.Normal(lineax.CG(...))`.
        symmetric: whether dG/dw is symmetric and positive definite, as for the gradient of a loss at its minimum.

    Returns:
        The gradient, the adjoint and the accuracy of the solve.

    Raises:
        NonDifferentiableHyperparameterError: a leaf of hparams is not floating.
        ValueError: `optimality` or `cotangent` is not a tree like params.

    Example:
        >>> import jax.numpy as jnp
        >>> found = ift_vjp(lambda w, h: w**2 - h, jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]), jnp.ones(2))
        >>> found.grad.round(4).tolist()  # 1 / (2 sqrt(h))
        [0.5, 0.25]
    """
    hparams = check_differentiable(hparams)
    params, cotangent = (jax.tree.map(jnp.asarray, tree) for tree in (params, cotangent))
    _check_like(params, cotangent, "cotangent")
    _check_like(params, jax.eval_shape(optimality, params, hparams), "optimality")
    return call_compiled(functools.partial(_pull, optimality, solver, symmetric), params, hparams, cotangent)


def _pull(optimality: Optimality, solver: Any, symmetric: bool, params: Any, hparams: Any, cotangent: Any) -> Pullback:
    """`ift_vjp` of checked arrays."""
    _, by_params = jax.vjp(lambda w: optimality(w, hparams), params)
    _, by_hparams = jax.vjp(lambda h: optimality(params, h), hparams)
    matvec = lambda v: by_params(v)[0]  # noqa: E731
    solution, residual = _solve(matvec, cotangent, solver, symmetric)
    v = solution.x
    size = _tree.norm(cotangent)
    relative = residual / jnp.where(size > 0, size, 1)
    return Pullback(_tree.scaled(-1, by_hparams(v)[0]), v, relative, solution.num_steps)


def root(
    optimality: Optimality,
    solve: Callable[[Any, Any], Any],
    *,
    solver: Any = None,
    symmetric: bool = False,
    tol: float = 1e-3,
) -> Callable[[Any, Any], Any]:
    """`solve` with the derivatives of the solution instead of its own.

    The returned function can be differentiated repeatedly, in forward and reverse mode. `solve` may work in any way: it
    may be a loop or call the host. Arrays that `optimality` closes over have derivatives too. params0 has none, since
    the solution does not depend on the start.

    Args:
        optimality: `optimality(params, hparams)`, zero at the solution; returns a tree like params.
        solve: `solve(params0, hparams) -> params`. The derivative is only as good as this solution.
        solver: linear solver, as in `ift_vjp`.
        symmetric: as in `ift_vjp`.
        tol: a derivative is NaN if the relative residual of its linear system is above this, since compiled code cannot
            raise.

    Returns:
        `solved(params0, hparams) -> params`.

    Raises:
        ValueError: by the returned function: `optimality` does not return a tree like params.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> solved = root(lambda w, h: w**2 - h, lambda w0, h: jnp.sqrt(h))
        >>> round(float(jax.grad(solved, argnums=1)(1.0, 4.0)), 4)
        0.25
    """

    def linear(matvec, b):
        solution, residual = _solve(matvec, b, solver, symmetric)
        solved = residual <= tol * _tree.norm(b)
        return jax.tree.map(lambda x: jnp.where(solved, x, jnp.nan), solution.x)

    def solved(params0, hparams):
        params0 = jax.tree.map(jnp.asarray, params0)
        run, run_consts = open_closure(solve, params0, hparams)
        params = jax.eval_shape(run, run_consts, params0, hparams)
        condition, consts = open_closure(optimality, params, hparams)
        _check_like(params, jax.eval_shape(condition, consts, params, hparams), "optimality")

        @jax.custom_jvp
        def fn(params0, run_consts, hparams, consts):
            return run(run_consts, params0, hparams)

        @fn.defjvp
        def _(primals, tangents):
            _, _, hparams, consts = primals
            w = fn(*primals)
            _, moved = jax.jvp(lambda h, c: condition(c, w, h), (hparams, consts), tangents[2:])
            _, matvec = jax.linearize(lambda w: condition(consts, w, hparams), w)
            b = _tree.scaled(-1, moved)
            return w, jax.lax.custom_linear_solve(matvec, b, linear, linear, symmetric)

        return fn(params0, run_consts, hparams, consts)

    return solved


def _solve(matvec: MatVec, b: Any, solver: Any, symmetric: bool) -> tuple[Solution, Array]:
    """The solution of A x = b and the norm of its residual."""
    solver = CG() if solver is None else solver
    if symmetric or hasattr(solver, "compute"):
        solution = linear_solver(solver, symmetric)(matvec, b, None, None)
    else:
        transpose = jax.linear_transpose(matvec, b)
        solution = solver(lambda v: transpose(matvec(v))[0], transpose(b)[0], None, None)
    return solution, _tree.norm(_tree.add(b, -1, matvec(solution.x)))


def _check_like(params: Any, tree: Any, name: str) -> None:
    forms = [jax.tree.map(lambda a: (a.shape, a.dtype), t) for t in (params, tree)]
    if forms[0] != forms[1]:
        raise ValueError(f"`{name}` must be a tree like params, {forms[0]}, got {forms[1]}.")
