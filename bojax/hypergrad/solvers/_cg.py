"""Conjugate gradients that also detect whether the matrix is positive definite.

Hestenes and Stiefel (1952). The products p^T C p that the method needs anyway bound the spectrum of C from inside: the
smallest of p^T C p / p^T p is at least the smallest eigenvalue, and a negative one proves that C is not positive
definite. The solver then stops and returns its iterate, as truncated Newton methods do (Steihaug 1983).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bojax._types import Array
from bojax.hypergrad import _tree
from bojax.hypergrad._problem import MatVec, Solution


@dataclasses.dataclass(frozen=True)
class CG:
    """Conjugate gradients for a positive definite curvature.

    Attributes:
        rtol: stop when the residual, in the Euclidean norm, is this fraction of the right-hand side. By default 1e-10
            in float64 and 1e-5 below.
        max_steps: maximum number of products with the curvature.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.Implicit(solver=hg.CG()))
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    rtol: float | None = None
    max_steps: int = 200

    def __post_init__(self):
        if self.max_steps < 1:
            raise ValueError(f"`max_steps` must be at least 1, got {self.max_steps}.")

    def __call__(self, matvec: MatVec, b: Any, x0: Any, precondition: MatVec | None = None) -> Solution:
        """Solve C x = b from x0, with an approximate inverse of C as preconditioner."""
        tolerance = relative_tolerance(self.rtol, b) * _tree.norm(b)
        precondition = precondition or (lambda r: r)

        def unfinished(s: _State) -> Array:
            return (s.step < self.max_steps) & (_tree.norm(s.r) > tolerance) & (s.low > 0)

        def advance(s: _State) -> _State:
            Cp = matvec(s.p)
            pCp, pp = _tree.dot(s.p, Cp), _tree.dot(s.p, s.p)
            ratio = pCp / jnp.where(pp > 0, pp, 1)
            alpha = jnp.where(ratio > 0, s.rz / jnp.where(ratio > 0, pCp, 1), 0)
            r = _tree.add(s.r, -alpha, Cp)
            z = precondition(r)
            rz = _tree.dot(r, z)
            p = _tree.add(z, rz / s.rz, s.p)
            low, high = jnp.minimum(s.low, ratio), jnp.maximum(s.high, ratio)
            return _State(_tree.add(s.x, alpha, s.p), r, p, rz, s.step + 1, low, high)

        r0 = b if x0 is None else _tree.add(b, -1, matvec(x0))
        x0 = _tree.zeros_like(b) if x0 is None else x0
        z0 = precondition(r0)
        rz0 = _tree.dot(r0, z0)
        start = _State(x0, r0, z0, rz0, jnp.int32(0), jnp.full_like(rz0, jnp.inf), jnp.zeros_like(rz0))
        end = jax.lax.while_loop(unfinished, advance, start)
        return Solution(end.x, end.step, end.low, end.high)


def relative_tolerance(rtol: float | None, like: Any) -> float:
    """The given tolerance, or the default of the dtype of `like`."""
    if rtol is not None:
        return rtol
    return 1e-10 if jnp.finfo(_tree.dtype(like)).bits >= 64 else 1e-5


class _State(NamedTuple):
    x: Any
    r: Any
    p: Any
    rz: Array
    step: Array
    low: Array
    high: Array
