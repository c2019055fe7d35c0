"""Convert a user's choice to a linear solver."""

from typing import Any

from bojax.hypergrad._problem import LinearSolver


def linear_solver(solver: Any, symmetric: bool = True) -> LinearSolver:
    """A bojax solver unchanged, a lineax solver wrapped.

    Args:
        solver: a `LinearSolver`, or a `lineax.AbstractLinearSolver`.
        symmetric: whether to tag matrices for lineax as symmetric and positive semidefinite.
    """
    if not hasattr(solver, "compute"):
        return solver
    from bojax.hypergrad.solvers._lineax import Lineax  # lineax is slow to import

    return Lineax(solver, symmetric)
