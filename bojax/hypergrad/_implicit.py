"""Hypergradients by the implicit function theorem.

At a minimum w* of the inner loss, dL/dw(w*, h) = 0 holds for every h, so with C = d^2 L / dw^2

    d F / dh = dF/dh - (d^2 L / dh dw) v,    C v = dF/dw.

The cost is one linear system, for any number of hyperparameters and inner steps (Bengio 2000; Pedregosa 2016,
arXiv:1602.02355). The result does not depend on how the inner problem was solved, so learning rates and starting points
have no hypergradient here.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from bojax._types import Array
from bojax.hypergrad import _tree
from bojax.hypergrad._inert import check_reach
from bojax.hypergrad._problem import (
    Case,
    MatVec,
    Problem,
    Solution,
    cross_term,
    float_info,
    inner_gradient,
    loss_reach,
    outer_gradients,
    solve_inner,
)
from bojax.hypergrad._result import Hypergrad, HypergradInfo, HypergradStatus, worst_status
from bojax.hypergrad.solvers import CG, GaussNewton, Nystrom, linear_solver, relative_tolerance

INERT_HINT = (
    "An implicit hypergradient is that of the solved inner problem: learning rates, other settings of the optimizer "
    "and starting points do not change it. Use `Unrolled` or `Forward` for those, or take the leaf out of hparams."
)


@dataclasses.dataclass(frozen=True)
class Implicit:
    """Differentiate the solution of the inner problem, not the path to it.

    `inner_loss` must contain the whole inner problem. Weight decay added by an optimizer (`optax.adamw`) is not in it:
    training then ends where the gradient of `inner_loss` is not zero, and the status reports an unsolved inner problem.
    Add the penalty to the loss, for example by `l2`, or use `Unrolled`.

    Attributes:
        solver: for C v = dF/dw: `CG()`, `Neumann()`, `Direct()`, or any lineax solver.
        damping: multiple of the identity added to the curvature. Biases the hypergradient.
        curvature: "hessian", or a `GaussNewton`, which is positive semidefinite away from a minimum too.
        polish: number of Newton steps after the inner solver. Each solves one more linear system and squares the error.
        preconditioner: None, or `Nystrom(rank)`, for `CG` and the lineax solvers that accept one.
        inner_tol: the inner problem counts as solved if the norm of its gradient is below this times
            max(1, ||params||). By default 1e-8 in float64 and 1e-4 below.
        adjoint_tol: the linear system counts as solved if its relative residual is below this. By default ten times the
            tolerance of the solver, and 1e-3 for solvers without one.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.Implicit())
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    solver: Any = CG()  # noqa: RUF009  (frozen)
    damping: float = 0.0
    curvature: Literal["hessian"] | GaussNewton = "hessian"
    polish: int = 0
    preconditioner: Nystrom | None = None
    inner_tol: float | None = None
    adjoint_tol: float | None = None

    def __post_init__(self):
        if not (self.curvature == "hessian" or isinstance(self.curvature, GaussNewton)):
            raise ValueError(f"`curvature` must be 'hessian' or a GaussNewton, got {self.curvature!r}.")
        if self.damping < 0 or self.polish < 0:
            raise ValueError(f"`damping` and `polish` must not be negative, got {self.damping} and {self.polish}.")
        if not callable(self.solver) and not hasattr(self.solver, "compute"):
            raise TypeError(f"`solver` must be CG, Neumann, Direct or a solver of lineax, got {self.solver!r}.")

    def check(self, problem: Problem, case: Case) -> None:
        """Raise for hyperparameters that neither the inner gradient nor the outer loss depends on."""
        check_reach(loss_reach(problem, case), case.hparams, INERT_HINT)

    def __call__(self, problem: Problem, case: Case) -> Hypergrad:
        """The hypergradient at the solution of the inner problem."""
        params, inner_steps = solve_inner(problem, case)
        solver = linear_solver(self.solver)
        for _ in range(self.polish):
            g, matvec, precondition = self._system(problem, case, params)
            params = _tree.add(params, -1, solver(matvec, g, None, precondition).x)
        value, b, direct, aux = outer_gradients(problem, params, case)
        g, matvec, precondition = self._system(problem, case, params)
        solution = solver(matvec, b, case.adjoint, precondition)
        v = solution.x
        grad = _tree.add(direct, -1, cross_term(problem, case, params, v))
        info = self._info(solver, params, g, b, matvec(v), solution, inner_steps)
        finite = _tree.all_finite(value, b, g, direct)
        finite = finite & (_tree.all_finite(grad) | ~_tree.all_finite(v))  # a failed solve has its own status
        info = info._replace(status=jnp.where(finite, info.status, jnp.int32(HypergradStatus.NONFINITE)))
        return Hypergrad(value, grad, params, v, info, aux)

    def _system(self, problem: Problem, case: Case, params: Any) -> tuple[Any, MatVec, MatVec | None]:
        """The inner gradient, the products with the curvature (linearized once), and the preconditioner."""
        gradient = inner_gradient(problem, case)
        if isinstance(self.curvature, GaussNewton):
            g = gradient(params, case.hparams)
            curve = self.curvature.matvec(params, case.hparams, case.inner_data)
        else:
            g, curve = jax.linearize(lambda w: gradient(w, case.hparams), params)
        matvec = curve if self.damping == 0 else lambda v: _tree.add(curve(v), self.damping, v)
        return g, matvec, None if self.preconditioner is None else self.preconditioner(matvec, params)

    def _info(self, solver, params, g, b, Cv, solution: Solution, inner_steps) -> HypergradInfo:
        v = solution.x
        kind, eps = float_info(params)
        inner_tol = self.inner_tol if self.inner_tol is not None else (1e-8 if eps < 1e-12 else 1e-4)
        adjoint_tol = self._adjoint_tol(solver, params)
        residual = _ratio(_tree.norm(_tree.add(b, -1, Cv)), _tree.norm(b))
        inner_norm, size = _tree.norm(g), _tree.norm(params)
        along = _ratio(_tree.dot(v, Cv), _tree.dot(v, v))
        some = _tree.dot(v, v) > 0
        low = jnp.minimum(solution.min_curvature, jnp.where(some, along, jnp.inf))
        high = jnp.maximum(solution.max_curvature, jnp.abs(along))
        status = worst_status(
            (inner_norm > inner_tol * jnp.maximum(1, size), HypergradStatus.INNER_NOT_CONVERGED),
            (~(residual <= adjoint_tol), HypergradStatus.ADJOINT_NOT_CONVERGED),
            (low <= 10 * eps * high, HypergradStatus.SINGULAR_CURVATURE),
            (low < -10 * eps * high, HypergradStatus.NEGATIVE_CURVATURE),
        )
        # First order: both errors are residuals over the smallest curvature.
        error = _ratio(residual * _tree.norm(b), low * _tree.norm(v)) + _ratio(inner_norm, low * size)
        error = jnp.where(low > 0, error, jnp.inf)
        as_float = lambda a: jnp.asarray(a, kind)  # noqa: E731
        steps = jnp.asarray(inner_steps, jnp.int32)
        return HypergradInfo(
            status, as_float(inner_norm), steps, as_float(residual), solution.num_steps, as_float(error)
        )

    def _adjoint_tol(self, solver: Any, params: Any) -> float:
        if self.adjoint_tol is not None:
            return self.adjoint_tol
        _, eps = float_info(params)
        if hasattr(solver, "rtol"):
            return max(10 * relative_tolerance(solver.rtol, params), 100 * eps)
        return 1e-3


def _ratio(a: Array, b: Array) -> Array:
    """a / b, with 0 / 0 = 0."""
    return jnp.where(a == 0, jnp.zeros_like(a), a / jnp.where(a == 0, jnp.ones_like(b), b))
