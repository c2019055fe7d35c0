"""The Neumann series: scale sum_{k < K} (I - scale C)^k b -> C^-1 b for 0 < scale < 2 / largest eigenvalue."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from bojax._runtime import PRNG_IMPL
from bojax.hypergrad import _tree
from bojax.hypergrad._problem import MatVec, Solution


@dataclasses.dataclass(frozen=True)
class Neumann:
    """The truncated series (Lorraine, Vicol and Duvenaud 2020, arXiv:1911.02590).

    Equivalent to K steps of gradient descent on the linear system, so it needs far more products than `CG`.

    Attributes:
        num_terms: K, the number of terms, each one product with the curvature.
        scale: below 2 / the largest eigenvalue of the curvature, or the series diverges. None uses one over an upper
            estimate of the largest eigenvalue, from `power_steps` more products.
        power_steps: number of products for that estimate.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.Implicit(solver=hg.Neumann(num_terms=50)))
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    num_terms: int = 20
    scale: float | None = None
    power_steps: int = 10

    def __post_init__(self):
        if self.num_terms < 1:
            raise ValueError(f"`num_terms` must be at least 1, got {self.num_terms}.")
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"`scale` must be positive, got {self.scale}.")

    def __call__(self, matvec: MatVec, b: Any, x0: Any, precondition: MatVec | None = None) -> Solution:
        """Sum the series for the residual of x0. A preconditioner is not used."""
        del precondition
        scale, extra = self.scale, 0
        if scale is None:
            scale, extra = 1 / _largest(matvec, b, self.power_steps), self.power_steps + 1

        def add_term(x, _):
            return _tree.add(x, scale, _tree.add(b, -1, matvec(x))), None

        x0 = _tree.zeros_like(b) if x0 is None else x0
        x, _ = jax.lax.scan(add_term, x0, length=self.num_terms)
        unknown = jnp.zeros((), _tree.dtype(b))
        return Solution(x, jnp.int32(self.num_terms + extra), unknown + jnp.inf, unknown)


def _largest(matvec: MatVec, b: Any, num_steps: int) -> Any:
    """The largest eigenvalue plus the residual of its eigenpair, by the power method from a fixed random start."""
    leaves, treedef = jax.tree.flatten(b)
    keys = jax.random.split(jax.random.key(0, impl=PRNG_IMPL), len(leaves))
    draws = [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]

    def turn(v, _):
        Cv = matvec(v)
        return _tree.scaled(1 / _tree.norm(Cv), Cv), None

    start = jax.tree.unflatten(treedef, draws)
    v, _ = jax.lax.scan(turn, _tree.scaled(1 / _tree.norm(start), start), length=num_steps)
    Cv = matvec(v)
    value = _tree.dot(v, Cv)
    return value + _tree.norm(_tree.add(Cv, -value, v))
