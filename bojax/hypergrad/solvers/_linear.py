"""Which linear solver a user's choice stands for."""

from typing import Any

from bojax.hypergrad._problem import LinearSolver


def linear_solver(solver: Any, symmetric: bool = True) -> LinearSolver:
    """A solver of ours as it is, one of lineax wrapped.

    Args:
        solver: a `LinearSolver`, or a `lineax.AbstractLinearSolver`.
        symmetric: whether lineax is told that matrices are symmetric and positive semidefinite.
    """
    if not hasattr(solver, "compute"):
        return solver
    from bojax.hypergrad.solvers._lineax import Lineax  # lineax is slow to import: only for those who use it

    return Lineax(solver, symmetric)
