"""Any lineax solver as a linear solver.

Some lineax solvers factor dense matrices (GMRES internally), which under `vmap` become the batched LAPACK calls that
hang on CPU with jaxlib 0.10. A `custom_vmap` rule therefore loops over single solves on CPU, where no solve waits for
the slowest; elsewhere a batch stays batched.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx

from bojax._linalg import one_by_one_on_cpu
from bojax.hypergrad import _tree
from bojax.hypergrad._closure import open_closure
from bojax.hypergrad._problem import MatVec, Solution


@dataclasses.dataclass(frozen=True)
class Lineax:
    """Wraps a `lineax.AbstractLinearSolver`; `Implicit` does so automatically.

    Attributes:
        solver: for example `lineax.GMRES(rtol=1e-8, atol=0.0)` or `lineax.Normal(lineax.CG(rtol=1e-8, atol=0.0))`.
        symmetric: whether to tag the matrix for lineax as symmetric and positive semidefinite.
    """

    solver: Any
    symmetric: bool = True

    @property
    def rtol(self) -> float | None:
        """The relative tolerance of the wrapped solver, if it has one."""
        return getattr(self.solver, "rtol", None)

    def __call__(self, matvec: MatVec, b: Any, x0: Any, precondition: MatVec | None = None) -> Solution:
        """Solve C x = b from x0; solvers without support for a start or a preconditioner ignore them."""
        apply, apply_consts = open_closure(matvec, b)
        pre, pre_consts = open_closure(precondition or (lambda v: v), b)

        def solve(apply_consts, pre_consts, b, x0):
            operator = _operator(lambda v: apply(apply_consts, v), b, self.symmetric)
            options: dict[str, Any] = {} if x0 is None else {"y0": x0}
            if precondition is not None:
                options["preconditioner"] = _operator(lambda v: pre(pre_consts, v), b, True)
            result = lx.linear_solve(operator, b, self.solver, options=options, throw=False)
            return result.value, jnp.asarray(result.stats.get("num_steps", -1), jnp.int32)

        x, num_steps = one_by_one_on_cpu(solve)(apply_consts, pre_consts, b, x0)
        unknown = jnp.zeros((), _tree.dtype(b))
        x = _tree.where(_tree.norm(b) == 0, b, x)  # BiCGStab divides zero by zero
        return Solution(x, num_steps, unknown + jnp.inf, unknown)


def _operator(matvec: MatVec, like: Any, symmetric: bool) -> lx.AbstractLinearOperator:
    structure = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), like)
    tags = (lx.symmetric_tag, lx.positive_semidefinite_tag) if symmetric else ()
    return lx.FunctionLinearOperator(matvec, structure, tags)
