"""Newton's method for small smooth inner problems, to machine precision.

Steps solve H p = -g, by a Cholesky factor with a sufficient shift of the diagonal, or by conjugate gradients that stop
at negative curvature and become more accurate as the gradient shrinks (Nocedal and Wright 2006, chapters 3.4 and 7.1).
Armijo backtracking; once changes of the loss are below rounding, the gradient must shrink instead.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from bojax._linalg import matmul, stable_factor
from bojax._types import Array
from bojax.hypergrad import _tree
from bojax.hypergrad._problem import InnerResult

ARMIJO = 1e-4
MAX_DENSE = 256
"""Up to this number of inner parameters the Hessian is formed by default."""


@dataclasses.dataclass(frozen=True)
class Newton:
    """Newton's method with backtracking; needs no learning rate and no key.

    Attributes:
        tol: stop when the norm of the gradient is below this times max(1, ||params||). By default 1e-12 in float64
            and 1e-6 below; it also stops when rounding prevents improvement.
        max_steps: maximum number of Newton steps.
        linear: "dense" forms the Hessian, "cg" does not; None uses "dense" up to 256 parameters.
        max_cg_steps: maximum number of conjugate-gradient steps in each Newton step.

    Example:
        >>> import jax.numpy as jnp
        >>> from bojax import hypergrad as hg
        >>> inner = lambda w, h, data: 0.5 * jnp.sum((w - 1.0) ** 2 + jnp.exp(h) * w**2)
        >>> outer = lambda w, h, data: 0.5 * jnp.sum((w - 0.25) ** 2)
        >>> fn = hg.hypergradient(inner, outer, method=hg.Implicit(), inner_solver=hg.Newton(max_steps=5))
        >>> round(float(fn(0.0, jnp.zeros(1)).grad), 4)
        -0.0625
    """

    tol: float | None = None
    max_steps: int = 50
    linear: Literal["dense", "cg"] | None = None
    max_cg_steps: int = 100

    def __call__(self, inner_loss: Any, params0: Any, hparams: Any, data: Any, key: Any = None) -> InnerResult:
        """Minimize the inner loss from params0."""
        del key
        fn = jax.value_and_grad(lambda w: inner_loss(w, hparams, data))
        eps = float(jnp.finfo(_tree.dtype(params0)).eps)
        tol = self.tol if self.tol is not None else (1e-12 if eps < 1e-12 else 1e-6)

        def unfinished(s: _State) -> Array:
            small = _tree.norm(s.g) <= tol * jnp.maximum(1, _tree.norm(s.w))
            return (s.step < self.max_steps) & ~s.stuck & ~small

        def advance(s: _State) -> _State:
            p = self._direction(lambda w: fn(w)[1], s)
            w, f, g, stuck = _backtrack(fn, s, p, eps)
            return _State(w, f, g, s.step + 1, stuck)

        params0 = jax.tree.map(jnp.asarray, params0)
        f, g = fn(params0)
        end = jax.lax.while_loop(unfinished, advance, _State(params0, f, g, jnp.int32(0), jnp.bool_(False)))
        return InnerResult(end.w, end.step)

    def _direction(self, gradient: Any, s: "_State") -> Any:
        _, curve = jax.linearize(gradient, s.w)
        if self.linear == "dense" or (self.linear is None and _tree.size(s.w) <= MAX_DENSE):
            return _dense_direction(curve, s.g)
        return _cg_direction(curve, s.g, self.max_cg_steps)


class _State(NamedTuple):
    w: Any
    f: Array
    g: Any
    step: Array
    stuck: Array


def _dense_direction(curve, g):
    flat, unravel = ravel_pytree(g)
    on_flat, _ = _tree.on_flat(curve, g)
    H = jax.vmap(on_flat)(jnp.eye(flat.size, dtype=flat.dtype))
    scale = jnp.max(jnp.abs(H))
    scale = jnp.where(scale > 0, scale, 1)
    _, L_inv, ok = stable_factor(0.5 * (H + H.T) / scale, first_jitter=1e-6, max_tries=8)
    p = -matmul(L_inv.T, matmul(L_inv, flat)) / scale
    return unravel(jnp.where(ok, p, -flat / scale))


def _cg_direction(curve, g, max_steps):
    """Truncated conjugate gradients: stop at negative curvature or at a residual that falls with the gradient."""
    norm = _tree.norm(g)
    tolerance = jnp.minimum(0.1, norm) * norm

    def unfinished(c):
        _, r, _, step, stopped = c
        return (step < max_steps) & (_tree.norm(r) > tolerance) & ~stopped

    def advance(c):
        x, r, p, step, _ = c
        Cp = curve(p)
        pCp, rr = _tree.dot(p, Cp), _tree.dot(r, r)
        bad = ~(pCp > 0)
        # Negative curvature at the first step leaves steepest descent, later the iterate so far.
        alpha = jnp.where(bad, jnp.where(step == 0, 1.0, 0.0), rr / jnp.where(bad, 1, pCp))
        x, r = _tree.add(x, alpha, p), _tree.add(r, -alpha, Cp)
        return x, r, _tree.add(r, _tree.dot(r, r) / rr, p), step + 1, bad

    down = _tree.scaled(-1, g)
    start = (_tree.zeros_like(g), down, down, jnp.int32(0), jnp.bool_(False))
    return jax.lax.while_loop(unfinished, advance, start)[0]


def _backtrack(fn, s: _State, p, eps):
    """The first of the steps 1, 1/2, 1/4, ... along p that improves enough; the old point if none does."""
    slope, old = _tree.dot(s.g, p), _tree.norm(s.g)
    rounding = 8 * eps * jnp.abs(s.f)

    def improves(t, f, g):
        new = _tree.norm(g)
        lower = f <= s.f + ARMIJO * t * slope
        level = (jnp.abs(slope) * t <= 1e3 * rounding) & (f <= s.f + rounding) & (new < old)
        return jnp.isfinite(f) & jnp.isfinite(new) & (lower | level) & ((new < old) | (f < s.f))

    def attempt(t):
        w = _tree.add(s.w, t, p)
        return (t, w, *fn(w))

    def failed(c):
        t, _, f, g = c
        return (t > 1e-10) & ~improves(t, f, g)

    # The loop includes the first attempt, so that the program contains the loss once.
    start = (jnp.full((), 2.0, s.f.dtype), s.w, jnp.full_like(s.f, jnp.inf), s.g)
    t, w, f, g = jax.lax.while_loop(failed, lambda c: attempt(0.5 * c[0]), start)
    good = improves(t, f, g)
    return _tree.where(good, w, s.w), jnp.where(good, f, s.f), _tree.where(good, g, s.g), ~good
