"""Solvers for hypergradients.

Linear systems C x = b, given by products with C: `CG`, `Neumann`, `Direct`, and every lineax solver. `Nystrom` is a
preconditioner, `GaussNewton` a curvature that replaces the Hessian. Inner problems: `Newton` and `Descent`.
"""

from bojax.hypergrad.solvers._cg import CG, relative_tolerance
from bojax.hypergrad.solvers._descent import Descent
from bojax.hypergrad.solvers._direct import Direct
from bojax.hypergrad.solvers._gauss_newton import GaussNewton
from bojax.hypergrad.solvers._linear import linear_solver
from bojax.hypergrad.solvers._neumann import Neumann
from bojax.hypergrad.solvers._newton import Newton
from bojax.hypergrad.solvers._nystrom import Nystrom

__all__ = [
    "CG",
    "Descent",
    "Direct",
    "GaussNewton",
    "Neumann",
    "Newton",
    "Nystrom",
    "linear_solver",
    "relative_tolerance",
]
