"""Form the curvature as a matrix and factor it: exact, for up to a few thousand inner parameters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax._linalg import inverse, matmul
from bojax.hypergrad import _tree
from bojax.hypergrad._problem import MatVec, Solution

REFINEMENTS = 2
"""Steps of iterative refinement; each squares the rounding error."""


@dataclasses.dataclass(frozen=True)
class Direct:
    """A Cholesky solve of the p x p curvature, with iterative refinement.

    p products and O(p^3) operations. If the matrix is not positive definite, its normal equations are solved instead,
    with the status `singular_curvature` if the smallest eigenvalue is zero to rounding, otherwise `negative_curvature`.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.Implicit(solver=hg.Direct()))
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    def __call__(self, matvec: MatVec, b: Any, x0: Any, precondition: MatVec | None = None) -> Solution:
        """Solve C x = b. Start and preconditioner are not used."""
        del x0, precondition
        flat_b, unravel = ravel_pytree(b)
        on_flat, _ = _tree.on_flat(matvec, b)
        p, kind = flat_b.size, flat_b.dtype
        C = jax.vmap(on_flat)(jnp.eye(p, dtype=kind))
        C = 0.5 * (C + C.T)
        norm = jnp.max(jnp.sum(jnp.abs(C), axis=1))
        small = 10 * p * float(jnp.finfo(kind).eps) * norm
        C_inv = inverse(C)[2]

        def by_normal_equations(C):
            ridge = jnp.where(norm > 0, small * norm, 1) * jnp.eye(p, dtype=kind)
            return matmul(inverse(matmul(C, C) + ridge)[2], C)

        definite = jnp.all(jnp.isfinite(C_inv))
        inverse_of = jax.lax.cond(definite, lambda C: C_inv, by_normal_equations, C)
        x = matmul(inverse_of, flat_b)
        for _ in range(REFINEMENTS):
            x = x + matmul(inverse_of, flat_b - matmul(C, x))
        return Solution(unravel(x), jnp.int32(p), _smallest(C, definite, inverse_of, small), norm)


def _smallest(C, definite, inverse_of, small):
    """One over the norm of the inverse if C is positive definite; otherwise 0 if it nearly is, or negative."""
    nearly = jnp.all(jnp.isfinite(inverse(C + small * jnp.eye(len(C), dtype=C.dtype))[2]))
    below = jnp.where(nearly, jnp.zeros_like(small), -small)
    return jnp.where(definite, 1 / jnp.max(jnp.sum(jnp.abs(inverse_of), axis=1)), below)
